"""Letters are the subscriber's: what is done about one is noted, and of nobody else's.

The contract of `LetterStore` runs in test_event_relay.py, over the same tables.
"""

from __future__ import annotations

import pytest

from tchatd.stores.postgres.dead_letters import PostgresLetterStore
from tchatd.stores.postgres.pool import Pool
from tests.support.event_store import DECIDED

pytestmark = pytest.mark.service


async def test_nothing_is_noted_of_what_was_not_done(pool: Pool) -> None:
    store = PostgresLetterStore(pool)
    assert await store.retry_all("s", DECIDED) == 0
    assert not await store.forget("s", DECIDED)
    assert await pool.fetch_value("SELECT count(*) FROM moderation_log") == 0
