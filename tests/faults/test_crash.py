"""`kill -9` at a random moment of traffic loses nothing that was acknowledged.

Every run: senders keep messages outstanding over WebSocket; the daemon (in every
second run its PostgreSQL too) is killed; after the restart every client_id of the
run is repeated, and the log of each dialog is held against all answers so far.
TCHATD_CRASH_RUNS and TCHATD_CRASH_SEED choose how many runs, and replay them.
"""

from __future__ import annotations

import os
import random
import signal

import pytest
import trio

from tests.support.conversation import Conversation, conversations
from tests.support.daemon import Daemon
from tests.support.settings import ROOMY

pytestmark = [pytest.mark.service, pytest.mark.slow]

RUNS = int(os.environ.get("TCHATD_CRASH_RUNS", "50"))
SEED = int(os.environ.get("TCHATD_CRASH_SEED", "20261124"))
PAIRS = 4
OUTSTANDING = 4


def kill(pid: int) -> None:
    """Kill one that may have gone with its parent."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


async def traffic_until_killed(
    daemon: Daemon, talks: list[Conversation], chance: random.Random, database: bool
) -> None:
    async with trio.open_nursery() as nursery:
        for talk in talks:
            nursery.start_soon(talk.keep_sending, daemon, OUTSTANDING)
        await trio.sleep(chance.uniform(0.05, 0.6))
        postmaster = daemon.postgres_pid()
        if (
            database and chance.random() < 0.5
        ):  # PostgreSQL first, the daemon soon after
            kill(postmaster)
            await trio.sleep(chance.uniform(0, 0.05))
        daemon.kill()
        if database:
            kill(postmaster)


async def test_nothing_acknowledged_is_lost_or_doubled() -> None:
    chance = random.Random(SEED)
    daemon = Daemon(ROOMY)
    try:
        daemon.start()
        async with conversations(daemon, PAIRS) as talks:
            for run in range(RUNS):
                known = [set(talk.asked) for talk in talks]
                await traffic_until_killed(daemon, talks, chance, database=run % 2 == 1)
                daemon.start()
                for talk, before in zip(talks, known, strict=True):
                    repeat = [id for id in talk.asked if id not in before]
                    await talk.check(daemon, repeat)
            assert sum(len(talk.asked) for talk in talks) > RUNS * PAIRS
    finally:
        daemon.remove()
