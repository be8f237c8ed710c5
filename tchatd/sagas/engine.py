"""Owns running sagas: begins, claims and runs them, and lets others have them.

Theory of operation
    A saga is a row, and whoever runs it is in the row: a life of an engine (`runner`),
    new with each start. A life beats once in a while; one whose beats stand still for
    `lease_s`, as another engine sees it by its own clock, is buried, and its sagas are
    claimed like any that are due. A former life of the same node is buried at once.
    A life that could not beat for that long stops by itself, so that nobody runs what
    another one has. And a revision in the row is counted up whenever it changes hands
    and with each step, so whoever was buried by mistake (a process that stood still)
    can write nothing of it any more.

    A saga that is begun here runs here at once. Its steps follow each other in one task
    until it ends, waits, or has to be put off; each is kept in a commit that thousands
    share (`SagaCommit`). Whatever waits, waits in its row and costs nothing else.

    What a cancellation leaves behind anywhere is a row that is due, or will be when its
    runner is buried. What the engine has in the store and not in memory (an answer was
    lost, a transaction of others never launched it) is found by the lease and let go.

    A step may so be run twice: after a crash between its effect and the row, and at the
    same time in a life that was buried by mistake. It has the same `context.key`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any, Final
from uuid import UUID

import msgspec
import trio
from msgspec import Struct

from tchatd.kernel.clock import Clock
from tchatd.kernel.errors import DomainError, Invalid, Unavailable
from tchatd.kernel.ids import Ids
from tchatd.kernel.sagas import (
    NAME,
    SIGNAL_BYTES_MAX,
    D,
    SagaBegun,
    SagaProgress,
    SagaRow,
    SagaType,
    SagaTypes,
)
from tchatd.observe.logging import get_logger
from tchatd.observe.metrics import BATCH_BUCKETS, Metrics
from tchatd.sagas import transitions
from tchatd.sagas.attempt import Attempts
from tchatd.sagas.commit import SagaCommit
from tchatd.sagas.lease import Lease
from tchatd.sagas.store import Counts, SagaStore

COUNT_S: Final = 10.0
"""How old the numbers of sagas may be that operators see."""
CLAIM_S_MIN: Final = 0.01
"""Between two claims, so that what comes due meanwhile comes together."""
_log = get_logger("sagas")


class EngineSettings(Struct, frozen=True, kw_only=True):
    """running_max: sagas at the same time; what is begun beyond waits in its row.

    claim_max: claimed at once. batch_max: rows of one commit. poll_s: how soon what
    other nodes did is seen. lease_s: without a beat a node is thought dead. retry_s:
    when the store is away. drain_s: for steps under way at `close`.
    """

    running_max: int = 10_000
    claim_max: int = 1_000
    batch_max: int = 1_000
    poll_s: float = 1.0
    lease_s: float = 3.0
    retry_s: float = 1.0
    drain_s: float = 10.0


class _Running:
    """A saga that has a task here. row: as it was last written."""

    __slots__ = ("row", "settled")

    def __init__(self, row: SagaRow) -> None:
        self.row = row
        self.settled: trio.Event | None = None


class SagaEngine:
    """`Sagas` of this process; `run` owns all its tasks.

    node: the same at each start, and of one process at a time. chance: in [0, 1).
    report: told of what nobody foresaw; it keeps what sagas are about out of the log.
    """

    def __init__(
        self,
        store: SagaStore,
        types: SagaTypes,
        node: str,
        clock: Clock,
        ids: Ids,
        metrics: Metrics,
        settings: EngineSettings,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._types = types
        self._node = node
        self._clock = clock
        self._ids = ids
        self._settings = settings
        self._attempts = Attempts(clock, chance)
        self._running: dict[UUID, _Running] = {}
        self._runner: UUID | None = None
        self._life: trio.Nursery | None = None
        self._wake = trio.Event()
        self._closing = trio.Event()
        self._is_away = False
        self.counts = Counts()
        batches = metrics.histogram(
            "saga_commit_rows", "Sagas moved by one commit", BATCH_BUCKETS
        )
        self._commit = SagaCommit(store, settings.batch_max, batches.observe)
        self._steps = metrics.counter(
            "saga_attempts", "Attempts of steps by outcome", ("saga_type", "outcome")
        )
        self._ended = metrics.counter(
            "sagas_ended", "Sagas by how they ended", ("saga_type", "status")
        )
        metrics.gauge(
            "sagas_running",
            "Sagas with a task here",
            lambda: float(len(self._running)),
        )
        for name in Counts.__struct_fields__:
            metrics.gauge(
                f"sagas_{name}",
                f"Sagas of all nodes that have not ended: {name}",
                partial(self._count_of, name),
            )

    def _count_of(self, name: str) -> float:
        return float(getattr(self.counts, name))

    @property
    def report(self) -> Callable[[Exception], object]:
        return self._attempts.report

    @report.setter
    def report(self, report: Callable[[Exception], object]) -> None:
        self._attempts.report = report

    # What others ask for (`Sagas`).

    async def begin(self, saga_type: SagaType[D], data: D, id: UUID) -> bool:
        begun = self.begun(saga_type, data, id)
        if not await self._commit.begin(begun):
            return False
        self.launch(begun)
        return True

    def begun(self, saga_type: SagaType[D], data: D, id: UUID) -> SagaBegun:
        assert (saga_type.name, saga_type.version) in self._types.kinds
        now_ms = self._clock.now_ms()
        has_room = len(self._running) < self._settings.running_max
        return SagaBegun(
            id=id,
            saga_type=saga_type.name,
            version=saga_type.version,
            total_steps=len(saga_type.steps),
            data=saga_type.encoded(data),
            runner=self._runner if has_room and self._life is not None else None,
            run_ms=now_ms,
            deadline_ms=now_ms + round(1_000 * saga_type.deadline_s),
            started_ms=now_ms,
        )

    def launch(self, begun: SagaBegun) -> None:
        if begun.runner is None:
            self._wake.set()
        elif begun.runner == self._runner and begun.id not in self._running:
            self._start(begun.row())

    async def signal(self, id: UUID, name: str, body: Any = None) -> bool:
        encoded = msgspec.json.encode(body)
        if not NAME.fullmatch(name) or len(encoded) > SIGNAL_BYTES_MAX:
            raise Invalid(f"A signal has a name and at most {SIGNAL_BYTES_MAX} bytes")
        told = await self._store.signal(id, name, encoded.decode())
        if told:
            self._wake.set()
        return told

    async def settled(self, id: UUID) -> SagaRow | None:
        """Wait until it does not run here: it ended, waits, was put off, or is another
        node's. Its row then; None: there is none. Raises: Unavailable."""
        row: SagaRow | None = None
        while (running := self._running.get(id)) is not None:
            if running.settled is None:
                running.settled = trio.Event()
            await running.settled.wait()
            row = running.row
        return await self._store.saga(id) if row is None else row

    def wake(self) -> None:
        """Something may be due sooner than was known."""
        self._wake.set()

    # The life of the engine.

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run sagas until `close`; cancelled: now, which is no more than a crash.

        Where no saga is known it only says of which there are rows, and waits.
        """
        if not len(self._types):
            await self._count()
            task_status.started()
            await self._closing.wait()
            return
        async with trio.open_nursery() as committing:
            await committing.start(self._commit.run)
            while not self._closing.is_set():
                await self._live(task_status)
                task_status = trio.TASK_STATUS_IGNORED
            committing.cancel_scope.cancel()

    def close(self) -> None:
        """Claim nothing more; steps under way have `drain_s`, others have the rest."""
        self._closing.set()

    async def _live(self, task_status: trio.TaskStatus[None]) -> None:
        """Until `close`, or until the lease is lost; then there is another life."""
        runner, running_s = self._ids.v4(), self._settings.drain_s
        lease = await self._be_registered(runner)
        async with trio.open_nursery() as keeping:
            keeping.start_soon(lease.beat)
            keeping.start_soon(lease.watch)
            keeping.start_soon(self._count_regularly)
            async with trio.open_nursery() as life:
                self._runner, self._life = runner, life
                try:
                    async with trio.open_nursery() as claiming:
                        claiming.start_soon(self._claim_due, runner)
                        claiming.start_soon(self._cancel_when, lease.lost, claiming)
                        task_status.started()
                        await self._closing.wait()
                        claiming.cancel_scope.cancel()
                finally:
                    self._runner = self._life = None
                if lease.lost.is_set():
                    life.cancel_scope.cancel()
                life.cancel_scope.deadline = trio.current_time() + running_s
            keeping.cancel_scope.cancel()
        if not lease.lost.is_set():
            await lease.retire()

    async def _be_registered(self, runner: UUID) -> Lease:
        """However long the store is away."""
        lease = Lease(
            self._store,
            runner,
            self._node,
            self._settings.lease_s,
            self._running.keys(),
            self.wake,
        )
        lease.report = self.report
        while True:
            try:
                await lease.register()
            except DomainError as error:
                self._say_away(error)
                await trio.sleep(self._settings.retry_s)
            else:
                self._is_away = False
                return lease

    async def _cancel_when(self, event: trio.Event, nursery: trio.Nursery) -> None:
        await event.wait()
        nursery.cancel_scope.cancel()

    async def _count_regularly(self) -> None:
        while True:
            await self._count()
            await trio.sleep(COUNT_S)

    async def _count(self) -> None:
        try:
            counts = await self._store.counts(self._types.kinds)
        except DomainError as error:
            self._say_away(error)
            return
        if counts.stranded > self.counts.stranded:
            _log.warning("sagas of unknown types or versions", count=counts.stranded)
        if counts.failed > self.counts.failed:
            _log.warning("sagas stand still", count=counts.failed)
        self.counts = counts

    def _say_away(self, error: DomainError) -> None:
        if not self._is_away:
            _log.warning("sagas put off", why=error.code)
        self._is_away = True

    # Running.

    async def _claim_due(self, runner: UUID) -> None:
        """Claim what is due whenever it is, and there is room for it."""
        while True:
            self._wake = trio.Event()
            try:
                wait_s = await self._claim_some(runner)
            except DomainError as error:
                self._say_away(error)
                wait_s = self._settings.retry_s
            except Exception as error:  # noqa: BLE001  # around one turn
                self.report(error)
                wait_s = self._settings.retry_s
            with trio.move_on_after(wait_s):
                await self._wake.wait()
            await trio.sleep(CLAIM_S_MIN)

    async def _claim_some(self, runner: UUID) -> float:
        """Seconds until there may be more."""
        room = self._settings.running_max - len(self._running)
        if room <= 0:
            return self._settings.poll_s  # or until one ends
        limit = min(room, self._settings.claim_max)
        now_ms = self._clock.now_ms()
        rows = await self._store.claim(runner, self._types.kinds, now_ms, limit)
        self._is_away = False
        for row in rows:
            self._start(row)
        if len(rows) == limit:
            return 0.0
        due_ms = await self._store.next_due_ms(self._types.kinds)
        if due_ms is None:
            return self._settings.poll_s
        wait_s = max(0.0, (due_ms - self._clock.now_ms()) / 1_000)
        return min(wait_s, self._settings.poll_s)

    def _start(self, row: SagaRow) -> None:
        """It has a task from now on; one that had it before stops at its next step."""
        assert self._life is not None
        running = self._running[row.id] = _Running(row)
        self._life.start_soon(self._run_saga, running)

    async def _run_saga(self, running: _Running) -> None:
        id = running.row.id
        try:
            await self._run_steps(running)
        except Exception as error:  # noqa: BLE001  # around one saga
            self.report(error)  # the lease finds that nobody runs it
        finally:
            if self._running.get(id) is running:
                del self._running[id]
            if len(self._running) == self._settings.running_max - 1:
                self._wake.set()
            if running.settled is not None:
                running.settled.set()

    async def _run_steps(self, running: _Running) -> None:
        """Until it ends, waits, is put off, or is somebody else's."""
        try:
            known = self._types.upgraded(running.row)
        except Exception as error:  # noqa: BLE001  # an upgrade is somebody's function
            self.report(error)
            why = f"its data cannot be upgraded: {type(error).__name__}"
            await self._stand_still(running, why)
            return
        if known is None:
            return
        running.row, saga_type = known
        if running.row.total_steps != len(saga_type.steps):
            await self._stand_still(running, "its type has other steps now")
            return
        while not self._closing.is_set():
            outcome = await self._attempts.attempt(running.row, saga_type)
            self._steps.labels(saga_type.name, outcome.name).add()
            progress = outcome.progress
            if progress is None:
                is_ours = await self._look_again(running)
            elif outcome.is_recorded:
                running.row = transitions.after(running.row, progress, None)
                is_ours = not progress.is_released
                if progress.ended_ms:
                    self._count_ended(running.row)
            else:
                is_ours = await self._keep(running, progress)
            if not is_ours or self._running.get(running.row.id) is not running:
                return

    async def _stand_still(self, running: _Running, why: str) -> None:
        now_ms = self._clock.now_ms()
        await self._keep(running, transitions.stand_still(running.row, why, now_ms))

    async def _keep(self, running: _Running, progress: SagaProgress) -> bool:
        """Write it, however long the store is away; whether the saga is ours still."""
        while True:
            try:
                moved = await self._commit.progress(progress)
            except Unavailable as error:
                self._say_away(error)
                await trio.sleep(self._settings.retry_s)
                continue
            except DomainError as error:
                self.report(error)
                if progress.status == "failed":
                    raise
                why = f"the store refuses it: {error.code}"
                now_ms = self._clock.now_ms()
                progress = transitions.stand_still(running.row, why, now_ms)
                continue
            break
        if moved is None:
            return await self._look_again(running)
        running.row = transitions.after(running.row, progress, moved)
        if progress.ended_ms or progress.status == "failed":
            self._count_ended(running.row)
        elif progress.is_released and moved.run_ms <= self._next_look_ms():
            self._wake.set()
        return not progress.is_released

    def _next_look_ms(self) -> int:
        """What is due before must be said; the rest is found when it is looked for."""
        return self._clock.now_ms() + round(1_000 * self._settings.poll_s)

    async def _look_again(self, running: _Running) -> bool:
        """Read the row, after a progress was refused: it was written before, and the
        answer was lost; or the saga is somebody else's."""
        while True:
            try:
                row = await self._store.saga(running.row.id)
            except Unavailable as error:
                self._say_away(error)
                await trio.sleep(self._settings.retry_s)
                continue
            break
        if row is None:
            return False
        is_ours = row.runner is not None and row.runner == self._runner
        if row.ended_ms and row.revision == running.row.revision + 1:
            self._count_ended(row)
        is_ours = is_ours and row.revision > running.row.revision
        running.row = row
        return is_ours

    def _count_ended(self, row: SagaRow) -> None:
        self._ended.labels(row.saga_type, row.status).add()
        if row.status == "failed":
            _log.warning("a saga stands still", saga=str(row.id), type=row.saga_type)
