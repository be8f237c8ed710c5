"""Owns the presence measurement: memory of a tracked user, and what a change costs.

In a process of its own, without sockets (`peers/presence_alone.py`): 100,000 users who
are online, away, each watched by two connections, each with a last time. Memory is the
growth of RSS after sessions and hub are there. A change is told to 1, 100 and 10,000
watchers; frames are thrown away.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bench.generator import Failed
from bench.plan import Plan
from bench.report import Report

USERS, USERS_QUICK = 100_000, 20_000
BYTES_AT_MOST = 200.0
RUN_S = 120.0
ROOT = Path(__file__).resolve().parents[2]


def run(plan: Plan) -> Report:
    users = USERS_QUICK if plan.quick else USERS
    report = Report("presence", seed=plan.seed, settings=plan.settings(users=users))
    for _ in range(plan.runs):
        done = subprocess.run(
            [sys.executable, "-m", "bench.peers.presence_alone", str(users)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=RUN_S,
            check=False,
        )
        if done.returncode:
            raise Failed(f"presence_alone: {done.stderr[-500:]}")
        figures: dict[str, float] = json.loads(done.stdout)
        report.keep(**figures)
        report.add(
            "memory of a tracked user",
            figures["bytes_a_user"],
            "B",
            at_most=BYTES_AT_MOST,
        )
        for watchers in (1, 100, 10_000):
            took_us = figures[f"change_{watchers}_us"]
            report.add(
                f"a change told to {watchers:,}", took_us, "us", higher_is_better=False
            )
    return report
