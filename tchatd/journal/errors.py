"""Owns the ways in which a journal refuses or fails.

Only `JournalFull` and `RecordTooLarge` are answers to a caller; the others end the
process or keep it from starting, and are therefore no `DomainError`.
"""

from __future__ import annotations

from pathlib import Path

from tchatd.kernel.errors import DomainError, ErrorKind, Unavailable


class JournalFull(Unavailable):
    """There is no room for one more record: nothing was taken, try again later."""

    code, title = "journal-full", "No room for more at the moment"


class RecordTooLarge(DomainError):
    """Nothing was taken, and would not be later."""

    code, kind = "record-too-large", ErrorKind.TOO_LARGE
    title = "More than can be kept at once"


class JournalFailed(Exception):
    """A write or a sync failed: what is durable is not known, the process must exit.

    Never retried: after a failed sync the kernel may have dropped the bytes and
    call them clean. The next start replays what the disk really has.
    """


class JournalUnusable(Exception):
    """The folder cannot be opened as it is; the message says why, for an operator."""


class JournalLocked(JournalUnusable):
    """Another process has the folder open."""


class JournalTooNew(JournalUnusable):
    """A later version of tchatd wrote the folder."""


class JournalDamaged(JournalUnusable):
    """Durable records are missing or changed; opening would lose them silently.

    path, offset: the file and the byte in it where the reading stopped.
    """

    def __init__(self, path: Path, offset: int, reason: str) -> None:
        super().__init__(f"{path} is damaged at byte {offset}: {reason}")
        self.path = path
        self.offset = offset
        self.reason = reason
