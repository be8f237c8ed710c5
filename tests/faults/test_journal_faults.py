"""The journal against a real full disk, real kills and a real second process."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tchatd.journal.errors import JournalFull, JournalLocked
from tchatd.journal.journal import LocalJournal
from tchatd.journal.record import BLOCK_BYTES
from tchatd.journal.segment import segment_name
from tests.faults import journal_child
from tests.support.journals import Durable, Sizes

ROOT = Path(__file__).parents[2]
ROUNDS = 8
SMALL_DISK_BYTES = 4 << 20
SETTINGS = Sizes(
    segment_bytes=1 << 20,
    batch_bytes_max=16 * BLOCK_BYTES,
    record_bytes_max=2 * BLOCK_BYTES,
    backlog_bytes_max=1 << 30,
)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few MiB, all of it free."""
    folder = tmp_path / "disk"
    folder.mkdir()
    size = f"size={SMALL_DISK_BYTES}"
    mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)]
    made = subprocess.run(mount, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        assert os.environ.get("CI") != "true", made.stderr
        pytest.skip(f"a file system cannot be mounted here: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


async def test_a_full_disk_refuses_before_taking_and_recovers_by_itself(
    small_disk: Path,
) -> None:
    durable = Durable()
    journal = LocalJournal(small_disk / "journal", on_durable=durable, **SETTINGS)
    assert list(journal.replay(0)) == []
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1 << 20))
    records: list[bytes] = []
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(journal.run)

            async def append_until_full() -> None:
                while True:
                    record = b"%d " % len(records) * 500
                    try:
                        position = journal.append(record)
                    except JournalFull:
                        if journal.statistics().no_space:
                            return
                        await trio.sleep(0.001)  # the next file is being made
                        continue
                    records.append(record)
                    assert position == len(records)
                    await trio.lowlevel.checkpoint()

            await append_until_full()
            # What was taken before that is durable, on the disk that is full.
            await durable.reached(len(records))
            assert len(records) * 2000 > 1 << 20
            free = os.statvfs(small_disk)
            assert free.f_bavail * free.f_bsize < SETTINGS["segment_bytes"]

            ballast.unlink()
            while journal.statistics().no_space:
                await trio.sleep(0.01)
            full_at = len(records)
            await append_until_full()
            assert len(records) > full_at
            await durable.reached(len(records))

            # A store that catches up makes room too: the files are used again.
            journal.trim(len(records))
            while not journal.statistics().spare_count:
                await trio.sleep(0.01)
            records.append(b"after the trim")
            await durable.reached(journal.append(records[-1]))
            journal.close()
    again = LocalJournal(small_disk / "journal", **SETTINGS)
    after = len(records) - 1
    assert list(again.replay(after)) == [(len(records), records[-1])]
    again.close()


async def test_a_start_on_a_full_disk_waits_for_space(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(SMALL_DISK_BYTES - (1 << 19)))
    durable = Durable()
    journal = LocalJournal(small_disk / "journal", on_durable=durable, **SETTINGS)
    assert list(journal.replay(0)) == []
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(journal.run)
            assert journal.statistics().no_space
            with pytest.raises(JournalFull):
                journal.append(b"x")
            # Trying and failing leaves nothing behind that takes space.
            assert list((small_disk / "journal").glob("spare-*")) == []
            ballast.unlink()
            while journal.statistics().no_space:
                await trio.sleep(0.01)
            await durable.reached(journal.append(b"x"))
            journal.close()


def child(folder: Path, seed: int, after: int) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-m", "tests.faults.journal_child"]
    return subprocess.Popen(
        [*arguments, str(folder), str(seed), str(after)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_whatever_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    """Several lives of one folder; each is killed after some acknowledgements."""
    source = random.Random(9)
    folder, after, acknowledged = tmp_path / "journal", 0, 0
    for seed in range(ROUNDS):
        process = child(folder, seed, after)
        assert process.stdout is not None
        lines = source.randrange(1, 300)
        seen = []
        for line in process.stdout:
            seen.append(int(line))
            if len(seen) >= lines:
                process.kill()
        process.wait()
        process.stdout.close()
        assert seen, "the child ended by itself"
        assert seen == sorted(set(seen))
        assert seen[-1] > acknowledged
        acknowledged = seen[-1]

        journal = LocalJournal(folder, **journal_child.SETTINGS)
        # What it had trimmed is gone, and nothing else: begin where the log does.
        first = min(folder.glob("*.journal")).name
        after = max(after, int(first.removesuffix(".journal")) - 1)
        found = list(journal.replay(after))
        journal.close()
        assert found[-1][0] >= acknowledged
        assert [position for position, _ in found] == list(
            range(after + 1, found[-1][0] + 1)
        )
        for position, record in found:
            assert record == journal_child.payload(position)
        after = source.randrange(after, acknowledged + 1)


def test_a_second_process_is_refused_and_told_who_holds_the_folder(
    tmp_path: Path,
) -> None:
    process = child(tmp_path, 1, 0)
    assert process.stdout is not None
    try:
        assert process.stdout.readline()
        journal = LocalJournal(tmp_path, **journal_child.SETTINGS)
        with pytest.raises(JournalLocked, match=f"in use by process {process.pid}"):
            journal.replay(0)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert (tmp_path / segment_name(1)).exists() or list(tmp_path.glob("*.journal"))
