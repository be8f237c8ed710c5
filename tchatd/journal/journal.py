"""Owns the port to the journal: what is durable, and in which order.

Theory of use: `replay` once, then start `run`, then `append`. Whoever appends is
told by `on_durable` when its record is safe, and only then tells anybody else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

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
            JournalFull: before anything was taken; `next_position` is unchanged.
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
