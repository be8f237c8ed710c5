from __future__ import annotations

import errno
import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from tchatd_ext.diskthread import DiskThread

ANSWER_MS = 10_000


@pytest.fixture
def thread() -> Iterator[DiskThread]:
    thread = DiskThread()
    yield thread
    thread.close()


def result(thread: DiskThread) -> int:
    poll = select.poll()
    poll.register(thread.fileno(), select.POLLIN)
    assert poll.poll(ANSWER_MS)
    return thread.result()


def test_the_parts_are_written_one_after_the_other(
    thread: DiskThread, tmp_path: Path
) -> None:
    with (tmp_path / "file").open("w+b") as file:
        thread.submit_commit(file.fileno(), (b"one", b"", memoryview(b"two")), 5)
        assert result(thread) > 0
        assert file.read() == b"\0\0\0\0\0onetwo"


def test_a_job_may_be_waited_for_and_its_result_is_there_then(
    thread: DiskThread, tmp_path: Path
) -> None:
    with (tmp_path / "file").open("w+b") as file:
        for _ in range(20):
            thread.submit_commit(file.fileno(), (b"one",), 0)
            while not thread.succeeds_within(1_000_000):
                pass
            assert thread.result() > 0
    with pytest.raises(RuntimeError):
        thread.succeeds_within(0)


def test_a_failure_is_not_taken_by_who_waits_for_success(
    thread: DiskThread, tmp_path: Path
) -> None:
    thread.submit_remove(bytes(tmp_path / "none"))
    for _ in range(10):
        assert not thread.succeeds_within(10_000_000)
    with pytest.raises(FileNotFoundError):
        result(thread)


def test_a_batch_longer_than_a_pipe_is_written_whole(
    thread: DiskThread, tmp_path: Path
) -> None:
    body = os.urandom(5 << 20)
    with (tmp_path / "file").open("w+b") as file:
        thread.submit_commit(file.fileno(), (b"head", body), 0)
        result(thread)
        assert file.read() == b"head" + body


def test_publishing_writes_renames_and_replaces(
    thread: DiskThread, tmp_path: Path
) -> None:
    source, target = tmp_path / "spare", tmp_path / "target"
    target.write_bytes(b"former")
    folder_fd = os.open(tmp_path, os.O_RDONLY)
    with source.open("w+b") as file:
        thread.submit_publish(
            file.fileno(), (b"head",), bytes(source), bytes(target), folder_fd
        )
        result(thread)
    os.close(folder_fd)
    assert target.read_bytes() == b"head"
    assert not source.exists()


def test_preallocating_gives_the_size(thread: DiskThread, tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+b") as file:
        thread.submit_preallocate(file.fileno(), 1 << 20)
        result(thread)
        status = os.fstat(file.fileno())
        assert status.st_size == 1 << 20
        assert status.st_blocks * 512 >= 1 << 20


def test_a_failure_tells_its_errno_and_step(thread: DiskThread, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    with path.open("rb") as file:
        thread.submit_commit(file.fileno(), (b"x",), 0)
        with pytest.raises(OSError) as failure:  # noqa: PT011
            result(thread)
    assert (failure.value.errno, thread.step) == (errno.EBADF, "write")
    thread.submit_remove(bytes(tmp_path / "missing"))
    with pytest.raises(FileNotFoundError):
        result(thread)
    assert thread.step == "removal"


def test_a_full_device_is_told_apart_from_a_failed_sync(thread: DiskThread) -> None:
    with Path("/dev/full").open("r+b", buffering=0) as full:
        thread.submit_commit(full.fileno(), (b"x",), 0)
        with pytest.raises(OSError) as failure:  # noqa: PT011
            result(thread)
    assert (failure.value.errno, thread.step) == (errno.ENOSPC, "write")
    read_end, write_end = os.pipe()
    thread.submit_commit(write_end, (), 0)
    with pytest.raises(OSError) as failure:  # noqa: PT011
        result(thread)
    assert (failure.value.errno, thread.step) == (errno.EINVAL, "sync")
    os.close(read_end)
    os.close(write_end)


def test_one_job_at_a_time_and_none_after_close(tmp_path: Path) -> None:
    thread = DiskThread()
    with pytest.raises(RuntimeError):
        thread.result()
    with (tmp_path / "file").open("w+b") as file:
        thread.submit_commit(file.fileno(), (b"x",), 0)
        with pytest.raises(RuntimeError):
            thread.submit_commit(file.fileno(), (b"y",), 0)
        thread.close()
        thread.close()
        assert file.read() == b"x"
        with pytest.raises(RuntimeError):
            thread.submit_commit(file.fileno(), (b"y",), 0)


def test_more_parts_than_the_slot_holds_are_refused(
    thread: DiskThread, tmp_path: Path
) -> None:
    with (tmp_path / "file").open("w+b") as file:
        with pytest.raises(ValueError, match="at most"):
            thread.submit_commit(file.fileno(), [b"x"] * 9, 0)
        thread.submit_commit(file.fileno(), [b"x"] * 8, 0)
        result(thread)
        assert file.read() == b"x" * 8


def test_a_thread_that_is_dropped_ends_with_its_owner() -> None:
    thread = DiskThread("short")
    thread.close()
    with pytest.raises(RuntimeError):
        thread.submit_remove(b"x")
