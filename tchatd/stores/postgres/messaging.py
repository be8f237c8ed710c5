"""Owns the rows of dialogs, members and their logs, and the journal's position.

A flush is one statement, hence one transaction and one round trip. It moves the
journal's position from the one it expects; if it is not there, nothing else happens.
"""
# Statements are put together of this module's own column names, never of values.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from msgspec import structs

from tchatd.domains.messaging.models import MEMBERS_SHOWN_MAX
from tchatd.domains.messaging.store import (
    MESSAGE_NEW,
    ChangedDialog,
    DialogRow,
    EventRow,
    FlushBatch,
    Found,
    ListedDialog,
    MemberRow,
    StoreDiverged,
    Wants,
)
from tchatd.kernel.bitmaps import BitMap
from tchatd.stores.postgres.connection import Connection
from tchatd.stores.postgres.errors import ConstraintViolation
from tchatd.stores.postgres.pool import Pool

Row = tuple[Any, ...]

_EVENT: Final = (
    "e.dialog_number, e.seq, e.kind, e.position, e.at_ms, e.ordinal, e.actor,"
    " e.actor_id, e.body, e.client_id"
)
_DIALOG: Final = (
    "d.number, d.id, d.type, d.name, d.avatar, d.creator, d.created_ms, d.members,"
    " d.participants, d.last_seq, d.message_count, d.active_position, d.active_ms,"
    " d.last_position"
)
_DIALOG_COLUMNS: Final = 14
_EVENT_COLUMNS: Final = 10
_MEMBER: Final = (
    "m.dialog_number, m.user_number, m.role, m.read_seq, m.read_ordinal, m.read_at_ms,"
    " m.client_ms"
)
_LAST_MESSAGE: Final = f"""LEFT JOIN events e ON e.dialog_number = d.number
    AND e.seq = d.last_message_seq AND e.kind = {MESSAGE_NEW}"""

_FLUSH: Final = """
WITH moved AS (
    UPDATE journal_positions SET position = %(position)s
    WHERE journal = %(journal)s AND position = %(previous_position)s RETURNING 1
), created AS (
    INSERT INTO dialogs (number, id, type, name, avatar, creator, created_ms, members,
        participants, last_seq, message_count, active_position, active_ms,
        last_position, last_message_seq)
    SELECT * FROM unnest(%(d_number)b::bigint[], %(d_id)b::uuid[],
        %(d_type)b::smallint[], %(d_name)b::text[], %(d_avatar)b::text[],
        %(d_creator)b::integer[], %(d_created_ms)b::bigint[], %(d_members)b::bytea[],
        %(d_participants)b::bytea[], %(d_last_seq)b::integer[],
        %(d_message_count)b::integer[], %(d_active_position)b::bigint[],
        %(d_active_ms)b::bigint[], %(d_last_position)b::bigint[],
        %(d_last_message_seq)b::integer[])
    WHERE EXISTS (SELECT FROM moved)
), joined AS (
    INSERT INTO members (dialog_number, user_number, role, read_seq, read_ordinal,
        read_at_ms, client_ms)
    SELECT * FROM unnest(%(j_dialog)b::bigint[], %(j_user)b::integer[],
        %(j_role)b::smallint[], %(j_read_seq)b::integer[],
        %(j_read_ordinal)b::integer[], %(j_read_at_ms)b::bigint[],
        %(j_client_ms)b::bigint[])
    WHERE EXISTS (SELECT FROM moved)
), changed AS (
    UPDATE dialogs d SET last_seq = c.last_seq, message_count = c.message_count,
        last_message_seq = greatest(d.last_message_seq, c.last_message_seq),
        active_position = greatest(d.active_position, c.active_position),
        active_ms = greatest(d.active_ms, c.active_ms), last_position = c.last_position
    FROM unnest(%(c_number)b::bigint[], %(c_last_seq)b::integer[],
        %(c_message_count)b::integer[], %(c_last_message_seq)b::integer[],
        %(c_active_position)b::bigint[], %(c_active_ms)b::bigint[],
        %(c_last_position)b::bigint[]) AS c (number, last_seq, message_count,
        last_message_seq, active_position, active_ms, last_position)
    WHERE d.number = c.number AND EXISTS (SELECT FROM moved)
), moved_cursors AS (
    UPDATE members m SET read_seq = c.read_seq, read_ordinal = c.read_ordinal,
        read_at_ms = c.read_at_ms, client_ms = c.client_ms
    FROM unnest(%(m_dialog)b::bigint[], %(m_user)b::integer[],
        %(m_read_seq)b::integer[], %(m_read_ordinal)b::integer[],
        %(m_read_at_ms)b::bigint[], %(m_client_ms)b::bigint[]) AS c (dialog_number,
        user_number, read_seq, read_ordinal, read_at_ms, client_ms)
    WHERE m.user_number = c.user_number AND m.dialog_number = c.dialog_number
        AND EXISTS (SELECT FROM moved)
), logged AS (
    INSERT INTO events (dialog_number, seq, kind, position, at_ms, ordinal, actor,
        actor_id, body, client_id)
    SELECT * FROM unnest(%(e_dialog)b::bigint[], %(e_seq)b::integer[],
        %(e_kind)b::smallint[], %(e_position)b::bigint[], %(e_at_ms)b::bigint[],
        %(e_ordinal)b::integer[], %(e_actor)b::integer[], %(e_actor_id)b::bytea[],
        %(e_body)b::text[], %(e_client_id)b::bytea[])
    WHERE EXISTS (SELECT FROM moved)
)
SELECT count(*) FROM moved
"""


