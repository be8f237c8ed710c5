"""Owns group commit of sagas: one batch in flight, the next gathers meanwhile.

No timer: a lone step waits for one commit, a thousand wait for one or two. A batch
that the store refuses, for a reason that is a row's own, is written again row by row,
so that nobody fails for another one's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from uuid import UUID

import trio

from tchatd.kernel.errors import Unavailable
from tchatd.kernel.sagas import SagaBegun, SagaProgress
from tchatd.sagas.store import Moved, SagaStore, Written


class _Batch:
    __slots__ = ("begun", "done", "errors", "progress", "written")

    def __init__(self) -> None:
        self.begun: dict[UUID, SagaBegun] = {}
        self.progress: dict[UUID, SagaProgress] = {}
        self.done = trio.Event()
        self.written = Written(frozenset(), {})
        self.errors: dict[UUID, Exception] = {}

    @property
    def size(self) -> int:
        return len(self.begun) + len(self.progress)

    def ids(self) -> set[UUID]:
        return self.begun.keys() | self.progress.keys()


class SagaCommit:
    """`run` writes what `begin` and `progress` are given.

    batch_max: rows of one commit. on_batch: told the size of each. How much waits is
    bounded by who calls: each call waits for its own row.
    """

    def __init__(
        self,
        store: SagaStore,
        batch_max: int,
        on_batch: Callable[[float], object] = lambda _: None,
    ) -> None:
        self._store = store
        self._batch_max = batch_max
        self._on_batch = on_batch
        self._batches: deque[_Batch] = deque()
        self._some = trio.Event()
        self._is_running = False

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Write until cancelled; who waits then is told that it is not known."""
        self._is_running = True
        batch: _Batch | None = None
        try:
            task_status.started()
            while True:
                while not self._batches:
                    self._some = trio.Event()
                    await self._some.wait()
                batch = self._batches.popleft()
                await self._write(batch)
                batch.done.set()
                self._on_batch(batch.size)
        finally:
            self._is_running = False
            for left in (batch, *self._batches):
                if left is not None and not left.done.is_set():
                    left.errors = {id: Unavailable() for id in left.ids()}
                    left.done.set()
            self._batches.clear()

    async def begin(self, begun: SagaBegun) -> bool:
        """False: the id was there already. A cancelled call may have begun it.

        Raises: Unavailable; what else the store refuses it with.
        """
        batch = self._open()
        if begun.id in batch.begun:
            await self._settled(batch, begun.id)
            return False
        batch.begun[begun.id] = begun
        await self._settled(batch, begun.id)
        return begun.id in batch.written.begun

    async def progress(self, progress: SagaProgress) -> Moved | None:
        """None: it was refused. A cancelled call may have moved it.

        Raises: Unavailable; what else the store refuses it with.
        """
        batch = self._open()
        if progress.id in batch.progress:  # of who had it before: see what comes of it
            await self._settled(batch, progress.id)
            batch = self._open()
        batch.progress[progress.id] = progress
        await self._settled(batch, progress.id)
        return batch.written.moved.get(progress.id)

    def _open(self) -> _Batch:
        """The batch that gathers. Raises: Unavailable."""
        if not self._is_running:
            raise Unavailable("Sagas do not run here now")
        if not self._batches or self._batches[-1].size >= self._batch_max:
            self._batches.append(_Batch())
            self._some.set()
        return self._batches[-1]

    async def _settled(self, batch: _Batch, id: UUID) -> None:
        await batch.done.wait()
        if (error := batch.errors.get(id)) is not None:
            if isinstance(error, Unavailable):
                raise Unavailable(error.detail) from error
            raise error

    async def _write(self, batch: _Batch) -> None:
        try:
            batch.written = await self._store.write(
                list(batch.begun.values()), list(batch.progress.values())
            )
        except Unavailable as error:
            batch.errors = dict.fromkeys(batch.ids(), error)
        except Exception as error:  # noqa: BLE001  # around one batch
            if batch.size == 1:
                batch.errors = dict.fromkeys(batch.ids(), error)
            else:
                await self._write_singly(batch)

    async def _write_singly(self, batch: _Batch) -> None:
        begun: set[UUID] = set()
        moved: dict[UUID, Moved] = {}
        for id in sorted(batch.ids()):
            one = _Batch()
            if id in batch.begun:
                one.begun[id] = batch.begun[id]
            if id in batch.progress:
                one.progress[id] = batch.progress[id]
            await self._write(one)
            begun |= one.written.begun
            moved |= one.written.moved
            batch.errors |= one.errors
        batch.written = Written(frozenset(begun), moved)
