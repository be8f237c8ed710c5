"""What one subscriber is handed, whatever fails: at least once, in order, bounded."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tchatd.events.store import BEHIND, Decided, Letter
from tchatd.events.subscription import SPAN, RelaySettings
from tchatd.kernel.errors import Conflict, Unavailable
from tchatd.kernel.events import Event
from tchatd.stores.memory.event_log import MemoryEventStore
from tests.support.events import NOW, A, B, C, Handler, TrioClock, draft, relaying

DECIDED = Decided(NOW, "root (uid 0)", "fixed")


@pytest.fixture
def store() -> MemoryEventStore:
    return MemoryEventStore(TrioClock())


@pytest.fixture
def handler() -> Handler:
    return Handler()


async def letters(store: MemoryEventStore, name: str = "s") -> list[Letter]:
    found, _ = await store.letters(name, 1_000)
    return found


def write(store: MemoryEventStore, *wanted: tuple[Any, int], **changes: Any) -> None:
    store.log.write(*(draft(id, version, **changes) for id, version in wanted))


async def position_of(store: MemoryEventStore, name: str = "s") -> int:
    return {row.name: row.position for row in await store.subscriptions()}[name]


async def test_events_come_in_order_in_batches(
    store: MemoryEventStore, handler: Handler, autojump_clock: object
) -> None:
    write(store, *((A, n) for n in range(1, 251)))
    async with relaying(store, handler):
        await trio.sleep(1)
        assert handler.versions == list(range(1, 251))
        assert handler.calls == [100, 100, 50]
        assert await position_of(store) == 250


async def test_only_what_is_wanted_comes_and_the_position_goes_on(
    store: MemoryEventStore, autojump_clock: object
) -> None:
    handler = Handler(types=frozenset({"transaction.failed"}))
    write(store, *((A, n) for n in range(1, SPAN + 50)), domain="auth")
    write(store, (B, 1))
    write(store, (B, 2), type="transaction.failed")
    async with relaying(store, handler):
        await trio.sleep(3)
        assert [event.aggregate_id for event in handler.events] == [B]
        write(store, (A, 10**6), domain="auth")
        await trio.sleep(10)
        assert await position_of(store) == SPAN + 52


async def test_the_one_that_fails_is_found_and_the_others_are_handled(
    store: MemoryEventStore, handler: Handler, autojump_clock: object
) -> None:
    handler.refuse(B)
    write(store, (A, 1), (B, 1), (A, 2), (C, 1))
    async with relaying(store, handler):
        await trio.sleep(60)
    handled = {(e.aggregate_id, e.version) for e in handler.events}
    assert handled == {(A, 1), (A, 2), (C, 1)}
    [letter] = await letters(store)
    assert (letter.event.aggregate_id, letter.attempts) == (B, 5)
    assert letter.error == "KeyError"
    assert await position_of(store) == 4


async def test_what_fails_for_a_while_is_tried_again_ever_later(
    store: MemoryEventStore, handler: Handler, autojump_clock: object
) -> None:
    times: list[float] = []

    async def on_event(_: Event) -> None:
        times.append(trio.current_time())
        if len(times) < 4:
            raise KeyError

    handler.on_event = on_event
    write(store, (A, 1))
    async with relaying(store, handler):
        await trio.sleep(60)
    assert handler.versions == [1]
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert waits == pytest.approx([0.5, 1, 2])
    assert await letters(store) == []


async def test_later_events_of_its_aggregate_wait_behind_it(
    store: MemoryEventStore, handler: Handler, autojump_clock: object
) -> None:
    handler.refuse(A, version=1)
    write(store, (A, 1), (A, 2), (B, 1))
    async with relaying(store, handler):
        await trio.sleep(60)
        write(store, (A, 3), (B, 2))
        await trio.sleep(2)
        assert {e.aggregate_id for e in handler.events} == {B}
        found = [(one.event.version, one.error) for one in await letters(store)]
        assert found == [(1, "KeyError"), (2, BEHIND), (3, BEHIND)]


async def test_retrying_the_first_hands_over_the_rest_in_order(
    store: MemoryEventStore, handler: Handler, autojump_clock: object
) -> None:
    handler.refuse(A, version=1)
    write(store, *((A, n) for n in range(1, 6)))
    async with relaying(store, handler) as relay:
        await trio.sleep(60)
        handler.on_event = None
        [first, *_] = await letters(store)
        await store.retry(first, DECIDED)
        relay.retry("s")
        write(store, (A, 6))
        relay.nudge()
        await wait_all_tasks_blocked(0.5)
        assert handler.versions == [1, 2, 3, 4, 5, 6]
        assert await letters(store) == []


async def test_a_retry_on_another_node_is_found_out(
    store: MemoryEventStore, handler: Handler, autojump_clock: object
) -> None:
    handler.refuse(A)
    write(store, (A, 1))
    async with relaying(store, handler):
        await trio.sleep(60)
        handler.on_event = None
        await store.retry_all("s", DECIDED)
        await trio.sleep(3)
        assert handler.versions == [1]


async def test_what_fails_again_waits_again_and_others_do_not(
    store: MemoryEventStore, handler: Handler, autojump_clock: object
) -> None:
    handler.refuse(A, B)
    write(store, (A, 1), (B, 1), (A, 2))
    async with relaying(store, handler):
        await trio.sleep(60)
        handler.refuse(A)
        await store.retry_all("s", DECIDED)
        await trio.sleep(60)
        assert [(e.aggregate_id, e.version) for e in handler.events] == [(B, 1)]
        found = [(one.attempts, one.is_released) for one in await letters(store)]
        assert found == [(6, False), (0, False)]


async def test_after_a_drop_the_rest_goes_on(
    store: MemoryEventStore, handler: Handler, autojump_clock: object
) -> None:
    handler.refuse(A, version=1)
    write(store, (A, 1), (A, 2))
    async with relaying(store, handler):
        await trio.sleep(60)
        [first, _] = await letters(store)
        await store.drop(first, DECIDED)
        await trio.sleep(3)
        assert handler.versions == [2]


async def test_unavailable_is_nobodys_failure_however_long_it_lasts(
    store: MemoryEventStore, handler: Handler, autojump_clock: object
) -> None:
    handler.be_away()
    write(store, (A, 1), (B, 1))
    async with relaying(store, handler):
        await trio.sleep(3_600)
        assert await letters(store) == []
        assert set(handler.calls) == {2}
        assert len(handler.calls) < 80
        handler.on_event = None
        await trio.sleep(61)
        assert len(handler.events) == 2


async def test_a_handler_that_hangs_is_ended_and_counts_as_failed(
    store: MemoryEventStore, handler: Handler, autojump_clock: object
) -> None:
    async def on_event(event: Event) -> None:
        if event.aggregate_id == A:
            await trio.sleep_forever()

    handler.on_event = on_event
    write(store, (A, 1))
    async with relaying(store, handler):
        await trio.sleep(300)
    [letter] = await letters(store)
    assert letter.error == "timed-out"


async def test_a_refusal_is_known_by_its_code(
    store: MemoryEventStore, handler: Handler, autojump_clock: object
) -> None:
    async def on_event(_: Event) -> None:
        raise Conflict

    handler.on_event = on_event
    write(store, (A, 1))
    async with relaying(store, handler):
        await trio.sleep(60)
    [letter] = await letters(store)
    assert letter.error == "conflict"


async def test_with_too_many_letters_it_stops_and_goes_on_when_they_are_fewer(
    store: MemoryEventStore, handler: Handler, autojump_clock: object
) -> None:
    handler.refuse(A, B)
    settings = RelaySettings(dead_letters_max=1, batch_max=2)
    write(store, (A, 1), (C, 1), (B, 1), (C, 2))
    async with relaying(store, handler, settings=settings):
        await trio.sleep(1_000)
        assert handler.versions == [1]
        [letter] = await letters(store)
        assert letter.event.aggregate_id == A
        await store.drop(letter, DECIDED)
        await trio.sleep(200)
        assert handler.versions == [1, 2]
        [letter] = await letters(store)
        assert letter.event.aggregate_id == B


async def test_a_full_subscriber_does_not_put_more_behind_what_is_dead(
    store: MemoryEventStore, handler: Handler, autojump_clock: object
) -> None:
    handler.refuse(A, version=1)
    settings = RelaySettings(dead_letters_max=1)
    write(store, (A, 1))
    async with relaying(store, handler, settings=settings):
        await trio.sleep(60)
        write(store, (B, 1), (A, 2), (B, 2))
        await trio.sleep(1_000)
        assert [(e.aggregate_id, e.version) for e in handler.events] == [(B, 1)]
        [letter] = await letters(store)
        await store.drop(letter, DECIDED)
        await trio.sleep(120)
        assert [e.version for e in handler.events] == [1, 2, 2]


async def test_a_crash_before_the_position_is_kept_hands_the_same_over_again(
    store: MemoryEventStore, handler: Handler, autojump_clock: object
) -> None:
    write(store, (A, 1), (A, 2))
    settle = store.settle

    async def crash(*_: Any) -> bool:
        await trio.sleep_forever()
        return False

    store.settle = crash  # type: ignore[assignment,method-assign]
    async with relaying(store, handler):
        await trio.sleep(1)
    store.settle = settle  # type: ignore[method-assign]
    async with relaying(store, handler):
        await trio.sleep(1)
    assert handler.versions == [1, 2, 1, 2]
    assert await position_of(store) == 2


async def test_a_store_that_is_away_is_asked_again_from_the_kept_position(
    store: MemoryEventStore, handler: Handler, autojump_clock: object
) -> None:
    settle, failures = store.settle, [0]

    async def lost(*arguments: Any) -> bool:
        failures[0] += 1
        done = await settle(*arguments)
        if failures[0] < 3:
            raise Unavailable
        return done

    store.settle = lost  # type: ignore[assignment,method-assign]
    write(store, (A, 1))
    async with relaying(store, handler):
        await trio.sleep(1)
        write(store, (A, 2))
        await trio.sleep(30)
    assert handler.versions == [1, 2]
    assert await position_of(store) == 2


async def test_nothing_of_a_failure_but_its_class_is_kept_and_it_is_reported(
    store: MemoryEventStore, handler: Handler, autojump_clock: object
) -> None:
    handler.refuse(A)
    reported: list[Exception] = []
    async with relaying(store, handler, report=reported.append):
        write(store, (A, 1))
        await trio.sleep(60)
    [letter] = await letters(store)
    assert "value" not in letter.error
    assert {type(error) for error in reported} == {KeyError}


async def test_a_crash_after_a_letter_passes_over_nothing_behind_it(
    store: MemoryEventStore, handler: Handler, autojump_clock: object
) -> None:
    async def on_event(event: Event) -> None:
        if event.aggregate_id == A:
            raise KeyError
        await trio.sleep_forever()

    handler.on_event = on_event
    write(store, (A, 1), (B, 1))
    async with relaying(store, handler):
        await trio.sleep(20)
        assert len(await letters(store)) == 1
        assert await position_of(store) == 1
    handler.on_event = None
    async with relaying(store, handler):
        await trio.sleep(1)
    assert [event.aggregate_id for event in handler.events] == [B]


async def test_many_letters_are_retried_one_batch_after_the_other(
    store: MemoryEventStore, handler: Handler, autojump_clock: object
) -> None:
    handler.refuse(A, version=1)
    write(store, *((A, n) for n in range(1, 1_001)))
    async with relaying(store, handler) as relay:
        await trio.sleep(60)
        handler.on_event = None
        await store.retry_all("s", DECIDED)
        relay.retry("s")
        await trio.sleep(0.5)
        assert handler.versions == list(range(1, 1_001))
