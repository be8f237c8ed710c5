"""The relay over several nodes: who has what, holes, beginnings, the end."""

from __future__ import annotations

import random
from typing import Any
from uuid import UUID

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tchatd.events.relay import Relay
from tchatd.events.store import Decided
from tchatd.events.subscription import RelaySettings
from tchatd.kernel.errors import Unavailable
from tchatd.kernel.events import Event
from tchatd.observe.metrics import Metrics
from tchatd.stores.memory.event_log import MemoryEventStore
from tests.support.events import (
    NOW,
    A,
    B,
    Handler,
    TrioClock,
    draft,
    drafts_of,
    relaying,
)

DECIDED = Decided(NOW, "root (uid 0)", "again")


@pytest.fixture
def store() -> MemoryEventStore:
    return MemoryEventStore(TrioClock())


async def test_without_subscribers_nothing_is_asked_and_it_ends(
    store: MemoryEventStore, autojump_clock: object
) -> None:
    store.log.write(draft())

    async def asked(*_: Any) -> None:
        raise AssertionError

    for name in ("look", "furthest", "acquire", "renew", "release"):
        setattr(store, name, asked)
    metrics = Metrics(process=False)
    relay = Relay(store, "n1", TrioClock(), metrics, RelaySettings())
    await relay.run()
    relay.close()


async def test_a_nudge_is_enough_and_many_are_one(
    store: MemoryEventStore, autojump_clock: object
) -> None:
    handler, looks = Handler(), [0]
    look = store.look

    async def counted(*arguments: Any) -> Any:
        looks[0] += 1
        return await look(*arguments)

    store.look = counted  # type: ignore[assignment,method-assign]
    versions = drafts_of(A)
    async with relaying(store, handler, settings=RelaySettings(poll_s=60)) as relay:
        await trio.sleep(1)
        began_s = trio.current_time()
        store.log.write(next(versions))
        relay.nudge()
        while not handler.events:
            await trio.sleep(0.001)
        assert trio.current_time() - began_s < 0.1
        await trio.sleep(1)
        before = looks[0]
        for _ in range(1_000):
            relay.nudge()
            await trio.sleep(0.001)
        assert looks[0] - before <= 102


async def test_without_a_nudge_events_come_within_a_poll(
    store: MemoryEventStore, autojump_clock: object
) -> None:
    handler = Handler()
    async with relaying(store, handler):
        await trio.sleep(10)
        store.log.write(draft())
        await trio.sleep(1.1)
        assert handler.versions == [1]


async def test_a_hole_is_waited_for_and_nothing_is_passed_over(
    store: MemoryEventStore, autojump_clock: object
) -> None:
    handler = Handler()
    async with relaying(store, handler):
        slow = store.log.begin()
        slow.append([draft(A)])
        store.log.write(draft(B))
        await trio.sleep(60)
        assert handler.events == []
        slow.commit()
        await trio.sleep(2)
        assert [event.aggregate_id for event in handler.events] == [A, B]


async def test_a_rollback_holds_up_nobody_for_long(
    store: MemoryEventStore, autojump_clock: object
) -> None:
    handler = Handler()
    async with relaying(store, handler) as relay:
        for version in range(1, 20):
            gone = store.log.begin()
            gone.append([draft(A, version)])
            store.log.write(draft(B, version))
            gone.rollback()
        relay.nudge()
        await trio.sleep(0.5)
        assert handler.versions == list(range(1, 20))


async def test_under_steady_writing_with_holes_events_flow_on(
    store: MemoryEventStore, autojump_clock: object
) -> None:
    handler = Handler()
    versions = drafts_of(B)
    async with relaying(store, handler):
        for _ in range(1_000):
            late = store.log.begin()
            late.append([next(versions)])
            store.log.write(next(versions))
            await trio.sleep(0.003)
            late.commit()
        assert len(handler.events) > 1_900
        await trio.sleep(2)
        assert handler.versions == list(range(1, 2_001))


async def test_a_subscriber_is_served_by_one_node_at_a_time(
    store: MemoryEventStore, autojump_clock: object
) -> None:
    one, two = Handler(), Handler()
    versions = drafts_of(A)
    async with relaying(store, one), relaying(store, two, node="n2"):
        for _ in range(50):
            store.log.write(next(versions))
            await trio.sleep(1)
    assert one.versions == list(range(1, 51))
    assert two.events == []


