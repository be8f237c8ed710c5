"""Owns a giant channel: 200,000 members, 10,000 of them online; a post, end to end.

The members are rows of users that can never sign in, but for those who are online; they
join 1,000 at a time through the API. The owner posts; a post is complete when all
10,000 have it. It must be one row in PostgreSQL, and neither its acknowledgement nor
its delivery may depend on the number of members: the baseline, in the same run, is a
channel whose only members are those who are online.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from pathlib import Path
from uuid import UUID

import psycopg

from bench.daemon import MeasuredDaemon
from bench.generator import Failed, generate
from bench.plan import Plan
from bench.report import Report
from bench.seed import User, make_users, request, sign

MEMBERS, ONLINE = 200_000, 10_000
QUICK_MEMBERS, QUICK_ONLINE = 5_000, 500
ADDED_AT_ONCE = 1_000
TEXT_BYTES = 256
ADD_LOOKS_MAX = 120
REST_S, REST_LOOKS_MAX = 0.5, 60  # some flush intervals each
SPREAD_MS_AT_MOST, REPLY_P99_MS_AT_MOST = 150.0, 20.0
EVENT_ROWS = "select count(*) from events"


def run(plan: Plan) -> Report:
    members = QUICK_MEMBERS if plan.quick else MEMBERS
    online = QUICK_ONLINE if plan.quick else ONLINE
    report = Report(
        "channel",
        seed=plan.seed,
        settings=plan.settings(members=members, online=online, text_bytes=TEXT_BYTES),
    )
    with MeasuredDaemon() as daemon, tempfile.TemporaryDirectory() as folder:
        ids = make_users(daemon, online + 1, seed=plan.seed)
        owner = sign(daemon, ids)[online]
        rest = make_crowd(daemon, members - online - 1)
        small = make_channel(daemon, owner, ids[:online])
        large = make_channel(daemon, owner, ids[:online])
        began_s = time.monotonic()
        for at in range(0, len(rest), ADDED_AT_ONCE):
            add(daemon, sign(daemon, ids[online:])[0], large, rest[at : at + 1_000])
        report.add(
            "members added", len(rest) / (time.monotonic() - began_s), "a second"
        )
        tokens = Path(folder) / "tokens"
        for _ in range(plan.runs):
            users = sign(daemon, ids)
            tokens.write_text("\n".join(user.token for user in users) + "\n")
            for name, id in ((f"{online + 1:,}", small), (f"{members:,}", large)):
                measure(plan, report, daemon, tokens, name, id, online)
    return report


def make_crowd(daemon: MeasuredDaemon, count: int) -> list[UUID]:
    """Users who only exist: nobody knows what would sign them in."""
    with psycopg.connect(daemon.database_dsn(), autocommit=True) as connection:
        columns = [
            row[0]
            for row in connection.execute(
                "SELECT column_name FROM information_schema.columns"
                " WHERE table_name = 'users' AND is_identity = 'NO'"
                " AND is_generated = 'NEVER' ORDER BY ordinal_position"
            )
        ]
        unlike = {
            "id": "gen_random_uuid()",
            "email_hash": "%(salt)s::bytea || int4send(n)",
        }
        names = ", ".join(columns)
        values = ", ".join(unlike.get(name, f"u.{name}") for name in columns)
        found = connection.execute(
            f"INSERT INTO users ({names}) SELECT {values}"
            " FROM (SELECT * FROM users LIMIT 1) u, generate_series(1, %(count)s) n"
            " RETURNING id",
            {"count": count, "salt": secrets.token_bytes(28)},
        ).fetchall()
    return [row[0] for row in found]


def make_channel(daemon: MeasuredDaemon, owner: User, others: list[UUID]) -> str:
    body = {"type": "channel", "name": "News", "participants": []}
    id: str = request(daemon, owner, "POST", "/dialogs", body)["id"]
    for at in range(0, len(others), ADDED_AT_ONCE):
        add(daemon, owner, id, others[at : at + ADDED_AT_ONCE])
    return id


def add(daemon: MeasuredDaemon, owner: User, id: str, people: list[UUID]) -> None:
    """The route's own limit holds for everybody: it is waited for."""
    body = {"user_ids": [str(person) for person in people]}
    for _ in range(ADD_LOOKS_MAX):
        try:
            request(daemon, owner, "POST", f"/dialogs/{id}/members", body)
            return
        except Failed as error:
            if ": 429 " not in str(error):
                raise
            time.sleep(1)  # the daemon's own `retry_after`
    raise Failed("the limit of adding members does not end")


def event_rows(daemon: MeasuredDaemon) -> int:
    with psycopg.connect(daemon.database_dsn(), autocommit=True) as connection:
        row = connection.execute(EVENT_ROWS).fetchone()
        assert row is not None
        return int(row[0])


def rows_at_rest(daemon: MeasuredDaemon) -> int:
    """When no more are flushed. Raises: Failed, when that does not end."""
    rows = event_rows(daemon)
    for _ in range(REST_LOOKS_MAX):
        time.sleep(REST_S)
        before, rows = rows, event_rows(daemon)
        if rows == before:
            return rows
    raise Failed("rows are flushed without an end")


def measure(
    plan: Plan,
    report: Report,
    daemon: MeasuredDaemon,
    tokens: Path,
    members: str,
    id: str,
    online: int,
) -> None:
    before = event_rows(daemon)
    result, used = generate(
        "fanout",
        daemon.port,
        daemon.costs,
        tokens=tokens,
        dialog=id,
        connections=online,
        outstanding=1,
        size=TEXT_BYTES,
        subprotocol="tchat.json.v1",
        concurrency=64,
        warmup_s=plan.warmup_s,
        seconds=plan.seconds,
        drain_s=60,
        seed=plan.seed,
    )
    rows = rows_at_rest(daemon) - before
    report.keep(members=members, rows=rows, used=used, **result)
    what = f"{members} members, {online:,} online"
    posts = result["messages"]
    if not posts <= rows <= 10 * posts:  # never one for each member
        raise Failed(f"{rows} rows of {posts} posts and those of the warm-up")
    report.add(
        f"{what}: first to last delivery, p99",
        result["spread_us"]["p99"] / 1e3,
        "ms",
        at_most=SPREAD_MS_AT_MOST,
    )
    report.add(
        f"{what}: acknowledgement, p99",
        result["reply_us"]["p99"] / 1e3,
        "ms",
        at_most=REPLY_P99_MS_AT_MOST,
    )
    report.add(
        f"{what}: a CPU second of the daemon",
        result["deliveries"] / max(used["daemon"], 0.01),
        "deliveries",
    )
