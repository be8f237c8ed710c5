"""What a flush sends: a row once, whatever a batch has of it."""

from __future__ import annotations

from typing import Any

import pytest

from tchatd.domains.messaging.store import FlushBatch
from tchatd.stores.postgres import flushing
from tests.support.messaging import Core, group_of, loading, text, with_user


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Arrays stay lists, to be looked at."""
    monkeypatch.setattr(flushing, "array", lambda type, values: values)
    return []


async def batch_of_two() -> FlushBatch:
    core = Core()
    batches: list[FlushBatch] = []

    async def keep(batch: FlushBatch) -> None:
        batches.append(batch)

    async with loading(core):
        dialog = await core.do(1, with_user(2))
        await core.do(1, text(dialog.id))
        await core.do(2, text(dialog.id))
        await core.do(1, group_of([2, 3]))
    core.store.flush = keep  # type: ignore[method-assign]
    await core.flusher.flush()
    [batch] = batches
    return batch


async def test_what_is_new_is_inserted_as_the_batch_leaves_it(sent: list[Any]) -> None:
    parameters = flushing.flush_parameters(await batch_of_two())
    assert (parameters["previous_position"], parameters["position"]) == (0, 4)
    assert parameters["d_number"] == [1, 4]
    assert parameters["d_last_seq"] == [3, 1]
    assert parameters["d_last_message_seq"] == [3, 0]
    assert parameters["c_number"] == parameters["p_number"] == []
    keys = list(
        zip(parameters["j_dialog_number"], parameters["j_user_number"], strict=True)
    )
    assert sorted(keys) == [(1, 1), (1, 2), (4, 1), (4, 2), (4, 3)]
    assert parameters["j_read_seq"][keys.index((1, 2))] == 3
    assert parameters["m_user_number"] == []
    assert parameters["e_seq"] == [1, 2, 3, 1]


def test_pins_travel_as_one_text_and_come_out_as_an_array() -> None:
    assert flushing.FLUSH.text.count("string_to_array") == 2
