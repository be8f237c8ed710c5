"""Owns the way of one batch to the disk; refuses to know where batches come from."""

from __future__ import annotations

from collections.abc import Callable

import trio

from tchatd.journal.disk import Disk, NoSpace
from tchatd.journal.record import BLOCK_BYTES, encode_batch, encode_mark
from tchatd.journal.segment import Segment, encode_header
from tchatd.journal.spares import RETRY_S_MAX, RETRY_S_MIN
from tchatd.kernel.clock import Clock
from tchatd.observe.logging import get_logger
from tchatd.observe.metrics import BATCH_BUCKETS, LATENCY_BUCKETS_S, Metrics

QUICK_SYNC_S = 0.0005

_log = get_logger("journal")


class Batch:
    """Records to be written together. room_bytes: what it was opened with."""

    __slots__ = ("first_position", "offset", "payloads", "room_bytes", "segment")

    def __init__(self, segment: Segment, first_position: int, room_bytes: int) -> None:
        self.segment = segment
        self.first_position = first_position
        self.offset = segment.end
        self.room_bytes = room_bytes
        self.payloads: list[bytes] = []

    @property
    def last_position(self) -> int:
        return self.first_position + len(self.payloads) - 1


class Committer:
    """One batch at a time: `submit`, then `finish`.

    on_stalled: called when the disk turns out to be full while a batch is in hand.
    """

    def __init__(
        self, clock: Clock, metrics: Metrics, *, on_stalled: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._on_stalled = on_stalled
        self._disk: Disk | None = None
        self._folder_fd = -1
        self.stalled = False
        self.sync_count = 0
        self.last_sync_at_ms = 0
        self.last_sync_s = 0.0
        self.batch_records = metrics.histogram(
            "journal_batch_records", "Records synced together", BATCH_BUCKETS
        )
        self.sync_s = metrics.histogram(
            "journal_sync_seconds", "Write and sync of a batch", LATENCY_BUCKETS_S
        )

    def use(self, disk: Disk, folder_fd: int) -> None:
        """Both stay the caller's."""
        self._disk, self._folder_fd = disk, folder_fd

    def submit(self, batch: Batch) -> None:
        """Begin; does not wait. The batch is not changed any more."""
        assert self._disk is not None
        segment = batch.segment
        if segment.published:
            parts = encode_batch(
                segment.header.salt, batch.first_position, batch.payloads
            )
            self._disk.commit(segment.fd, parts, batch.offset)
        else:
            self._disk.publish(
                segment.fd,
                encode_header(segment.header),
                segment.spare_path,
                segment.path,
                self._folder_fd,
            )

    async def idle(self) -> None:
        """Until a batch submitted meanwhile may be finished; can be cancelled."""
        assert self._disk is not None
        await self._disk.idle()

    def finish_soon(self, batch: Batch) -> bool:
        """As `finish`, at once, if the disk is as quick as it was; else do nothing.

        A lone record's wait is shorter than what letting others run, and waking up
        again, would cost; on a disk that is not so quick nobody waits.
        """
        assert self._disk is not None
        is_quick = 0.0 < self.last_sync_s <= QUICK_SYNC_S
        if not is_quick or self.stalled or not batch.segment.published:
            return False
        elapsed_s = self._disk.done_within(QUICK_SYNC_S)
        if elapsed_s is None:
            return False
        self._note(batch, elapsed_s)
        return True

    async def finish(self, batch: Batch) -> None:
        """Until the batch is durable, however long the disk stays full."""
        assert self._disk is not None
        retry_s = RETRY_S_MIN
        while True:
            try:
                elapsed_s = await self._disk.done()
            except NoSpace:
                # Preallocated and yet no space: the file system copies on write, or
                # is thinly provisioned. The batch is kept, nothing more is taken.
                if not self.stalled:
                    _log.error("no space for a batch in a preallocated file")
                self.stalled = True
                self._on_stalled()
                await trio.sleep(retry_s)
                retry_s = min(2 * retry_s, RETRY_S_MAX)
            else:
                self.stalled = False
                if batch.segment.published:
                    break
                batch.segment.published = True
            self.submit(batch)
        self._note(batch, elapsed_s)

    def _note(self, batch: Batch, elapsed_s: float) -> None:
        self.sync_count += 1
        self.last_sync_at_ms = self._clock.now_ms()
        self.last_sync_s = elapsed_s
        self.sync_s.observe(elapsed_s)
        self.batch_records.observe(len(batch.payloads))

    async def mark(self, segment: Segment, next_position: int) -> None:
        """Say on disk that everything was synced. The segment keeps a block for it."""
        assert self._disk is not None
        assert segment.published
        if segment.end + BLOCK_BYTES > segment.header.size:
            return
        parts = encode_mark(segment.header.salt, next_position)
        self._disk.commit(segment.fd, parts, segment.end)
        try:
            await self._disk.done()
        except NoSpace:
            return  # the next start reads the end as it does after a crash
        segment.end += BLOCK_BYTES
