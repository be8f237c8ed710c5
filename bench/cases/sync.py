"""Owns catching up: `sync` after 300 missed events, alone and 5,000 clients at once.

50 groups of 100 people; 300 messages are sent in each while nobody is connected, and
are in PostgreSQL before the first one comes back. A client connects, gives the cursor
from before and has everything when the reply is there: one round trip. Alone: one
client after the other. At once: all of them, as after a restart, while 20 other people
talk on a schedule: the survivors, whose latency is told with and without the storm.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from pathlib import Path

from bench.cases.messages import wait_flushed, write_pairs
from bench.daemon import MeasuredDaemon
from bench.generator import Failed, Generator, generate
from bench.plan import Plan
from bench.report import Report
from bench.seed import (
    User,
    make_dialogs,
    make_group,
    make_users,
    request,
    send_all,
    sign,
)

GROUPS, MEMBERS, MISSED = 50, 100, 300
QUICK_GROUPS = 4
ALONE = 500
SURVIVORS = 20
SURVIVORS_RATE = 200.0
ALONE_P99_MS_AT_MOST = 20.0
STORM_S_AT_MOST = 4.0


def run(plan: Plan) -> Report:
    groups = QUICK_GROUPS if plan.quick else GROUPS
    report = Report(
        "sync",
        seed=plan.seed,
        settings=plan.settings(
            groups=groups,
            members=MEMBERS,
            missed=MISSED,
            survivors=SURVIVORS,
            survivors_rate=SURVIVORS_RATE,
        ),
    )
    with MeasuredDaemon() as daemon, tempfile.TemporaryDirectory() as folder:
        ids = make_users(daemon, groups * MEMBERS + SURVIVORS, seed=plan.seed)
        crowd, survivors = ids[: groups * MEMBERS], ids[groups * MEMBERS :]
        users = sign(daemon, crowd)
        owners = users[::MEMBERS]
        dialogs = [
            make_group(daemon, owner, users[i * MEMBERS + 1 : (i + 1) * MEMBERS])
            for i, owner in enumerate(owners)
        ]
        few = sign(daemon, survivors)
        pairs = [(few[i], few[i + 1]) for i in range(0, SURVIVORS, 2)]
        two = make_dialogs(daemon, pairs)
        page = request(daemon, owners[0], "GET", "/sync?limit=1")
        cursor = page["cursor"]
        rows = daemon.message_rows()
        send_all(daemon, owners, dialogs, MISSED)
        wait_flushed(daemon, rows + groups * MISSED)
        ask = json.dumps({"op": "sync", "id": 1, "cursor": cursor, "limit": 300})
        check(daemon, users[1], cursor)
        for _ in range(plan.runs):
            tokens = Path(folder) / "tokens"
            users = sign(daemon, crowd)
            tokens.write_text("\n".join(user.token for user in users) + "\n")
            alone(plan, report, daemon, tokens, ask)
            chat = write_pairs(Path(folder) / "pairs", sign(daemon, survivors), two)
            quiet = survive(plan, daemon, chat, None)
            stormy = survive(plan, daemon, chat, (report, tokens, ask, len(crowd)))
            for what, value in (("without", quiet), ("within", stormy)):
                report.add(
                    f"survivors' delivery p99, {what} the storm",
                    value,
                    "ms",
                    higher_is_better=False,
                )
    return report


def check(daemon: MeasuredDaemon, user: User, cursor: str) -> None:
    """Raises: Failed, unless one page has all that was missed."""
    page = request(daemon, user, "GET", f"/sync?cursor={cursor}&limit=300")
    seqs = [e["seq"] for e in page["events"] if e["op"] == "message.new"]
    if len(seqs) != MISSED or page["has_more"]:
        raise Failed(f"{len(seqs)} events in the first page of sync")


def alone(
    plan: Plan, report: Report, daemon: MeasuredDaemon, tokens: Path, ask: str
) -> None:
    count = 100 if plan.quick else ALONE
    result, used = generate(
        "connect",
        daemon.port,
        daemon.costs,
        connections=count,
        tokens=tokens,
        concurrency=1,
        subprotocol="tchat.json.v1",
        confirm=ask,
        seed=plan.seed,
    )
    report.keep(what="alone", used=used, **result)
    report.add(
        "one at a time: connected and caught up, p99",
        result["latency_us"]["p99"] / 1e3,
        "ms",
        at_most=ALONE_P99_MS_AT_MOST,
    )
    report.add(
        "one at a time: CPU of daemon and database",
        sum(used.values()) / count * 1e3,
        "ms",
        higher_is_better=False,
    )


def survive(
    plan: Plan,
    daemon: MeasuredDaemon,
    pairs: Path,
    storm: tuple[Report, Path, str, int] | None,
) -> float:
    """Delivery p99 in ms of people who stay and talk, meanwhile a storm or not."""
    with Generator(
        "messages",
        daemon.port,
        daemon.costs,
        pairs=pairs,
        connections=SURVIVORS // 2,
        outstanding=8,
        rate=SURVIVORS_RATE,
        size=64,
        subprotocol="tchat.json.v1",
        warmup_s=1,
        seconds=plan.seconds + (0 if plan.quick else 5),
        seed=time.time_ns() % 2**32,
    ) as generator:
        thread = None
        if storm is not None:
            thread = threading.Timer(2.0, strike, (daemon, *storm))
            thread.start()
        result = generator.measure()
        if thread is not None:
            thread.join()
    if not result["exactly_once"]:
        raise Failed(f"survivors lost something: {result}")
    return float(result["delivery_us"]["p99"]) / 1e3


def strike(
    daemon: MeasuredDaemon, report: Report, tokens: Path, ask: str, clients: int
) -> None:
    before = daemon.costs()
    result, used = generate(
        "connect",
        daemon.port,
        lambda: before,
        connections=clients,
        tokens=tokens,
        subprotocol="tchat.json.v1",
        confirm=ask,
        seed=1,
    )
    after = daemon.costs()
    used = {name: after[name] - before[name] for name in after}
    report.keep(what="storm", used=used, **result)
    report.add(
        f"{clients:,} at once: all connected and caught up",
        result["seconds"],
        "s",
        at_most=STORM_S_AT_MOST,
    )
    report.add(
        f"{clients:,} at once: CPU of daemon and database a client",
        sum(used.values()) / clients * 1e3,
        "ms",
        higher_is_better=False,
    )
