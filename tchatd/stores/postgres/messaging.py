"""Owns the rows of dialogs, members and their logs, and the journal's position.

A flush is one statement, hence one transaction and one round trip. It moves the
journal's position from the one it expects; if it is not there, nothing else happens.
"""
# Statements are put together of this module's own column names, never of values.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from msgspec import Struct, structs

from tchatd.domains.messaging.models import MEMBERS_SHOWN_MAX
from tchatd.domains.messaging.store import (
    IN_ROLE_MAX,
    MESSAGE_EDITED,
    MESSAGE_NEW,
    ChangedDialog,
    CursorRow,
    DialogChange,
    DialogProfile,
    DialogRow,
    EventColumns,
    EventRow,
    FlushBatch,
    Found,
    ListedDialog,
    MemberRow,
    MessageUpdate,
    StoreDiverged,
    Wants,
)
from tchatd.kernel.bitmaps import BitMap
from tchatd.stores.postgres.arrays import array
from tchatd.stores.postgres.connection import Connection
from tchatd.stores.postgres.errors import ConstraintViolation
from tchatd.stores.postgres.pool import Pool

Row = tuple[Any, ...]

_EVENT: Final = (
    "e.dialog_number, e.seq, e.kind, e.position, e.at_ms, e.ordinal, e.actor,"
    " e.actor_id, e.body, e.client_id, e.changed, e.thread_seq, e.expires_ms"
)
_DIALOG: Final = (
    "d.number, d.id, d.type, d.name, d.avatar, d.creator, d.created_ms, d.members,"
    " d.participants, d.last_seq, d.message_count, d.active_position, d.active_ms,"
    " d.last_position, d.settings, d.pins, d.deleted, d.banned, d.is_dropped"
)
_DIALOG_COLUMNS: Final = 19
_EVENT_COLUMNS: Final = 13
_MEMBER_TYPES: Final = {
    "dialog_number": "bigint",
    "user_number": "integer",
    "role": "smallint",
    "read_seq": "integer",
    "read_ordinal": "integer",
    "read_at_ms": "bigint",
    "client_ms": "bigint",
    "delivered_seq": "integer",
    "sent_ms": "bigint",
    "joined_seq": "integer",
    "joined_position": "bigint",
    "left_seq": "integer",
    "left_position": "bigint",
    "own_position": "bigint",
    "mentions": "bytea",
    "extra": "bytea",
}
"""Of MemberRow's fields, in their order."""
_MEMBER: Final = ", ".join(f"m.{name}" for name in _MEMBER_TYPES)
_MEMBER_COLUMNS: Final = len(_MEMBER_TYPES)
_PROFILE_TYPES: Final = {
    "name": "text",
    "avatar": "text",
    "members": "bytea",
    "participants": "bytea",
    "settings": "bytea",
    "pins": "text",
    "deleted": "bytea",
    "banned": "bytea",
    "is_dropped": "boolean",
}
_PIN_SEPARATOR: Final = ","
assert tuple(_MEMBER_TYPES) == MemberRow.__struct_fields__
assert ("number", *_PROFILE_TYPES) == DialogProfile.__struct_fields__


def _arrays(prefix: str, types: Mapping[str, str]) -> str:
    return ", ".join(f"%({prefix}_{name})b::{type}[]" for name, type in types.items())


_CHANGE_TYPES: Final = {
    "number": "bigint",
    "last_seq": "integer",
    "message_count": "integer",
    "last_message_seq": "integer",
    "active_position": "bigint",
    "active_ms": "bigint",
    "last_position": "bigint",
}
_CREATED_TYPES: Final = {
    "number": "bigint",
    "id": "uuid",
    "type": "smallint",
    "creator": "integer",
    "created_ms": "bigint",
    **{name: type for name, type in _CHANGE_TYPES.items() if name != "number"},
    **_PROFILE_TYPES,
}
_CURSOR_TYPES: Final = {
    "dialog_number": "bigint",
    "user_number": "integer",
    "read_seq": "integer",
    "read_ordinal": "integer",
    "read_at_ms": "bigint",
    "client_ms": "bigint",
    "sent_ms": "bigint",
    "own_position": "bigint",
}
_EVENT_TYPES: Final = {
    "dialog_number": "bigint",
    "seq": "integer",
    "kind": "smallint",
    "position": "bigint",
    "at_ms": "bigint",
    "ordinal": "integer",
    "actor": "integer",
    "actor_id": "bytea",
    "body": "text",
    "client_id": "bytea",
    "changed": "bytea",
    "thread_seq": "integer",
    "expires_ms": "bigint",
}
_UPDATE_TYPES: Final = {
    "dialog_number": "bigint",
    "seq": "integer",
    "body": "text",
    "changed": "bytea",
    "expires_ms": "bigint",
}
assert tuple(_CHANGE_TYPES) == DialogChange.__struct_fields__
assert tuple(_CURSOR_TYPES) == CursorRow.__struct_fields__
assert tuple(_EVENT_TYPES) == EventColumns.__struct_fields__
assert tuple(_UPDATE_TYPES) == MessageUpdate.__struct_fields__


