"""Owns the reads that search makes: who is in what, hits, and what the index is of."""
# Statements are put together of this module's own column names, never of values.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from tchatd.domains.messaging.finding import FoundRow
from tchatd.domains.messaging.identifiers import message_id
from tchatd.domains.messaging.store import (
    DIALOG_DELETED,
    MESSAGE_DELETED,
    MESSAGE_EDITED,
    MESSAGE_NEW,
    EventRow,
)
from tchatd.domains.search.store import (
    Change,
    DialogDoc,
    MessageDoc,
    MessageKey,
    PersonDoc,
)
from tchatd.stores.documents import (
    FEEDING,
    changed_seq,
    message_doc,
    stored_dialog_doc,
)
from tchatd.stores.postgres.pool import Pool

_EVENT_COUNT: Final = len(EventRow.__struct_fields__)
_EVENT: Final = ", ".join(f"e.{name}" for name in EventRow.__struct_fields__)
_MESSAGE: Final = "e.dialog_number, e.seq, e.at_ms, e.actor, e.body"
_DIALOG: Final = "d.number, d.name, d.settings, d.is_dropped"


class PostgresFindingStore:
    """A `FindingStore`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def memberships(self, user_number: int) -> list[int]:
        rows = await self._pool.fetch(
            """SELECT m.dialog_number FROM members m
            JOIN dialogs d ON d.number = m.dialog_number
            WHERE m.user_number = %s AND m.left_seq = 0 AND NOT d.is_dropped""",
            (user_number,),
        )
        return [number for (number,) in rows]

    async def pairs(self, user_number: int) -> list[tuple[int, bytes]]:
        rows = await self._pool.fetch(
            """SELECT d.number, d.members FROM members m
            JOIN dialogs d ON d.number = m.dialog_number
            WHERE m.user_number = %s AND m.left_seq = 0 AND NOT d.is_dropped
                AND d.type = 0""",
            (user_number,),
        )
        return [(number, members) for number, members in rows]

    async def found(
        self, user_number: int, keys: Sequence[MessageKey]
    ) -> list[FoundRow]:
        numbers, seqs = zip(*keys, strict=True) if keys else ((), ())
        rows = await self._pool.fetch(
            f"""SELECT {_EVENT}, d.id, d.pins, m.extra
            FROM unnest(%(numbers)b::bigint[], %(seqs)b::integer[]) AS k (number, seq)
            JOIN events e ON e.dialog_number = k.number AND e.seq = k.seq
                AND e.kind = {MESSAGE_NEW}
            JOIN dialogs d ON d.number = k.number
            JOIN members m ON m.dialog_number = k.number
                AND m.user_number = %(user)s
            WHERE m.left_seq = 0 AND NOT d.is_dropped""",
            {"user": user_number, "numbers": list(numbers), "seqs": list(seqs)},
        )
        return [_found(row) for row in rows]


def _found(row: tuple[Any, ...]) -> FoundRow:
    event = EventRow(*row[:_EVENT_COUNT])
    id, pins, extra = row[_EVENT_COUNT:]
    is_pinned = bool(pins) and (
        message_id(event.at_ms, event.dialog_number, event.seq) in pins
    )
    return FoundRow(event, str(id), is_pinned, extra)


class PostgresSearchSource:
    """A `SearchSource`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def prepare(self) -> None:
        """Until a block range is summarized every query by position reads all of it;
        PostgreSQL's own turn at that comes once a minute."""
        await self._pool.fetch(
            "SELECT brin_summarize_new_values('events_position'::regclass)"
        )

    async def changes(self, after: int, until: int) -> list[Change]:
        rows = await self._pool.fetch(
            f"""SELECT {_MESSAGE}, e.kind FROM events e
            WHERE e.position > %s AND e.position <= %s
                AND e.kind = ANY (%s::smallint[])""",
            (after, until, list(FEEDING)),
        )
        docs: dict[MessageKey, MessageDoc] = {}
        changed: set[MessageKey] = set()
        dialogs: set[int] = set()
        gone: set[int] = set()
        for *message, kind in rows:
            number = message[0]
            if kind == MESSAGE_NEW:
                docs[number, message[1]] = message_doc(*message)
            elif kind in (MESSAGE_EDITED, MESSAGE_DELETED):
                changed.add((number, changed_seq(message[4])))
            elif kind == DIALOG_DELETED:
                gone.add(number)
            else:
                dialogs.add(number)
        edited = await self._messages_by(sorted(changed - set(docs)))
        named = await self._dialogs_by(sorted(dialogs - gone)) if dialogs else []
        found: list[Change] = [
            (doc, True) for doc in docs.values() if doc.dialog_number not in gone
        ]
        found += [(doc, False) for doc in edited if doc.dialog_number not in gone]
        found += [(doc, False) for doc in named]
        found += [(number, False) for number in sorted(gone)]
        return found

    async def messages(
        self, after: MessageKey, until: int, limit: int
    ) -> list[MessageDoc]:
        rows = await self._pool.fetch(
            f"""SELECT {_MESSAGE} FROM events e
            WHERE (e.dialog_number, e.seq) > (%s, %s) AND e.kind = {MESSAGE_NEW}
                AND e.position <= %s
            ORDER BY e.dialog_number, e.seq LIMIT %s""",
            (*after, until, limit),
        )
        return [message_doc(*row) for row in rows]

    async def dialogs(self, after: int, limit: int) -> list[DialogDoc]:
        rows = await self._pool.fetch(
            f"""SELECT {_DIALOG} FROM dialogs d WHERE d.number > %s
            ORDER BY d.number LIMIT %s""",
            (after, limit),
        )
        return [stored_dialog_doc(*row) for row in rows]

    async def people(
        self, after_ms: int, after_number: int, limit: int
    ) -> list[PersonDoc]:
        rows = await self._pool.fetch(
            """SELECT number, CASE WHEN deleted_ms IS NULL THEN name ELSE '' END,
                updated_ms FROM users
            WHERE (updated_ms, number) > (%s, %s)
            ORDER BY updated_ms, number LIMIT %s""",
            (after_ms, after_number, limit),
        )
        return [PersonDoc(*row) for row in rows]

    async def _messages_by(self, keys: Sequence[MessageKey]) -> list[MessageDoc]:
        if not keys:
            return []
        numbers, seqs = zip(*keys, strict=True)
        rows = await self._pool.fetch(
            f"""SELECT {_MESSAGE}
            FROM unnest(%b::bigint[], %b::integer[]) AS k (number, seq)
            JOIN events e ON e.dialog_number = k.number AND e.seq = k.seq
                AND e.kind = {MESSAGE_NEW}""",
            (list(numbers), list(seqs)),
        )
        return [message_doc(*row) for row in rows]

    async def _dialogs_by(self, numbers: Sequence[int]) -> list[DialogDoc]:
        rows = await self._pool.fetch(
            f"SELECT {_DIALOG} FROM dialogs d WHERE d.number = ANY (%b::bigint[])",
            (list(numbers),),
        )
        return [stored_dialog_doc(*row) for row in rows]
