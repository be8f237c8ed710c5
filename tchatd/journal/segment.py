"""Owns a segment: one file of the log, its header, name and life.

Theory of operation.

The log is a row of files of one size, each preallocated before it is needed, so that
a full disk is met before a record is accepted and never by a write. A file is

    block 0        the header
    block 1, ...   batches (`tchatd.journal.record`), one directly after the other
    the rest       zeros, or bytes of the file's former life

and its name is the first position in it. The header, little-endian:

    0   8    magic "TCHATDJ\\n"
    8   u32  format version
    12  u32  block size
    16  u64  salt: random, new whenever the file becomes a segment
    24  u64  first position
    32  u64  file size
    40  u64  made at, milliseconds since 1970
    48  u32  CRC-32C of bytes 0 to 47

Life of a file. `spare-N`: preallocated and synced, no part of the log. Then, when the
log needs it: header written and synced, renamed to its position, folder synced, and
only then is the first batch written into it. So a name that is seen has a good
header, and if a segment exists the one before it is complete. When everything in it
is in the store the file becomes a spare again, or is removed: renamed and the folder
synced before its header is touched.

One batch is in flight at a time: the next is written only after the sync of the one
before. This is what tells a torn tail from damage. After a loss of power any subset
of the blocks of the batch in flight may be missing, and no other block is affected:

- A bad batch with no header of this segment anywhere after it is the batch in flight.
  Nobody was told of its records. It is cut: its blocks are zeroed and synced.
- A bad batch with a later header (they are at block borders, and the salt cannot be
  guessed from outside) was synced, as the later one shows; so was every batch of a
  segment that has a successor. It was damaged since, and the journal refuses to open.
- A batch in flight that arrived whole is kept: being durable but unconfirmed is no
  harm. It is written and synced once more before it is replayed, because after a sync
  that failed the kernel shows bytes that the disk may never have got.

What cannot be told from a torn batch: damage to the very last batch, while nothing
has been written after it. A graceful stop writes a mark behind it for this reason,
and the position in the store is a second witness (`replay(after)` refuses a log that
ends before it).
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

from tchatd.journal.errors import JournalDamaged, JournalTooNew
from tchatd.journal.record import BLOCK_BYTES
from tchatd_ext.crc32c import crc32c

FORMAT_VERSION = 1
SUFFIX = ".journal"
SPARE_PREFIX = "spare-"
SEGMENT_BYTES_MIN = 4 * BLOCK_BYTES  # header, a batch, a mark, and one more

_MAGIC = b"TCHATDJ\n"
_START = struct.Struct("<8sI")
_HEADER = struct.Struct("<8sIIQQQQ")
_CHECKSUM = struct.Struct("<I")


class SegmentHeader(NamedTuple):
    salt: int
    first_position: int
    size: int
    made_at_ms: int


def segment_name(first_position: int) -> str:
    return f"{first_position:020d}{SUFFIX}"


def encode_header(header: SegmentHeader) -> bytes:
    """One whole block."""
    fields = _HEADER.pack(_MAGIC, FORMAT_VERSION, BLOCK_BYTES, *header)
    return (fields + _CHECKSUM.pack(crc32c(fields))).ljust(BLOCK_BYTES, b"\0")


def decode_header(block: bytes, path: Path) -> SegmentHeader:
    """path: for the message, and its name has to be the position in the header.

    Raises:
        JournalTooNew: written by a later version.
        JournalDamaged: anything else that `encode_header` would not have made.
    """
    if len(block) < _HEADER.size + _CHECKSUM.size:
        raise JournalDamaged(path, 0, "it is shorter than a header")
    magic, version = _START.unpack_from(block)
    if magic != _MAGIC:
        raise JournalDamaged(path, 0, "it does not begin like a segment")
    # Before the checksum: a later version may keep it at another place.
    if version > FORMAT_VERSION:
        raise JournalTooNew(
            f"{path} has format version {version}, this tchatd knows versions up to "
            f"{FORMAT_VERSION}: start the tchatd that wrote it, or a later one"
        )
    (checksum,) = _CHECKSUM.unpack_from(block, _HEADER.size)
    if checksum != crc32c(block[: _HEADER.size]):
        raise JournalDamaged(path, 0, "the header's checksum is wrong")
    _, _, block_bytes, *fields = _HEADER.unpack_from(block)
    header = SegmentHeader(*fields)
    if version != FORMAT_VERSION or block_bytes != BLOCK_BYTES:
        raise JournalDamaged(path, 0, f"version {version}, block size {block_bytes}")
    if path.name != segment_name(header.first_position):
        raise JournalDamaged(path, 0, f"it begins at position {header.first_position}")
    return header


class Segment:
    """A segment of an open journal.

    fd: open while batches are written into it, else -1.
    end: where the next batch begins.
    spare_path: where the file still is while it is not `published`.
    """

    __slots__ = ("end", "fd", "header", "path", "published", "spare_path")

    def __init__(self, path: Path, header: SegmentHeader, *, fd: int = -1) -> None:
        self.path = path
        self.header = header
        self.fd = fd
        self.end = BLOCK_BYTES
        self.published = True
        self.spare_path = path

    @property
    def free_bytes(self) -> int:
        """For batches; the last block stays for the mark. May be below zero."""
        return self.header.size - BLOCK_BYTES - self.end
