"""One real daemon a session, on its embedded PostgreSQL, for tests that only use it.

Tests that stop, kill or starve a daemon make their own (`tests.support.daemon`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.support.daemon import Daemon
from tests.support.settings import ROOMY

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def daemon() -> Iterator[Daemon]:
    started = Daemon(ROOMY)
    try:
        yield started.start()
    finally:
        started.remove()


@pytest.fixture
def new_phone() -> Callable[[], str]:
    """Numbers nobody used before, valid in Thailand."""
    return lambda: f"+6681{next(_numbers):07d}"
