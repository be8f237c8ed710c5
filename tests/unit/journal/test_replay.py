"""Damage of every kind: never a crash, a wrong payload, or a silent loss."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tchatd.journal import replay
from tchatd.journal.errors import JournalDamaged, JournalUnusable
from tchatd.journal.journal import LocalJournal
from tchatd.journal.record import BLOCK_BYTES, encode_batch
from tchatd.journal.replay import (
    SegmentFile,
    examine_tail,
    find_segments,
    read_batches,
)
from tests.support.journals import SMALL, copy, fill, read_back

SECTOR_BYTES = 512
Records = list[tuple[int, bytes]]


def make_batches(seed: int, count: int) -> list[list[bytes]]:
    source = random.Random(seed)
    return [
        [source.randbytes(source.choice((1, 30, 300, 3000, 8000))) for _ in range(size)]
        for size in (source.choice((1, 1, 2, 5)) for _ in range(count))
    ]


def numbered(batches: list[list[bytes]]) -> Records:
    return list(enumerate((record for batch in batches for record in batch), 1))


def extents(file: SegmentFile) -> list[tuple[int, int, int]]:
    """(offset, end of the bytes that count, last position) of every batch."""
    return [
        (batch.offset, batch.offset + 32 + batch.header.body_size, batch.header[0])
        for batch in read_batches(file)
    ]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Records]:
    """Several segments, ended cleanly."""
    import trio

    folder = tmp_path_factory.mktemp("journal") / "clean"
    batches = make_batches(1, 60)
    trio.run(_fill, folder, batches)
    return folder, numbered(batches)


async def _fill(folder: Path, batches: list[list[bytes]]) -> None:
    await fill(folder, batches, clean=True)


def flip_bit(data: bytearray, source: random.Random) -> None:
    bit = source.randrange(len(data) * 8)
    data[bit // 8] ^= 1 << bit % 8


def zero_range(data: bytearray, source: random.Random) -> None:
    start = source.randrange(len(data))
    end = min(len(data), start + source.choice((1, 512, 4096, 20_000)))
    data[start:end] = bytes(end - start)


def put_garbage(data: bytearray, source: random.Random) -> None:
    start = source.randrange(len(data))
    end = min(len(data), start + source.choice((1, 512, 4096, 20_000)))
    data[start:end] = source.randbytes(end - start)


def truncate(data: bytearray, source: random.Random) -> None:
    del data[source.randrange(len(data)) :]


def copy_blocks(data: bytearray, source: random.Random) -> None:
    blocks = len(data) // BLOCK_BYTES
    start, target = (source.randrange(blocks) * BLOCK_BYTES for _ in range(2))
    data[target : target + BLOCK_BYTES] = data[start : start + BLOCK_BYTES]


HARM: list[Callable[[bytearray, random.Random], None]] = [
    flip_bit,
    zero_range,
    put_garbage,
    truncate,
    copy_blocks,
]


@pytest.mark.parametrize("harm", HARM, ids=lambda harm: harm.__name__)
@pytest.mark.parametrize("seed", range(40))
def test_harm_is_found_or_hurts_nothing(
    written: tuple[Path, Records],
    tmp_path: Path,
    harm: Callable[[bytearray, random.Random], None],
    seed: int,
) -> None:
    folder, records = written
    damaged = copy(folder, tmp_path / "damaged")
    source = random.Random(f"{harm.__name__} {seed}")
    files = find_segments(damaged)
    file = source.choice(files)
    untouched = file.path.read_bytes()
    data = bytearray(untouched)
    harm(data, source)
    file.path.write_bytes(data)
    refused = ""
    try:
        found = read_back(damaged)
    except JournalUnusable as refusal:
        refused = str(refusal)
    if refused:
        assert file.path.name in refused
        return
    # What does not refuse gives a prefix, and all of it unless the end itself is gone.
    assert found == records[: len(found)]
    if len(found) < len(records):
        assert file is files[-1]
        kept_end = next(
            offset
            for offset, _, first in extents(file_of(folder, file))
            if first == len(found) + 1
        )
        survivors = [
            offset
            for offset, end, _ in extents(file_of(folder, file))
            if offset > kept_end and data[offset:end] == untouched[offset:end]
        ]
        assert survivors == []


def file_of(folder: Path, file: SegmentFile) -> SegmentFile:
    return SegmentFile(folder / file.path.name, file.header)


def test_every_flipped_bit_in_front_of_the_last_batch_is_found(
    written: tuple[Path, Records], tmp_path: Path
) -> None:
    folder, _ = written
    source = random.Random(5)
    for file in find_segments(folder):
        for offset, end, _ in extents(file):
            damaged = copy(folder, tmp_path / "damaged")
            at = source.randrange(offset, end)
            with (damaged / file.path.name).open("r+b") as target:
                target.seek(at)
                byte = target.read(1)[0]
                target.seek(at)
                target.write(bytes([byte ^ 1 << source.randrange(8)]))
            last = file == find_segments(folder)[-1] and offset == extents(file)[-1][0]
            if last:  # the mark itself: nothing is behind it, and nothing in it
                assert len(read_back(damaged)) == len(written[1])
                continue
            with pytest.raises(JournalDamaged) as damage:
                read_back(damaged)
            assert damage.value.path.name == file.path.name
            assert damage.value.offset == offset


def test_swapped_missing_and_doubled_segments_are_found(
    written: tuple[Path, Records], tmp_path: Path
) -> None:
    folder, records = written
    names = [file.path.name for file in find_segments(folder)]
    for index, name in enumerate(names[1:], 1):
        damaged = copy(folder, tmp_path / "swapped")
        (damaged / name).rename(damaged / "kept")
        (damaged / names[index - 1]).rename(damaged / name)
        (damaged / "kept").rename(damaged / names[index - 1])
        with pytest.raises(JournalDamaged, match="begins at position"):
            read_back(damaged)
    for name in names[:-1]:
        damaged = copy(folder, tmp_path / "missing")
        (damaged / name).unlink()
        with pytest.raises(JournalDamaged, match=r"missing|not whole"):
            read_back(damaged)
    damaged = copy(folder, tmp_path / "doubled")
    (damaged / names[1]).write_bytes((damaged / names[2]).read_bytes())
    with pytest.raises(JournalDamaged):
        read_back(damaged)
    # The last one is only missed by the store, which has what was in it.
    damaged = copy(folder, tmp_path / "shortened")
    (damaged / names[-1]).unlink()
    with pytest.raises(JournalDamaged, match="the store has"):
        read_back(damaged, after=len(records))


def test_what_lies_below_the_store_may_be_gone(
    written: tuple[Path, Records], tmp_path: Path
) -> None:
    folder, records = written
    files = find_segments(folder)
    after = files[3].header.first_position + 1
    trimmed = copy(folder, tmp_path / "trimmed")
    files_there = find_segments(trimmed)
    files_there[1].path.unlink()
    data = bytearray(files_there[2].path.read_bytes())
    data[BLOCK_BYTES] ^= 1
    files_there[2].path.write_bytes(data)
    assert read_back(trimmed, after) == records[after:]
    # What was left of them is gone as well.
    assert find_segments(trimmed)[0].path.name == files[3].path.name


@pytest.mark.parametrize("seed", range(60))
async def test_a_torn_batch_is_cut_or_whole_and_nothing_else_changes(
    tmp_path: Path, seed: int
) -> None:
    """A loss of power: any sectors of the batch in flight arrive, in no order."""
    source = random.Random(seed)
    folder = tmp_path / "journal"
    batches = make_batches(seed, source.randrange(1, 12))
    await fill(folder, batches, clean=source.random() < 0.3)
    before = find_segments(folder)[-1].path.read_bytes()
    # One record is one batch for sure; of several blocks, where it matters.
    torn = [[source.randbytes(source.choice((1, 300, 4000, 8000)))]]
    await fill(folder, torn, clean=False)
    file = find_segments(folder)[-1]
    after = file.path.read_bytes()
    if file.header.first_position == len(numbered(batches)) + 1:
        before = after[:BLOCK_BYTES] + bytes(len(after) - BLOCK_BYTES)
    mixed = bytearray(before)
    if source.random() < 0.5:  # of a recycled file, with its former life behind the end
        last = max((end for _, end, _ in extents(file)[:-1]), default=BLOCK_BYTES)
        stale = b"".join(encode_batch(file.header.salt + 2, 1, [b"stale" * 999]))
        for start in range(
            -(-last // BLOCK_BYTES) * BLOCK_BYTES, len(mixed), len(stale)
        ):
            mixed[start : start + len(stale)] = stale[: len(mixed) - start]
    arrived = source.choice((0.05, 0.5, 0.95))
    for start in range(BLOCK_BYTES, len(after), SECTOR_BYTES):
        if source.random() < arrived:
            mixed[start : start + SECTOR_BYTES] = after[start : start + SECTOR_BYTES]
    file.path.write_bytes(mixed)

    everything = numbered(batches + torn)
    found = read_back(folder)
    assert found in (numbered(batches), everything)
    # And the log goes on there, over whatever the torn batch left behind.
    more = make_batches(seed + 2000, 3)
    await fill(folder, more, clean=False)
    records = [record for _, record in found + numbered(more)]
    assert read_back(folder) == list(enumerate(records, 1))


async def test_a_cut_tail_is_zeroed_and_told(tmp_path: Path) -> None:
    await fill(tmp_path, [[b"kept"], [b"x" * 3000, b"y" * 3000]], clean=False)
    (file,) = find_segments(tmp_path)
    data = bytearray(file.path.read_bytes())
    torn_offset = BLOCK_BYTES * 2
    data[torn_offset + BLOCK_BYTES] ^= 1
    file.path.write_bytes(data)
    journal = LocalJournal(tmp_path, **SMALL)
    assert list(journal.replay(0)) == [(1, b"kept")]
    statistics = journal.statistics()
    assert (statistics.torn_records, statistics.ended_cleanly) == (2, False)
    journal.close()
    assert not any(file.path.read_bytes()[torn_offset:])


async def test_bytes_of_a_former_life_are_never_records(tmp_path: Path) -> None:
    """A recycled file is full of whole batches: of another salt, or copied in."""
    await fill(tmp_path, [[b"kept"]], clean=False)
    (file,) = find_segments(tmp_path)
    for salt, position in ((file.header.salt + 1, 2), (file.header.salt ^ 1 << 40, 2)):
        stale = b"".join(encode_batch(salt, position, [b"stale"]))
        with file.path.open("r+b") as target:
            target.seek(2 * BLOCK_BYTES)
            target.write(stale * 8)
        assert read_back(tmp_path) == [(1, b"kept")]


async def test_a_payload_that_looks_like_a_batch_is_not_one(tmp_path: Path) -> None:
    evil = b"".join(encode_batch(12345, 2, [b"forged"]))
    payload = bytes(BLOCK_BYTES - 36) + evil[:4000]
    await fill(tmp_path, [[payload]], clean=False)
    assert read_back(tmp_path) == [(1, payload)]


async def test_a_later_batch_is_found_beyond_the_first_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "WINDOW_BYTES", BLOCK_BYTES)
    batches = [[b"%d" % number] for number in range(10)]
    await fill(tmp_path, batches, clean=True)
    assert read_back(tmp_path) == numbered(batches)
    (file,) = find_segments(tmp_path)
    with file.path.open("r+b") as target:
        target.seek(2 * BLOCK_BYTES)
        target.write(bytes(8 * BLOCK_BYTES))
    with pytest.raises(JournalDamaged, match="position 10 follows"):
        read_back(tmp_path)
    file = find_segments(tmp_path)[0]
    with file.path.open("r+b") as target:
        target.seek(10 * BLOCK_BYTES)
        target.write(bytes(2 * BLOCK_BYTES))
    assert examine_tail(file).last_position == 1


async def test_what_stays_is_written_again_before_it_is_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(tmp_path, [[b"first"], [b"last"]], clean=False)
    done: list[tuple[str, int]] = []
    real = replay._write

    def note_write(fd: int, data: bytes, offset: int) -> None:
        done.append(("write", offset))
        real(fd, data, offset)

    def note_sync(fd: int) -> None:
        done.append(("sync", 0))

    monkeypatch.setattr(replay, "_write", note_write)
    monkeypatch.setattr(os, "fdatasync", note_sync)
    journal = LocalJournal(tmp_path, **SMALL)
    journal.replay(0)
    journal.close()
    assert done == [("write", 2 * BLOCK_BYTES), ("sync", 0)]
