"""Owns `python -m bench [NAME…] [--quick]`: runs the measurements, writes results."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import time
from pathlib import Path

from bench import generator, processes
from bench.plan import Plan
from bench.report import RESULTS

NAMES = (
    *("profile", "fanout", "group", "idle", "messages", "connect"),
    *("channel", "sync", "history", "presence", "search", "sagas"),
    "ledger",
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one short run of each, into bench/build/quick: does it work?",
    )
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    unknown = sorted(set(chosen.names) - set(NAMES))
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(NAMES)}")
    plan = Plan(quick=chosen.quick, seed=chosen.seed)
    folder: Path = generator.BUILD / "quick" if plan.quick else RESULTS
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # run the finally blocks
    generator.build()
    processes.raise_file_limit()
    failed = []
    for name in chosen.names or NAMES:
        began = time.monotonic()
        try:
            report = importlib.import_module(f"bench.cases.{name}").run(plan)
        except (generator.Failed, AssertionError, OSError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed.append(name)
            continue
        path = report.write(folder)
        print(report.table())
        print(f"  {time.monotonic() - began:.0f} s, {path.relative_to(Path.cwd())}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
