"""Owns which columns the messaging tables have: the order in which rows come and go.

Each mapping has the SQL type of every field of a struct of the port, in its order.
"""

from __future__ import annotations

from typing import Final

from tchatd.domains.messaging.store import MESSAGE_NEW

EVENT: Final = (
    "e.dialog_number, e.seq, e.kind, e.position, e.at_ms, e.ordinal, e.actor,"
    " e.actor_id, e.body, e.client_id, e.changed, e.thread_seq, e.expires_ms"
)
DIALOG: Final = (
    "d.number, d.id, d.type, d.name, d.avatar, d.creator, d.created_ms, d.members,"
    " d.participants, d.last_seq, d.message_count, d.active_position, d.active_ms,"
    " d.last_position, d.settings, d.pins, d.deleted, d.banned, d.is_dropped"
)
DIALOG_COLUMNS: Final = 19
EVENT_COLUMNS: Final = 13
MEMBER_TYPES: Final = {
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
MEMBER: Final = ", ".join(f"m.{name}" for name in MEMBER_TYPES)
MEMBER_COLUMNS: Final = len(MEMBER_TYPES)
PROFILE_TYPES: Final = {
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


CHANGE_TYPES: Final = {
    "number": "bigint",
    "last_seq": "integer",
    "message_count": "integer",
    "last_message_seq": "integer",
    "active_position": "bigint",
    "active_ms": "bigint",
    "last_position": "bigint",
}
CREATED_TYPES: Final = {
    "number": "bigint",
    "id": "uuid",
    "type": "smallint",
    "creator": "integer",
    "created_ms": "bigint",
    **{name: type for name, type in CHANGE_TYPES.items() if name != "number"},
    **PROFILE_TYPES,
}
CURSOR_TYPES: Final = {
    "dialog_number": "bigint",
    "user_number": "integer",
    "read_seq": "integer",
    "read_ordinal": "integer",
    "read_at_ms": "bigint",
    "client_ms": "bigint",
    "sent_ms": "bigint",
    "own_position": "bigint",
}
EVENT_TYPES: Final = {
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
UPDATE_TYPES: Final = {
    "dialog_number": "bigint",
    "seq": "integer",
    "body": "text",
    "changed": "bytea",
    "expires_ms": "bigint",
}
LAST_MESSAGE: Final = f"""LEFT JOIN events e ON e.dialog_number = d.number
    AND e.seq = d.last_message_seq AND e.kind = {MESSAGE_NEW}"""
