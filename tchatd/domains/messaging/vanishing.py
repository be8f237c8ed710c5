"""Owns messages whose time is over: they are deleted for everyone, by nobody.

When a message expires is in its row since it was sent. Reading shows nothing of it from
that moment on (dialog.py); here its content is deleted, and members are told, batch by
batch in the order of expiry, however late: what came due while the process was away is
found in the same way. A message is deleted once: what memory knows to be deleted
already is passed over, though the store does not have it yet, and after a crash the
store, or the journal's replay, says so.

What is in memory only is not looked for. It is stored within a moment, and while the
store is away nothing can be looked up anyway.
"""

from __future__ import annotations

from typing import Final

from tchatd.domains.messaging.access import ATTEMPTS_MAX
from tchatd.domains.messaging.records import DeleteRecord
from tchatd.domains.messaging.state import MessagingState
from tchatd.domains.messaging.store import CommandLog, DialogStore
from tchatd.kernel.clock import Clock
from tchatd.kernel.quarantine import Quarantine

BATCH_MAX: Final = 200
POLL_S: Final = 5
PAUSE_MS: Final = 200
"""Between full batches: the store forgets what was due when it is flushed."""
_NOBODY: Final = bytes(16)


class Vanishing:
    def __init__(
        self,
        state: MessagingState,
        log: CommandLog,
        dialogs: DialogStore,
        clock: Clock,
    ) -> None:
        self._state = state
        self._log = log
        self._dialogs = dialogs
        self._clock = clock
        self.quarantine = Quarantine(clock)

    async def vanish_due(self) -> int:
        """Delete some of what is due; when to look again.

        Raises Unavailable: the store is away, or the journal is full; what was due is
        found again.
        """
        now_ms = self._clock.now_ms()
        limit = BATCH_MAX + len(self.quarantine)
        due = await self._dialogs.expired(now_ms, limit)
        left = self._delete([of for of in due if not self.quarantine.rests(of)])
        for _ in range(ATTEMPTS_MAX):
            if not left:
                break
            await self._load(left)
            left = self._delete(left)
        await self._log.durable(self._log.applied_position)
        pause_ms = PAUSE_MS if len(due) == limit else 1_000 * POLL_S
        return now_ms + pause_ms

    async def _load(self, addresses: list[tuple[int, int]]) -> None:
        """They, and the messages whose threads they are in."""
        wanted = set(addresses)
        for number, seq in addresses:
            dialog = self._state.find_number(number)
            state = None if dialog is None else dialog.message_state(seq)
            if state is not None and state.thread_seq:
                wanted.add((number, state.thread_seq))
        await self._log.load(numbers={n for n, _ in wanted}, messages=wanted)

    def _delete(self, addresses: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Those that are loaded; the others are left."""
        left = []
        for number, seq in addresses:
            dialog = self._state.find_number(number)
            state = None if dialog is None else dialog.message_state(seq)
            if dialog is None or state is None:
                left.append((number, seq))
                continue
            if state.is_deleted:
                continue
            thread_seq = state.thread_seq
            if thread_seq and dialog.message_state(thread_seq) is None:
                left.append((number, seq))
                continue
            at_ms = max(self._clock.now_ms(), dialog.active_ms)
            record = DeleteRecord(number, at_ms, 0, _NOBODY, seq, thread_seq)
            with self.quarantine.around((number, seq)):
                self._log.submit(record)
        return left