class PostgresDialogStore:
    """A `DialogStore`. journal: the name under which it keeps the position."""

    def __init__(self, pool: Pool, *, journal: str = "messaging") -> None:
        self._pool = pool
        self._journal = journal

    async def position(self) -> int:
        await self._pool.execute(
            "INSERT INTO journal_positions VALUES (%s, 0) ON CONFLICT DO NOTHING",
            (self._journal,),
        )
        return await self._position()

    async def _position(self) -> int:
        position: int = await self._pool.fetch_value(
            "SELECT position FROM journal_positions WHERE journal = %s",
            (self._journal,),
        )
        return position

    async def flush(self, batch: FlushBatch) -> None:
        """An answer that was lost with the connection is asked for again: the position
        tells whether the first try was done."""
        try:
            moved = await self._pool.fetch_value(
                _FLUSH, _flush_parameters(batch) | {"journal": self._journal}
            )
        except ConstraintViolation as error:
            raise StoreDiverged(
                f"Records up to {batch.position} do not fit the store"
                f" ({error.constraint})."
            ) from error
        if not moved:
            position = await self._position()
            if position != batch.position:
                raise StoreDiverged(
                    f"The store is at position {position}, neither at"
                    f" {batch.previous_position} nor at {batch.position}."
                )

    async def load(self, wants: Wants) -> Found:
        async with self._pool.connection() as connection:
            dialogs = []
            if wants.ids or wants.numbers:
                dialogs = await _dialogs(connection, wants)
            keys = set(wants.members)
            for dialog in dialogs:
                people = BitMap.deserialize(dialog.members)
                if len(people) <= MEMBERS_SHOWN_MAX:
                    keys.update((dialog.number, user) for user in people)
            members = await _members(connection, keys) if keys else []
            sent = await _sent(connection, wants) if wants.sent else []
        return Found(dialogs, members, sent)

    async def events(
        self, number: int, after: int, until: int, limit: int
    ) -> list[EventRow]:
        rows = await self._pool.fetch(
            f"""SELECT {_EVENT} FROM events e WHERE dialog_number = %s
            AND seq > %s AND seq <= %s ORDER BY seq LIMIT %s""",
            (number, after, until, limit),
        )
        return [EventRow(*row) for row in rows]

    async def messages_before(
        self, number: int, seq: int, limit: int
    ) -> list[EventRow]:
        rows = await self._pool.fetch(
            f"""SELECT {_EVENT} FROM events e WHERE dialog_number = %s
            AND seq < %s AND kind = {MESSAGE_NEW} ORDER BY seq DESC LIMIT %s""",
            (number, seq, limit),
        )
        return [EventRow(*row) for row in rows]

    async def messages_after(
        self, number: int, seq: int, until: int, limit: int
    ) -> list[EventRow]:
        rows = await self._pool.fetch(
            f"""SELECT {_EVENT} FROM events e WHERE dialog_number = %s
            AND seq > %s AND seq <= %s AND kind = {MESSAGE_NEW}
            ORDER BY seq LIMIT %s""",
            (number, seq, until, limit),
        )
        return [EventRow(*row) for row in rows]

    async def listed(
        self,
        user_number: int,
        *,
        type: int | None,
        without: Sequence[int],
        before: int | None,
        offset: int,
        limit: int,
    ) -> tuple[list[ListedDialog], int]:
        rows = await self._pool.fetch(
            f"""WITH mine AS MATERIALIZED (
                SELECT d.number, d.active_position, {_MEMBER}
                FROM members m JOIN dialogs d ON d.number = m.dialog_number
                WHERE m.user_number = %(user)s
                    AND (%(type)s::smallint IS NULL OR d.type = %(type)s)
                    AND d.number <> ALL (%(without)b::bigint[])
            ), page AS (
                SELECT * FROM mine
                WHERE %(before)s::bigint IS NULL OR active_position < %(before)s
                ORDER BY active_position DESC OFFSET %(offset)s LIMIT %(limit)s
            )
            SELECT (SELECT count(*) FROM mine), {_MEMBER}, {_DIALOG}, {_EVENT}
            FROM (SELECT) AS once LEFT JOIN (
                page m JOIN dialogs d ON d.number = m.number {_LAST_MESSAGE}
            ) ON true ORDER BY m.active_position DESC""",
            {
                "user": user_number,
                "type": type,
                "without": list(without),
                "before": before,
                "offset": offset,
                "limit": limit,
            },
        )
        total: int = rows[0][0]
        return [
            ListedDialog(_dialog(row[8:]), MemberRow(*row[1:8]))
            for row in rows
            if row[1] is not None
        ], total

    async def changed(
        self,
        user_number: int,
        *,
        after_position: int,
        until_position: int,
        from_number: int,
        limit: int,
    ) -> list[ChangedDialog]:
        rows = await self._pool.fetch(
            """SELECT number, id, event_seq_at(number, %(after)s, last_seq),
                CASE WHEN last_position <= %(until)s THEN last_seq
                ELSE event_seq_at(number, %(until)s, last_seq) END
            FROM (
                SELECT d.number, d.id, d.last_seq, d.last_position
                FROM members m JOIN dialogs d ON d.number = m.dialog_number
                WHERE m.user_number = %(user)s AND m.dialog_number >= %(from)s
                    AND d.last_position > %(after)s
                ORDER BY m.dialog_number LIMIT %(limit)s
            ) AS changed ORDER BY number""",
            {
                "user": user_number,
                "after": after_position,
                "until": until_position,
                "from": from_number,
                "limit": limit,
            },
        )
        return [ChangedDialog(n, id.bytes, floor, last) for n, id, floor, last in rows]

    async def ranges(
        self, ranges: Sequence[tuple[int, int, int]], until_position: int
    ) -> list[EventRow]:
        numbers, after, until = zip(*ranges, strict=True) if ranges else ((), (), ())
        rows = await self._pool.fetch(
            f"""SELECT {_EVENT} FROM unnest(%b::bigint[], %b::integer[],
                %b::integer[]) AS r (number, after, until)
            JOIN events e ON e.dialog_number = r.number
                AND e.seq > r.after AND e.seq <= r.until
            WHERE e.position <= %s ORDER BY e.dialog_number, e.seq""",
            (list(numbers), list(after), list(until), until_position),
        )
        return [EventRow(*row) for row in rows]


