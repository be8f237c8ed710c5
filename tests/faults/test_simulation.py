"""Random histories of devices, faults and crashes end in the truth, on every device.

A failing seed prints itself with its last steps, in as few as it takes. What it found
becomes a named test: seeds change their history with the simulation, and the core.
"""

from __future__ import annotations

import os

import pytest

from tchatd.stores.postgres.messaging import PostgresDialogStore
from tchatd.stores.postgres.pool import Pool
from tests.support.simulation.history import play, run, run_all
from tests.support.simulation.world import World, repeatable

HISTORIES = int(os.environ.get("TCHATD_HISTORIES", "10000"))
FAST = 300
CHUNK = 500
STORED = 24


@pytest.mark.parametrize("first", range(0, FAST, FAST // 3))
def test_every_device_has_the_truth(first: int) -> None:
    assert run_all(range(first, first + FAST // 3)) > FAST


@pytest.mark.slow
@pytest.mark.parametrize("first", range(FAST, HISTORIES, CHUNK))
def test_every_device_has_the_truth_in_many_more_histories(first: int) -> None:
    assert run_all(range(first, min(HISTORIES, first + CHUNK)))


@pytest.mark.parametrize("seed", range(5))
def test_a_seed_is_one_history(seed: int) -> None:
    assert run(seed).trace == run(seed).trace


@pytest.mark.service
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(STORED))
async def test_every_device_has_the_truth_over_postgresql(
    pool: Pool, seed: int
) -> None:
    with repeatable(seed):
        await play(World(seed, PostgresDialogStore(pool)), 120)