def _pins_of(value: str) -> str:
    """An array in an array is of one length in SQL; so a list travels as a text."""
    return f"coalesce(string_to_array(nullif({value}, ''), '{_PIN_SEPARATOR}'), '{{}}')"


def _columns(table: str, types: Mapping[str, str]) -> str:
    return ", ".join(
        _pins_of(f"{table}.pins") if name == "pins" else f"{table}.{name}"
        for name in types
    )


_MOVES: Final = """last_seq = c.last_seq, message_count = c.message_count,
        last_message_seq = greatest(d.last_message_seq, c.last_message_seq),
        active_position = greatest(d.active_position, c.active_position),
        active_ms = greatest(d.active_ms, c.active_ms),
        last_position = c.last_position"""
_SETS: Final = ", ".join(
    f"{name} = {_pins_of('c.pins') if name == 'pins' else f'c.{name}'}"
    for name in _PROFILE_TYPES
)
_LAST_MESSAGE: Final = f"""LEFT JOIN events e ON e.dialog_number = d.number
    AND e.seq = d.last_message_seq AND e.kind = {MESSAGE_NEW}"""

_FLUSH: Final = f"""
WITH moved AS (
    UPDATE journal_positions SET position = %(position)s
    WHERE journal = %(journal)s AND position = %(previous_position)s RETURNING 1
), created AS (
    INSERT INTO dialogs ({", ".join(_CREATED_TYPES)})
    SELECT {_columns("c", _CREATED_TYPES)}
    FROM unnest({_arrays("d", _CREATED_TYPES)}) AS c ({", ".join(_CREATED_TYPES)})
    WHERE EXISTS (SELECT FROM moved)
), changed AS (
    UPDATE dialogs d SET {_MOVES}
    FROM unnest({_arrays("c", _CHANGE_TYPES)}) AS c ({", ".join(_CHANGE_TYPES)})
    WHERE d.number = c.number AND EXISTS (SELECT FROM moved)
), profiled AS (
    UPDATE dialogs d SET {_MOVES}, {_SETS}
    FROM unnest({_arrays("p", _CHANGE_TYPES | _PROFILE_TYPES)})
        AS c ({", ".join(_CHANGE_TYPES | _PROFILE_TYPES)})
    WHERE d.number = c.number AND EXISTS (SELECT FROM moved)
), joined AS (
    INSERT INTO members ({", ".join(_MEMBER_TYPES)})
    SELECT * FROM unnest({_arrays("j", _MEMBER_TYPES)})
    WHERE EXISTS (SELECT FROM moved)
    ON CONFLICT (user_number, dialog_number) DO UPDATE SET
        {", ".join(f"{n} = excluded.{n}" for n in list(_MEMBER_TYPES)[2:])}
), moved_cursors AS (
    UPDATE members m SET read_seq = c.read_seq, read_ordinal = c.read_ordinal,
        read_at_ms = c.read_at_ms, client_ms = c.client_ms, mentions = NULL,
        delivered_seq = greatest(m.delivered_seq, c.read_seq),
        sent_ms = greatest(m.sent_ms, c.sent_ms),
        own_position = greatest(m.own_position, c.own_position)
    FROM unnest({_arrays("m", _CURSOR_TYPES)}) AS c ({", ".join(_CURSOR_TYPES)})
    WHERE m.user_number = c.user_number AND m.dialog_number = c.dialog_number
        AND EXISTS (SELECT FROM moved)
), updated AS (
    UPDATE events e SET body = c.body, changed = c.changed, expires_ms = c.expires_ms
    FROM unnest({_arrays("u", _UPDATE_TYPES)}) AS c ({", ".join(_UPDATE_TYPES)})
    WHERE e.dialog_number = c.dialog_number AND e.seq = c.seq
        AND e.kind = {MESSAGE_NEW} AND EXISTS (SELECT FROM moved)
), logged AS (
    INSERT INTO events ({", ".join(_EVENT_TYPES)})
    SELECT * FROM unnest({_arrays("e", _EVENT_TYPES)})
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
            if wants.whole:
                members += await _whole(connection, wants.whole)
            sent = await _sent(connection, wants) if wants.sent else []
            messages = await _messages(connection, wants) if wants.messages else []
        return Found(dialogs, members, sent, messages, set(wants.whole))

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
                WHERE m.user_number = %(user)s AND m.left_seq = 0 AND NOT d.is_dropped
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
            ListedDialog(
                _dialog(row[1 + _MEMBER_COLUMNS :]),
                MemberRow(*row[1 : 1 + _MEMBER_COLUMNS]),
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
        rows = await self._pool.fetch(
            f"""WITH mine AS MATERIALIZED (
                SELECT d.number, CASE WHEN m.left_seq > 0 THEN m.left_seq
                    ELSE d.last_seq END AS last, {_MEMBER}
                FROM members m JOIN dialogs d ON d.number = m.dialog_number
                WHERE m.user_number = %(user)s AND m.dialog_number >= %(from)s
                    AND (d.last_position > %(after)s OR m.own_position > %(after)s
                        OR m.dialog_number = ANY (%(also)b::bigint[]))
                    AND (m.left_seq = 0 OR m.left_position > %(after)s)
                ORDER BY m.dialog_number LIMIT %(count)s
            )
            SELECT (SELECT count(*) FROM mine), d.number, d.id,
                CASE WHEN d.last_position <= %(after)s AND last = d.last_seq
                    THEN last ELSE event_seq_at(number, %(after)s, last) END,
                CASE WHEN d.last_position <= %(until)s AND last = d.last_seq
                    THEN last ELSE event_seq_at(number, %(until)s, last) END,
                d.last_seq, d.message_count, d.pins, d.deleted, d.is_dropped, {_MEMBER}
            FROM (SELECT * FROM mine ORDER BY number LIMIT %(limit)s) AS m
                JOIN dialogs d USING (number)
            ORDER BY d.number""",
            {
                "user": user_number,
                "after": after_position,
                "until": until_position,
                "from": from_number,
                "also": list(also),
                "limit": limit,
                "count": count_max,
            },
        )
        count: int = rows[0][0] if rows else 0
        return [_changed(row[1:]) for row in rows], count

    async def ranges(
        self, ranges: Sequence[tuple[int, int, int]], until_position: int
    ) -> tuple[list[EventRow], list[EventRow]]:
        """The body of a `message.edited` is EditedBody (rows.py)."""
        numbers, after, until = zip(*ranges, strict=True) if ranges else ((), (), ())
        rows = await self._pool.fetch(
            f"""WITH e AS MATERIALIZED (
                SELECT {_EVENT} FROM unnest(%b::bigint[], %b::integer[],
                    %b::integer[]) AS r (number, after, until)
                JOIN events e ON e.dialog_number = r.number
                    AND e.seq > r.after AND e.seq <= r.until
                WHERE e.position <= %s
            )
            SELECT false, {_EVENT} FROM e UNION ALL
            SELECT true, {_EVENT} FROM (
                SELECT DISTINCT dialog_number, (body::json->>'message_seq')::integer
                FROM e WHERE kind = {MESSAGE_EDITED}
            ) AS r (number, seq) JOIN events e ON e.dialog_number = r.number
                AND e.seq = r.seq AND e.kind = {MESSAGE_NEW}
            ORDER BY 1, 2, 3""",
            (list(numbers), list(after), list(until), until_position),
        )
        events = [EventRow(*row[1:]) for row in rows if not row[0]]
        return events, [EventRow(*row[1:]) for row in rows if row[0]]

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
            SELECT {_EVENT} FROM page JOIN events e USING (seq)
            WHERE dialog_number = %(number)s ORDER BY seq DESC""",
            {"number": number, "thread": thread_seq, "seq": seq, "limit": limit},
        )
        return [EventRow(*row) for row in rows]

    async def members_of(self, number: int, users: Sequence[int]) -> list[MemberRow]:
        rows = await self._pool.fetch(
            f"""SELECT {_MEMBER} FROM unnest(%b::integer[]) AS w (user_number)
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
            f"""SELECT {_MEMBER} FROM members m WHERE dialog_number = %s
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
        f"""SELECT {_EVENT} FROM unnest(%b::bigint[], %b::integer[])
            AS w (dialog_number, seq)
        JOIN events e ON e.dialog_number = w.dialog_number AND e.seq = w.seq
            AND e.kind = {MESSAGE_NEW}""",
        (list(numbers), list(seqs)),
    )
    return [EventRow(*row) for row in rows]


