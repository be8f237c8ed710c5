"""Owns the journal's figures: appends a second, CPU an append, latency, sync.

python -m bench.journal FOLDER: prints JSON. FOLDER lies on the disk to be measured.
A closed loop: as many records as became durable are appended again at once.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import trio

from tchatd.journal.journal import LocalJournal

RECORD_BYTES = 300
OUTSTANDING = (1, 8, 100, 800)
RUNS = 5
RUN_S = 2.0


class Load:
    """Keeps a number of records outstanding and notes how long each one took."""

    def __init__(self, journal: LocalJournal, outstanding: int) -> None:
        self._journal = journal
        self._outstanding = outstanding
        self._record = os.urandom(RECORD_BYTES)
        self._appended: deque[tuple[int, int, float]] = deque()  # from, to, when
        self.latencies_s: list[float] = []
        self.append_s = 0.0
        self.going = True
        journal.on_durable = self._on_durable

    def start(self) -> None:
        self._append(self._outstanding)

    def _append(self, count: int) -> None:
        append, record = self._journal.append, self._record
        first = self._journal.next_position
        began = time.thread_time()
        for _ in range(count):
            append(record)
        self.append_s += time.thread_time() - began
        self._appended.append((first, first + count - 1, time.perf_counter()))

    def _on_durable(self, position: int) -> None:
        now, count = time.perf_counter(), 0
        while self._appended and self._appended[0][1] <= position:
            first, last, at = self._appended.popleft()
            count += last - first + 1
            self.latencies_s.append(now - at)
        self._journal.trim(position)
        if self.going and count:
            self._append(count)


async def measure(folder: Path, outstanding: int) -> dict[str, float]:
    shutil.rmtree(folder, ignore_errors=True)
    journal = LocalJournal(folder)
    for _ in journal.replay(0):
        pass
    load = Load(journal, outstanding)
    async with trio.open_nursery() as nursery:
        await nursery.start(journal.run)
        cpu, began = time.thread_time(), time.perf_counter()
        load.start()
        await trio.sleep(RUN_S)
        load.going = False
        elapsed, cpu = time.perf_counter() - began, time.thread_time() - cpu
        count, figures = journal.durable_position, journal.statistics()
        journal.close()
    shutil.rmtree(folder)
    latencies = sorted(load.latencies_s)
    return {
        "appends_per_s": count / elapsed,
        "syncs_per_s": figures.sync_count / elapsed,
        "loop_cpu_us_per_append": cpu / count * 1e6,
        "append_call_us": load.append_s / count * 1e6,
        "latency_p50_us": latencies[len(latencies) // 2] * 1e6,
        "latency_p99_us": latencies[len(latencies) * 99 // 100] * 1e6,
    }


def main(folder: Path) -> None:
    report: dict[str, Any] = {"record_bytes": RECORD_BYTES, "runs": RUNS}
    for outstanding in OUTSTANDING:
        runs = [trio.run(measure, folder, outstanding) for _ in range(RUNS)]
        report[str(outstanding)] = {
            name: round(statistics.median(run[name] for run in runs), 2)
            for name in runs[0]
        }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]) / "journal-bench")
