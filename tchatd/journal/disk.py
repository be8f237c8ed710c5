"""Owns what a running journal does to its folder; refuses to decide when.

A port, so that a test can fail any step. `DiskLane` runs the jobs in a thread that
needs no GIL (`tchatd_ext.diskthread` says why).
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

import trio

from tchatd.journal.errors import JournalFailed
from tchatd_ext.diskthread import DiskThread

Buffer: TypeAlias = bytes | memoryview

JOB_S_MAX = 120.0  # a disk that answers later than this is taken for dead

NO_SPACE_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT})
# Failed there, the bytes are still ours and the same step may be tried again. Never
# after a sync: the kernel may have dropped what it could not write.
_REPEATABLE = frozenset({"write", "rename", "preallocation"})


class NoSpace(Exception):
    """The disk is full; nothing is lost and the same job may be submitted again."""


class Disk(Protocol):
    """One job at a time: submit, then `done`."""

    def commit(self, fd: int, parts: Sequence[Buffer], offset: int) -> None:
        """Write parts one after the other at offset, then sync the data."""
        ...

    def publish(
        self, fd: int, block: Buffer, source: Path, target: Path, folder_fd: int
    ) -> None:
        """Write block at 0, sync, rename source to target, sync the folder."""
        ...

    def preallocate(self, fd: int, size: int) -> None:
        """Reserve size bytes, so that no later write inside needs space; sync."""
        ...

    def rename(self, source: Path, target: Path, folder_fd: int) -> None:
        """Rename, then sync the folder."""
        ...

    def remove(self, path: Path) -> None: ...

    async def idle(self) -> None:
        """Wait until a job is done that may be submitted meanwhile; `done` has it.

        The only wait here that can be cancelled, and then nothing has happened.
        """
        ...

    def done_within(self, limit_s: float) -> float | None:
        """Wait at most so long, and let nobody run meanwhile: the seconds that the job
        took. None: it is not done, or failed, and `done` has it."""
        ...

    async def done(self) -> float:
        """Wait for the job; the seconds it took. Not cancelled while it runs. At once
        and without letting others run, if it is done.

        Raises:
            NoSpace: the job may be submitted again.
            JournalFailed: it may not.
        """
        ...

    def close(self) -> None: ...


class DiskLane:
    """`Disk` over one thread; the jobs of one lane do not wait for another's."""

    def __init__(self, name: str, *, job_s_max: float = JOB_S_MAX) -> None:
        self._thread = DiskThread(name)
        self._job_s_max = job_s_max
        self._given_up = False

    def commit(self, fd: int, parts: Sequence[Buffer], offset: int) -> None:
        self._thread.submit_commit(fd, parts, offset)

    def publish(
        self, fd: int, block: Buffer, source: Path, target: Path, folder_fd: int
    ) -> None:
        self._thread.submit_publish(
            fd, (block,), bytes(source), bytes(target), folder_fd
        )

    def preallocate(self, fd: int, size: int) -> None:
        self._thread.submit_preallocate(fd, size)

    def rename(self, source: Path, target: Path, folder_fd: int) -> None:
        self._thread.submit_rename(bytes(source), bytes(target), folder_fd)

    def remove(self, path: Path) -> None:
        self._thread.submit_remove(bytes(path))

    async def idle(self) -> None:
        await trio.lowlevel.wait_readable(self._thread.fileno())

    def done_within(self, limit_s: float) -> float | None:
        if self._thread.succeeds_within(int(limit_s * 1e9)):
            return self._result()
        return None

    async def done(self) -> float:
        if self._thread.is_done():
            return self._result()
        deadline = trio.current_time() + self._job_s_max
        with trio.CancelScope(shield=True, deadline=deadline):
            await trio.lowlevel.wait_readable(self._thread.fileno())
            return self._result()
        self._given_up = True
        raise JournalFailed(f"the disk did not answer in {self._job_s_max:g} s")

    def _result(self) -> float:
        try:
            return self._thread.result() / 1e9
        except OSError as error:
            if error.errno in NO_SPACE_ERRORS and self._thread.step in _REPEATABLE:
                raise NoSpace(str(error)) from error
            raise JournalFailed(f"{self._thread.step}: {error.strerror}") from error

    def close(self) -> None:
        # A thread that hangs in the kernel would hang us too; the process is leaving.
        if not self._given_up:
            self._thread.close()