async def _dialogs(connection: Connection, wants: Wants) -> list[DialogRow]:
    rows = await connection.fetch(
        f"""SELECT {_DIALOG}, {_EVENT} FROM dialogs d {_LAST_MESSAGE}
        WHERE d.number = ANY (%(numbers)b::bigint[]) OR d.id = ANY (%(ids)b::uuid[])""",
        {
            "numbers": sorted(wants.numbers),
            "ids": [UUID(bytes=id) for id in sorted(wants.ids)],
        },
    )
    return [_dialog(row) for row in rows]


async def _members(
    connection: Connection, keys: set[tuple[int, int]]
) -> list[MemberRow]:
    numbers, users = zip(*sorted(keys), strict=True)
    rows = await connection.fetch(
        f"""SELECT {_MEMBER} FROM unnest(%b::bigint[], %b::integer[])
            AS w (dialog_number, user_number)
        JOIN members m USING (user_number, dialog_number)""",
        (list(numbers), list(users)),
    )
    return [MemberRow(*row) for row in rows]


async def _sent(connection: Connection, wants: Wants) -> list[EventRow]:
    rows = await connection.fetch(
        f"SELECT {_EVENT} FROM events e WHERE client_id = ANY (%b::bytea[])",
        ([client_id for _, _, client_id in wants.sent],),
    )
    found = [EventRow(*row) for row in rows]
    return [e for e in found if (e.dialog_number, e.actor, e.client_id) in wants.sent]


