"""What is alive when the daemon is ready is not looked at again; new cycles are."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from tchatd.app import collector


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    threshold = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)


class Node:
    def __init__(self) -> None:
        self.me = self


class Clients:
    """What they have sent, and the time."""

    def __init__(self) -> None:
        self.taken = 0.0
        self.now_s = 0.0

    def later(self, seconds: float, taken: float) -> None:
        self.now_s += seconds
        self.taken += taken


@pytest.fixture
def clients() -> Clients:
    return Clients()


def of(clients: Clients) -> collector.Collector:
    return collector.Collector(lambda: clients.taken, lambda: clients.now_s)


def test_all_is_looked_at_when_it_is_quiet(clients: Clients) -> None:
    collector.settle()
    garbage = of(clients)
    gone = weakref.ref(Node())
    clients.later(collector.QUIET_S / 2, 0)
    assert not garbage.tick()
    clients.later(collector.QUIET_S / 2, 0)
    assert garbage.tick()
    assert gone() is None
    clients.later(1, 0)
    assert not garbage.tick()


def test_who_is_busy_is_not_stopped_but_now_and_then(clients: Clients) -> None:
    garbage = of(clients)
    passes = 0
    for _ in range(int(2 * collector.ALWAYS_S)):
        clients.later(1, 1_000)
        passes += garbage.tick()
    assert passes == 2


def test_only_the_young_are_looked_at_by_themselves() -> None:
    collector.settle()
    old = gc.get_stats()[2]["collections"]
    kept: list[list[int]] = [[] for _ in range(40 * collector.YOUNG_MAX)]
    assert len(kept) == 40 * collector.YOUNG_MAX
    assert gc.get_stats()[2]["collections"] == old
    assert gc.get_stats()[1]["collections"] > 0


def test_what_is_alive_is_set_aside_and_new_cycles_still_go() -> None:
    collector.settle()
    assert gc.get_freeze_count() > 10_000
    assert gc.isenabled()
    gone = weakref.ref(Node())
    gc.collect()
    assert gone() is None
