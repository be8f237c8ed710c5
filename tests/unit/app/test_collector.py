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


def test_what_is_alive_is_set_aside_and_new_cycles_still_go() -> None:
    collector.settle()
    assert gc.get_freeze_count() > 10_000
    assert gc.isenabled()
    gone = weakref.ref(Node())
    gc.collect()
    assert gone() is None
