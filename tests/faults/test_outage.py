"""PostgreSQL stopped under load, and a full disk: accepted goes on, or is refused."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trio

from tests.support.conversation import Conversation, conversations
from tests.support.daemon import Daemon, open_folder
from tests.support.settings import ROOMY

pytestmark = [pytest.mark.service, pytest.mark.slow]

STOPPED_S = 10.0
PAIRS = 4
OUTSTANDING = 4
REPEATED = 200
"""Of those answered, the last ones are asked for again."""


def acknowledged(talks: list[Conversation]) -> int:
    return sum(len(talk.acknowledged) for talk in talks)


def with_children(pid: int) -> list[int]:
    """A postmaster and its backends, each of which leads a session of its own."""
    found = [pid]
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            parent = stat.read_text().rpartition(")")[2].split()[1]
            if int(parent) == pid:
                found.append(int(stat.parent.name))
    return found


@contextmanager
def stopped(daemon: Daemon) -> Iterator[None]:
    """PostgreSQL, all of its processes, stands still."""
    postmaster = daemon.postgres_pid()
    os.kill(postmaster, signal.SIGSTOP)  # so that it makes no new ones
    processes = with_children(postmaster)
    assert len(processes) > 2
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in reversed(processes):
            with suppress(ProcessLookupError):  # the daemon replaces one that hangs
                os.kill(pid, signal.SIGCONT)


async def check_all(daemon: Daemon, talks: list[Conversation]) -> None:
    for talk in talks:
        unanswered = [id for id in talk.asked if id not in talk.acknowledged]
        await talk.check(daemon, unanswered + list(talk.acknowledged)[-REPEATED:])


async def test_postgres_stopped_for_ten_seconds_delays_no_message() -> None:
    daemon = Daemon(ROOMY)
    try:
        daemon.start()
        async with conversations(daemon, PAIRS) as talks:
            async with trio.open_nursery() as nursery:
                for talk in talks:
                    nursery.start_soon(talk.keep_sending, daemon, OUTSTANDING)
                await trio.sleep(0.5)
                with stopped(daemon):
                    await trio.sleep(1)
                    before = acknowledged(talks)
                    await trio.sleep(STOPPED_S - 1)
                    during = acknowledged(talks) - before
                await trio.sleep(0.5)
                nursery.cancel_scope.cancel()
            assert during > 100
            await check_all(daemon, talks)
            daemon.kill()
            daemon.start()
            await check_all(daemon, talks)
    finally:
        daemon.remove()


async def test_a_full_disk_is_answered_with_503_until_space_returns() -> None:
    if os.geteuid() != 0:
        if os.environ.get("CI") == "true":
            pytest.fail("CI runs this as root, to mount a small file system")
        pytest.skip("only root can mount a small file system")
    folder = open_folder()
    small = folder / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m,mode=0755", "tmpfs", str(small)]
    subprocess.run(mount, check=True)
    daemon = Daemon(
        ROOMY
        | {
            "JOURNAL_FOLDER": str(small / "journal"),
            "JOURNAL_SEGMENT_BYTES": str(1 << 20),
            "JOURNAL_BATCH_BYTES_MAX": str(1 << 19),
            "JOURNAL_RECORD_BYTES_MAX": str(1 << 18),
            "JOURNAL_BACKLOG_BYTES_MAX": str(1 << 30),
        },
        folder=folder,
    )
    try:
        daemon.start()
        async with conversations(daemon, PAIRS) as talks:
            async with trio.open_nursery() as nursery:
                for talk in talks:
                    nursery.start_soon(talk.keep_sending, daemon, OUTSTANDING)
                await trio.sleep(0.5)
                ballast = small / "ballast"
                fill(str(ballast))
                # Flushed segments are used again, which would do for ever.
                with stopped(daemon):
                    with trio.fail_after(60):
                        while not all(talk.refused for talk in talks):
                            await trio.sleep(0.1)
                    assert {r["status"] for t in talks for r in t.refused} == {503}
                    before = acknowledged(talks)
                    ballast.unlink()
                    with trio.fail_after(30):
                        while acknowledged(talks) < before + 200:
                            await trio.sleep(0.1)
                nursery.cancel_scope.cancel()
            await check_all(daemon, talks)
            daemon.kill()
            daemon.start()
            await check_all(daemon, talks)
    finally:
        daemon.remove()
        subprocess.run(["umount", "-l", str(small)], check=False)


def fill(path: str) -> None:
    """Write zeros until the file system is full."""
    with open(path, "wb", buffering=0) as ballast:
        try:
            for _ in range(1 << 20):
                ballast.write(bytes(1 << 16))
        except OSError:
            return
