"""Owns the core that these tests talk to: over memory, durable at once."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.messaging import Core, loading


@pytest.fixture
async def core() -> AsyncIterator[Core]:
    core = Core()
    async with loading(core):
        yield core
