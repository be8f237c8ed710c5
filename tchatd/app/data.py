"""Owns the data folder: made if it is not there, and held by one daemon at a time."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from uuid import uuid4

_UNDER_ROOT = 0o711  # the embedded PostgreSQL runs as another user and passes through
_PRIVATE = 0o700


class DataInUse(Exception):
    """Another process holds the folder; the text says which."""


class DataUnusable(Exception):
    """The folder cannot be made or written to; the text says which and why."""


class DataFolder:
    """The lock ends with the process, however it ends (flock, not the file)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1

    def __enter__(self) -> DataFolder:
        """Make and lock it.

        Raises:
            DataInUse: another daemon runs on it.
            DataUnusable: it cannot be made or written to.
        """
        try:
            descriptor = self._opened()
        except OSError as error:
            raise DataUnusable(
                f"data folder {self.path}: {error.strerror or error}"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise DataInUse(
                f"{self.path}: another tchatd (process {holder or '?'}) runs on it"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor
        return self

    def _opened(self) -> int:
        """The lock file in the folder, which is made if it is not there."""
        if not self.path.exists():
            self.path.mkdir(parents=True)
            self.path.chmod(_UNDER_ROOT if os.geteuid() == 0 else _PRIVATE)
        if not self.path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(self.path, os.W_OK | os.X_OK):  # the lock may be there already
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def node_id(self) -> str:
        """Who this daemon is among others; made once, the same after a restart."""
        path = self.path / "node"
        if not path.exists():
            aside = self.path / ".node"
            aside.write_text(uuid4().hex + "\n")
            aside.rename(path)
        return path.read_text().strip()

    def __exit__(self, *_: object) -> None:
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)
        self._descriptor = -1
