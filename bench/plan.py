"""Owns how much is measured: five whole runs, or one short one to see that it works."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Plan:
    """runs: of each figure. seconds: of one run's measured time, after its warm-up."""

    quick: bool = False
    seed: int = 1

    @property
    def runs(self) -> int:
        return 1 if self.quick else 5

    @property
    def seconds(self) -> float:
        return 2.0 if self.quick else 5.0

    @property
    def warmup_s(self) -> float:
        return 1.0

    def settings(self, **more: object) -> dict[str, object]:
        return {
            "quick": self.quick,
            "runs": self.runs,
            "seconds": self.seconds,
            "warmup_s": self.warmup_s,
            **more,
        }
