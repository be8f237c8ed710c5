"""Owns the files kept ready for coming segments; refuses to know what is in them.

One is made ahead of need, so that switching segments waits for nothing and a full
disk is met here, before a record is accepted. While there is no space it is tried
again, ever slower, until there is. A segment that is in the store becomes a spare
again: overwriting blocks that are written already syncs faster than filling reserved
ones (docs/adr/0005), and needs no new space.
"""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path
from typing import NamedTuple

import trio

from tchatd.journal.disk import NO_SPACE_ERRORS, Disk, NoSpace
from tchatd.journal.errors import JournalFailed
from tchatd.journal.segment import SPARE_PREFIX
from tchatd.observe.logging import get_logger

_log = get_logger("journal")

# Not two made ahead: then a retired file would always come too late to be used again.
SPARES_MAX = 2  # ready at once; what is retired beyond is removed
RETRY_S_MIN = 0.1
RETRY_S_MAX = 5.0


class Spare(NamedTuple):
    """A file of the full size that is not part of the log; fd is its owner's."""

    path: Path
    fd: int


class Spares:
    """take, retire: from the Trio thread, at any time; `run` does the work."""

    def __init__(
        self, folder: Path, folder_fd: int, *, segment_bytes: int, disk: Disk
    ) -> None:
        self._folder = folder
        self._folder_fd = folder_fd
        self._segment_bytes = segment_bytes
        self._disk = disk
        self._ready: deque[Spare] = deque()
        self._retired: deque[Path] = deque()
        self._wanted = trio.Event()
        self._retired_one = trio.Event()
        self._left_over = deque(self._find_left_over())
        self._number = 1 + max(map(_number_of, self._left_over), default=0)
        self.no_space = False

    def _find_left_over(self) -> list[Path]:
        """Files that an earlier run kept ready or half made, of the right size."""
        found = sorted(self._folder.glob(f"{SPARE_PREFIX}*"))
        fitting = [path for path in found if self._fits(path)][:SPARES_MAX]
        for path in found:
            if path not in fitting:
                path.unlink()
        return fitting

    @property
    def ready_count(self) -> int:
        return len(self._ready)

    @property
    def file_count(self) -> int:
        """Files that take space: ready, or still to be dealt with."""
        return len(self._ready) + len(self._retired) + len(self._left_over)

    def take(self) -> Spare | None:
        """One that is ready, or None; a new one is then in the making."""
        self._wanted.set()
        return self._ready.popleft() if self._ready else None

    def retire(self, path: Path) -> None:
        """A segment whose records are all in the store, and that nobody has open."""
        self._retired.append(path)
        self._wanted.set()
        self._retired_one.set()

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled. `started` after the first try, whatever came of it.

        Raises:
            JournalFailed: the folder cannot be changed, for another reason than space.
        """
        retry_s = RETRY_S_MIN
        while True:
            self._wanted, self._retired_one = trio.Event(), trio.Event()
            try:
                await self._tidy()
                self._note(no_space=False)
                retry_s = RETRY_S_MIN
            except NoSpace:
                self._note(no_space=True)
                retry_s = min(2 * retry_s, RETRY_S_MAX)
            task_status.started()
            task_status = trio.TASK_STATUS_IGNORED
            if self.no_space:
                # One more retired segment would help too; being asked would not.
                with trio.move_on_after(retry_s):
                    await self._retired_one.wait()
            else:
                await self._wanted.wait()

    def _note(self, *, no_space: bool) -> None:
        if no_space and not self.no_space:
            _log.error("no space for the journal's next file", folder=str(self._folder))
        if self.no_space and not no_space:
            _log.info("there is space again for the journal")
        self.no_space = no_space

    async def _tidy(self) -> None:
        while self._retired:
            path = self._retired[0]
            if len(self._ready) < SPARES_MAX and self._fits(path):
                self._ready.append(await self._recycle(path))
            else:
                self._disk.remove(path)
                await self._disk.done()
            self._retired.popleft()
        if not self._ready:
            self._ready.append(await self._make())

    def _fits(self, path: Path) -> bool:
        """Not, if the setting was changed since the file was made."""
        return path.stat().st_size == self._segment_bytes

    def _next_path(self) -> Path:
        path = self._folder / f"{SPARE_PREFIX}{self._number}"
        self._number += 1
        return path

    async def _recycle(self, path: Path) -> Spare:
        target = self._next_path()
        self._disk.rename(path, target, self._folder_fd)
        await self._disk.done()
        return Spare(target, os.open(target, os.O_RDWR | os.O_CLOEXEC))

    async def _make(self) -> Spare:
        path = self._left_over.popleft() if self._left_over else self._next_path()
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            # Not even a name: on some file systems an inode or a folder's block.
            if error.errno in NO_SPACE_ERRORS:
                raise NoSpace(str(error)) from error
            raise JournalFailed(f"making {path}: {error.strerror}") from error
        try:
            # Of one that was left over too: it may not have been synced.
            self._disk.preallocate(fd, self._segment_bytes)
            await self._disk.done()
        except BaseException:
            os.close(fd)
            path.unlink(missing_ok=True)  # a part of a file would only take space
            raise
        return Spare(path, fd)

    def close(self) -> None:
        """The files that are ready stay for the next start."""
        while self._ready:
            os.close(self._ready.popleft().fd)


def _number_of(path: Path) -> int:
    digits = path.name.removeprefix(SPARE_PREFIX)
    return int(digits) if digits.isdecimal() else 0
