"""Owns the journal on a local disk: which record goes where, and whether it may.

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

import trio

from tchatd.journal.commit import Batch, Committer
from tchatd.journal.disk import Disk, DiskLane
from tchatd.journal.errors import (
    JournalDamaged,
    JournalFailed,
    JournalFull,
    JournalUnusable,
    RecordTooLarge,
)
from tchatd.journal.folder import FolderLock, make_folder
from tchatd.journal.port import Journal, JournalStatistics
from tchatd.journal.record import (
    BLOCK_BYTES,
    HEADER_BYTES,
    LENGTH_BYTES,
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
    segment_name,
)
from tchatd.journal.spares import Spares
from tchatd.kernel.clock import Clock, SystemClock
from tchatd.observe.logging import get_logger
from tchatd.observe.metrics import Metrics

__all__ = ["Journal", "JournalStatistics", "LocalJournal"]

_log = get_logger("journal")

FEW_RECORDS = 8  # a batch of no more is waited for, if the disk is quick
RETRY_AFTER_S = 5  # told to a caller that is refused; how long a flush may take


class LocalJournal:
    """`Journal` in a folder of this machine; one process at a time.

    segment_bytes: of a file. At most SPARES_MAX files lie ready beside the log.
    batch_bytes_max: written and synced at once. Memory: two batches beside the
        records that are waiting.
    backlog_bytes_max: appended and not trimmed; beyond it `append` refuses. Together
        with three segments the bound of the disk that is used.
    record_bytes_max: a longer record is refused.
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
        self._record_size_max = record_bytes_max + LENGTH_BYTES
        self._clock = clock or SystemClock()
        self._random_bytes = random_bytes
        self._make_disk = make_disk
        self._lock = FolderLock(folder)
        self._ready = self._running = self._closing = False

        self._next_position = first_position
        self._durable_position = first_position - 1
        self._trimmed_position = self._told_position = 0
        self._segments: deque[Segment] = deque()
        # (last position, bytes on disk) of every batch that is not trimmed.
        self._untrimmed: deque[tuple[int, int]] = deque()
        self._backlog_bytes = 0

        # Records go to _payloads, the open batch's, while _room_bytes lasts. Without
        # an open batch there is no room, so that the next append opens one.
        self._room_bytes = 0
        self._payloads: list[bytes] = []
        self._open: Batch | None = None
        self._pending: deque[Batch] = deque()
        self._flying: Batch | None = None
        self._gathering = False
        self._idle = trio.CancelScope()
        self._marked = False
        self._torn_records = 0
        self._ended_cleanly = True
        self._spares: Spares | None = None
        self._measure(metrics or Metrics(process=False))

    def _measure(self, metrics: Metrics) -> None:
        self._refused_count = 0
        self._appended_from = self._next_position
        self._committer = Committer(self._clock, metrics, on_stalled=self._seal)
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
        metrics.gauge(
            "journal_no_space",
            "1 while the disk is too full for the journal's next file",
            lambda: float(self._has_no_space),
        )

    @property
    def next_position(self) -> int:
        return self._next_position

    @property
    def durable_position(self) -> int:
        return self._durable_position

    @property
    def _has_no_space(self) -> bool:
        spares = self._spares
        return self._committer.stalled or (spares is not None and spares.no_space)

    # Appending

    def append(self, payload: bytes) -> int:
        size = len(payload) + LENGTH_BYTES
        if size > self._record_size_max:
            raise RecordTooLarge
        if size > self._room_bytes:
            self._open_batch(size)
        self._room_bytes -= size
        self._payloads.append(payload)
        position = self._next_position
        self._next_position = position + 1
        return position

    def _open_batch(self, size: int) -> None:
        """Seal the open batch and begin one with room for size bytes at least."""
        assert self._ready, "replay and run before the first append"
        assert size > LENGTH_BYTES
        self._seal()
        self._take_room(size)
        if not self._gathering:
            self._idle.cancel()

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
        if self._closing or not self._running:
            self._refuse("The journal is closing")
        if self._committer.stalled:
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
        self._open = Batch(tail, self._next_position, self._room_bytes)
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
        try:
            make_folder(self._folder)
            self._lock.acquire()
            return self._begin_replay(after)
        except OSError as error:
            self._lock.release()
            raise JournalUnusable(
                f"{self._folder} cannot be opened: {error}"
            ) from error
        except JournalUnusable:
            self._lock.release()
            raise

    def _begin_replay(self, after: int) -> Iterator[tuple[int, bytes]]:
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
            _log.warning(
                "the journal's tail was torn and is cut; nobody was told of it",
                first_position=tail.torn.first_position,
                records=tail.torn.record_count,
            )

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
        self._running = True
        log, files = self._make_disk("tchatd-journal"), self._make_disk("tchatd-files")
        folder_fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._spares = Spares(
            self._folder, folder_fd, segment_bytes=self._segment_bytes, disk=files
        )
        self._committer.use(log, folder_fd)
        failed: JournalFailed | None = None
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._spares.run)
                task_status.started()
                await self._commit_all()
                await self._mark()
                nursery.cancel_scope.cancel()
        except* JournalFailed as group:
            failed = _first(group)
        finally:
            self._running, self._room_bytes = False, 0
            log.close()
            files.close()
            self._spares.close()
            os.close(folder_fd)
            self._let_go()
        if failed is not None:
            raise failed

    def close(self) -> None:
        """See `Journal.close`. Without `run` it only lets go of the folder."""
        self._closing = True
        if not self._running:
            self._let_go()
            return
        self._seal()
        self._idle.cancel()

    def _let_go(self) -> None:
        for segment in self._segments:
            if segment.fd >= 0:
                os.close(segment.fd)
                segment.fd = -1
        self._lock.release()

    def begin_gathering(self) -> None:
        """More appends follow at once, and then `end_gathering`: without a wait."""
        self._gathering = True

    def end_gathering(self) -> None:
        """What was gathered goes to the disk, if it has nothing in hand.

        So a lone message is on its way before any other task runs, and the task below
        wakes up when it is durable, not before; or not at all, if the disk is quick.
        """
        self._gathering = False
        if not self._pending or not self._running or self._flying is not None:
            return
        self._start()
        batch = self._flying
        if (
            batch is not None
            and len(batch.payloads) <= FEW_RECORDS
            and self._committer.finish_soon(batch)
        ):
            self._finished(batch)
            self._tell()

    def _start(self) -> None:
        batch = self._take()
        if batch is not None:
            self._committer.submit(batch)
            self._flying = batch

    async def _commit_all(self) -> None:
        """One batch in flight, always; the next gathers meanwhile.

        The next one is on its way to the disk before anybody is told of the last, so
        that the disk works while the loop delivers.
        """
        self._told_position = self._durable_position
        while True:
            await trio.lowlevel.checkpoint_if_cancelled()
            if self._flying is None:
                self._start()
            self._tell()
            batch = self._flying
            if batch is not None:
                await self._committer.finish(batch)
                self._finished(batch)
            elif self._pending:
                continue
            elif self._closing:
                return
            else:
                with trio.CancelScope() as self._idle:
                    await self._committer.idle()

    def _finished(self, batch: Batch) -> None:
        self._flying = None
        self._durable_position = batch.last_position
        self._marked = False
        self._leave_segments_before(batch.segment)

    def _tell(self) -> None:
        if self._told_position < self._durable_position:
            self._told_position = self._durable_position
            self.on_durable(self._told_position)

    def _take(self) -> Batch | None:
        if not self._pending:
            return None
        batch = self._pending.popleft()
        if batch is self._open:
            self._seal()
        return batch

    def _leave_segments_before(self, segment: Segment) -> None:
        """Nothing is written into them any more. The few last ones can be open."""
        for earlier in reversed(self._segments):
            if earlier.header.first_position >= segment.header.first_position:
                continue
            if earlier.fd < 0:
                return
            os.close(earlier.fd)
            earlier.fd = -1

    async def _mark(self) -> None:
        """Once, however often it is started and stopped with nothing to do."""
        assert not self._pending
        if self._segments and not self._marked:
            await self._committer.mark(self._segments[-1], self._next_position)
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
            sync_count=self._committer.sync_count,
            last_sync_at_ms=self._committer.last_sync_at_ms,
            last_sync_s=self._committer.last_sync_s,
            no_space=self._has_no_space,
            torn_records=self._torn_records,
            ended_cleanly=self._ended_cleanly,
            batch_records=self._committer.batch_records.cumulative(),
            sync_s=self._committer.sync_s.cumulative(),
        )


def _first(group: BaseExceptionGroup[JournalFailed]) -> JournalFailed:
    """A failure out of however many groups the nurseries put around it."""
    inner: BaseException = group
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    assert isinstance(inner, JournalFailed)
    return inner
