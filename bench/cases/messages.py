"""Owns the durable 1:1 measurement: send, journal, reply and delivery, PostgreSQL.

100 pairs, one dialog each. Closed loop: 8 commands outstanding a sender, a new one
when a reply comes. Open loop: 2,000 a second in all on a schedule; latency counts
from the scheduled time. The generator checks that all that was acknowledged was
delivered once and in order; then the rows in PostgreSQL are counted until all are
there, and the time that takes is reported. The whole stack's CPU is the daemon's and
PostgreSQL's, from the first send to the last row. The disk's own p99, of appends of a
record's size each with its fdatasync, is measured before each open loop: what a lone
message cannot be faster than.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from bench.daemon import MeasuredDaemon
from bench.generator import Failed, generate
from bench.plan import Plan
from bench.report import Report
from bench.seed import User, make_dialogs, make_users, sign

PAIRS, OUTSTANDING, TEXT_BYTES = 100, 8, 64
RATE = 2_000.0
RATE_AT_LEAST = 15_000.0
A_CPU_SECOND_AT_LEAST = 8_000.0
CLOSED_P99_MS_AT_MOST = 30.0
OPEN_P50_MS_AT_MOST, OPEN_P99_MS_AT_MOST = 2.0, 8.0
OPEN_S = 40.0
"""At least one turn of the kernel's at writing back what PostgreSQL left in its cache
(`vm.dirty_expire_centisecs`, 30 s): every sync waits for it, 100 to 200 ms here."""
RECORD_BYTES, DISK_APPENDS = 256, 2_000
FLUSH_WAIT_S = 60.0


def run(plan: Plan) -> Report:
    seconds = 4.0 if plan.quick else 10.0
    open_s = 4.0 if plan.quick else OPEN_S
    report = Report(
        "messages",
        seed=plan.seed,
        settings=plan.settings(
            pairs=PAIRS,
            outstanding=OUTSTANDING,
            text_bytes=TEXT_BYTES,
            open_loop_rate=RATE,
            measured_s=seconds,
            open_loop_s=open_s,
        ),
    )
    with MeasuredDaemon() as daemon, tempfile.TemporaryDirectory() as folder:
        ids = make_users(daemon, 2 * PAIRS, seed=plan.seed)
        users = sign(daemon, ids)
        dialogs = make_dialogs(
            daemon, [(users[2 * i], users[2 * i + 1]) for i in range(PAIRS)]
        )
        for _ in range(plan.runs):
            # Tokens live 15 minutes: fresh ones for each run.
            pairs = write_pairs(Path(folder) / "pairs", sign(daemon, ids), dialogs)
            measure(plan, report, daemon, pairs, None, seconds)
            measure(plan, report, daemon, pairs, RATE, open_s)
    return report


def write_pairs(path: Path, users: list[User], dialogs: list[str]) -> Path:
    rows = (
        f"{users[2 * i].token} {users[2 * i + 1].token} {dialog}\n"
        for i, dialog in enumerate(dialogs)
    )
    path.write_text("".join(rows))
    return path


def measure(
    plan: Plan,
    report: Report,
    daemon: MeasuredDaemon,
    pairs: Path,
    rate: float | None,
    seconds: float,
) -> None:
    if rate:
        disk_ms = disk_p99_ms(daemon.data)
        report.add("disk: p99 of an append", disk_ms, "ms", higher_is_better=False)
    rows, before = daemon.message_rows(), daemon.costs()
    result, used = generate(
        "messages",
        daemon.port,
        daemon.costs,
        pairs=pairs,
        connections=PAIRS,
        outstanding=OUTSTANDING,
        rate=rate,
        size=TEXT_BYTES,
        subprotocol="tchat.json.v1",
        concurrency=32,
        warmup_s=2,
        seconds=seconds,
        seed=time.time_ns() % 2**32,
    )
    total = result["total"]
    if not result["exactly_once"] or total["refused"]:
        raise Failed(f"not exactly once, or refused: {total}")
    flush_s = wait_flushed(daemon, rows + total["acknowledged"])
    after = daemon.costs()
    whole_s = sum(after.values()) - sum(before.values())
    report.keep(
        loop="open" if rate else "closed",
        used=used,
        flush_s=flush_s,
        whole_cpu_s=whole_s,
        **result,
    )
    what = (
        f"open loop, {rate:,.0f}/s"
        if rate
        else f"{PAIRS} pairs, {OUTSTANDING} outstanding"
    )
    delivered = result["delivered"]
    delivery, reply = result["delivery_us"], result["reply_us"]
    report.add(
        f"{what}: delivered",
        delivered / result["seconds"],
        "messages/s",
        at_least=None if rate else RATE_AT_LEAST,
    )
    report.add(
        f"{what}: delivery p99",
        delivery["p99"] / 1e3,
        "ms",
        at_most=OPEN_P99_MS_AT_MOST if rate else CLOSED_P99_MS_AT_MOST,
    )
    report.add(
        f"{what}: delivery p50",
        delivery["p50"] / 1e3,
        "ms",
        at_most=OPEN_P50_MS_AT_MOST if rate else None,
        higher_is_better=False,
    )
    report.add(
        f"{what}: a CPU second of the whole stack",
        total["acknowledged"] / whole_s,
        "messages",
        at_least=None if rate else A_CPU_SECOND_AT_LEAST,
    )
    for name, value in (
        ("delivery p99.9", delivery["p99_9"]),
        ("reply p50", reply["p50"]),
        ("reply p99", reply["p99"]),
    ):
        report.add(f"{what}: {name}", value / 1e3, "ms", higher_is_better=False)
    for name in ("daemon", "database"):
        report.add(
            f"{what}: CPU of the {name}",
            used[name] / max(delivered, 1) * 1e6,
            "us/message",
            higher_is_better=False,
        )
    report.add(
        f"{what}: CPU of the generator",
        result["cpu_window_s"] / max(delivered, 1) * 1e6,
        "us/message",
        higher_is_better=False,
    )
    # From the first send, with the warm-up, until PostgreSQL has the last row.
    report.add(
        f"{what}: in PostgreSQL",
        total["acknowledged"] / (result["whole_s"] + flush_s),
        "messages/s",
        at_least=None if rate else RATE_AT_LEAST,
    )
    report.add(f"{what}: all in PostgreSQL after", flush_s, "s", higher_is_better=False)


def wait_flushed(daemon: MeasuredDaemon, expected: int) -> float:
    """Seconds until exactly `expected` rows are there. Raises: Failed."""
    began = time.monotonic()
    while True:
        rows, waited = daemon.message_rows(), time.monotonic() - began
        if rows == expected:
            return waited
        if rows > expected or waited > FLUSH_WAIT_S:
            raise Failed(f"{rows} messages in PostgreSQL, {expected} acknowledged")
        time.sleep(0.1)


def disk_p99_ms(folder: Path) -> float:
    """Of appends with fdatasync, one after the other, to a file as large as a segment
    is made before."""
    path = folder / "disk.bench"
    record, taken = b"x" * RECORD_BYTES, []
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        os.posix_fallocate(descriptor, 0, RECORD_BYTES * DISK_APPENDS)
        for number in range(DISK_APPENDS):
            began_s = time.perf_counter()
            os.pwrite(descriptor, record, number * RECORD_BYTES)
            os.fdatasync(descriptor)
            taken.append(time.perf_counter() - began_s)
    finally:
        os.close(descriptor)
        path.unlink()
    return 1e3 * sorted(taken)[int(0.99 * DISK_APPENDS)]
