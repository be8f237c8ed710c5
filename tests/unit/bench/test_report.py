"""Owns the tests of how measurements are summed up."""

from __future__ import annotations

import json
from pathlib import Path

from bench.report import Report, p99


def test_p99_of_few_runs_is_the_worst_one() -> None:
    assert p99([5.0, 1.0, 3.0], higher_is_better=True) == 1.0
    assert p99([5.0, 1.0, 3.0], higher_is_better=False) == 5.0


def test_a_target_is_held_against_the_median(tmp_path: Path) -> None:
    report = Report("x", seed=3, settings={"runs": 3})
    for value in (9.0, 12.0, 11.0):
        report.add("rate", value, "a second", at_least=10)
    for value in (4.0, 5.0, 3.0):
        report.add("memory", value, "KiB", at_most=3.5)

    written = json.loads(report.write(tmp_path).read_text())

    assert written["seed"] == 3
    assert written["figures"]["rate"]["median"] == 11
    assert written["figures"]["rate"]["met"] is True
    assert written["figures"]["memory"]["p99"] == 5
    assert written["figures"]["memory"]["met"] is False
    assert "MISSED" in report.table()
