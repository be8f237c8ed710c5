"""Owns the two queries of catching up, each asked for as many users as wait.

After a restart everybody comes back at once. One query a client would be thousands in a
second; so who comes while one runs joins the next one (`Coalescer`), and people who
missed the same events of the same dialog share the rows, too.
"""
# Statements are put together of these modules' own column names, never of values.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from tchatd.domains.messaging.store import (
    MESSAGE_EDITED,
    MESSAGE_NEW,
    ChangedDialog,
    EventRow,
    MemberRow,
)
from tchatd.stores.coalescing import Coalescer
from tchatd.stores.postgres.columns import EVENT, MEMBER
from tchatd.stores.postgres.pool import Pool

_USERS_MAX: Final = 64
"""In one query."""
_RANGES_MAX: Final = 4
"""In one query; a range is at most a page of sync, so it is what one answer may hold up
everybody else for: a thousand rows are some milliseconds."""


class ChangedKey(Struct, frozen=True):
    """One call of `changed`; its arguments by the names of the port."""

    user_number: int
    after_position: int
    until_position: int
    from_number: int
    also: tuple[int, ...]
    limit: int
    count_max: int


class RangeKey(Struct, frozen=True):
    number: int
    after: int
    until: int
    until_position: int


Changed = tuple[list[ChangedDialog], int]
Stretch = tuple[list[EventRow], list[EventRow]]
"""Events, and the messages that edits among them are about."""

_CHANGED: Final = f"""SELECT q.ord, mine.*
FROM unnest(%(ord)b::integer[], %(user)b::integer[], %(after)b::bigint[],
    %(until)b::bigint[], %(from)b::bigint[], %(also)b::text[], %(limit)b::integer[],
    %(count)b::integer[])
    AS q (ord, user_number, after, until, first, also, row_limit, count_max),
LATERAL (
    WITH mine AS MATERIALIZED (
        SELECT d.number, CASE WHEN m.left_seq > 0 THEN m.left_seq
            ELSE d.last_seq END AS last, {MEMBER}
        FROM members m JOIN dialogs d ON d.number = m.dialog_number
        WHERE m.user_number = q.user_number AND m.dialog_number >= q.first
            AND (d.last_position > q.after OR m.own_position > q.after
                OR m.dialog_number = ANY (string_to_array(q.also, ',')::bigint[]))
            AND (m.left_seq = 0 OR m.left_position > q.after)
        ORDER BY m.dialog_number LIMIT q.count_max
    )
    SELECT (SELECT count(*) FROM mine), d.number, d.id, d.type,
        CASE WHEN d.last_position <= q.after AND last = d.last_seq
            THEN last ELSE event_seq_at(number, q.after, last) END,
        CASE WHEN d.last_position <= q.until AND last = d.last_seq
            THEN last ELSE event_seq_at(number, q.until, last) END,
        d.last_seq, d.message_count, d.pins, d.deleted, d.is_dropped, {MEMBER}
    FROM (SELECT * FROM mine ORDER BY number LIMIT q.row_limit) AS m
        JOIN dialogs d USING (number)
) AS mine ORDER BY q.ord, mine.number"""

_RANGES: Final = f"""WITH e AS MATERIALIZED (
    SELECT r.ord, {EVENT} FROM unnest(%(ord)b::integer[], %(number)b::bigint[],
        %(after)b::integer[], %(until)b::integer[], %(position)b::bigint[])
        AS r (ord, number, after, until, position)
    JOIN events e ON e.dialog_number = r.number AND e.seq > r.after AND e.seq <= r.until
        AND e.position <= r.position
)
SELECT false, e.ord, {EVENT} FROM e UNION ALL
SELECT true, r.ord, {EVENT} FROM (
    SELECT DISTINCT ord, dialog_number, (body::json->>'message_seq')::integer
    FROM e WHERE kind = {MESSAGE_EDITED}
) AS r (ord, number, seq) JOIN events e ON e.dialog_number = r.number
    AND e.seq = r.seq AND e.kind = {MESSAGE_NEW}
ORDER BY 1, 2, 4"""
"""The body of a `message.edited` is EditedBody (rows.py)."""


class CatchingUp:
    """`changed` and `ranges` of a `DialogStore`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._changes: Coalescer[ChangedKey, Changed] = Coalescer(
            self._changed, batch_max=_USERS_MAX
        )
        self._stretches: Coalescer[RangeKey, Stretch] = Coalescer(
            self._ranges, batch_max=_RANGES_MAX
        )

    async def changed(self, key: ChangedKey) -> Changed:
        found: Changed = (await self._changes.get([key]))[key]
        return found

    async def ranges(
        self, ranges: Sequence[tuple[int, int, int]], until_position: int
    ) -> Stretch:
        keys = [RangeKey(*range, until_position) for range in sorted(ranges)]
        found = await self._stretches.get(keys)
        if len(keys) == 1:
            return found[keys[0]]
        events: list[EventRow] = []
        edited: list[EventRow] = []
        for key in keys:
            some, about = found[key]
            events += some
            edited += about
        return events, edited

    async def _changed(
        self, keys: Sequence[ChangedKey]
    ) -> Mapping[ChangedKey, Changed]:
        rows = await self._pool.fetch(
            _CHANGED,
            {
                "ord": list(range(len(keys))),
                "user": [key.user_number for key in keys],
                "after": [key.after_position for key in keys],
                "until": [key.until_position for key in keys],
                "from": [key.from_number for key in keys],
                "also": [",".join(map(str, key.also)) for key in keys],
                "limit": [key.limit for key in keys],
                "count": [key.count_max for key in keys],
            },
        )
        found: list[list[ChangedDialog]] = [[] for _ in keys]
        counts = [0] * len(keys)
        for row in rows:
            counts[row[0]] = row[1]
            found[row[0]].append(_changed(row[2:]))
        return {key: (found[at], counts[at]) for at, key in enumerate(keys)}

    async def _ranges(self, keys: Sequence[RangeKey]) -> Mapping[RangeKey, Stretch]:
        rows = await self._pool.fetch(
            _RANGES,
            {
                "ord": list(range(len(keys))),
                "number": [key.number for key in keys],
                "after": [key.after for key in keys],
                "until": [key.until for key in keys],
                "position": [key.until_position for key in keys],
            },
        )
        found: list[Stretch] = [([], []) for _ in keys]
        for is_about, ord, *row in rows:
            found[ord][is_about].append(EventRow(*row))
        return dict(zip(keys, found, strict=True))


def _changed(row: tuple[Any, ...]) -> ChangedDialog:
    number, id, type, floor_seq, last_seq, log_seq = row[:6]
    count, pins, deleted, is_dropped = row[6:10]
    return ChangedDialog(
        number,
        id.bytes,
        type,
        floor_seq,
        last_seq,
        log_seq,
        count,
        tuple(pins),
        deleted,
        is_dropped,
        MemberRow(*row[10:]),
    )
