"""`kill -9` of processes that run sagas: each ends, with every effect once.

TCHATD_CRASH_SEED replays a run.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from tchatd.stores.postgres.pool import Pool
from tests.faults.saga_child import TABLE, saga_id

pytestmark = [pytest.mark.service, pytest.mark.slow]

SEED = int(os.environ.get("TCHATD_CRASH_SEED", "20261124"))
ROOT = Path(__file__).resolve().parents[2]
SAGAS, KILLS, UNTIL_S = 150, 6, 60
DONE = ["reserve", "transfer", "tell", "count", "finish"]
UNDONE = ["reserve", "transfer", "tell", "count", "undo transfer", "undo reserve"]


@contextmanager
def child(dsn: str, node: str, last: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.saga_child", dsn, node, "0", str(last)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


async def until_all_ended(pool: Pool) -> None:
    with trio.fail_after(UNTIL_S):
        while True:
            ended = await pool.fetch_value(
                "SELECT count(*) FROM sagas WHERE ended_ms > 0"
            )
            if ended == SAGAS:
                return
            await trio.sleep(0.1)


async def check(pool: Pool) -> None:
    rows = await pool.fetch("SELECT id, status, current_step FROM sagas")
    for number in range(SAGAS):
        [(status, step)] = [row[1:] for row in rows if row[0] == saga_id(number)]
        effects = await pool.fetch(
            "SELECT what FROM effects WHERE saga = %s ORDER BY number",
            (saga_id(number),),
        )
        whats = [row[0] for row in effects]
        if number % 5 == 0:
            assert (status, step, whats) == ("compensated", 0, UNDONE)
        else:
            assert (status, step, whats) == ("completed", 5, DONE)


async def test_a_killed_node_goes_on_where_it_was(database: str, pool: Pool) -> None:
    """Many times; what it had begun to run it takes up at once."""
    chance = random.Random(SEED)
    await pool.execute(TABLE)
    for _ in range(KILLS):
        with child(database, "one", SAGAS):
            await trio.sleep(chance.uniform(0.6, 1.2))
    with child(database, "one", SAGAS):
        await until_all_ended(pool)
    await check(pool)


async def test_another_node_takes_over_what_a_killed_one_ran(
    database: str, pool: Pool
) -> None:
    chance = random.Random(SEED)
    await pool.execute(TABLE)
    with child(database, "other", 0):
        for _ in range(3):
            with child(database, "one", SAGAS):
                await trio.sleep(chance.uniform(0.8, 1.4))
        with child(database, "third", SAGAS) as third:
            await trio.sleep(1.5)
            third.send_signal(signal.SIGKILL)
            begun = await pool.fetch_value("SELECT count(*) FROM sagas")
            assert begun == SAGAS
            await until_all_ended(pool)
    await check(pool)
