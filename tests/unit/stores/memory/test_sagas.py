"""The contract of sagas, in memory."""

from __future__ import annotations

import pytest

from tchatd.kernel.sagas import progress_of
from tchatd.stores.memory.sagas import MemorySagaStore
from tests.support.sagas import ONE, SagaStoreContract, begun, put, row_of


class TestMemorySagaStore(SagaStoreContract):
    @pytest.fixture
    def store(self) -> MemorySagaStore:
        return MemorySagaStore()


async def test_an_effect_goes_with_its_progress_or_not_at_all() -> None:
    store, effects = MemorySagaStore(), list[str]()
    await put(store, begun(1, ONE))
    step = progress_of(await row_of(store, 1), current_step=1)
    for _ in range(2):
        await store.commit(lambda: effects.append("paid"), [begun(2)], [step])
    assert effects == ["paid"]
    assert (await row_of(store, 1)).current_step == 1
    assert (await row_of(store, 2)).current_step == 0
