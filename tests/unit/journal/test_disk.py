from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing

from tchatd.journal.disk import DiskLane, NoSpace
from tchatd.journal.errors import JournalFailed


@pytest.fixture
async def lane() -> AsyncIterator[DiskLane]:
    lane = DiskLane("test")
    yield lane
    lane.close()


async def test_jobs_are_done_and_timed(lane: DiskLane, tmp_path: Path) -> None:
    path, folder_fd = tmp_path / "file", os.open(tmp_path, os.O_RDONLY)
    with path.open("w+b") as file:
        lane.preallocate(file.fileno(), 8192)
        assert await lane.done() > 0
        lane.commit(file.fileno(), (b"a", b"b"), 4096)
        await lane.done()
        lane.publish(file.fileno(), b"h", path, tmp_path / "named", folder_fd)
        await lane.done()
        assert file.read() == b"h".ljust(4096, b"\0") + b"ab".ljust(4096, b"\0")
    lane.rename(tmp_path / "named", path, folder_fd)
    await lane.done()
    lane.remove(path)
    await lane.done()
    assert list(tmp_path.iterdir()) == []
    os.close(folder_fd)


async def test_a_job_may_be_waited_for(lane: DiskLane, tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+b") as file:
        lane.commit(file.fileno(), (b"x",), 0)
        took_s = None
        while took_s is None:
            took_s = lane.done_within(0.001)
        assert 0 < took_s < 10
        lane.commit(file.fileno(), (b"x",), 0)
        await lane.done()


async def test_a_full_disk_may_be_tried_again(lane: DiskLane) -> None:
    with Path("/dev/full").open("r+b", buffering=0) as full:
        lane.commit(full.fileno(), (b"x",), 0)
        with pytest.raises(NoSpace):
            await lane.done()


async def test_any_other_failure_is_final(lane: DiskLane, tmp_path: Path) -> None:
    lane.remove(tmp_path / "missing")
    with pytest.raises(JournalFailed, match="removal: No such file"):
        await lane.done()
    read_end, write_end = os.pipe()
    lane.commit(write_end, (), 0)
    with pytest.raises(JournalFailed, match="sync: Invalid argument"):
        await lane.done()
    os.close(read_end)
    os.close(write_end)


async def test_a_cancelled_wait_lasts_until_the_job_is_done(
    lane: DiskLane, tmp_path: Path
) -> None:
    with (tmp_path / "file").open("w+b") as file:
        with trio.CancelScope() as scope:
            scope.cancel()
            lane.commit(file.fileno(), (b"x",), 0)
            await lane.done()
        assert file.read() == b"x"


async def test_a_disk_that_does_not_answer_is_given_up(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(fileno: int) -> None:
        await trio.sleep_forever()

    class Hanging:
        def fileno(self) -> int:
            return 0

        def is_done(self) -> bool:
            return False

    lane = DiskLane("test", job_s_max=60)
    lane.close()
    monkeypatch.setattr(lane, "_thread", Hanging())
    monkeypatch.setattr(trio.lowlevel, "wait_readable", never)
    with pytest.raises(JournalFailed, match="did not answer in 60 s"):
        await lane.done()
    lane.close()  # does not wait for it