async def _sent(connection: Connection, wants: Wants) -> list[EventRow]:
    rows = await connection.fetch(
        f"SELECT {_EVENT} FROM events e WHERE client_id = ANY (%b::bytea[])",
        ([client_id for _, _, client_id in wants.sent],),
    )
    found = [EventRow(*row) for row in rows]
    return [e for e in found if (e.dialog_number, e.actor, e.client_id) in wants.sent]


def _changed(row: Row) -> ChangedDialog:
    number, id, floor_seq, last_seq, log_seq, count, pins, deleted, is_dropped = row[:9]
    return ChangedDialog(
        number,
        id.bytes,
        floor_seq,
        last_seq,
        log_seq,
        count,
        tuple(pins),
        deleted,
        is_dropped,
        MemberRow(*row[9:]),
    )


def _dialog(row: Row) -> DialogRow:
    """row: `_DIALOG`, then `_EVENT` of the last message or NULLs."""
    event = row[_DIALOG_COLUMNS : _DIALOG_COLUMNS + _EVENT_COLUMNS]
    last_message = EventRow(*event) if event[0] is not None else None
    columns = list(row[:_DIALOG_COLUMNS])
    columns[1] = columns[1].bytes
    columns[15] = tuple(columns[15])
    return DialogRow(*[*columns[:14], last_message, *columns[14:]])