async def test_a_node_that_died_is_succeeded_within_seconds(
    store: MemoryEventStore, autojump_clock: object
) -> None:
    one, two = Handler(), Handler()
    async with relaying(store, two, node="n2"):
        async with relaying(store, one):
            store.log.write(draft(A))
            await trio.sleep(5)
        # Which of them has it is chance; both know what came before.
        store.log.write(draft(A, 2))
        await trio.sleep(8)
        assert sorted(one.versions + two.versions) == [1, 2]


async def test_the_same_node_started_again_goes_on_at_once(
    store: MemoryEventStore, autojump_clock: object
) -> None:
    one, two = Handler(), Handler()
    async with relaying(store, one):
        await trio.sleep(1)
    store.log.write(draft())
    async with relaying(store, two):
        await trio.sleep(0.1)
        assert two.versions == [1]


async def test_a_node_that_stops_gives_its_leases_back(
    store: MemoryEventStore, autojump_clock: object
) -> None:
    one, two = Handler(), Handler()
    async with relaying(store, one) as relay:
        store.log.write(draft(A, 1), draft(B, 1, domain="auth"))
        await trio.sleep(2)
        relay.close()
        await wait_all_tasks_blocked()
        [row] = await store.subscriptions()
        assert (row.holder, row.position) == (None, 2)
        store.log.write(draft(A, 2))
        async with relaying(store, two, node="n2"):
            await trio.sleep(0.1)
            assert two.versions == [2]


async def test_what_is_handled_ends_with_the_lease(
    store: MemoryEventStore, autojump_clock: object
) -> None:
    ended: list[float] = []

    async def on_event(_: Event) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(trio.current_time())

    async def away(*_: Any) -> None:
        raise Unavailable

    one = Handler()
    one.on_event = on_event
    store.log.write(draft())
    async with relaying(store, one, settings=RelaySettings(handle_s=1e6)):
        await trio.sleep(20)
        assert ended == []
        store.renew = away  # type: ignore[assignment,method-assign]
        lost_s = trio.current_time()
        await trio.sleep(7)
        assert ended[0] - lost_s <= 6
        one.on_event = None
        await trio.sleep(10)
        assert one.versions == [1]


async def test_a_lease_that_another_node_has_is_given_up_at_once(
    store: MemoryEventStore, autojump_clock: object
) -> None:
    one = Handler()
    async with relaying(store, one):
        await trio.sleep(1)
        store._subscriptions["s"].holder = "n2"
        await trio.sleep(2.1)
        store.log.write(draft())
        await trio.sleep(2)
        assert one.events == []


async def test_who_begins_with_the_latest_is_told_nothing_of_before(
    store: MemoryEventStore, autojump_clock: object
) -> None:
    slow = store.log.begin()
    slow.append([draft(B)])
    store.log.write(draft(A, 1))
    handler = Handler(begins="latest")
    async with relaying(store, handler):
        await trio.sleep(30)
        assert await store.subscriptions() == []
        slow.commit()
        await trio.sleep(3)
        store.log.write(draft(A, 2))
        await trio.sleep(2)
        assert [(e.aggregate_id, e.version) for e in handler.events] == [(A, 2)]
    store.log.write(draft(A, 3))
    again = Handler(begins="latest")
    async with relaying(store, again):
        await trio.sleep(2)
        assert again.versions == [3]


async def test_a_store_that_is_away_is_asked_again(
    store: MemoryEventStore, autojump_clock: object
) -> None:
    handler, look = Handler(), store.look

    async def away(*_: Any) -> Any:
        raise Unavailable

    async with relaying(store, handler):
        await trio.sleep(1)
        store.look = away  # type: ignore[assignment,method-assign]
        store.log.write(draft())
        await trio.sleep(10)
        assert handler.events == []
        store.look = look  # type: ignore[method-assign]
        await trio.sleep(2)
        assert handler.versions == [1]


async def test_a_mistake_in_one_turn_is_reported_and_not_the_end(
    store: MemoryEventStore, autojump_clock: object
) -> None:
    handler, reported, failures = Handler(), list[Exception](), [1, 1, 1]
    originals = store.look, store.page, store.renew

    def once(index: int) -> Any:
        async def call(*arguments: Any) -> Any:
            if failures[index]:
                failures[index] = 0
                raise ZeroDivisionError
            return await originals[index](*arguments)

        return call

    store.look = once(0)  # type: ignore[method-assign]
    store.page = once(1)  # type: ignore[method-assign]
    store.renew = once(2)  # type: ignore[method-assign]
    store.log.write(draft())
    async with relaying(store, handler, report=reported.append):
        await trio.sleep(200)
    assert handler.versions == [1]
    assert len(reported) == 3


