"""Owns the runs of the load generator (bench/loadgen) and of the peers.

The generator says when its measured time starts and ends; what the servers have used
is read at these two moments.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import processes

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "bench" / "build"
LOADGEN = BUILD / "loadgen"

Costs = dict[str, float]
Sample = Callable[[], Costs]


class Failed(Exception):
    """A run that cannot be counted: the generator or a server refused."""


def build() -> None:
    subprocess.run(
        ["make", "--quiet", "-C", str(ROOT / "bench")], check=True, timeout=120
    )


def arguments(options: dict[str, object]) -> list[str]:
    """--key value of each option; True is a flag, None and False are left out."""
    words = []
    for key, value in options.items():
        if value is None or value is False:
            continue
        words.append("--" + key.replace("_", "-"))
        if value is not True:
            words.append(str(value))
    return words


class Generator:
    """One process of the load generator; use as a context manager.

    sample: read at `start` and at `end`; `used` is the difference, by name.
    The result has `others_share`: what anything else than these servers and the
    generator took of the machine's CPU meanwhile. Far from 0, it spoils the run.
    """

    def __init__(
        self, workload: str, port: int, sample: Sample, **options: object
    ) -> None:
        options = {"connect": f"127.0.0.1:{port}", **options}
        self._words = [str(LOADGEN), workload, *arguments(options)]
        self._sample = sample
        self.result: dict[str, Any] = {}
        self.used: Costs = {}

    def __enter__(self) -> Generator:
        self._process = subprocess.Popen(
            self._words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        processes.stop(self._process)

    def measure(self) -> dict[str, Any]:
        """Runs until the result. Raises: Failed, when there is none."""
        assert self._process.stdout is not None
        before: Costs = {}
        busy_s = 0.0
        for line in self._process.stdout:
            event = json.loads(line)
            if event["event"] == "start":
                before, busy_s = self._sample(), processes.machine_busy_s()
            elif event["event"] == "end":
                after, busy_s = self._sample(), processes.machine_busy_s() - busy_s
                self.used = {key: after[key] - before.get(key, 0.0) for key in after}
            elif event["event"] == "result":
                own_s = sum(self.used.values())
                own_s += event.get("cpu_window_s", event["cpu_s"])
                cpus_s = event["seconds"] * (os.cpu_count() or 1)
                event["others_share"] = round(max(0.0, busy_s - own_s) / cpus_s, 4)
                self.result = event
                return self.result
        status = self._process.wait()
        raise Failed(f"the generator left with {status}: {' '.join(self._words)}")

    def report(self) -> dict[str, Any]:
        """Of a generator that holds its connections (--hold)."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("report\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise Failed("the generator is gone")
        report: dict[str, Any] = json.loads(line)
        return report


def generate(
    workload: str, port: int, sample: Sample, **options: object
) -> tuple[dict[str, Any], Costs]:
    """One whole run: its result, and what the servers used meanwhile."""
    with Generator(workload, port, sample, **options) as generator:
        return generator.measure(), generator.used


@contextmanager
def peer(*command: str) -> Iterator[tuple[int, int]]:
    """Starts a baseline that prints its port; gives (port, pid). A name with a dot is
    a Python module, any other a program of bench/build."""
    words = (
        [sys.executable, "-m", *command]
        if "." in command[0]
        else [str(BUILD / command[0]), *command[1:]]
    )
    process = subprocess.Popen(
        words,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=processes.die_with_parent,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.strip().isdigit():
            raise Failed(f"{command[0]} did not start")
        yield int(line), process.pid
    finally:
        processes.stop(process)


def cost_of(pid: int) -> Sample:
    return lambda: {"server": processes.cpu_s([pid])}
