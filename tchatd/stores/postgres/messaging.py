"""Owns the rows of dialogs, members and their logs, and the journal's position.

A flush is one statement, hence one transaction and one round trip. It moves the
journal's position from the one it expects; if it is not there, nothing else happens.
"""
# Statements are put together of this module's own column names, never of values.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from tchatd.domains.messaging.models import MEMBERS_SHOWN_MAX
from tchatd.domains.messaging.store import (
    IN_ROLE_MAX,
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
from tchatd.stores.postgres.catching_up import CatchingUp, ChangedKey
from tchatd.stores.postgres.columns import (
    DIALOG,
    DIALOG_COLUMNS,
    EVENT,
    EVENT_COLUMNS,
    LAST_MESSAGE,
    MEMBER,
    MEMBER_COLUMNS,
)
from tchatd.stores.postgres.connection import Connection
from tchatd.stores.postgres.errors import ConstraintViolation
from tchatd.stores.postgres.flushing import FLUSH, flush_parameters
from tchatd.stores.postgres.pool import Pool

Row = tuple[Any, ...]


class PostgresDialogStore:
    """A `DialogStore`. journal: the name under which it keeps the position."""

    def __init__(self, pool: Pool, *, journal: str = "messaging") -> None:
        self._pool = pool
        self._journal = journal
        self._catching_up = CatchingUp(pool)

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
            async with self._pool.connection() as connection:
                cursor = await connection.execute_numbered(
                    FLUSH, flush_parameters(batch) | {"journal": self._journal}
                )
                row = await cursor.fetchone()
        except ConstraintViolation as error:
            raise StoreDiverged(
                f"Records up to {batch.position} do not fit the store"
                f" ({error.constraint})."
            ) from error
        if row is None or not row[0]:
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
            if wants.whole:
                members += await _whole(connection, wants.whole)
            sent = await _sent(connection, wants) if wants.sent else []
            messages = await _messages(connection, wants) if wants.messages else []
        return Found(dialogs, members, sent, messages, set(wants.whole))

    async def events(
        self, number: int, after: int, until: int, limit: int
    ) -> list[EventRow]:
        rows = await self._pool.fetch(
            f"""SELECT {EVENT} FROM events e WHERE dialog_number = %s
            AND seq > %s AND seq <= %s ORDER BY seq LIMIT %s""",
            (number, after, until, limit),
        )
        return [EventRow(*row) for row in rows]

    async def messages_before(
        self, number: int, seq: int, limit: int
    ) -> list[EventRow]:
        rows = await self._pool.fetch(
            f"""SELECT {EVENT} FROM events e WHERE dialog_number = %s
            AND seq < %s AND kind = {MESSAGE_NEW} ORDER BY seq DESC LIMIT %s""",
            (number, seq, limit),
        )
        return [EventRow(*row) for row in rows]

    async def messages_after(
        self, number: int, seq: int, until: int, limit: int
    ) -> list[EventRow]:
        rows = await self._pool.fetch(
            f"""SELECT {EVENT} FROM events e WHERE dialog_number = %s
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
                SELECT d.number, d.active_position, {MEMBER}
                FROM members m JOIN dialogs d ON d.number = m.dialog_number
                WHERE m.user_number = %(user)s AND m.left_seq = 0 AND NOT d.is_dropped
                    AND (%(type)s::smallint IS NULL OR d.type = %(type)s)
                    AND d.number <> ALL (%(without)b::bigint[])
            ), page AS (
                SELECT * FROM mine
                WHERE %(before)s::bigint IS NULL OR active_position < %(before)s
                ORDER BY active_position DESC OFFSET %(offset)s LIMIT %(limit)s
            )
            SELECT (SELECT count(*) FROM mine), {MEMBER}, {DIALOG}, {EVENT}
            FROM (SELECT) AS once LEFT JOIN (
                page m JOIN dialogs d ON d.number = m.number {LAST_MESSAGE}
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
            ListedDialog(
                _dialog(row[1 + MEMBER_COLUMNS :]),
                MemberRow(*row[1 : 1 + MEMBER_COLUMNS]),
            )
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
        also: Sequence[int],
        limit: int,
        count_max: int,
    ) -> tuple[list[ChangedDialog], int]:
        assert limit <= count_max
        return await self._catching_up.changed(
            ChangedKey(
                user_number,
                after_position,
                until_position,
                from_number,
                tuple(also),
                limit,
                count_max,
            )
        )

    async def ranges(
        self, ranges: Sequence[tuple[int, int, int]], until_position: int
    ) -> tuple[list[EventRow], list[EventRow]]:
        return await self._catching_up.ranges(ranges, until_position)

    async def thread_before(
        self, number: int, thread_seq: int, seq: int, limit: int
    ) -> list[EventRow]:
        """Which they are is read from the index alone: else a long thread, whose
        length the planner cannot guess, would be read whole and sorted."""
        rows = await self._pool.fetch(
            f"""WITH page AS MATERIALIZED (
                SELECT seq FROM events WHERE dialog_number = %(number)s
                    AND thread_seq = %(thread)s AND thread_seq > 0 AND seq < %(seq)s
                ORDER BY seq DESC LIMIT %(limit)s
            )
            SELECT {EVENT} FROM page JOIN events e USING (seq)
            WHERE dialog_number = %(number)s ORDER BY seq DESC""",
            {"number": number, "thread": thread_seq, "seq": seq, "limit": limit},
        )
        return [EventRow(*row) for row in rows]

    async def members_of(self, number: int, users: Sequence[int]) -> list[MemberRow]:
        rows = await self._pool.fetch(
            f"""SELECT {MEMBER} FROM unnest(%b::integer[]) AS w (user_number)
            JOIN members m USING (user_number) WHERE m.dialog_number = %s""",
            (list(users), number),
        )
        return [MemberRow(*row) for row in rows]

    async def in_role(
        self,
        number: int,
        roles: Sequence[int],
        *,
        after: int = 0,
        limit: int = IN_ROLE_MAX,
    ) -> list[MemberRow]:
        assert 0 not in roles
        rows = await self._pool.fetch(
            f"""SELECT {MEMBER} FROM members m WHERE dialog_number = %s
            AND role <> 0 AND left_seq = 0 AND role = ANY (%b::smallint[])
            AND user_number > %s ORDER BY user_number LIMIT %s""",
            (number, list(roles), after, limit),
        )
        return [MemberRow(*row) for row in rows]

    async def expired(self, now_ms: int, limit: int) -> list[tuple[int, int]]:
        rows = await self._pool.fetch(
            """SELECT dialog_number, seq FROM events
            WHERE expires_ms > 0 AND expires_ms <= %s ORDER BY expires_ms LIMIT %s""",
            (now_ms, limit),
        )
        return [(number, seq) for number, seq in rows]


async def _dialogs(connection: Connection, wants: Wants) -> list[DialogRow]:
    rows = await connection.fetch(
        f"""SELECT {DIALOG}, {EVENT} FROM dialogs d {LAST_MESSAGE}
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
        f"""SELECT {MEMBER} FROM unnest(%b::bigint[], %b::integer[])
            AS w (dialog_number, user_number)
        JOIN members m USING (user_number, dialog_number)""",
        (list(numbers), list(users)),
    )
    return [MemberRow(*row) for row in rows]


async def _whole(connection: Connection, numbers: set[int]) -> list[MemberRow]:
    """The index of members is by user, so who they are is asked of the dialog."""
    found = await connection.fetch(
        "SELECT number, members FROM dialogs WHERE number = ANY (%b::bigint[])",
        (sorted(numbers),),
    )
    keys = {
        (number, user)
        for number, members in found
        for user in BitMap.deserialize(members)
    }
    return await _members(connection, keys) if keys else []


async def _messages(connection: Connection, wants: Wants) -> list[EventRow]:
    numbers, seqs = zip(*sorted(wants.messages), strict=True)
    rows = await connection.fetch(
        f"""SELECT {EVENT} FROM unnest(%b::bigint[], %b::integer[])
            AS w (dialog_number, seq)
        JOIN events e ON e.dialog_number = w.dialog_number AND e.seq = w.seq
            AND e.kind = {MESSAGE_NEW}""",
        (list(numbers), list(seqs)),
    )
    return [EventRow(*row) for row in rows]


async def _sent(connection: Connection, wants: Wants) -> list[EventRow]:
    rows = await connection.fetch(
        f"SELECT {EVENT} FROM events e WHERE client_id = ANY (%b::bytea[])",
        ([client_id for _, _, client_id in wants.sent],),
    )
    found = [EventRow(*row) for row in rows]
    return [e for e in found if (e.dialog_number, e.actor, e.client_id) in wants.sent]


def _dialog(row: Row) -> DialogRow:
    """row: `DIALOG`, then `EVENT` of the last message or NULLs."""
    event = row[DIALOG_COLUMNS : DIALOG_COLUMNS + EVENT_COLUMNS]
    last_message = EventRow(*event) if event[0] is not None else None
    columns = list(row[:DIALOG_COLUMNS])
    columns[1] = columns[1].bytes
    columns[15] = tuple(columns[15])
    return DialogRow(*[*columns[:14], last_message, *columns[14:]])
