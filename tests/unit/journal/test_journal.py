from __future__ import annotations

import contextlib
import errno
from collections import deque
from pathlib import Path

import pytest
import trio
import trio.testing

from tchatd.journal.disk import NO_SPACE_ERRORS, NoSpace
from tchatd.journal.errors import (
    JournalDamaged,
    JournalFailed,
    JournalFull,
    JournalLocked,
    RecordTooLarge,
)
from tchatd.journal.journal import Journal, LocalJournal
from tchatd.journal.record import BLOCK_BYTES
from tchatd.journal.segment import SPARE_PREFIX
from tchatd.kernel.clock import ManualClock
from tests.support.journals import SMALL, Disks, Durable, Sizes, fill, read_back

RECORD = b"r" * 300


class Running:
    """A journal in a nursery, with its disks and what it told."""

    def __init__(self, folder: Path, sizes: Sizes = SMALL) -> None:
        self.disks, self.durable = Disks(), Durable()
        self.journal = LocalJournal(
            folder,
            on_durable=self.durable,
            make_disk=self.disks,
            clock=ManualClock(77_000),
            **sizes,
        )

    async def start(self, nursery: trio.Nursery, after: int = 0) -> LocalJournal:
        for _ in self.journal.replay(after):
            pass
        await nursery.start(self.journal.run)
        return self.journal


def append_until_full(journal: LocalJournal) -> int:
    position = 0
    with contextlib.suppress(JournalFull):
        while True:
            position = journal.append(RECORD)
    return position


async def test_it_is_a_journal_whose_positions_are_dense_from_1(tmp_path: Path) -> None:
    running = Running(tmp_path)
    async with trio.open_nursery() as nursery:
        journal: Journal = await running.start(nursery)
        assert (journal.next_position, journal.durable_position) == (1, 0)
        assert [journal.append(b"a"), journal.append(b"b")] == [1, 2]
        assert (journal.next_position, journal.durable_position) == (3, 0)
        await running.durable.reached(2)
        assert journal.durable_position == 2
        journal.close()
    assert read_back(tmp_path) == [(1, b"a"), (2, b"b")]


@pytest.mark.parametrize("count", [1, 2, 30])
async def test_appends_during_one_sync_lead_to_exactly_one_further_sync(
    tmp_path: Path, count: int
) -> None:
    running = Running(tmp_path)
    async with trio.open_nursery() as nursery:
        journal = await running.start(nursery)
        journal.append(b"first of the segment")
        await running.durable.reached(1)
        log = running.disks.log
        log.gate, before = trio.Event(), log.counts["commit"]
        journal.append(b"in flight")
        while log.counts["commit"] == before:
            await trio.lowlevel.checkpoint()
        for _ in range(count):
            journal.append(RECORD)
        log.gate.set()
        await running.durable.reached(2 + count)
        assert log.counts["commit"] == before + 2
        assert running.durable.told == [1, 2, 2 + count]
        journal.close()


