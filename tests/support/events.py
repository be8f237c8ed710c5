"""Owns drafts of events for tests, a subscriber, and a relay over memory."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal
from uuid import UUID, uuid4

import trio

from tchatd.events.relay import Relay
from tchatd.events.store import EventStore
from tchatd.events.subscription import RelaySettings
from tchatd.kernel.errors import Unavailable
from tchatd.kernel.events import NO_TYPES, Event, EventDraft, Subscriber
from tchatd.observe.metrics import Metrics
from tchatd.stores.memory.event_log import MemoryEventStore

NOW: int = 1_800_000_000_000
A, B, C = UUID(int=0xA), UUID(int=0xB), UUID(int=0xC)


def draft(aggregate_id: UUID = A, version: int = 1, **changes: Any) -> EventDraft:
    fields: dict[str, Any] = {
        "id": uuid4(),
        "aggregate_id": aggregate_id,
        "domain": "payment",
        "type": "transaction.completed",
        "version": version,
        "data": b'{"amount":%d}' % version,
        "created_ms": NOW,
    }
    return EventDraft(**fields | changes)


def drafts_of(aggregate_id: UUID = A, **changes: Any) -> Iterator[EventDraft]:
    """One version after the other."""
    return (draft(aggregate_id, n, **changes) for n in itertools.count(1))


class TrioClock:
    """The time of the test's clock, which jumps."""

    def now_ms(self) -> int:
        return NOW + round(1000 * trio.current_time())


class Handler:
    """A subscriber that keeps what it is told, unless `on_event` raises.

    calls: how many events there were in each attempt.
    """

    def __init__(
        self,
        name: str = "s",
        *,
        domains: frozenset[str] = frozenset({"payment"}),
        types: frozenset[str] = NO_TYPES,
        begins: Literal["oldest", "latest"] = "oldest",
    ) -> None:
        self.name = name
        self.domains = domains
        self.types = types
        self.begins: Literal["oldest", "latest"] = begins
        self.events: list[Event] = []
        self.calls: list[int] = []
        self.on_event: Callable[[Event], Awaitable[None]] | None = None

    async def handle(self, events: Sequence[Event]) -> None:
        self.calls.append(len(events))
        await trio.lowlevel.checkpoint()
        for event in events:
            if self.on_event is not None:
                await self.on_event(event)
            self.events.append(event)

    @property
    def versions(self) -> list[int]:
        return [event.version for event in self.events]

    def refuse(self, *aggregates: UUID, version: int | None = None) -> None:
        """Fail at events of the aggregates, of that version or of all."""

        async def on_event(event: Event) -> None:
            if event.aggregate_id in aggregates and version in (None, event.version):
                raise KeyError("a value that nobody may see")

        self.on_event = on_event

    def be_away(self) -> None:
        async def on_event(_: Event) -> None:
            raise Unavailable

        self.on_event = on_event


SETTINGS = RelaySettings()


@asynccontextmanager
async def relaying(
    store: EventStore | MemoryEventStore,
    *subscribers: Subscriber,
    node: str = "n1",
    settings: RelaySettings = SETTINGS,
    metrics: Metrics | None = None,
    report: Callable[[Exception], object] = lambda _: None,
) -> AsyncIterator[Relay]:
    """A relay that runs, and is cancelled at the end, as by a crash."""
    declared = Metrics(process=False) if metrics is None else metrics
    relay = Relay(store, node, TrioClock(), declared, settings)
    relay.report = report
    for subscriber in subscribers:
        relay.subscribe(subscriber)
    async with trio.open_nursery() as nursery:
        await nursery.start(relay.run)
        yield relay
        nursery.cancel_scope.cancel()
