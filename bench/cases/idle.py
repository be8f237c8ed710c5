"""Owns the idle measurement: what an authenticated connection costs doing nothing.

5,000, then 10,000 connections, each of its own user, held through ping cycles by the
generator. Memory is the growth of the daemon's RSS from before the first connect,
for each connection; a fresh daemon for each run, since freed memory is kept. CPU is
what the daemon uses over the window, less what it used over an equal one without
connections.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from bench.daemon import MeasuredDaemon
from bench.generator import Failed, Generator
from bench.plan import Plan
from bench.report import Report
from bench.seed import make_users, sign, warm_up

STEP, STEPS = 5_000, 2
SETTLE_S = 3.0
RSS_KIB_AT_MOST = 4.0
CPU_US_AT_MOST = 3.0


def run(plan: Plan) -> Report:
    # Pings leave after 25 s of silence (gateway.ping_interval_s): two or three cycles.
    window_s = 30.0 if plan.quick else 60.0
    report = Report(
        "idle",
        seed=plan.seed,
        settings=plan.settings(
            connections=[STEP * (i + 1) for i in range(STEPS)], window_s=window_s
        ),
    )
    for _ in range(plan.runs):
        with MeasuredDaemon() as daemon, tempfile.TemporaryDirectory() as folder:
            measure(plan, report, daemon, Path(folder), window_s)
    return report


def measure(
    plan: Plan, report: Report, daemon: MeasuredDaemon, folder: Path, window_s: float
) -> None:
    users = sign(daemon, make_users(daemon, STEP * STEPS, seed=plan.seed))
    warm_up(daemon, users[:50])
    time.sleep(SETTLE_S)
    empty = daemon.memory()
    empty_cpu = cpu_over(daemon, window_s / 3) / (window_s / 3)
    report.add("no connection: RSS", empty["rss"] / 2**20, "MiB")
    report.add("no connection: CPU", empty_cpu * 1e6, "us/s", higher_is_better=False)
    with ExitStack() as holding:
        held: list[Generator] = []
        for step in range(STEPS):
            tokens = folder / f"tokens-{step}"
            own = users[step * STEP : (step + 1) * STEP]
            tokens.write_text("\n".join(user.token for user in own) + "\n")
            generator = holding.enter_context(
                Generator(
                    "connect",
                    daemon.port,
                    daemon.costs,
                    connections=STEP,
                    concurrency=64,
                    tokens=tokens,
                    subprotocol="tchat.json.v1",
                    hold=True,
                    seed=plan.seed + step,
                )
            )
            if generator.measure()["connected"] != STEP:
                raise Failed(f"not all connected: {generator.result}")
            held.append(generator)
            observe(report, daemon, held, empty, empty_cpu, window_s)


def observe(
    report: Report,
    daemon: MeasuredDaemon,
    held: list[Generator],
    empty: dict[str, int],
    empty_cpu: float,
    window_s: float,
) -> None:
    """One window over the connections that are held now."""
    count = STEP * len(held)
    time.sleep(SETTLE_S)
    pings = sum(generator.report()["pings"] for generator in held)
    used_s = cpu_over(daemon, window_s)
    memory = daemon.memory()
    reports = [generator.report() for generator in held]
    pings = sum(each["pings"] for each in reports) - pings
    lost = sum(each["lost"] for each in reports)
    if lost:
        raise Failed(f"{lost} of {count} idle connections were lost: {reports[-1]}")
    a_connection = used_s / window_s / count * 1e6
    what = f"{count:,} idle"
    report.add(
        f"{what}: RSS a connection",
        (memory["rss"] - empty["rss"]) / count / 1024,
        "KiB",
        at_most=RSS_KIB_AT_MOST,
    )
    report.add(
        f"{what}: CPU a connection",
        a_connection - empty_cpu / count * 1e6,
        "us/s",
        at_most=CPU_US_AT_MOST,
    )
    report.add(
        f"{what}: CPU a connection, with the daemon's own",
        a_connection,
        "us/s",
        higher_is_better=False,
    )
    report.add(f"{what}: pings a connection", pings / count, "in the window")
    report.keep(
        connections=count,
        window_s=window_s,
        daemon_cpu_s=used_s,
        pings=pings,
        rss=memory["rss"],
        pss=memory["pss"],
        empty_rss=empty["rss"],
    )


def cpu_over(daemon: MeasuredDaemon, window_s: float) -> float:
    """CPU seconds of the daemon alone."""
    before = daemon.costs()["daemon"]
    time.sleep(window_s)
    return daemon.costs()["daemon"] - before
