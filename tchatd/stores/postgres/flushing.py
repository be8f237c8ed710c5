"""Owns the one statement that a flush is, and its parameters.

It moves the journal's position from the one it expects; if it is not there, nothing
else happens. Every row is written once: what is new in a batch is inserted as the batch
leaves it, because one statement does not see its own inserts.
"""
# The statement is put together of column names of ours, never of values.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec import Struct, structs

from tchatd.domains.messaging.store import (
    MESSAGE_NEW,
    CursorRow,
    DialogChange,
    DialogProfile,
    DialogRow,
    FlushBatch,
    MemberRow,
)
from tchatd.stores.postgres.arrays import array
from tchatd.stores.postgres.columns import (
    CHANGE_TYPES,
    CREATED_TYPES,
    CURSOR_TYPES,
    EVENT_TYPES,
    MEMBER_TYPES,
    PROFILE_TYPES,
    UPDATE_TYPES,
)
from tchatd.stores.postgres.statements import Numbered

_PIN_SEPARATOR: Final = ","


def _arrays(prefix: str, types: Mapping[str, str]) -> str:
    return ", ".join(f"%({prefix}_{name})b::{type}[]" for name, type in types.items())


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
    for name in PROFILE_TYPES
)

FLUSH: Final = Numbered(f"""
WITH moved AS (
    UPDATE journal_positions SET position = %(position)s
    WHERE journal = %(journal)s AND position = %(previous_position)s RETURNING 1
), created AS (
    INSERT INTO dialogs ({", ".join(CREATED_TYPES)})
    SELECT {_columns("c", CREATED_TYPES)}
    FROM unnest({_arrays("d", CREATED_TYPES)}) AS c ({", ".join(CREATED_TYPES)})
    WHERE EXISTS (SELECT FROM moved)
), changed AS (
    UPDATE dialogs d SET {_MOVES}
    FROM unnest({_arrays("c", CHANGE_TYPES)}) AS c ({", ".join(CHANGE_TYPES)})
    WHERE d.number = c.number AND EXISTS (SELECT FROM moved)
), profiled AS (
    UPDATE dialogs d SET {_MOVES}, {_SETS}
    FROM unnest({_arrays("p", CHANGE_TYPES | PROFILE_TYPES)})
        AS c ({", ".join(CHANGE_TYPES | PROFILE_TYPES)})
    WHERE d.number = c.number AND EXISTS (SELECT FROM moved)
), joined AS (
    INSERT INTO members ({", ".join(MEMBER_TYPES)})
    SELECT * FROM unnest({_arrays("j", MEMBER_TYPES)})
    WHERE EXISTS (SELECT FROM moved)
    ON CONFLICT (user_number, dialog_number) DO UPDATE SET
        {", ".join(f"{n} = excluded.{n}" for n in list(MEMBER_TYPES)[2:])}
), moved_cursors AS (
    UPDATE members m SET read_seq = c.read_seq, read_ordinal = c.read_ordinal,
        read_at_ms = c.read_at_ms, client_ms = c.client_ms, mentions = NULL,
        delivered_seq = greatest(m.delivered_seq, c.read_seq),
        sent_ms = greatest(m.sent_ms, c.sent_ms),
        own_position = greatest(m.own_position, c.own_position)
    FROM unnest({_arrays("m", CURSOR_TYPES)}) AS c ({", ".join(CURSOR_TYPES)})
    WHERE m.user_number = c.user_number AND m.dialog_number = c.dialog_number
        AND EXISTS (SELECT FROM moved)
), updated AS (
    UPDATE events e SET body = c.body, changed = c.changed, expires_ms = c.expires_ms
    FROM unnest({_arrays("u", UPDATE_TYPES)}) AS c ({", ".join(UPDATE_TYPES)})
    WHERE e.dialog_number = c.dialog_number AND e.seq = c.seq
        AND e.kind = {MESSAGE_NEW} AND EXISTS (SELECT FROM moved)
), logged AS (
    INSERT INTO events ({", ".join(EVENT_TYPES)})
    SELECT * FROM unnest({_arrays("e", EVENT_TYPES)})
    WHERE EXISTS (SELECT FROM moved)
)
SELECT count(*) FROM moved
""")


def flush_parameters(batch: FlushBatch) -> dict[str, Any]:
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
    _put(parameters, "d", CREATED_TYPES, created)
    _put(parameters, "c", CHANGE_TYPES, changes.values())
    _put(parameters, "p", CHANGE_TYPES, profiled.values())
    _put(parameters, "p", PROFILE_TYPES, profiles.values())
    _put(parameters, "j", MEMBER_TYPES, members.values())
    _put(parameters, "m", CURSOR_TYPES, cursors.values())
    _put(parameters, "u", UPDATE_TYPES, batch.updates)
    for name, type in EVENT_TYPES.items():
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
