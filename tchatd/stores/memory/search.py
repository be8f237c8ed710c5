"""Owns a search index in memory: every document is looked at for every question.

The twin of `TantivySearchIndex`, whose code is evident; for tests.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import trio

from tchatd.domains.search.errors import IndexUnavailable
from tchatd.domains.search.store import (
    DialogDoc,
    Doc,
    FoundMessage,
    MessageAsk,
    MessageDoc,
    MessageKey,
    PersonDoc,
)
from tchatd.domains.search.text import Clause, Term, Tokens, slips_between, tokens


class _Kept:
    def __init__(self) -> None:
        self.messages: dict[MessageKey, MessageDoc] = {}
        self.dialogs: dict[int, DialogDoc] = {}
        self.people: dict[int, PersonDoc] = {}
        self.position = 0
        self.people_ms = 0

    def copy(self) -> _Kept:
        copy = _Kept()
        copy.messages = dict(self.messages)
        copy.dialogs = dict(self.dialogs)
        copy.people = dict(self.people)
        copy.position, copy.people_ms = self.position, self.people_ms
        return copy

    def put(self, doc: Doc) -> None:
        if type(doc) is MessageDoc:
            self.messages.pop((doc.dialog_number, doc.seq), None)
            if doc.text:
                self.messages[doc.dialog_number, doc.seq] = doc
        elif type(doc) is DialogDoc:
            self.dialogs.pop(doc.number, None)
            if doc.text:
                self.dialogs[doc.number] = doc
        else:
            assert type(doc) is PersonDoc
            self.people.pop(doc.number, None)
            if doc.name:
                self.people[doc.number] = doc


class MemorySearchIndex:
    """A `SearchIndex`. `committed` is what the disk would have."""

    def __init__(self) -> None:
        self.committed: _Kept | None = None
        self._asked: _Kept | None = None
        self._next: _Kept | None = None
        self._written: _Kept | None = None
        self.commits = 0

    @property
    def _fed(self) -> _Kept:
        fed = self._next or self._asked
        assert fed is not None, "open, or renew"
        return fed

    @property
    def position(self) -> int:
        return self._fed.position

    @property
    def people_ms(self) -> int:
        return self._fed.people_ms

    @property
    def is_ready(self) -> bool:
        return self._asked is not None

    async def open(self) -> bool:
        self._next = None
        self._asked = None if self.committed is None else self.committed.copy()
        self._written = None
        return self._asked is not None

    async def renew(self) -> None:
        self._next, self._written = _Kept(), None

    def put(self, doc: Doc, *, is_new: bool = False) -> None:
        self._writable().put(doc)

    def drop_dialog(self, number: int) -> None:
        kept = self._writable()
        kept.dialogs.pop(number, None)
        for key in [key for key in kept.messages if key[0] == number]:
            del kept.messages[key]

    def _writable(self) -> _Kept:
        if self._written is None:
            self._written = self._fed.copy()
        return self._written

    async def hand_over(self) -> None:
        await trio.lowlevel.checkpoint()

    async def commit(self, position: int, people_ms: int) -> None:
        written = self._writable()
        written.position, written.people_ms = position, people_ms
        self._written = None
        self.commits += 1
        if self._next is not None:
            self._next = written
        else:
            self._asked = self.committed = written

    async def publish(self) -> None:
        assert self._next is not None
        self._asked = self.committed = self._next
        self._next = None

    async def close(self) -> None:
        self._asked = self._next = self._written = None

    async def messages(self, ask: MessageAsk) -> list[FoundMessage]:
        among = set(ask.dialogs)
        found = [
            FoundMessage(doc.order, doc.dialog_number, doc.seq)
            for doc in self._ready().messages.values()
            if doc.dialog_number in among
            and ask.first <= doc.order < ask.end
            and ask.sender in (None, doc.sender)
            and ask.type in (None, doc.type)
            and matches(ask.clauses, tokens(doc.text))
        ]
        found.sort(key=lambda one: -one.order)
        return found[: ask.limit]

    async def dialogs(
        self, clauses: Sequence[Clause], among: Sequence[int] | None, limit: int
    ) -> list[int]:
        dialogs = self._ready().dialogs.values()
        found = (
            doc
            for doc in dialogs
            if (doc.is_public if among is None else doc.number in among)
        )
        return _numbers(((doc.number, doc.text) for doc in found), clauses, limit)

    async def people(
        self, clauses: Sequence[Clause], among: Sequence[int] | None, limit: int
    ) -> list[int]:
        people = self._ready().people.values()
        found = (doc for doc in people if among is None or doc.number in among)
        return _numbers(((doc.number, doc.name) for doc in found), clauses, limit)

    def _ready(self) -> _Kept:
        if self._asked is None:
            raise IndexUnavailable
        return self._asked


def _numbers(
    named: Iterable[tuple[int, str]], clauses: Sequence[Clause], limit: int
) -> list[int]:
    found = [number for number, text in named if matches(clauses, tokens(text))]
    return sorted(found, reverse=True)[:limit]


def matches(clauses: Sequence[Clause], said: Tokens) -> bool:
    return all(any(_is_among(term, said) for term in clause) for clause in clauses)


def _is_among(term: Term, said: Tokens) -> bool:
    among = said.exact if term.is_exact else said.words
    if term.is_prefix:
        return any(token.startswith(term.text) for token in among)
    if term.slips:
        return any(slips_between(term.text, token, term.slips) for token in among)
    return term.text in among
