"""Owns reading the log back: what is whole, what is torn, what is damaged.

`tchatd.journal.segment` has the theory of operation. Reading is bounded: one window
and one batch are in memory at a time. Used before anything is appended, in the Trio
thread: nothing else can be done meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tchatd.journal.errors import JournalDamaged
from tchatd.journal.folder import sync_folder
from tchatd.journal.record import (
    BLOCK_BYTES,
    HEADER_BYTES,
    SALT_BYTES,
    BatchHeader,
    decode_body,
    is_whole,
)
from tchatd.journal.record import decode_header as decode_batch_header
from tchatd.journal.segment import SUFFIX, SegmentHeader, decode_header

WINDOW_BYTES = 1 << 20  # read at a time; a multiple of BLOCK_BYTES

assert WINDOW_BYTES % BLOCK_BYTES == 0


class SegmentFile(NamedTuple):
    path: Path
    header: SegmentHeader


class Batch(NamedTuple):
    """payloads: empty for a mark, and for a batch the reader does not want."""

    offset: int
    header: BatchHeader
    payloads: list[bytes]


class Tail(NamedTuple):
    """How the last segment ends.

    end: where the next batch goes.
    last_offset: of the last whole batch; equal to end if there is none.
    last_position: of the last record.
    marked: the last thing in it is a mark: a graceful stop.
    dirty_end: beyond it there are only zeros.
    torn: the header of the batch that was in flight, if that much of it arrived.
    """

    end: int
    last_offset: int
    last_position: int
    marked: bool
    dirty_end: int
    torn: BatchHeader | None


class _Window:
    """Reads a file from front to back; keeps the last WINDOW_BYTES it read."""

    def __init__(self, fd: int, path: Path) -> None:
        self._fd = fd
        self._path = path
        self._offset = 0
        self._data = b""

    def read(self, offset: int, size: int) -> bytes:
        """Fewer bytes at the end of the file."""
        start = offset - self._offset
        if start < 0 or start + size > len(self._data):
            self._data = self._pread(offset, max(size, WINDOW_BYTES))
            self._offset, start = offset, 0
        return self._data[start : start + size]

    def _pread(self, offset: int, size: int) -> bytes:
        try:
            return os.pread(self._fd, size, offset)
        except OSError as error:
            reason = f"it cannot be read ({error.strerror})"
            raise JournalDamaged(self._path, offset, reason) from error


def find_segments(folder: Path) -> list[SegmentFile]:
    """Every segment in order of position; their headers and sizes are right."""
    found = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            with path.open("rb") as file:
                header = decode_header(file.read(BLOCK_BYTES), path)
        except OSError as error:
            reason = f"it cannot be read ({error.strerror})"
            raise JournalDamaged(path, 0, reason) from error
        size = path.stat().st_size
        if size != header.size:
            reason = f"it has {size} bytes, not {header.size}"
            raise JournalDamaged(path, min(size, header.size), reason)
        found.append(SegmentFile(path, header))
    return found


def needed_segments(
    folder: Path, segments: list[SegmentFile], after: int
) -> list[SegmentFile]:
    """Those from after + 1 on. What lies below may have gaps: it is in the store."""
    first_needed = 0
    for index, segment in enumerate(segments):
        if segment.header.first_position <= after + 1:
            first_needed = index
    needed = segments[first_needed:]
    if needed and needed[0].header.first_position > after + 1:
        lost = f"{after + 1} to {needed[0].header.first_position - 1}"
        raise JournalDamaged(folder, 0, f"positions {lost} are missing")
    return needed


def read_batches(file: SegmentFile, *, after: int = 0) -> Iterator[Batch]:
    """The whole batches from the front; ends silently where there is none.

    after: batches up to it are checked but come without their payloads.
    """
    fd = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        window = _Window(fd, file.path)
        position, offset = file.header.first_position, BLOCK_BYTES
        while offset < file.header.size:
            block = window.read(offset, BLOCK_BYTES)
            header = decode_batch_header(block, file.header.salt)
            if header is None or header.first_position != position:
                return
            if offset + header.size > file.header.size:
                return
            body = window.read(offset + HEADER_BYTES, header.body_size)
            payloads: list[bytes] | None = []
            if header.last_position > after:
                payloads = decode_body(header, body)
            elif not is_whole(header, body):
                payloads = None
            if payloads is None:
                return
            yield Batch(offset, header, payloads)
            position = header.last_position + 1
            offset += header.size
    finally:
        os.close(fd)


def read_sealed(file: SegmentFile, last_position: int, after: int) -> Iterator[Batch]:
    """The batches of a segment that has a successor: all of them have to be there."""
    position, end = file.header.first_position - 1, BLOCK_BYTES
    for batch in read_batches(file, after=after):
        position, end = batch.header.last_position, batch.offset + batch.header.size
        yield batch
        if position >= last_position:
            break
    if position != last_position:
        reason = f"position {position + 1} is not whole, the next file begins after it"
        if position > last_position:
            reason = f"position {last_position + 1} is here and in the next file"
        raise JournalDamaged(file.path, end, reason)


def examine_tail(file: SegmentFile) -> Tail:
    """Read the last segment through, and tell a torn batch from damage.

    Raises:
        JournalDamaged: something was written after what is not whole.
    """
    position, end, last_offset = file.header.first_position - 1, BLOCK_BYTES, None
    marked = False
    for batch in read_batches(file, after=(1 << 64) - 1):
        position, last_offset = batch.header.last_position, batch.offset
        end = last_offset + batch.header.size
        marked = batch.header.record_count == 0
    torn, dirty_end = _examine_rest(file, end, position + 1)
    return Tail(
        end=end,
        last_offset=end if last_offset is None else last_offset,
        last_position=position,
        marked=marked and torn is None,
        dirty_end=dirty_end,
        torn=torn,
    )


def _examine_rest(
    file: SegmentFile, end: int, next_position: int
) -> tuple[BatchHeader | None, int]:
    """The header at end, if it is one, and the end of what is not zero."""
    fd = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
    salt = file.header.salt
    torn, dirty_end = None, end
    zeros = bytes(WINDOW_BYTES)
    try:
        window = _Window(fd, file.path)
        for offset in range(end, file.header.size, WINDOW_BYTES):
            data = window.read(offset, min(WINDOW_BYTES, file.header.size - offset))
            if data == zeros[: len(data)]:
                continue
            dirty_end = offset + len(data.rstrip(b"\0"))
            for at, header in _headers_in(data, salt):
                if offset + at == end and header.first_position == next_position:
                    torn = header
                    continue
                reason = (
                    f"position {next_position} is not whole, but position "
                    f"{header.first_position} follows at byte {offset + at}"
                )
                raise JournalDamaged(file.path, end, reason)
    finally:
        os.close(fd)
    return torn, -(-dirty_end // BLOCK_BYTES) * BLOCK_BYTES


def _headers_in(data: bytes, salt: int) -> Iterator[tuple[int, BatchHeader]]:
    """Batch headers of this segment at block borders; data begins at one."""
    needle = salt.to_bytes(SALT_BYTES, "little")
    at = data.find(needle)
    while at >= 0:
        if at % BLOCK_BYTES == 0:
            header = decode_batch_header(data[at : at + HEADER_BYTES], salt)
            if header is not None:
                yield at, header
        at = data.find(needle, at + 1)


def mend_tail(file: SegmentFile, tail: Tail) -> None:
    """Cut what is torn and make sure that what stays is on the disk.

    The last batch is written again: after a sync that failed the kernel shows its
    bytes, calls them clean, and a sync alone would not write them.

    Raises:
        OSError: nothing may be replayed.
    """
    fd = os.open(file.path, os.O_RDWR | os.O_CLOEXEC)
    try:
        _rewrite(fd, tail.last_offset, tail.end)
        for offset in range(tail.end, tail.dirty_end, WINDOW_BYTES):
            size = min(WINDOW_BYTES, tail.dirty_end - offset)
            _write(fd, bytes(size), offset)
        os.fdatasync(fd)
    finally:
        os.close(fd)
    sync_folder(file.path.parent)


def _rewrite(fd: int, start: int, end: int) -> None:
    for offset in range(start, end, WINDOW_BYTES):
        _write(fd, os.pread(fd, min(WINDOW_BYTES, end - offset), offset), offset)


def _write(fd: int, data: bytes, offset: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(fd, data[done:], offset + done)
