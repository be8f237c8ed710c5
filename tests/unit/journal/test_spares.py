from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from tchatd.journal.disk import NoSpace
from tchatd.journal.spares import SPARES_MAX, Spares
from tests.support.journals import ScriptedDisk

SIZE = 1 << 16


@pytest.fixture
def disk() -> ScriptedDisk:
    return ScriptedDisk()


@pytest.fixture
def spares(tmp_path: Path, disk: ScriptedDisk) -> Iterator[Spares]:
    folder_fd = os.open(tmp_path, os.O_RDONLY)
    spares = Spares(tmp_path, folder_fd, segment_bytes=SIZE, disk=disk)
    yield spares
    spares.close()
    os.close(folder_fd)


async def test_one_is_ready_before_it_is_needed_and_the_next_after_it(
    spares: Spares, nursery: trio.Nursery
) -> None:
    await nursery.start(spares.run)
    first = spares.take()
    assert first is not None
    assert os.fstat(first.fd).st_size == SIZE
    os.close(first.fd)
    assert spares.take() is None
    await trio.testing.wait_all_tasks_blocked()
    second = spares.take()
    assert second is not None
    assert second.path != first.path
    os.close(second.fd)


async def test_retired_files_are_used_again_up_to_a_maximum(
    spares: Spares, nursery: trio.Nursery, tmp_path: Path
) -> None:
    await nursery.start(spares.run)
    for number in range(5):
        path = tmp_path / f"{number}.journal"
        path.write_bytes(bytes(SIZE))
        spares.retire(path)
    await trio.testing.wait_all_tasks_blocked()
    assert spares.ready_count == spares.file_count == SPARES_MAX
    assert len(list(tmp_path.iterdir())) == SPARES_MAX


async def test_a_retired_file_of_another_size_goes(
    spares: Spares, nursery: trio.Nursery, tmp_path: Path
) -> None:
    await nursery.start(spares.run)
    path = tmp_path / "1.journal"
    path.write_bytes(bytes(SIZE // 2))
    spares.retire(path)
    await trio.testing.wait_all_tasks_blocked()
    assert (spares.ready_count, path.exists()) == (1, False)


async def test_a_retired_file_helps_at_once_when_there_is_no_space(
    spares: Spares,
    disk: ScriptedDisk,
    nursery: trio.Nursery,
    tmp_path: Path,
    autojump_clock: trio.testing.MockClock,
) -> None:
    disk.outcomes["preallocate"] = deque([NoSpace("full")] * 1000)
    await nursery.start(spares.run)
    await trio.sleep(60)
    assert spares.no_space
    tries = disk.counts["preallocate"]
    assert 12 <= tries <= 30  # it tries ever slower, and does not stop
    for _ in range(100):
        assert spares.take() is None
    await trio.testing.wait_all_tasks_blocked()
    assert disk.counts["preallocate"] == tries  # asking does not hurry it
    path = tmp_path / "1.journal"
    path.write_bytes(bytes(SIZE))
    spares.retire(path)
    await trio.testing.wait_all_tasks_blocked()
    assert (spares.no_space, spares.ready_count) == (False, 1)