async def test_a_lone_record_waits_for_one_sync_and_no_timer(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    running = Running(tmp_path)
    async with trio.open_nursery() as nursery:
        journal = await running.start(nursery)
        began = trio.current_time()
        journal.append(b"lone")
        await running.durable.reached(1)
        assert trio.current_time() == began
        journal.close()


async def gathered(running: Running, *payloads: bytes) -> list[int]:
    """What was told before anybody else ran."""
    before = len(running.durable.told)
    running.journal.begin_gathering()
    for payload in payloads:
        running.journal.append(payload)
    running.journal.end_gathering()
    return running.durable.told[before:]


async def test_a_few_records_on_a_quick_disk_are_durable_at_once(
    tmp_path: Path,
) -> None:
    running = Running(tmp_path)
    async with trio.open_nursery() as nursery:
        journal = await running.start(nursery)
        running.disks.log.is_quick = True
        assert await gathered(running, b"1") == []  # how quick it is is not known yet
        await running.durable.reached(1)
        assert await gathered(running, b"2") == [2]
        assert journal.durable_position == 2
        assert await gathered(running, b"3", b"4") == [4]
        assert await gathered(running) == []
        assert await gathered(running, *[b"x"] * 9) == []  # others may be waiting
        await running.durable.reached(13)
        assert await gathered(running, b"y") == [14]
        await trio.testing.wait_all_tasks_blocked()
        journal.append(b"z")
        await running.durable.reached(15)
        assert running.durable.told == [1, 2, 4, 13, 14, 15]
        assert journal.statistics().sync_count == 6
        journal.close()
    records = [b"1", b"2", b"3", b"4", *[b"x"] * 9, b"y", b"z"]
    assert read_back(tmp_path) == list(enumerate(records, 1))


async def test_nobody_waits_for_a_disk_that_is_not_quick(tmp_path: Path) -> None:
    running = Running(tmp_path)
    async with trio.open_nursery() as nursery:
        journal = await running.start(nursery)
        journal.append(b"1")
        await running.durable.reached(1)
        assert await gathered(running, b"2") == []
        assert running.disks.log.counts["done_within"] == 0
        await running.durable.reached(2)
        running.disks.log.is_quick = True
        assert await gathered(running, b"3") == []
        await running.durable.reached(3)
        running.disks.log.is_quick = False
        assert await gathered(running, b"4") == []  # asked for once, and not again
        await running.durable.reached(4)
        assert await gathered(running, b"5") == []
        await running.durable.reached(5)
        assert running.disks.log.counts["done_within"] == 1
        journal.close()
    assert len(read_back(tmp_path)) == 5


async def test_a_quick_disk_that_fails_is_as_any_that_fails(tmp_path: Path) -> None:
    running = Running(tmp_path)
    told: list[int] = []
    with pytest.RaisesGroup(JournalFailed):
        async with trio.open_nursery() as nursery:
            journal = await running.start(nursery)
            running.disks.log.is_quick = True
            journal.append(b"1")
            await running.durable.reached(1)
            running.disks.log.outcomes["commit"] = deque([JournalFailed("gone")])
            told += await gathered(running, b"2")
            await trio.sleep(5)
    assert told == []
    assert running.durable.told == [1]


async def test_nobody_is_told_before_the_sync_is_done(tmp_path: Path) -> None:
    running = Running(tmp_path)
    async with trio.open_nursery() as nursery:
        journal = await running.start(nursery)
        running.disks.log.gate = trio.Event()
        journal.append(b"x")
        while not running.disks.log.counts["publish"]:
            await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()
        assert running.durable.told == []
        running.disks.log.gate.set()
        await running.durable.reached(1)
        journal.close()


async def test_records_cross_segments_and_come_back_in_order(tmp_path: Path) -> None:
    batches = [[bytes([n]) * (n * 37 % 5000 + 1) for _ in range(3)] for n in range(60)]
    journal = await fill(tmp_path, batches, clean=True)
    expected = [record for batch in batches for record in batch]
    assert read_back(tmp_path) == list(enumerate(expected, 1))
    assert read_back(tmp_path, after=100) == list(enumerate(expected, 1))[100:]
    assert journal.statistics().segment_count > 5


async def test_appending_goes_on_after_a_restart_clean_or_not(tmp_path: Path) -> None:
    expected: list[bytes] = []
    for round_number in range(8):
        record = b"round %d" % round_number
        await fill(tmp_path, [[record, record]], clean=round_number % 2 == 0)
        expected += [record, record]
    assert read_back(tmp_path) == list(enumerate(expected, 1))


async def test_restarts_with_nothing_to_do_do_not_grow_the_log(tmp_path: Path) -> None:
    await fill(tmp_path, [[b"x"]], clean=True)
    (segment,) = tmp_path.glob("*.journal")
    before = segment.read_bytes()
    for _ in range(20):
        await fill(tmp_path, [], clean=True)
    assert segment.read_bytes() == before


async def test_a_full_backlog_refuses_before_taking_and_trimming_frees_it(
    tmp_path: Path,
) -> None:
    running = Running(tmp_path, {**SMALL, "backlog_bytes_max": 4 * BLOCK_BYTES})
    async with trio.open_nursery() as nursery:
        journal = await running.start(nursery)
        position = append_until_full(journal)
        with pytest.raises(JournalFull) as refusal:
            journal.append(RECORD)
        assert refusal.value.retry_after_s
        assert journal.next_position == position + 1
        await running.durable.reached(position)
        statistics = journal.statistics()
        assert statistics.backlog_bytes <= statistics.backlog_bytes_max
        assert statistics.refused_count == 2
        journal.trim(position)
        assert journal.append(RECORD) == position + 1
        journal.close()


async def test_trimmed_segments_become_spares_and_the_others_go(
    tmp_path: Path,
) -> None:
    running = Running(tmp_path)
    record = b"x" * 8000
    async with trio.open_nursery() as nursery:
        journal = await running.start(nursery)
        for _ in range(40):
            await running.durable.reached(journal.append(record))
        assert journal.statistics().segment_count > 4
        journal.trim(40)
        assert journal.statistics().segment_count == 1
        assert journal.statistics().backlog_bytes == 0
        while journal.statistics().disk_bytes > 3 * SMALL["segment_bytes"]:
            await trio.sleep(0.001)
        preallocated = running.disks.files.counts["preallocate"]
        for _ in range(200):  # many segments later still the same few files
            journal.trim(journal.durable_position)
            await running.durable.reached(journal.append(record))
        assert running.disks.files.counts["preallocate"] - preallocated <= 2
        assert len(list(tmp_path.glob("*"))) <= 1 + 5
        journal.close()
    assert read_back(tmp_path, after=239) == [(240, record)]


async def test_spares_are_kept_for_the_next_start_unless_the_size_changed(
    tmp_path: Path,
) -> None:
    await fill(tmp_path, [[b"x"]], clean=True)
    (spare,) = tmp_path.glob(f"{SPARE_PREFIX}*")
    inode = spare.stat().st_ino
    await fill(tmp_path, [], clean=True)
    assert [path.stat().st_ino for path in tmp_path.glob("spare-*")] == [inode]
    running = Running(tmp_path, {**SMALL, "segment_bytes": 32 * BLOCK_BYTES})
    async with trio.open_nursery() as nursery:
        await running.start(nursery)
        running.journal.close()
    sizes = [path.stat().st_size for path in tmp_path.glob("spare-*")]
    assert sizes == [32 * BLOCK_BYTES]


async def test_a_failed_sync_is_fatal_and_not_tried_again(tmp_path: Path) -> None:
    running = Running(tmp_path)
    running.disks.log.outcomes["commit"] = deque([JournalFailed("sync: I/O error")])
    list(running.journal.replay(0))

    async def run_and_fail(task_status: trio.TaskStatus[None]) -> None:
        with pytest.raises(JournalFailed, match="sync"):
            await running.journal.run(task_status=task_status)

    async with trio.open_nursery() as nursery:
        await nursery.start(run_and_fail)
        running.journal.append(b"x")
    assert running.disks.log.counts["commit"] == 1
    assert running.durable.told == []
    with pytest.raises(JournalFull):
        running.journal.append(b"late")


async def test_a_full_disk_under_a_batch_keeps_it_and_recovers(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    running = Running(tmp_path)
    async with trio.open_nursery() as nursery:
        journal = await running.start(nursery)
        full = NoSpace("no space")
        log = running.disks.log
        log.outcomes["publish"] = deque([full])
        log.outcomes["commit"] = deque([full] * 9)
        journal.append(b"kept")
        while log.counts["commit"] < 9:
            await trio.sleep(0.01)
        assert journal.statistics().no_space
        with pytest.raises(JournalFull):
            journal.append(b"refused")
        await running.durable.reached(1)
        assert journal.append(b"taken") == 2
        await running.durable.reached(2)
        journal.close()
    assert read_back(tmp_path) == [(1, b"kept"), (2, b"taken")]


async def test_without_a_spare_nothing_is_taken_until_there_is_space(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    running = Running(tmp_path)
    script: deque[Exception | None] = deque([NoSpace("no space")] * 6)
    running.disks.files.outcomes["preallocate"] = script
    async with trio.open_nursery() as nursery:
        journal = await running.start(nursery)
        assert journal.statistics().no_space
        while script:  # never at the moment when it tries again
            with pytest.raises(JournalFull):
                journal.append(b"x")
            assert not list(tmp_path.glob("spare-*"))
            await trio.sleep(0.47)
        while journal.statistics().no_space:
            await trio.sleep(0.5)
        assert journal.append(b"x") == 1
        journal.close()


async def test_a_second_process_is_refused_by_name(tmp_path: Path) -> None:
    first, second = LocalJournal(tmp_path, **SMALL), LocalJournal(tmp_path, **SMALL)
    list(first.replay(0))
    with pytest.raises(JournalLocked, match="in use by process"):
        second.replay(0)
    first.close()
    assert list(second.replay(0)) == []
    second.close()


async def test_a_store_ahead_of_the_log_is_not_overlooked(tmp_path: Path) -> None:
    with pytest.raises(JournalDamaged, match="ends at position 0, the store has 5"):
        read_back(tmp_path, after=5)
    moved = LocalJournal(tmp_path, first_position=6, **SMALL)
    assert list(moved.replay(5)) == []
    assert moved.next_position == 6
    moved.close()


async def test_a_record_that_is_too_long_is_refused(tmp_path: Path) -> None:
    """Also where an open batch has room for it."""
    running = Running(tmp_path)
    async with trio.open_nursery() as nursery:
        journal = await running.start(nursery)
        with pytest.raises(AssertionError):
            journal.append(b"")
        for position in (1, 2):
            with pytest.raises(RecordTooLarge):
                journal.append(b"x" * (SMALL["record_bytes_max"] + 1))
            assert journal.next_position == position
            assert journal.append(b"x" * SMALL["record_bytes_max"]) == position
        journal.close()


async def test_cancelling_lets_the_batch_in_flight_arrive(tmp_path: Path) -> None:
    running = Running(tmp_path)
    async with trio.open_nursery() as nursery:
        journal = await running.start(nursery)
        journal.append(b"first")
        await running.durable.reached(1)
        journal.append(b"in flight")
        before = running.disks.log.counts["commit"]
        running.disks.log.gate = trio.Event()
        while running.disks.log.counts["commit"] == before:
            await trio.lowlevel.checkpoint()
        journal.append(b"never told")
        running.disks.log.gate.set()
        nursery.cancel_scope.cancel()
    assert read_back(tmp_path)[:2] == [(1, b"first"), (2, b"in flight")]


async def test_statistics_tell_what_happened(tmp_path: Path) -> None:
    await fill(tmp_path, [[b"x"] * 3], clean=True)
    running = Running(tmp_path)
    async with trio.open_nursery() as nursery:
        journal = await running.start(nursery)
        await running.durable.reached(journal.append(b"y"))
        statistics = journal.statistics()
        journal.close()
    assert statistics.first_position == 1
    assert (statistics.durable_position, statistics.next_position) == (4, 5)
    assert (statistics.append_count, statistics.sync_count) == (1, 1)
    assert (statistics.segment_count, statistics.last_sync_at_ms) == (1, 77_000)
    assert statistics.ended_cleanly
    assert statistics.batch_records[0] == ("1", 1.0)
    assert statistics.sync_s[-1] == ("+Inf", 1.0)
    assert statistics.backlog_bytes == 2 * BLOCK_BYTES


def test_errnos_of_a_full_disk_are_known() -> None:
    assert {errno.ENOSPC, errno.EDQUOT} == NO_SPACE_ERRORS
