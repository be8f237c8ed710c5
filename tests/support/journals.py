"""Owns what the journal's tests share: a disk that fails on demand, and folders."""

from __future__ import annotations

import os
import shutil
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import trio

from tchatd.journal.disk import Buffer
from tchatd.journal.errors import JournalFull
from tchatd.journal.journal import LocalJournal
from tchatd.journal.record import BLOCK_BYTES


class Sizes(TypedDict):
    segment_bytes: int
    batch_bytes_max: int
    record_bytes_max: int
    backlog_bytes_max: int


SMALL = Sizes(
    segment_bytes=16 * BLOCK_BYTES,
    batch_bytes_max=4 * BLOCK_BYTES,
    record_bytes_max=2 * BLOCK_BYTES,
    backlog_bytes_max=1 << 20,
)


class ScriptedDisk:
    """A `Disk` without a thread, whose outcomes a test decides; works in files.

    outcomes: by kind of job, raised one by one instead of doing it; None does it.
    gate: when set, no job is done before it. is_quick: so that nobody has to wait.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.outcomes: dict[str, deque[Exception | None]] = {}
        self.gate: trio.Event | None = None
        self.is_quick = False
        self._failure: Exception | None = None
        self._begun = trio.Event()

    def _begin(self, kind: str) -> bool:
        self._begun.set()
        self.counts[kind] += 1
        script = self.outcomes.get(kind)
        self._failure = script.popleft() if script else None
        return self._failure is None

    def commit(self, fd: int, parts: Sequence[Buffer], offset: int) -> None:
        if self._begin("commit"):
            os.pwrite(fd, b"".join(parts), offset)

    def publish(
        self, fd: int, block: Buffer, source: Path, target: Path, folder_fd: int
    ) -> None:
        if self._begin("publish"):
            os.pwrite(fd, block, 0)
            source.rename(target)

    def preallocate(self, fd: int, size: int) -> None:
        if self._begin("preallocate"):
            os.posix_fallocate(fd, 0, size)

    def rename(self, source: Path, target: Path, folder_fd: int) -> None:
        if self._begin("rename"):
            source.rename(target)

    def remove(self, path: Path) -> None:
        if self._begin("remove"):
            path.unlink()

    async def idle(self) -> None:
        self._begun = trio.Event()
        await self._begun.wait()
        if self.gate is not None:
            await self.gate.wait()

    def done_within(self, limit_s: float) -> float | None:
        self.counts["done_within"] += 1
        if self._failure is not None or not self.is_quick:
            return None
        return limit_s / 2

    async def done(self) -> float:
        with trio.CancelScope(shield=True):
            await trio.lowlevel.checkpoint()
            if self._failure is not None:
                raise self._failure
            if self.gate is not None:
                await self.gate.wait()
        return 0.0001 if self.is_quick else 0.001

    def close(self) -> None:
        pass


class Disks:
    """Makes the two lanes of a journal and keeps them at hand."""

    def __init__(self) -> None:
        self.log = ScriptedDisk()
        self.files = ScriptedDisk()

    def __call__(self, name: str) -> ScriptedDisk:
        return self.files if name.endswith("-files") else self.log


class Durable:
    """Waits for a position: `on_durable` of the journal under test."""

    def __init__(self) -> None:
        self.told: list[int] = []
        self._changed = trio.Event()

    def __call__(self, position: int) -> None:
        self.told.append(position)
        self._changed.set()

    async def reached(self, position: int) -> None:
        while not self.told or self.told[-1] < position:
            self._changed = trio.Event()
            await self._changed.wait()


def read_back(folder: Path, after: int = 0) -> list[tuple[int, bytes]]:
    """Everything that a start would replay; also mends, as a start does."""
    journal = LocalJournal(folder, **SMALL)
    try:
        return list(journal.replay(after))
    finally:
        journal.close()


async def append(journal: LocalJournal, payload: bytes) -> int:
    """Wait while the next file is in the making: these segments are tiny."""
    while True:
        try:
            return journal.append(payload)
        except JournalFull:
            await trio.sleep(0.001)


async def fill(
    folder: Path, batches: Sequence[Sequence[bytes]], *, clean: bool, after: int = 0
) -> LocalJournal:
    """Append each batch and wait for its sync. Not clean: as a crash leaves it."""
    durable = Durable()
    journal = LocalJournal(folder, on_durable=durable, **SMALL)
    for _ in journal.replay(after):
        pass
    async with trio.open_nursery() as nursery:
        await nursery.start(journal.run)
        for payloads in batches:
            position = 0
            for payload in payloads:
                position = await append(journal, payload)
            await durable.reached(position)
        if clean:
            journal.close()
        else:
            nursery.cancel_scope.cancel()
    return journal


def copy(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target
