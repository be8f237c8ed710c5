"""The horizon never steps over what is still to come, and reaches the end."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tchatd.events.horizon import Horizon, Look
from tchatd.stores.memory.event_log import MemoryEventLog, Transaction
from tests.support.events import draft


def look(*positions: int, xmin: int = 100, last: int | None = None) -> Look:
    return Look(
        positions=positions,
        last=max(positions, default=0) if last is None else last,
        xmin=xmin,
    )


def test_without_holes_nothing_is_waited_for() -> None:
    horizon = Horizon()
    assert not horizon.see(look(1, 2, 3))
    assert horizon.settled == horizon.last == 3
    assert not horizon.see(look(last=3))


def test_a_hole_is_waited_for_until_it_is_filled() -> None:
    horizon = Horizon()
    assert horizon.see(look(1, 3, xmin=100))
    assert (horizon.settled, horizon.last) == (1, 3)
    horizon.fence(105)
    assert not horizon.see(look(3, xmin=100))
    assert horizon.settled == 1
    assert not horizon.see(look(2, 3, xmin=100))
    assert horizon.settled == 3
    assert not horizon.is_fenced


def test_a_hole_is_stepped_over_when_all_who_could_fill_it_have_ended() -> None:
    horizon = Horizon()
    horizon.see(look(2, xmin=100))
    horizon.fence(105)
    horizon.see(look(2, xmin=105))
    assert horizon.settled == 0
    assert not horizon.see(look(2, xmin=106))
    assert horizon.settled == 2


def test_a_fence_covers_what_was_seen_when_it_was_drawn_and_no_more() -> None:
    horizon = Horizon()
    horizon.see(look(2, 5, xmin=100))
    horizon.fence(105)
    assert horizon.see(look(2, 5, 7, xmin=106))
    assert horizon.settled == 5
    horizon.fence(110)
    horizon.see(look(7, xmin=111))
    assert horizon.settled == 7


def test_a_long_log_is_crossed_by_a_fence() -> None:
    horizon = Horizon()
    assert horizon.see(look(1, 2, 3, last=1_000_000))
    horizon.fence(105)
    horizon.see(look(4, 5, 6, last=1_000_001, xmin=106))
    assert horizon.settled == 1_000_000


def test_there_is_one_fence_at_a_time() -> None:
    horizon = Horizon()
    horizon.see(look(2))
    horizon.fence(105)
    assert not horizon.see(look(2))
    with pytest.raises(AssertionError):
        horizon.fence(106)


class Transactions(RuleBasedStateMachine):
    """Anybody writes, commits and rolls back in any order; between any two of those,
    and between a look and its fence, a reader goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.log = MemoryEventLog()
        self.open: list[Transaction] = []
        self.horizon = Horizon()
        self.wants_fence = False
        self.versions = 0

    def chosen(self, data: Any) -> Transaction:
        index: int = data.draw(st.integers(0, len(self.open) - 1))
        return self.open[index]

    @precondition(lambda self: len(self.open) < 4)
    @rule(has_id=st.booleans())
    def begin(self, has_id: bool) -> None:
        transaction = self.log.begin()
        if has_id:
            transaction.begin()
        self.open.append(transaction)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), count=st.integers(1, 3))
    def append(self, data: Any, count: int) -> None:
        transaction = self.chosen(data)
        for _ in range(count):
            self.versions += 1
            transaction.append([draft(UUID(int=1), self.versions)])

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def commit(self, data: Any) -> None:
        transaction = self.chosen(data)
        self.open.remove(transaction)
        late = [e for e in transaction.events if e.position <= self.horizon.settled]
        assert late == [], "an event appears where readers have been"
        transaction.commit()

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def roll_back(self, data: Any) -> None:
        transaction = self.chosen(data)
        self.open.remove(transaction)
        transaction.rollback()

    @precondition(lambda self: not self.wants_fence)
    @rule(limit=st.integers(1, 5), is_fenced_at_once=st.booleans())
    def look(self, limit: int, is_fenced_at_once: bool = True) -> None:
        settled = self.horizon.settled
        positions = sorted(p for p in self.log.events if p > settled)
        last = max(self.log.events, default=0)
        self.wants_fence = self.horizon.see(
            Look(positions=positions[:limit], last=last, xmin=self.log.xmin)
        )
        assert self.horizon.settled >= settled
        if self.wants_fence and is_fenced_at_once:
            self.fence()

    @precondition(lambda self: self.wants_fence)
    @rule()
    def fence(self) -> None:
        xid = self.log.draw_xid()
        self.log.ended(xid)
        self.horizon.fence(xid)
        self.wants_fence = False

    @invariant()
    def nobody_waits_when_nobody_writes(self) -> None:
        if self.open or self.wants_fence:
            return
        for _ in range(3):
            self.look(5)
        assert self.horizon.settled == max(self.log.events, default=0)


def test_any_history_of_transactions() -> None:
    run_state_machine_as_test(
        Transactions,
        settings=settings(max_examples=100, stateful_step_count=40, deadline=None),
    )


def test_a_fence_of_the_snapshots_xmax_would_lose_an_event() -> None:
    log = MemoryEventLog()
    early, late = log.begin(), log.begin()
    early.begin()
    late.append([draft(UUID(int=1))])
    early.append([draft(UUID(int=2))])
    early.commit()
    horizon = Horizon()
    assert horizon.see(look(*log.events, xmin=log.xmin))
    horizon.fence(log.xmax - 1)
    horizon.see(look(*log.events, xmin=log.xmin))
    [lost] = late.events
    assert lost.position < horizon.settled
