"""Owns messaging with search over it: the core in memory, an index, and its feeding."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from tchatd.domains.messaging.access import DialogAccess
from tchatd.domains.messaging.finding import Finding
from tchatd.domains.search.look import EXACT, LOOSE, Look
from tchatd.domains.search.models import SearchDialogs, SearchMessages, SearchPeople
from tchatd.domains.search.service import SearchService, SearchSettings
from tchatd.domains.search.store import SearchIndex
from tchatd.domains.search.text import Query, parse
from tchatd.journal.indexer import Indexer, IndexerSettings
from tchatd.observe.metrics import Metrics
from tchatd.stores.memory.finding import MemoryFindingStore, MemorySearchSource
from tchatd.stores.memory.messaging import MemoryDialogStore
from tchatd.stores.memory.search import MemorySearchIndex
from tests.support.messaging import Core, FakeDirectory

NONE = 0


def parsed(q: str, **how: bool) -> Query:
    query = parse(q, **how)
    assert query is not None
    return query


def level_of(query: Query, text: str) -> int:
    """EXACT, LOOSE or NONE."""
    stages = (EXACT, LOOSE)
    return next((one for one in stages if Look(query).matches(text, one)), NONE)


class FakePeople:
    """profiles: by number, who may be found. identifiers: numbers by phone or email."""

    def __init__(self) -> None:
        self.profiles: dict[int, str] = {}
        self.contacts: dict[int, list[int]] = {}
        self.identifiers: dict[str, int] = {}

    async def known(self, viewer: int) -> Sequence[int]:
        return self.contacts.get(viewer, [])

    async def found(self, viewer: int, numbers: Sequence[int]) -> Mapping[int, Any]:
        return {n: self.profiles[n] for n in numbers if n in self.profiles}

    async def identified(self, viewer: int, text: str) -> Mapping[int, Any]:
        number = self.identifiers.get(text)
        return {} if number is None else {number: f"person {number}"}


class Searching:
    """`core` is driven by the test; what is flushed is found once `settled`. turns:
    that searches gave to others."""

    def __init__(
        self,
        core: Core,
        index: SearchIndex | None = None,
        settings: IndexerSettings | None = None,
    ) -> None:
        assert isinstance(core.store, MemoryDialogStore)
        self.core = core
        self.index = MemorySearchIndex() if index is None else index
        self.source = MemorySearchSource(core.store)
        self.people = FakePeople()
        self.turns = 0
        self.indexer = Indexer(
            self.index,
            self.source,
            lambda: core.applier.flushed_position,
            Metrics(process=False),
            settings or IndexerSettings(),
        )
        core.flusher.on_flushed.append(self.indexer.take)
        self.finding = Finding(
            core.state,
            core.applier,
            DialogAccess(core.state, core.applier),
            MemoryFindingStore(core.store),
        )
        self.service = SearchService(
            self.index,
            self.finding,
            self.people,
            FakeDirectory(200),
            SearchSettings(),
            self._checkpoint,
        )

    async def _checkpoint(self) -> None:
        self.turns += 1
        await trio.lowlevel.checkpoint()

    async def settled(self) -> None:
        """Everything is flushed, and as long ago as a user waits for it."""
        await self.core.flusher.flush()
        await trio.sleep(1)

    async def ask(self, user: int, command: Any) -> Any:
        handlers: dict[type, Any] = {
            SearchMessages: self.service.search_messages,
            SearchDialogs: self.service.search_dialogs,
            SearchPeople: self.service.search_people,
        }
        context = self.core.context(user)
        return await handlers[type(command)](context, command)

    async def found(self, user: int, q: str, **more: Any) -> list[str]:
        """Ids of the messages."""
        hits = await self.ask(user, SearchMessages(q=q, **more))
        return [hit.message.id for hit in hits.hits]


@asynccontextmanager
async def feeding(searching: Searching) -> AsyncIterator[Searching]:
    """The core's loader and the indexer run meanwhile."""
    async with trio.open_nursery() as nursery:
        await nursery.start(searching.core.applier.loader.run)
        await nursery.start(searching.indexer.run)
        yield searching
        nursery.cancel_scope.cancel()