def _dialog(row: Row) -> DialogRow:
    """row: `_DIALOG`, then `_EVENT` of the last message or NULLs."""
    event = row[_DIALOG_COLUMNS : _DIALOG_COLUMNS + _EVENT_COLUMNS]
    last_message = EventRow(*event) if event[0] is not None else None
    return DialogRow(*(row[0], row[1].bytes, *row[2:_DIALOG_COLUMNS], last_message))


def _flush_parameters(batch: FlushBatch) -> dict[str, Any]:
    """What is new in the batch is inserted as the batch leaves it: one statement does
    not see its own inserts."""
    changes = {change.number: change for change in batch.changes}
    cursors = {(m.dialog_number, m.user_number): m for m in batch.members}
    created, last_message_seq = [], []
    for row in batch.created:
        change = changes.pop(row.number)
        last_message_seq.append(change.last_message_seq)
        created.append(
            structs.replace(
                row,
                last_seq=change.last_seq,
                message_count=change.message_count,
                active_position=change.active_position,
                active_ms=change.active_ms,
                last_position=change.last_position,
            )
        )
    joined = [
        cursors.pop((number, user), MemberRow(number, user, role))
        for number, user, role in batch.memberships
    ]
    e = batch.events
    parameters: dict[str, Any] = {
        "previous_position": batch.previous_position,
        "position": batch.position,
        "d_id": [UUID(bytes=row.id) for row in created],
        "d_last_message_seq": last_message_seq,
        "j_dialog": [row.dialog_number for row in joined],
        "j_user": [row.user_number for row in joined],
        "j_role": [row.role for row in joined],
        "m_dialog": [row.dialog_number for row in cursors.values()],
        "m_user": [row.user_number for row in cursors.values()],
        "e_dialog": e.dialog_number,
        "e_seq": e.seq,
        "e_kind": e.kind,
        "e_position": e.position,
        "e_at_ms": e.at_ms,
        "e_ordinal": e.ordinal,
        "e_actor": e.actor,
        "e_actor_id": e.actor_id,
        "e_body": e.body,
        "e_client_id": e.client_id,
    }
    for name in _CREATED_COLUMNS:
        parameters[f"d_{name}"] = [getattr(row, name) for row in created]
    for name in ("read_seq", "read_ordinal", "read_at_ms", "client_ms"):
        parameters[f"j_{name}"] = [getattr(row, name) for row in joined]
        parameters[f"m_{name}"] = [getattr(row, name) for row in cursors.values()]
    for name in _CHANGED_COLUMNS:
        parameters[f"c_{name}"] = [getattr(row, name) for row in changes.values()]
    return parameters


_CREATED_COLUMNS: Final = (
    *("number", "type", "name", "avatar", "creator", "created_ms", "members"),
    *("participants", "last_seq", "message_count", "active_position", "active_ms"),
    "last_position",
)
_CHANGED_COLUMNS: Final = (
    *("number", "last_seq", "message_count", "last_message_seq"),
    *("active_position", "active_ms", "last_position"),
)
