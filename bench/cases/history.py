"""Owns reading a page of 50 messages, warm and cold, with 10 million messages stored.

10,000 dialogs of two with 1,000 messages each, written straight into PostgreSQL (the
daemon knows nothing of them until it is asked). Cold: the latest page of a dialog, the
next request is of another dialog that was not asked for yet, so that tchatd has to
load it and the rows are not in PostgreSQL's own cache; older pages likewise. Warm: 100
dialogs, asked for again and again. Hot: 20 of them, in which 120 messages were just
said, so that the page is in memory. One request outstanding a connection.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from uuid import UUID

import psycopg

from bench.daemon import MeasuredDaemon
from bench.generator import Failed, generate
from bench.plan import Plan
from bench.report import Report
from bench.seed import User, make_users, send_all, sign
from tchatd.domains.messaging.identifiers import message_id, user_dialog_id
from tchatd.kernel.bitmaps import BitMap

READERS, DIALOGS_EACH, MESSAGES_EACH = 100, 100, 1_000
QUICK_MESSAGES_EACH = 20
HOT, HOT_MESSAGES = 20, 120
CONNECTIONS = 4
COLD_S = 0.3
WARM_P99_MS_AT_MOST, COLD_P99_MS_AT_MOST = 5.0, 20.0
FIRST_NUMBER = 1 << 40
"""Of the dialogs: far from those that a daemon makes, which are journal positions."""
BEGAN_MS = 1_780_000_000_000

_MESSAGES = """INSERT INTO events (dialog_number, position, at_ms, seq, actor, ordinal,
    kind, actor_id, body)
SELECT d.number, 0, %(began)s + 1000 * s, s, CASE s %% 2 WHEN 0 THEN d.one ELSE d.other
    END, s, 2, CASE s %% 2 WHEN 0 THEN d.one_id ELSE d.other_id END,
    '{"type":"text","content":{"text":"' || s || ' '
        || repeat(substr(md5((d.number + s)::text), 1, 20) || ' ', 3) || '"}}'
FROM unnest(%(number)s::bigint[], %(one)s::integer[], %(other)s::integer[],
    %(one_id)s::bytea[], %(other_id)s::bytea[])
    AS d (number, one, other, one_id, other_id),
    generate_series(1, %(each)s) AS s"""


def run(plan: Plan) -> Report:
    each = QUICK_MESSAGES_EACH if plan.quick else MESSAGES_EACH
    report = Report(
        "history",
        seed=plan.seed,
        settings=plan.settings(
            dialogs=READERS * DIALOGS_EACH, messages_each=each, connections=CONNECTIONS
        ),
    )
    with MeasuredDaemon() as daemon, tempfile.TemporaryDirectory() as folder:
        ids = make_users(daemon, 2 * READERS, seed=plan.seed)
        began_s = time.monotonic()
        dialogs = write_dialogs(daemon, ids, each)
        report.add("time to write the messages", time.monotonic() - began_s, "s")
        dice = random.Random(plan.seed)
        unread = dice.sample(dialogs, len(dialogs))
        warm = [unread.pop() for _ in range(100)]
        targets = Path(folder) / "targets"
        for _ in range(plan.runs):
            readers = {user.id: user for user in sign(daemon, ids)}
            share = len(unread) // 5
            fresh, unread = unread[:share], unread[share:]
            cold = [latest(readers, dialog) for dialog in fresh]
            measure(plan, report, daemon, targets, "cold, latest page", cold)
            older = [older_page(readers, dialog, each, dice) for dialog in fresh]
            measure(plan, report, daemon, targets, "cold, an older page", older)
            again = [latest(readers, dialog) for dialog in warm]
            measure(plan, report, daemon, targets, "warm, latest page", again)
            hot = warm[:HOT]
            send_all(
                daemon,
                [readers[reader] for _, reader, _ in hot],
                [id for _, _, id in hot],
                HOT_MESSAGES,
            )
            busy = [latest(readers, dialog) for dialog in hot]
            measure(plan, report, daemon, targets, "hot, latest page", busy)
    return report


Stored = tuple[int, UUID, str]
"""A dialog's number, who reads it, and its id."""


