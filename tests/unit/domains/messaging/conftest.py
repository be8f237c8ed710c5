"""Owns the core that these tests talk to: over memory, durable at once."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.messaging import Core, loading
from tests.support.rooms import PLACES, Room


@pytest.fixture
async def core() -> AsyncIterator[Core]:
    core = Core()
    async with loading(core):
        yield core


@pytest.fixture(params=PLACES)
async def room(request: pytest.FixtureRequest) -> Room:
    """A dialog wherever its messages can be."""
    return await Room(request.param).open()
