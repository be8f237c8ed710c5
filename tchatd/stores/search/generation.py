"""Owns asking one tantivy index in its folder.

Everything here blocks; `TantivySearchIndex` calls it in threads. Any number may ask,
each on the snapshot of the last `refresh`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import tantivy
from tantivy import FieldType, Occur, Query

from tchatd.domains.search.store import ORDER_MAX, FoundMessage, MessageAsk
from tchatd.domains.search.text import Clause, Term
from tchatd.stores.search.fields import (
    META,
    PUBLIC,
    SCHEMA,
    TYPES,
    all_of,
    by_number,
    exact_of,
    make_index,
    open_index,
    reading,
    writing,
)

_UNION_MAX: Final = 300
"""Dialogs, up to which a union was faster than a set (1 million messages: 0.3 to 2.2 ms
for 10, 2.0 to 7.4 for 100, 6.0 to 8.5 for 300, 22 to 11 for 1,000)."""
_SCAN_FROM: Final = 50
_SCANNED: Final = 1_000
"""Latest messages that are looked at whatever their dialog: 0.8 ms."""


class Generation:
    """Raises:
    IndexBroken: there is something, and it cannot be read.
    IndexStuck: it is new and cannot be made.
    """

    def __init__(self, folder: Path, *, is_new: bool = False) -> None:
        self.folder = folder
        if is_new:
            writing(make_index, folder)
        self._index = reading(self._open)
        self.position = self.people_ms = 0
        reading(self._look)

    def _open(self) -> tantivy.Index:
        index = open_index(self.folder)
        index.config_reader(reload_policy="manual")
        index.reload()
        return index

    def refresh(self) -> None:
        """See what was committed. Raises: IndexBroken."""
        reading(self._refresh)

    def _refresh(self) -> None:
        self._index.reload()
        self._look()

    def _look(self) -> None:
        searcher = self._index.searcher()
        self.documents = max(0, searcher.num_docs - 1)  # one is meta
        self.segments = searcher.num_segments
        found = searcher.search(by_number("meta", META), 1, count=False).hits
        if found:
            address = [found[0][1]]
            (self.position,) = _values(searcher, "position", address)
            (self.people_ms,) = _values(searcher, "people_ms", address)

    def messages(self, ask: MessageAsk) -> list[FoundMessage]:
        """Raises: IndexBroken."""
        return reading(self._messages, ask)

    def _messages(self, ask: MessageAsk) -> list[FoundMessage]:
        """With many dialogs the latest of everybody's messages are looked at first:
        that is cheaper than looking up each dialog in each segment, and often enough.
        """
        if ask.type is not None and ask.type not in TYPES:
            return []
        searcher = self._index.searcher()
        parts = [self._any(clause, "words") for clause in ask.clauses]
        if ask.sender is not None:
            parts.append(by_number("sender", ask.sender))
        if ask.type is not None:
            parts.append(by_number("type", TYPES.index(ask.type)))
        if ask.first or ask.end < ORDER_MAX:
            parts.append(
                Query.range_query(
                    SCHEMA,
                    "order",
                    FieldType.Unsigned,
                    lower_bound=ask.first,
                    upper_bound=ask.end,
                    include_upper=False,
                )
            )
        if len(ask.dialogs) >= _SCAN_FROM and parts:
            latest = self._top(searcher, parts, _SCANNED)
            among = set(ask.dialogs)
            found = [one for one in latest if one.dialog_number in among]
            if len(found) >= ask.limit or len(latest) < _SCANNED:
                return found[: ask.limit]
        return self._top(searcher, [*parts, self._in_dialogs(ask.dialogs)], ask.limit)

    def _top(
        self, searcher: tantivy.Searcher, parts: list[Query], limit: int
    ) -> list[FoundMessage]:
        hits = searcher.search(
            all_of(*parts), limit, count=False, order_by_field="order"
        ).hits
        addresses = [address for _, address in hits]
        numbers = _values(searcher, "dialog", addresses)
        seqs = _values(searcher, "seq", addresses)
        return [
            FoundMessage(order, number, seq)
            for (order, _), number, seq in zip(hits, numbers, seqs, strict=True)
        ]

    def _in_dialogs(self, numbers: Sequence[int]) -> Query:
        """Few are a union of their postings, many a set, which costs more to begin."""
        if len(numbers) > _UNION_MAX:
            return self._set("dialog", numbers)
        return Query.boolean_query(
            [(Occur.Should, by_number("dialog", one)) for one in numbers]
        )

    def dialogs(
        self, clauses: Sequence[Clause], among: Sequence[int] | None, limit: int
    ) -> list[int]:
        """Raises: IndexBroken."""
        parts = [self._any(clause, "names") for clause in clauses]
        if among is None:
            parts.append(by_number("public", PUBLIC))
        else:
            parts.append(self._set("named", among))
        return reading(self._numbers, all_of(*parts), "named", limit)

    def people(
        self, clauses: Sequence[Clause], among: Sequence[int] | None, limit: int
    ) -> list[int]:
        """Raises: IndexBroken."""
        parts = [self._any(clause, "people") for clause in clauses]
        if among is not None:
            parts.append(self._set("person", among))
        return reading(self._numbers, all_of(*parts), "person", limit)

    def _numbers(self, query: Query, field: str, limit: int) -> list[int]:
        searcher = self._index.searcher()
        hits = searcher.search(query, limit, count=False, order_by_field="order").hits
        return _values(searcher, field, [address for _, address in hits])

    def _any(self, clause: Clause, field: str) -> Query:
        if len(clause) == 1:
            return self._term(clause[0], field)
        return Query.boolean_query(
            [(Occur.Should, self._term(term, field)) for term in clause]
        )

    def _term(self, term: Term, field: str) -> Query:
        if term.is_exact:
            field = exact_of(field)
        if term.slips or term.is_prefix:
            return Query.fuzzy_term_query(
                SCHEMA,
                field,
                term.text,
                distance=term.slips,
                prefix=term.is_prefix,
            )
        return Query.term_query(SCHEMA, field, term.text, "basic")

    def _set(self, field: str, numbers: Sequence[int]) -> Query:
        return Query.term_set_query(SCHEMA, field, numbers)


def _values(
    searcher: tantivy.Searcher, field: str, addresses: list[tantivy.DocAddress]
) -> list[int]:
    """Of documents each of which has the field."""
    return searcher.fast_field_values(field, addresses)  # type: ignore[return-value]