async def test_numbers_tell_of_lag_letters_and_outcomes(
    store: MemoryEventStore, autojump_clock: object
) -> None:
    handler, metrics = Handler(), Metrics(process=False)
    handler.refuse(A)
    store.log.write(draft(A), draft(B))
    async with relaying(store, handler, metrics=metrics):
        await trio.sleep(60)
        handler.be_away()
        store.log.write(draft(B, 2), draft(B, 3))
        await trio.sleep(5)
        text = metrics.render().decode()
    for line in (
        'tchatd_events_lag{subscriber="s"} 2.0',
        'tchatd_events_dead_letters{subscriber="s"} 1.0',
        'tchatd_events_handled_total{subscriber="s"} 1.0',
        'tchatd_events_failures_total{subscriber="s"} 6.0',
        'tchatd_events_dead_total{subscriber="s"} 1.0',
        'tchatd_events_delay_s_count{subscriber="s"} 1.0',
        "tchatd_events_unsettled 0.0",
    ):
        assert line in text


class World:
    """Writers, two nodes that crash and start again, an operator; all at random.

    handled: what had its effect, in this order; a repeat has none.
    """

    AGGREGATES = (UUID(int=1), UUID(int=2), UUID(int=3))

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.store = MemoryEventStore(TrioClock())
        self.settings = RelaySettings(
            batch_max=4, attempts_max=2, dead_letters_max=30, retry_s_max=2
        )
        self.versions = dict.fromkeys(self.AGGREGATES, 0)
        self.handled: list[Event] = []
        self.fails = 0.2
        self.is_over = False

    def handler(self) -> Handler:
        handler = Handler()

        async def on_event(event: Event) -> None:
            if self.chance.random() < 0.05:
                await trio.sleep(self.chance.random() * 40)
            if self.chance.random() < self.fails:
                raise self.chance.choice((KeyError, Unavailable))
            if event not in self.handled:
                self.handled.append(event)
            if self.chance.random() < self.fails / 2:
                raise ValueError

        handler.on_event = on_event
        return handler

    async def write(self, aggregate_id: UUID) -> None:
        """As whoever holds the lock on the aggregate."""
        for _ in range(25):
            await trio.sleep(self.chance.random() * 4)
            transaction = self.store.log.begin()
            count = self.chance.randint(1, 3)
            for n in range(1, count + 1):
                version = self.versions[aggregate_id] + n
                transaction.append([draft(aggregate_id, version)])
                await trio.sleep(self.chance.random() / 5)
            if self.chance.random() < 0.3:
                transaction.rollback()
            else:
                transaction.commit()
                self.versions[aggregate_id] += count

    async def run_node(self, name: str) -> None:
        while not self.is_over:
            relaying_s = self.chance.random() * 30
            relay = relaying(
                self.store, self.handler(), node=name, settings=self.settings
            )
            async with relay as running:
                await trio.sleep(relaying_s)
                if self.chance.random() < 0.3:
                    running.close()
                    await trio.sleep(0.1)

    async def operate(self) -> None:
        while not self.is_over:
            await trio.sleep(self.chance.random() * 20)
            await self.store.retry_all("s", DECIDED)

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.run_node, "n1")
            nursery.start_soon(self.run_node, "n2")
            nursery.start_soon(self.operate)
            async with trio.open_nursery() as writers:
                for aggregate_id in self.AGGREGATES:
                    writers.start_soon(self.write, aggregate_id)
            self.fails = 0.0
            await trio.sleep(600)
            self.is_over = True
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_happens_every_event_has_its_effect_in_order(
    seed: int, autojump_clock: object
) -> None:
    world = World(seed)
    await world.run()
    assert {event.position for event in world.handled} == set(world.store.log.events)
    for aggregate_id in world.AGGREGATES:
        versions = [
            event.version
            for event in world.handled
            if event.aggregate_id == aggregate_id
        ]
        assert versions == list(range(1, world.versions[aggregate_id] + 1))
    letters, _ = await world.store.letters("s", 1_000)
    assert letters == []
