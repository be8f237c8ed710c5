"""Owns what every `EventStore` and `LetterStore` has to do; run over memory and
PostgreSQL. The fixture `stores` gives both over one empty log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from msgspec import Struct

from tchatd.events.store import (
    BEHIND,
    Decided,
    EventStore,
    Held,
    Letter,
    LetterStore,
    NewLetter,
    SubscriptionRow,
    Wanted,
)
from tchatd.kernel.events import Event, EventDraft
from tests.support.events import NOW, A, B, draft

LEASE_S = 60.0
WANTED = Wanted(frozenset({"payment"}))
DECIDED = Decided(NOW, "root (uid 0)", "fixed")


class Stores(Struct, frozen=True):
    """write: in one transaction of its own; the events as they are in the log."""

    events: EventStore
    letters: LetterStore
    write: Callable[[Sequence[EventDraft]], Awaitable[list[Event]]]


def dead(event: Event, *, attempts: int = 3) -> NewLetter:
    return NewLetter(event, attempts, "KeyError", True, NOW)


def behind(event: Event, *, is_held: bool = False) -> NewLetter:
    return NewLetter(event, 0, BEHIND, is_held, NOW)


async def held(stores: Stores, name: str = "s", holder: str = "n1") -> int:
    position = await stores.events.acquire(name, holder, LEASE_S, 0)
    assert position is not None
    return position


async def buried(stores: Stores, *letters: NewLetter) -> list[Letter]:
    """All letters of the subscriber, in the order of their positions."""
    last = letters[-1].event.position
    assert await stores.events.settle("s", "n1", last, letters, LEASE_S)
    return await letters_of(stores)


async def letters_of(stores: Stores, name: str = "s") -> list[Letter]:
    letters, total = await stores.letters.letters(name, 100)
    assert total == len(letters)
    return sorted(letters, key=lambda letter: letter.event.position)


class LogContract:
    async def test_a_look_shows_positions_and_the_end(self, stores: Stores) -> None:
        assert (await stores.events.look(0, 10)).last == 0
        events = await stores.write([draft(A, 1), draft(A, 2), draft(B, 1)])
        positions = [event.position for event in events]
        assert positions == sorted(positions)
        look = await stores.events.look(0, 2)
        assert list(look.positions) == positions[:2]
        assert look.last == positions[-1]
        later = await stores.events.look(positions[1], 10)
        assert list(later.positions) == positions[2:]

    async def test_a_fence_is_behind_whoever_has_begun_and_passes(
        self, stores: Stores
    ) -> None:
        first, second = [await stores.events.draw_fence() for _ in range(2)]
        assert second > first
        assert (await stores.events.look(0, 1)).xmin > second

    async def test_a_page_is_what_is_wanted_in_order_and_whole(
        self, stores: Stores
    ) -> None:
        drafts = [
            draft(A, 1),
            draft(B, 1, domain="auth", type="user.registered"),
            draft(A, 2, type="transaction.failed"),
            draft(A, 3),
        ]
        events = await stores.write(drafts)
        rows = await stores.events.page("s", WANTED, 0, events[-1].position, 10)
        assert [row.event for row in rows] == [events[0], events[2], events[3]]
        assert not any(row.is_blocked for row in rows)
        few = await stores.events.page("s", WANTED, 0, events[-1].position, 1)
        assert [row.event for row in few] == events[:1]
        between = await stores.events.page(
            "s", WANTED, events[0].position, events[2].position, 10
        )
        assert [row.event for row in between] == [events[2]]
        completed = Wanted(WANTED.domains, frozenset({"transaction.completed"}))
        some = await stores.events.page("s", completed, 0, events[-1].position, 10)
        assert [row.event for row in some] == [events[0], events[3]]

    async def test_events_behind_a_letter_are_told_apart(self, stores: Stores) -> None:
        await held(stores)
        first, *_, other = await stores.write([draft(A), draft(A, 2), draft(B)])
        await buried(stores, dead(first))
        for name, blocked in (("s", [True, False]), ("t", [False, False])):
            rows = await stores.events.page(
                name, WANTED, first.position, other.position, 10
            )
            assert [row.is_blocked for row in rows] == blocked


class LeaseContract:
    async def test_one_node_has_a_subscription_at_a_time(self, stores: Stores) -> None:
        events = stores.events
        assert await events.acquire("s", "n1", LEASE_S, 7) == 7
        assert await events.acquire("s", "n2", LEASE_S, 9) is None
        assert await events.acquire("s", "n1", LEASE_S, None) == 7
        assert await events.acquire("t", "n2", LEASE_S, 9) == 9
        assert await events.furthest() == 9

    async def test_one_that_was_never_there_is_made_only_with_a_beginning(
        self, stores: Stores
    ) -> None:
        assert await stores.events.acquire("s", "n1", LEASE_S, None) is None
        assert await stores.letters.subscriptions() == []
        assert await stores.events.furthest() == 0

    async def test_a_lease_that_is_over_is_anybodys(self, stores: Stores) -> None:
        events = stores.events
        assert await events.acquire("s", "n1", 0, 3) == 3
        assert await events.acquire("s", "n2", LEASE_S, 0) == 3
        assert not await events.settle("s", "n1", 5, [], LEASE_S)
        assert not await events.handled("s", "n1", [1])
        assert await events.renew("n1", {"s": 9}, LEASE_S) == {}
        assert await events.acquire("s", "n2", LEASE_S, 0) == 3

    async def test_a_lease_given_back_is_anybodys_and_keeps_the_position(
        self, stores: Stores
    ) -> None:
        await held(stores)
        await stores.events.release("n1", {"s": 4})
        assert await stores.letters.subscriptions() == [
            SubscriptionRow("s", 4, None, 0)
        ]
        assert await held(stores, holder="n2") == 4

    async def test_a_renewal_keeps_the_later_position_and_tells_of_letters(
        self, stores: Stores
    ) -> None:
        await held(stores)
        first, second = await stores.write([draft(A), draft(B)])
        [letter] = await buried(stores, dead(first))
        renewed = await stores.events.renew("n1", {"s": 0, "t": 5}, LEASE_S)
        assert renewed == {"s": Held(1, has_released=False)}
        await stores.letters.retry(letter, DECIDED)
        renewed = await stores.events.renew("n1", {"s": second.position}, LEASE_S)
        assert renewed == {"s": Held(1, has_released=True)}
        assert await held(stores) == second.position

    async def test_settling_never_goes_back(self, stores: Stores) -> None:
        await held(stores)
        assert await stores.events.settle("s", "n1", 5, [], LEASE_S)
        assert await stores.events.settle("s", "n1", 4, [], LEASE_S)
        assert await held(stores) == 5


class LettersContract:
    async def test_a_letter_keeps_the_whole_event(self, stores: Stores) -> None:
        await held(stores)
        [event] = await stores.write([draft(A)])
        [letter] = await buried(stores, dead(event))
        assert letter == Letter(
            number=letter.number,
            subscriber="s",
            event=event,
            attempts=3,
            error="KeyError",
            dead_ms=NOW,
            is_released=False,
        )
        assert await stores.letters.letter(letter.number) == letter
        assert await stores.letters.letter(letter.number + 1) is None
        assert await stores.letters.letters(None, 0) == ([], 1)
        assert await stores.letters.letters("t", 10) == ([], 0)

    async def test_burying_again_makes_no_second_letter(self, stores: Stores) -> None:
        await held(stores)
        events = await stores.write([draft(A), draft(A, 2)])
        once = await buried(stores, dead(events[0]), behind(events[1], is_held=True))
        assert await buried(stores, dead(events[0]), behind(events[1])) == once

    async def test_retrying_the_first_releases_those_behind_it_in_order(
        self, stores: Stores
    ) -> None:
        await held(stores)
        events = await stores.write([draft(A), draft(B), draft(A, 2)])
        letters = await buried(
            stores, dead(events[0]), dead(events[1]), behind(events[2], is_held=True)
        )
        assert await stores.events.released("s", 10) == []
        assert await stores.letters.first_of(letters[2]) == letters[0].number
        assert await stores.letters.retry(letters[0], DECIDED) == 2
        released = await stores.events.released("s", 10)
        assert [letter.event for letter in released] == [events[0], events[2]]
        assert len(await stores.events.released("s", 1)) == 1
        numbers = [letter.number for letter in released]
        assert await stores.events.handled("s", "n1", numbers)
        assert [letter.event for letter in await letters_of(stores)] == [events[1]]

    async def test_what_comes_behind_is_released_as_those_before_it(
        self, stores: Stores
    ) -> None:
        await held(stores)
        events = await stores.write([draft(A, n) for n in range(1, 5)])
        [first, second] = await buried(stores, dead(events[0]), behind(events[1]))
        assert [first.is_released, second.is_released] == [False, True]
        await stores.letters.retry(first, DECIDED)
        letters = await buried(stores, behind(events[2]))
        assert [letter.is_released for letter in letters] == [True] * 3
        assert await stores.events.failed_again("s", "n1", first, "TypeError", NOW + 1)
        letters = await buried(stores, behind(events[3]))
        assert [letter.is_released for letter in letters] == [False] * 4
        assert (letters[0].attempts, letters[0].error) == (4, "TypeError")
        assert letters[0].dead_ms == NOW + 1

    async def test_one_behind_letters_that_are_gone_meanwhile_is_released(
        self, stores: Stores
    ) -> None:
        await held(stores)
        first, second = await stores.write([draft(A), draft(A, 2)])
        [letter] = await buried(stores, dead(first))
        assert await stores.letters.drop(letter, DECIDED)
        [orphan] = await buried(stores, behind(second))
        assert orphan.is_released

    async def test_dropping_the_first_releases_the_rest_and_another_nothing(
        self, stores: Stores
    ) -> None:
        await held(stores)
        events = await stores.write([draft(A, n) for n in range(1, 4)])
        rest = [behind(event, is_held=True) for event in events[1:]]
        letters = await buried(stores, dead(events[0]), *rest)
        assert await stores.letters.drop(letters[1], DECIDED)
        assert not await stores.letters.drop(letters[1], DECIDED)
        assert await stores.events.released("s", 10) == []
        assert await stores.letters.drop(letters[0], DECIDED)
        [left] = await stores.events.released("s", 10)
        assert left.event == events[2]

    async def test_all_of_a_subscriber_are_retried(self, stores: Stores) -> None:
        await held(stores)
        events = await stores.write([draft(A), draft(B)])
        letters = await buried(stores, *map(dead, events))
        await stores.letters.retry(letters[0], DECIDED)
        assert await stores.letters.retry_all("s", DECIDED) == 1
        assert await stores.letters.retry_all("s", DECIDED) == 0
        assert len(await stores.events.released("s", 10)) == 2

    async def test_another_nodes_letters_are_left_alone(self, stores: Stores) -> None:
        await held(stores)
        [event] = await stores.write([draft(A)])
        [letter] = await buried(stores, dead(event))
        assert not await stores.events.handled("s", "n2", [letter.number])
        assert not await stores.events.failed_again("s", "n2", letter, "E", NOW)
        assert await letters_of(stores) == [letter]

    async def test_a_subscription_that_nobody_has_can_be_forgotten(
        self, stores: Stores
    ) -> None:
        await held(stores)
        [event] = await stores.write([draft(A)])
        await buried(stores, dead(event))
        assert not await stores.letters.forget("s", DECIDED)
        assert not await stores.letters.forget("t", DECIDED)
        await stores.events.release("n1", {"s": 0})
        assert await stores.letters.forget("s", DECIDED)
        assert await stores.letters.subscriptions() == []
        assert await letters_of(stores) == []


class EventStoreContract(LogContract, LeaseContract, LettersContract):
    """All of it."""
