"""Play one seed, or a range of them: python -m tests.support.simulation 7 [steps]"""

from __future__ import annotations

import sys

from tests.support.simulation.history import STEPS, run_all


def main() -> None:
    first, _, last = sys.argv[1].partition("-")
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else STEPS
    seeds = range(int(first), int(last or first) + 1)
    print(f"{len(seeds)} histories, {run_all(seeds, steps)} commands were accepted")


main()
