"""The contract of idempotency keys, in memory."""

from __future__ import annotations

import pytest

from tchatd.kernel.errors import Unavailable
from tchatd.stores.memory.idempotency import MemoryIdempotencyStore
from tests.support.idempotency_store import IdempotencyStoreContract, reserve


class TestMemoryIdempotencyStore(IdempotencyStoreContract):
    @pytest.fixture
    def store(self) -> MemoryIdempotencyStore:
        return MemoryIdempotencyStore()


async def test_only_so_many_keys_are_kept() -> None:
    store = MemoryIdempotencyStore(rows_max=2)
    for number in range(2):
        await reserve(store, number, key=bytes([number]) * 32)

    with pytest.raises(Unavailable):
        await reserve(store, 3, key=b"3" * 32)
    assert (await reserve(store, 4, key=bytes([1]) * 32)).ours