def _flush_parameters(batch: FlushBatch) -> dict[str, Any]:
    """What is new in the batch is inserted as the batch leaves it: one statement does
    not see its own inserts, and writes a row once."""
    changes = {change.number: change for change in batch.changes}
    profiles = {profile.number: profile for profile in batch.profiles}
    members = {(m.dialog_number, m.user_number): m for m in batch.members}
    cursors = {(c.dialog_number, c.user_number): c for c in batch.cursors}
    created = [
        _created(row, changes.pop(row.number), profiles.pop(row.number, None))
        for row in batch.created
    ]
    for number, user, role in batch.memberships:
        key = number, user
        if key not in members:
            row = MemberRow(number, user, role)
            cursor = cursors.pop(key, None)
            members[key] = row if cursor is None else _moved(row, cursor)
    profiled = {number: changes.pop(number) for number in profiles}
    parameters: dict[str, Any] = {
        "previous_position": batch.previous_position,
        "position": batch.position,
    }
    _put(parameters, "d", _CREATED_TYPES, created)
    _put(parameters, "c", _CHANGE_TYPES, changes.values())
    _put(parameters, "p", _CHANGE_TYPES, profiled.values())
    _put(parameters, "p", _PROFILE_TYPES, profiles.values())
    _put(parameters, "j", _MEMBER_TYPES, members.values())
    _put(parameters, "m", _CURSOR_TYPES, cursors.values())
    _put(parameters, "u", _UPDATE_TYPES, batch.updates)
    for name, type in _EVENT_TYPES.items():
        parameters[f"e_{name}"] = array(type, getattr(batch.events, name))
    return parameters


def _put(
    parameters: dict[str, Any],
    prefix: str,
    types: Mapping[str, str],
    rows: Iterable[Any],
) -> None:
    """One array for each field of the rows."""
    rows = list(rows)
    for name, type in types.items():
        values = [getattr(row, name) for row in rows]
        if name == "pins":
            values = [_PIN_SEPARATOR.join(pins) for pins in values]
        parameters[f"{prefix}_{name}"] = array(type, values)


class _Created(Struct):
    """A new dialog's row with what stands beside it in `DialogRow`."""

    number: int
    id: bytes
    type: int
    creator: int
    created_ms: int
    last_seq: int
    message_count: int
    last_message_seq: int
    active_position: int
    active_ms: int
    last_position: int
    name: str | None
    avatar: str | None
    members: bytes
    participants: bytes
    settings: bytes | None
    pins: tuple[str, ...]
    deleted: bytes | None
    banned: bytes | None
    is_dropped: bool


def _created(
    row: DialogRow, change: DialogChange, profile: DialogProfile | None
) -> _Created:
    of = row if profile is None else profile
    return _Created(
        number=row.number,
        id=row.id,
        type=row.type,
        creator=row.creator,
        created_ms=row.created_ms,
        last_seq=change.last_seq,
        message_count=change.message_count,
        last_message_seq=change.last_message_seq,
        active_position=change.active_position or row.active_position,
        active_ms=change.active_ms or row.active_ms,
        last_position=change.last_position,
        name=of.name,
        avatar=of.avatar,
        members=of.members,
        participants=of.participants,
        settings=of.settings,
        pins=of.pins,
        deleted=of.deleted,
        banned=of.banned,
        is_dropped=of.is_dropped,
    )


def _moved(row: MemberRow, cursor: CursorRow) -> MemberRow:
    return structs.replace(
        row,
        read_seq=cursor.read_seq,
        read_ordinal=cursor.read_ordinal,
        read_at_ms=cursor.read_at_ms,
        client_ms=cursor.client_ms,
        delivered_seq=cursor.read_seq,
        sent_ms=cursor.sent_ms,
        own_position=cursor.own_position,
    )
