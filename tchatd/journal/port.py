"""Owns the port to the journal: an ordered log whose records survive.

`replay` once, then start `run`, then `append`. Whoever appends is told by
`on_durable` when its record is safe, and only then tells anybody else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import msgspec
import trio


class Journal(Protocol):
    """An ordered log of records; positions are dense and begin at 1.

    next_position: of the next append.
    durable_position: everything up to it survives a loss of power; 0 when empty.
    on_durable: called in the Trio thread after every sync with the new
        `durable_position`; set before `run` and never changed after. It must not
        raise, and may append.
    """

    on_durable: Callable[[int], None]

    @property
    def next_position(self) -> int: ...

    @property
    def durable_position(self) -> int: ...

    def append(self, payload: bytes) -> int:
        """Take one record and return its position; it is not yet durable.

        Raises:
            JournalFull, RecordTooLarge: before anything was taken; `next_position` is
                unchanged.
        """
        ...

    def trim(self, position: int) -> None:
        """Say that everything up to position is in the store; it may be forgotten."""
        ...

    def replay(self, after: int) -> Iterator[tuple[int, bytes]]:
        """Every (position, payload) later than after, in order; before `run`.

        after: the position that the store has; also trims up to there.

        Raises:
            JournalUnusable: and its kinds; nothing is skipped or lost silently.
        """
        ...

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Make appended records durable until `close`, then the rest of them.

        Raises:
            JournalFailed: a write or a sync failed; the process must exit.
        """
        ...

    def close(self) -> None:
        """Ask `run` to sync what is buffered, mark a clean end and return."""
        ...


class JournalStatistics(msgspec.Struct, frozen=True):
    """What the console and the operator see; sizes in bytes, as on the disk.

    batch_records, sync_s: (upper bound, how many were at most it), cumulative.
    torn_records: of the batch cut at the start, as far as its header tells.
    ended_cleanly: the start found the mark of a graceful stop.
    """

    first_position: int
    durable_position: int
    next_position: int
    trimmed_position: int
    segment_count: int
    spare_count: int
    disk_bytes: int
    backlog_bytes: int
    backlog_bytes_max: int
    append_count: int
    refused_count: int
    sync_count: int
    last_sync_at_ms: int
    last_sync_s: float
    no_space: bool
    torn_records: int
    ended_cleanly: bool
    batch_records: list[tuple[str, float]]
    sync_s: list[tuple[str, float]]
