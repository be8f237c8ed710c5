"""Owns what it costs to keep sagas, and how soon they go on after a crash.

An engine in a process of its own on a private PostgreSQL with fsync on
(`peers/sagas_alone.py`); its steps do nothing. Sagas of five steps, 256 at a time and
one at a time, each step durable before the next begins. The baseline is pgbench on the
same server, in turns: one row updated by number in each transaction, 16 clients.

10,000 sagas are in their third step when their process is killed: how long until each
is in it again, and until all have ended, in a new process of the same node (its start
included), and in one of another node that runs already.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import trio

from bench import processes
from bench.generator import Failed
from bench.plan import Plan
from bench.report import Report
from tchatd.app.embedded_postgres import EmbeddedPostgres
from tchatd.stores.postgres import migrations

OUTSTANDING, CLIENTS, ROWS = 256, 16, 10_000
IN_FLIGHT, IN_FLIGHT_QUICK = 10_000, 1_000
COMMITS_A_SAGA = 6
RATE_AT_LEAST, RESUMED_S_AT_MOST = 500.0, 10.0
STOP_S = 120.0
ROOT = Path(__file__).resolve().parents[2]
_SCRIPT = (
    "\\set id random(1, {rows})\nUPDATE bench_rows SET n = n + 1 WHERE id = :id;\n"
)
_TPS = re.compile(r"tps = ([0-9.]+)")


def run(plan: Plan) -> Report:
    in_flight = IN_FLIGHT_QUICK if plan.quick else IN_FLIGHT
    report = Report(
        "sagas",
        seed=plan.seed,
        settings=plan.settings(
            steps=5,
            outstanding=OUTSTANDING,
            in_flight=in_flight,
            pgbench_clients=CLIENTS,
        ),
    )
    with tempfile.TemporaryDirectory(prefix="tchatd-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL has a user of its own
        trio.run(_measure_all, plan, report, folder, in_flight)
    return report


async def _measure_all(
    plan: Plan, report: Report, folder: Path, in_flight: int
) -> None:
    server = EmbeddedPostgres(folder / "postgres")
    async with trio.open_nursery() as nursery:
        dsn = await nursery.start(server.run)
        await migrations.apply(dsn)
        bench = _Bench(plan, report, dsn, server.binaries, folder, in_flight)
        await trio.to_thread.run_sync(bench.run)
        server.close()


class _Bench:
    """Blocks; the server is watched by Trio meanwhile."""

    def __init__(
        self,
        plan: Plan,
        report: Report,
        dsn: str,
        binaries: Path,
        folder: Path,
        in_flight: int,
    ) -> None:
        self._plan = plan
        self._report = report
        self._dsn = dsn
        self._pgbench = shutil.which("pgbench", path=binaries) or "pgbench"
        self._script = folder / "update.sql"
        self._script.write_text(_SCRIPT.format(rows=ROWS))
        self._in_flight = in_flight

    def run(self) -> None:
        self._execute(
            "CREATE TABLE bench_rows (id integer PRIMARY KEY, n integer NOT NULL)",
            f"INSERT INTO bench_rows SELECT i, 0 FROM generate_series(1, {ROWS}) i",
        )
        for _ in range(self._plan.runs):
            updates = self._baseline()
            self._throughput(updates)
            self._one_at_a_time()
            for another in (False, True):
                self._crash(another=another)

    def _execute(self, *statements: str) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def _baseline(self) -> float:
        """Transactions a second."""
        done = subprocess.run(
            [
                *(self._pgbench, "-n", "-M", "prepared", "-f", self._script),
                *("-c", str(CLIENTS), "-j", "2", "-T", f"{self._plan.seconds:.0f}"),
                self._dsn,
            ],
            capture_output=True,
            text=True,
            timeout=STOP_S,
            check=False,
        )
        found = _TPS.search(done.stdout)
        if done.returncode or found is None:
            raise Failed(f"pgbench: {done.stderr[-500:]}")
        tps = float(found[1])
        self._report.add("pgbench, a row a transaction, 16 clients", tps, "a second")
        return tps

    def _throughput(self, updates: float) -> None:
        self._empty()
        busy_s, own_s, began_s = *_cpu_s(), time.monotonic()
        with self._child("one", "run", self._plan.seconds, OUTSTANDING) as child:
            figures = _answer(child)
            ended_busy_s, ended_own_s = _cpu_s()
        cpus_s = (time.monotonic() - began_s) * (os.cpu_count() or 1)
        others_s = (ended_busy_s - busy_s) - (ended_own_s - own_s)
        self._report.keep(
            **figures, pgbench=updates, others_share=max(0.0, others_s / cpus_s)
        )
        rate = figures["rate"]
        add = self._report.add
        add("sagas of five steps", rate, "a second", at_least=RATE_AT_LEAST)
        ratio = COMMITS_A_SAGA * rate / updates
        add("durable steps and begins, to one of pgbench", ratio, "times")
        add("such a saga, p50", figures["p50_ms"], "ms", higher_is_better=False)
        add("such a saga, p99", figures["p99_ms"], "ms", higher_is_better=False)
        cpu_ms = 1_000 * figures["cpu_s_each"]
        add("its CPU in the engine", cpu_ms, "ms", higher_is_better=False)

    def _one_at_a_time(self) -> None:
        self._empty()
        with self._child("one", "run", self._plan.seconds, 1) as child:
            p50_ms = _answer(child)["p50_ms"]
        self._report.add("one at a time, p50", p50_ms, "ms", higher_is_better=False)

    def _crash(self, *, another: bool) -> None:
        self._empty()
        count = self._in_flight
        with self._child("one", "hold", count) as held:
            _line(held)  # all are in their third step
            if another:
                with self._child("other", "finish", count) as other:
                    _line(other)  # it runs, and watches
                    time.sleep(2.0)  # so that its beats are seen before the kill
                    killed_s = _kill(held)
                    figures = _answer(other)
            else:
                killed_s = _kill(held)
                with self._child("one", "finish", count) as again:
                    _line(again)
                    figures = _answer(again)
        where = "by another node" if another else "by a new process"
        resumed_s = figures["resumed_s"] - killed_s
        what = f"{count:,} in flight, resumed {where}"
        self._report.add(what, resumed_s, "s", at_most=RESUMED_S_AT_MOST)
        what = f"{count:,} in flight, ended {where}"
        ended_s = figures["ended_s"] - killed_s
        self._report.add(what, ended_s, "s", higher_is_better=False)

    def _empty(self) -> None:
        """Of what earlier runs left; the checkpoint is nobody's who is measured."""
        self._execute("TRUNCATE sagas, saga_runners", "VACUUM ANALYZE", "CHECKPOINT")

    @contextmanager
    def _child(self, node: str, *words: object) -> Iterator[subprocess.Popen[str]]:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "bench.peers.sagas_alone", self._dsn, node),
                *map(str, words),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
        finally:
            processes.stop(process)


def _cpu_s() -> tuple[float, float]:
    """Of the whole machine, and of this process and all below it."""
    own = processes.descendants(os.getpid())
    return processes.machine_busy_s(), processes.cpu_s(own, with_ended_children=True)


def _kill(process: subprocess.Popen[str]) -> float:
    killed_s = time.monotonic()
    process.send_signal(signal.SIGKILL)
    process.wait()
    return killed_s


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise Failed("sagas_alone left")
    return line


def _answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    while not (line := _line(process)).startswith('{"'):
        pass
    answer: dict[str, Any] = json.loads(line)
    return answer