def write_dialogs(daemon: MeasuredDaemon, ids: list[UUID], each: int) -> list[Stored]:
    """Reader i has one dialog with each of DIALOGS_EACH others."""
    with psycopg.connect(daemon.database_dsn(), autocommit=True) as connection:
        found = connection.execute("SELECT id, number FROM users").fetchall()
        numbers: dict[UUID, int] = dict(found)
        dialogs: list[Stored] = []
        for index in range(READERS):
            people = [ids[index], *ids[READERS : READERS + DIALOGS_EACH]]
            first = FIRST_NUMBER + index * DIALOGS_EACH
            dialogs += write_some(connection, numbers, people, first, each)
        connection.execute("VACUUM (ANALYZE) events, dialogs, members")
        connection.execute("CHECKPOINT")
    return dialogs


def write_some(
    connection: psycopg.Connection[tuple[object, ...]],
    numbers: dict[UUID, int],
    people: list[UUID],
    first: int,
    each: int,
) -> list[Stored]:
    reader, others = people[0], people[1:]
    rows = []
    for index, other in enumerate(others):
        id = UUID(bytes=user_dialog_id(reader.bytes, other.bytes))
        members = BitMap((numbers[reader], numbers[other]))
        shown = b"".join(
            (reader if number == numbers[reader] else other).bytes for number in members
        )
        rows.append((first + index, id, numbers[other], members.serialize(), shown))
    connection.cursor().executemany(
        """INSERT INTO dialogs (number, id, created_ms, active_position, active_ms,
            last_position, last_seq, message_count, last_message_seq, creator, type,
            participants, members)
        VALUES (%s, %s, %s, 0, %s, 0, %s, %s, %s, %s, 0, %s, %s)""",
        [
            (number, id, BEGAN_MS, BEGAN_MS, each, each, each, numbers[reader], s, m)
            for number, id, _, m, s in rows
        ],
    )
    connection.cursor().executemany(
        "INSERT INTO members (dialog_number, user_number) VALUES (%s, %s), (%s, %s)",
        [(n, numbers[reader], n, other) for n, _, other, _, _ in rows],
    )
    connection.execute(
        _MESSAGES,
        {
            "began": BEGAN_MS,
            "each": each,
            "number": [row[0] for row in rows],
            "one": [numbers[reader]] * len(rows),
            "other": [row[2] for row in rows],
            "one_id": [reader.bytes] * len(rows),
            "other_id": [other.bytes for other in others],
        },
    )
    return [(number, reader, str(id)) for number, id, _, _, _ in rows]


def latest(readers: dict[UUID, User], dialog: Stored) -> str:
    _, reader, id = dialog
    return f"{readers[reader].token} /dialogs/{id}/messages?limit=50"


def older_page(
    readers: dict[UUID, User], dialog: Stored, each: int, dice: random.Random
) -> str:
    seq = dice.randrange(2, each)
    before = message_id(BEGAN_MS + 1_000 * seq, dialog[0], seq)
    return f"{latest(readers, dialog)}&before={before}"


def measure(
    plan: Plan,
    report: Report,
    daemon: MeasuredDaemon,
    targets: Path,
    what: str,
    lines: Iterable[str],
) -> None:
    """Cold: for as long as every target is asked for but once, at most."""
    lines = list(lines)
    targets.write_text("\n".join(lines) + "\n")
    is_warm = what.startswith(("warm", "hot"))
    result, used = generate(
        "http",
        daemon.port,
        daemon.costs,
        targets=targets,
        connections=CONNECTIONS,
        warmup_s=plan.warmup_s if is_warm else 0,
        seconds=plan.seconds if is_warm else COLD_S,
        seed=plan.seed,
    )
    report.keep(what=what, used=used, **result)
    if result["refused"]:
        raise Failed(f"{what}: refused with {result['refused_status']}")
    if not is_warm and result["answered"] > len(lines):
        raise Failed(f"{what}: {result['answered']} answers of {len(lines)} dialogs")
    at_most = WARM_P99_MS_AT_MOST if is_warm else COLD_P99_MS_AT_MOST
    latency = result["latency_us"]
    report.add(f"{what}: p99", latency["p99"] / 1e3, "ms", at_most=at_most)
    for name, value, unit in (
        ("p50", latency["p50"] / 1e3, "ms"),
        ("CPU", 1e6 * sum(used.values()) / max(result["answered"], 1), "us/page"),
    ):
        report.add(f"{what}: {name}", value, unit, higher_is_better=False)
    report.add(f"{what}: pages", result["answered"] / result["seconds"], "a second")
