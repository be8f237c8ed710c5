from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import closing

import pytest

from tchatd.stores.postgres.connection import Connection


@pytest.fixture
async def connection(empty_database: str) -> AsyncIterator[Connection]:
    with closing(await Connection.connect(empty_database)) as connection:
        yield connection


@pytest.fixture
async def observer(empty_database: str) -> AsyncIterator[Connection]:
    """Another connection to the same database, to look in from outside."""
    with closing(await Connection.connect(empty_database)) as connection:
        yield connection
