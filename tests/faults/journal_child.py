"""A process that appends until it is killed, and prints what was acknowledged.

python journal_child.py FOLDER SEED AFTER: positions have the payloads of `payload`.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import trio

from tchatd.journal.errors import JournalFull
from tchatd.journal.journal import LocalJournal
from tchatd.journal.record import BLOCK_BYTES
from tests.support.journals import Sizes

OUTSTANDING_MAX = 300
SETTINGS = Sizes(
    segment_bytes=64 * BLOCK_BYTES,
    batch_bytes_max=16 * BLOCK_BYTES,
    record_bytes_max=2 * BLOCK_BYTES,
    backlog_bytes_max=1 << 20,
)


def payload(position: int) -> bytes:
    source = random.Random(position)
    return source.randbytes(source.choice((1, 50, 300, 300, 300, 5000)))


async def main(folder: Path, seed: int, after: int) -> None:
    source = random.Random(seed)
    acknowledged = trio.Event()

    def on_durable(position: int) -> None:
        nonlocal acknowledged
        os.write(1, b"%d\n" % position)
        if source.random() < 0.3:
            journal.trim(source.randrange(position + 1))
        acknowledged.set()

    journal = LocalJournal(folder, on_durable=on_durable, **SETTINGS)
    for _ in journal.replay(after):
        pass
    async with trio.open_nursery() as nursery:
        await nursery.start(journal.run)
        while True:  # until it is killed
            acknowledged = trio.Event()
            try:
                for _ in range(source.randrange(1, OUTSTANDING_MAX)):
                    journal.append(payload(journal.next_position))
            except JournalFull:
                journal.trim(journal.durable_position)
            if journal.durable_position + 1 < journal.next_position:
                await acknowledged.wait()
            else:
                await trio.sleep(0.001)


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
