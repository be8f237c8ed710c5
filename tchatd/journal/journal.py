"""Owns the port to the journal and its implementation on a local disk.

`replay` once, then start `run`, then `append`. Whoever appends is told by
`on_durable` when its record is safe, and only then tells anybody else.

Group commit: records are gathered in an open batch; `run` takes it, writes it and
syncs it once, while the next one gathers. There is no timer. Room is taken from
preallocated files when a record is accepted, so accepting is a promise.
`tchatd.journal.segment` has the theory of operation of what is on disk.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import msgspec
import trio

from tchatd.journal.disk import Disk, DiskLane, NoSpace
from tchatd.journal.errors import JournalDamaged, JournalFailed, JournalFull
from tchatd.journal.folder import FolderLock, remove_spares
from tchatd.journal.record import (
    BLOCK_BYTES,
    HEADER_BYTES,
    LENGTH_BYTES,
    encode_batch,
    encode_mark,
    padded,
)
from tchatd.journal.replay import (
    SegmentFile,
    Tail,
    examine_tail,
    find_segments,
    mend_tail,
    needed_segments,
    read_batches,
    read_sealed,
)
from tchatd.journal.segment import (
    SEGMENT_BYTES_MIN,
    Segment,
    SegmentHeader,
    encode_header,
    segment_name,
)
from tchatd.journal.spares import RETRY_S_MAX, RETRY_S_MIN, Spares
from tchatd.kernel.clock import Clock, SystemClock
from tchatd.observe.metrics import BATCH_BUCKETS, LATENCY_BUCKETS_S, Metrics

RETRY_AFTER_S = 5  # told to a caller that is refused; how long a flush may take


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


class _Batch:
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


class LocalJournal:
    """`Journal` in a folder of this machine; one process at a time.

    segment_bytes: of a file. At most SPARES_MAX files lie ready beside the log.
    batch_bytes_max: written and synced at once. Memory: two batches beside the
        records that are waiting.
    backlog_bytes_max: appended and not trimmed; beyond it `append` refuses. Together
        with three segments the bound of the disk that is used.
    record_bytes_max: a longer record is its author's error.
    first_position: of a folder without a segment; for whoever moves to a new folder.
    make_disk: a lane of its own for the log and one for the files to come.
    """

    def __init__(
        self,
        folder: Path,
        *,
        segment_bytes: int = 64 << 20,
        backlog_bytes_max: int = 1 << 30,
        batch_bytes_max: int = 4 << 20,
        record_bytes_max: int = 512 << 10,
        on_durable: Callable[[int], None] = lambda position: None,
        first_position: int = 1,
        clock: Clock | None = None,
        random_bytes: Callable[[int], bytes] = os.urandom,
        make_disk: Callable[[str], Disk] = DiskLane,
        metrics: Metrics | None = None,
    ) -> None:
        assert segment_bytes >= SEGMENT_BYTES_MIN
        assert segment_bytes % BLOCK_BYTES == batch_bytes_max % BLOCK_BYTES == 0
        # A batch of the greatest size fits into a segment beside header and mark.
        assert batch_bytes_max <= segment_bytes - 2 * BLOCK_BYTES
        assert HEADER_BYTES + LENGTH_BYTES + record_bytes_max <= batch_bytes_max
        assert backlog_bytes_max >= batch_bytes_max
        assert first_position >= 1
        self.on_durable = on_durable
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._backlog_bytes_max = backlog_bytes_max
        self._batch_bytes_max = batch_bytes_max
        self._record_bytes_max = record_bytes_max
        self._clock = clock or SystemClock()
        self._random_bytes = random_bytes
        self._make_disk = make_disk
        self._lock = FolderLock(folder)
        self._ready = self._running = self._closing = False

        self._next_position = first_position
        self._durable_position = first_position - 1
        self._trimmed_position = 0
        self._segments: deque[Segment] = deque()
        # (last position, bytes on disk) of every batch that is not trimmed.
        self._untrimmed: deque[tuple[int, int]] = deque()
        self._backlog_bytes = 0

        # Records go to _payloads, the open batch's, while _room_bytes lasts. Without
        # an open batch there is no room, so that the next append opens one.
        self._room_bytes = 0
        self._payloads: list[bytes] = []
        self._open: _Batch | None = None
        self._pending: deque[_Batch] = deque()
        self._wake = trio.Event()
        self._stalled = False
        self._marked = False
        self._torn_records = 0
        self._ended_cleanly = True
        self._spares: Spares | None = None
        self._measure(metrics or Metrics(process=False))

    def _measure(self, metrics: Metrics) -> None:
        self._refused_count = self._sync_count = self._last_sync_at_ms = 0
        self._last_sync_s = 0.0
        self._appended_from = self._next_position
        self._batch_records = metrics.histogram(
            "journal_batch_records", "Records synced together", BATCH_BUCKETS
        )
        self._sync_s = metrics.histogram(
            "journal_sync_seconds", "Write and sync of a batch", LATENCY_BUCKETS_S
        )
        metrics.gauge(
            "journal_backlog_bytes",
            "Appended and not yet in the store",
            lambda: self._backlog_bytes,
        )
        metrics.counter(
            "journal_refused",
            "Records refused for want of room",
            read=lambda: self._refused_count,
        )
        metrics.gauge(
            "journal_durable_position",
            "Position of the last durable record",
            lambda: self._durable_position,
        )

    @property
    def next_position(self) -> int:
        return self._next_position

    @property
    def durable_position(self) -> int:
        return self._durable_position

    # Appending

    def append(self, payload: bytes) -> int:
        size = len(payload) + LENGTH_BYTES
        if size > self._room_bytes:
            self._open_batch(size)
        self._room_bytes -= size
        self._payloads.append(payload)
        position = self._next_position
        self._next_position = position + 1
        return position

    def _open_batch(self, size: int) -> None:
        """Seal the open batch and begin one with room for size bytes at least."""
        assert self._running, "append needs a running journal"
        assert LENGTH_BYTES < size <= self._record_bytes_max + LENGTH_BYTES
        self._seal()
        self._take_room(size)
        self._wake.set()

    def _seal(self) -> None:
        """Nothing is added to the open batch any more; its size is known now."""
        batch = self._open
        if batch is None:
            return
        size = padded(HEADER_BYTES + batch.room_bytes - self._room_bytes)
        batch.segment.end += size
        self._backlog_bytes += size
        self._untrimmed.append((batch.last_position, size))
        self._open, self._room_bytes = None, 0

    def _take_room(self, size: int) -> None:
        need = padded(HEADER_BYTES + size)
        backlog_room = self._backlog_bytes_max - self._backlog_bytes
        if self._closing:
            self._refuse("The journal is closing")
        if self._stalled:
            self._refuse("The journal's disk is full")
        if need > backlog_room:
            self._refuse("The store is too far behind the journal")
        tail = self._segments[-1] if self._segments else None
        if tail is None or need > tail.free_bytes:
            tail = self._add_segment()
        room = min(
            self._batch_bytes_max,
            tail.free_bytes,
            backlog_room // BLOCK_BYTES * BLOCK_BYTES,
        )
        assert room >= need
        self._room_bytes = room - HEADER_BYTES
        self._open = _Batch(tail, self._next_position, self._room_bytes)
        self._payloads = self._open.payloads
        self._pending.append(self._open)

    def _refuse(self, reason: str) -> None:
        self._refused_count += 1
        raise JournalFull(reason, retry_after_s=RETRY_AFTER_S)

    def _add_segment(self) -> Segment:
        assert self._spares is not None
        spare = self._spares.take()
        if spare is None:
            self._refuse("The journal's next file is not there yet")
        assert spare is not None
        # An empty one of another size is replaced: the new one takes its name.
        if self._segments:
            last = self._segments[-1]
            if last.header.first_position == self._next_position:
                self._segments.pop()
                os.close(last.fd)
        header = SegmentHeader(
            salt=int.from_bytes(self._random_bytes(8), "little") | 1,
            first_position=self._next_position,
            size=self._segment_bytes,
            made_at_ms=self._clock.now_ms(),
        )
        path = self._folder / segment_name(self._next_position)
        segment = Segment(path, header, fd=spare.fd)
        segment.published, segment.spare_path = False, spare.path
        self._segments.append(segment)
        return segment

    # Trimming

    def trim(self, position: int) -> None:
        assert position <= self._durable_position
        self._trimmed_position = max(self._trimmed_position, position)
        untrimmed = self._untrimmed
        while untrimmed and untrimmed[0][0] <= position:
            self._backlog_bytes -= untrimmed.popleft()[1]
        # The last segment stays, whatever is in it: it knows the next position.
        while (
            self._spares is not None
            and len(self._segments) > 1
            and self._segments[1].published
            and self._segments[1].header.first_position <= position + 1
        ):
            segment = self._segments.popleft()
            if segment.fd >= 0:
                os.close(segment.fd)
            self._spares.retire(segment.path)

    # Replaying

    def replay(self, after: int) -> Iterator[tuple[int, bytes]]:
        """See `Journal.replay`. Also locks the folder, and mends its torn tail.

        Everything it yields is durable.
        """
        assert not self._ready
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock.acquire()
        try:
            return self._begin_replay(after)
        except BaseException:
            self._lock.release()
            raise

    def _begin_replay(self, after: int) -> Iterator[tuple[int, bytes]]:
        remove_spares(self._folder)
        found = find_segments(self._folder)
        needed = needed_segments(self._folder, found, after)
        tail = None
        if needed:
            tail = examine_tail(needed[-1])
            self._note_tail(tail)
            mend_tail(needed[-1], tail)
        if self._durable_position < after:
            reason = f"it ends at position {self._durable_position}, the store has"
            raise JournalDamaged(self._folder, 0, f"{reason} {after}")
        self._trimmed_position = after
        # Whatever is left of segments that a trim had begun to remove.
        for file in found:
            if file not in needed:
                file.path.unlink()
        return self._replay(needed, tail, after)

    def _note_tail(self, tail: Tail) -> None:
        self._next_position = self._appended_from = tail.last_position + 1
        self._durable_position = tail.last_position
        self._marked = self._ended_cleanly = tail.marked
        if tail.torn is not None:
            self._torn_records = tail.torn.record_count

    def _replay(
        self, needed: list[SegmentFile], tail: Tail | None, after: int
    ) -> Iterator[tuple[int, bytes]]:
        expected = after + 1
        for index, file in enumerate(needed):
            segment = Segment(file.path, file.header)
            self._segments.append(segment)
            batches = read_batches(file, after=after)
            if index + 1 < len(needed):
                last = needed[index + 1].header.first_position - 1
                batches = read_sealed(file, last, after)
            for batch in batches:
                position = batch.header.first_position
                segment.end = batch.offset + batch.header.size
                if batch.header.last_position > after and batch.payloads:
                    self._untrimmed.append(
                        (batch.header.last_position, batch.header.size)
                    )
                    self._backlog_bytes += batch.header.size
                for payload in batch.payloads:
                    if position > after:
                        assert position == expected
                        yield position, payload
                        expected += 1
                    position += 1
        if needed and tail is not None:
            last_segment = self._segments[-1]
            if last_segment.end != tail.end or expected != self._next_position:
                reason = "it changed while it was read"
                raise JournalDamaged(last_segment.path, last_segment.end, reason)
            last_segment.fd = os.open(last_segment.path, os.O_RDWR | os.O_CLOEXEC)
        self._ready = True

    # Running

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        assert self._ready, "replay to the end first"
        assert not self._running
        log, files = self._make_disk("tchatd-journal"), self._make_disk("tchatd-files")
        folder_fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._spares = Spares(
            self._folder, folder_fd, segment_bytes=self._segment_bytes, disk=files
        )
        failed: JournalFailed | None = None
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._spares.run)
                self._running = True
                task_status.started()
                await self._commit_all(log, folder_fd)
                await self._mark(log)
                nursery.cancel_scope.cancel()
        except* JournalFailed as group:
            failed = _first(group)
        finally:
            self._running, self._room_bytes = False, 0
            log.close()
            files.close()
            self._release(folder_fd)
        if failed is not None:
            raise failed

    def close(self) -> None:
        self._closing = True
        self._seal()
        self._wake.set()

    def _release(self, folder_fd: int) -> None:
        assert self._spares is not None
        self._spares.close()
        for segment in self._segments:
            if segment.fd >= 0:
                os.close(segment.fd)
                segment.fd = -1
        os.close(folder_fd)
        self._lock.release()

    async def _commit_all(self, log: Disk, folder_fd: int) -> None:
        """One batch in flight, always; the next gathers meanwhile.

        The next one is on its way to the disk before anybody is told of the last, so
        that the disk works while the loop delivers.
        """
        told = self._durable_position
        while True:
            await trio.lowlevel.checkpoint_if_cancelled()
            batch = self._pending.popleft() if self._pending else None
            if batch is not None:
                self._submit(log, batch, folder_fd)
            if told < self._durable_position:
                told = self._durable_position
                self.on_durable(told)
            if batch is not None:
                await self._finish(log, batch, folder_fd)
            elif self._pending:
                continue
            elif self._closing:
                return
            else:
                self._wake = trio.Event()
                await self._wake.wait()

    def _submit(self, log: Disk, batch: _Batch, folder_fd: int) -> None:
        if batch is self._open:
            self._seal()
        segment = batch.segment
        if segment.published:
            parts = encode_batch(
                segment.header.salt, batch.first_position, batch.payloads
            )
            log.commit(segment.fd, parts, batch.offset)
        else:
            block = encode_header(segment.header)
            log.publish(segment.fd, block, segment.spare_path, segment.path, folder_fd)

    async def _finish(self, log: Disk, batch: _Batch, folder_fd: int) -> None:
        """Until the batch is durable, however long the disk stays full."""
        retry_s = RETRY_S_MIN
        segment = batch.segment
        while True:
            try:
                elapsed_s = await log.done()
            except NoSpace:
                # Preallocated and yet no space: the file system copies on write, or
                # is thinly provisioned. The batch is kept, nothing more is taken.
                self._stalled = True
                self._seal()
                await trio.sleep(retry_s)
                retry_s = min(2 * retry_s, RETRY_S_MAX)
            else:
                self._stalled = False
                if segment.published:
                    break
                segment.published = True
                self._leave_segments_before(segment)
            self._submit(log, batch, folder_fd)
        self._durable_position = batch.last_position
        self._marked = False
        self._sync_count += 1
        self._last_sync_at_ms = self._clock.now_ms()
        self._last_sync_s = elapsed_s
        self._sync_s.observe(elapsed_s)
        self._batch_records.observe(len(batch.payloads))

    def _leave_segments_before(self, segment: Segment) -> None:
        for earlier in self._segments:
            if earlier is segment:
                break
            if earlier.fd >= 0:
                os.close(earlier.fd)
                earlier.fd = -1

    async def _mark(self, log: Disk) -> None:
        """Say on disk that everything was synced; once, however often it restarts."""
        if self._marked or not self._segments:
            return
        segment = self._segments[-1]
        assert segment.published
        assert not self._pending
        if segment.end + BLOCK_BYTES > segment.header.size:
            return
        parts = encode_mark(segment.header.salt, self._next_position)
        log.commit(segment.fd, parts, segment.end)
        try:
            await log.done()
        except NoSpace:
            return  # the next start reads the end as it does after a crash
        self._marked = True

    def statistics(self) -> JournalStatistics:
        files = len(self._segments)
        spares = self._spares
        if spares is not None:
            files += spares.file_count
        first = self._next_position
        if self._segments:
            first = self._segments[0].header.first_position
        return JournalStatistics(
            first_position=first,
            durable_position=self._durable_position,
            next_position=self._next_position,
            trimmed_position=self._trimmed_position,
            segment_count=len(self._segments),
            spare_count=0 if spares is None else spares.ready_count,
            disk_bytes=files * self._segment_bytes,
            backlog_bytes=self._backlog_bytes,
            backlog_bytes_max=self._backlog_bytes_max,
            append_count=self._next_position - self._appended_from,
            refused_count=self._refused_count,
            sync_count=self._sync_count,
            last_sync_at_ms=self._last_sync_at_ms,
            last_sync_s=self._last_sync_s,
            no_space=self._stalled or (spares is not None and spares.no_space),
            torn_records=self._torn_records,
            ended_cleanly=self._ended_cleanly,
            batch_records=self._batch_records.cumulative(),
            sync_s=self._sync_s.cumulative(),
        )


def _first(group: BaseExceptionGroup[JournalFailed]) -> JournalFailed:
    """A failure out of however many groups the nurseries put around it."""
    inner: BaseException = group
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    assert isinstance(inner, JournalFailed)
    return inner
