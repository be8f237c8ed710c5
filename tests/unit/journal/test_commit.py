from __future__ import annotations

from collections import deque
from pathlib import Path

import trio
import trio.testing

from tchatd.journal.commit import Batch, Committer
from tchatd.journal.disk import NoSpace
from tchatd.journal.record import BLOCK_BYTES
from tchatd.journal.segment import Segment, SegmentHeader, segment_name
from tchatd.kernel.clock import ManualClock
from tchatd.observe.metrics import Metrics
from tests.support.journals import ScriptedDisk


async def test_a_segment_is_published_before_its_first_batch(tmp_path: Path) -> None:
    spare = (tmp_path / "spare-1").open("w+b")
    header = SegmentHeader(5, 1, 4 * BLOCK_BYTES, 0)
    segment = Segment(tmp_path / segment_name(1), header, fd=spare.fileno())
    segment.published, segment.spare_path = False, tmp_path / "spare-1"
    batch = Batch(segment, 1, 100)
    batch.payloads.append(b"x")
    disk = ScriptedDisk()
    committer = Committer(
        ManualClock(), Metrics(process=False), on_stalled=lambda: None
    )
    committer.use(disk, -1)
    committer.submit(batch)
    assert disk.counts == {"publish": 1}
    await committer.finish(batch)
    assert disk.counts == {"publish": 1, "commit": 1}
    assert segment.path.stat().st_size == 2 * BLOCK_BYTES
    assert committer.sync_count == 1
    spare.close()


async def test_a_full_disk_stalls_until_it_is_not(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    with (tmp_path / segment_name(1)).open("w+b") as file:
        header = SegmentHeader(5, 1, 4 * BLOCK_BYTES, 0)
        segment = Segment(tmp_path / segment_name(1), header, fd=file.fileno())
        batch = Batch(segment, 1, 100)
        batch.payloads.append(b"x")
        disk, stalled = ScriptedDisk(), []
        disk.outcomes["commit"] = deque([NoSpace("full")] * 7)
        committer = Committer(
            ManualClock(),
            Metrics(process=False),
            on_stalled=lambda: stalled.append(committer.stalled),
        )
        committer.use(disk, -1)
        committer.submit(batch)
        await committer.finish(batch)
        assert stalled == [True] * 7
        assert not committer.stalled
        disk.outcomes["commit"] = deque([NoSpace("full")])
        await committer.mark(segment, 2)  # only a convenience: not waited for
        assert segment.end == BLOCK_BYTES
