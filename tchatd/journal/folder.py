"""Owns a journal's folder: that it stays, and that one process uses it at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from tchatd.journal.errors import JournalLocked

LOCK_NAME = "lock"


class FolderLock:
    """`flock` on a file in the folder: it ends with the process, however that ends.

    The file names its holder, and stays: removing it would let two processes lock
    two files of one name.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fd = -1

    def acquire(self) -> None:
        """Without waiting.

        Raises:
            JournalLocked: it says by which process.
        """
        assert self._fd < 0
        path = self._folder / LOCK_NAME
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
            os.close(fd)
            who = f"process {holder}" if holder else "another process"
            raise JournalLocked(f"{self._folder} is in use by {who}") from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd

    def release(self) -> None:
        if self._fd >= 0:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = -1


def make_folder(folder: Path) -> None:
    """Make it and what it lies in, durably; nothing where it is there already."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in it durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
