"""Owns sagas in memory, for tests.

Every method has a checkpoint before it touches anything, none in between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import msgspec
import trio
from msgspec import structs

from tchatd.kernel.sagas import SIGNALS_MAX, SagaBegun, SagaProgress, SagaRow
from tchatd.sagas.store import (
    UNFINISHED,
    Counts,
    Kind,
    Moved,
    Order,
    Runner,
    Shown,
    Written,
)


class MemorySagaStore:
    """A `SagaStore`."""

    def __init__(self) -> None:
        self._sagas: dict[UUID, SagaRow] = {}
        self._runners: dict[UUID, Runner] = {}
        self._orders: list[Order] = []

    async def write(
        self, begun: Sequence[SagaBegun], progress: Sequence[SagaProgress]
    ) -> Written:
        await trio.lowlevel.checkpoint()
        made = [one.id for one in begun if self._begin(one)]
        moved = {}
        for one in progress:
            if (what := self.move(one)) is not None:
                moved[one.id] = what
        return Written(frozenset(made), moved)

    async def commit(
        self,
        effect: Callable[[], object],
        begun: Sequence[SagaBegun] = (),
        progress: Sequence[SagaProgress] = (),
    ) -> bool:
        """As another store would: the effect if no progress was refused, or nothing."""
        await trio.lowlevel.checkpoint()
        if any(self._refuses(one) for one in progress):
            return False
        effect()
        for new in begun:
            self._begin(new)
        for one in progress:
            self.move(one)
        return True

    def _begin(self, begun: SagaBegun) -> bool:
        if begun.id in self._sagas:
            return False
        self._sagas[begun.id] = begun.row()
        return True

    def _refuses(self, progress: SagaProgress) -> bool:
        row = self._sagas.get(progress.id)
        return (
            row is None
            or row.revision != progress.revision
            or row.status not in UNFINISHED
        )

    def move(self, progress: SagaProgress) -> Moved | None:
        if self._refuses(progress):
            return None
        row = self._sagas[progress.id]
        changes: dict[str, Any] = {
            name: value
            for name, value in structs.asdict(progress).items()
            if name in SagaRow.__struct_fields__
        }
        changes["revision"] = row.revision + 1
        if progress.is_released:
            changes["runner"] = None
        if progress.is_waiting and row.signal_count > progress.signals_seen:
            changes["run_ms"] = 0
        row = self._sagas[row.id] = structs.replace(row, **changes)
        return Moved(row.run_ms, row.signal_count, row.signals, row.abort_reason)

    async def claim(
        self, runner: UUID, kinds: Sequence[Kind], now_ms: int, limit: int
    ) -> list[SagaRow]:
        await trio.lowlevel.checkpoint()
        due = [row for row in self._waiting(kinds) if row.run_ms <= now_ms][:limit]
        return [
            self._replace(row, runner=runner, revision=row.revision + 1) for row in due
        ]

    async def next_due_ms(self, kinds: Sequence[Kind]) -> int | None:
        await trio.lowlevel.checkpoint()
        return next((row.run_ms for row in self._waiting(kinds)), None)

    def _waiting(self, kinds: Sequence[Kind]) -> list[SagaRow]:
        waiting = (
            row
            for row in self._sagas.values()
            if row.runner is None
            and row.status in UNFINISHED
            and (row.saga_type, row.version) in kinds
        )
        return sorted(waiting, key=lambda row: row.run_ms)

    def _replace(self, row: SagaRow, **changes: Any) -> SagaRow:
        replaced = self._sagas[row.id] = structs.replace(row, **changes)
        return replaced

    async def saga(self, id: UUID) -> SagaRow | None:
        await trio.lowlevel.checkpoint()
        return self._sagas.get(id)

    async def signal(self, id: UUID, name: str, body: str) -> bool:
        await trio.lowlevel.checkpoint()
        row = self._sagas.get(id)
        if row is None or row.ended_ms:
            return False
        told = msgspec.json.decode(row.signals)
        if name not in told and len(told) >= SIGNALS_MAX:
            return False
        told[name] = msgspec.json.decode(body)
        self._replace(
            row,
            signals=msgspec.json.encode(told).decode(),
            signal_count=row.signal_count + 1,
            run_ms=0 if row.runner is None else row.run_ms,
        )
        return True

    async def register(self, runner: Runner) -> None:
        await trio.lowlevel.checkpoint()
        self._runners.setdefault(runner.id, runner)

    async def beat(self, runner: UUID) -> bool:
        await trio.lowlevel.checkpoint()
        known = self._runners.get(runner)
        if known is None:
            return False
        self._runners[runner] = structs.replace(known, beats=known.beats + 1)
        return True

    async def runners(self) -> list[Runner]:
        await trio.lowlevel.checkpoint()
        return list(self._runners.values())

    async def bury(self, runner: UUID, beats: int | None) -> bool:
        await trio.lowlevel.checkpoint()
        known = self._runners.get(runner)
        if known is None or (beats is not None and known.beats != beats):
            return False
        del self._runners[runner]
        return True

    async def release_orphans(self, limit: int) -> int:
        await trio.lowlevel.checkpoint()
        orphans = [
            row
            for row in self._sagas.values()
            if row.runner is not None and row.runner not in self._runners
        ][:limit]
        for row in orphans:
            self._replace(row, runner=None, revision=row.revision + 1)
        return len(orphans)

    async def held(self, runner: UUID) -> list[UUID]:
        await trio.lowlevel.checkpoint()
        return [row.id for row in self._sagas.values() if row.runner == runner]

    async def release(self, runner: UUID, ids: Sequence[UUID]) -> int:
        await trio.lowlevel.checkpoint()
        rows = [self._sagas[id] for id in ids if id in self._sagas]
        held = [row for row in rows if row.runner == runner]
        for row in held:
            self._replace(row, runner=None, revision=row.revision + 1)
        return len(held)

    async def resume(self, order: Order) -> bool:
        await trio.lowlevel.checkpoint()
        row = self._sagas.get(order.saga_id)
        if row is None or row.ended_ms or row.runner is not None:
            return False
        status = row.status
        if status == "failed":
            status = "started" if row.compensation_data is None else "compensating"
        self._replace(
            row, status=status, attempts=0, run_ms=0, revision=row.revision + 1
        )
        self._orders.append(order)
        return True

    async def abort(self, order: Order) -> bool:
        await trio.lowlevel.checkpoint()
        row = self._sagas.get(order.saga_id)
        if (
            row is None
            or row.compensation_data is not None
            or row.status not in ("started", "failed")
        ):
            return False
        changes: dict[str, Any] = {
            "status": "started",
            "abort_reason": order.reason,
            "signal_count": row.signal_count + 1,
        }
        if row.runner is None:
            changes |= {"attempts": 0, "run_ms": 0}
        self._replace(row, **changes)
        self._orders.append(order)
        return True

    async def orders(self, id: UUID) -> list[Order]:
        await trio.lowlevel.checkpoint()
        return [order for order in self._orders if order.saga_id == id]

    async def sagas(
        self, shown: Shown, kinds: Sequence[Kind], limit: int
    ) -> tuple[list[SagaRow], int]:
        await trio.lowlevel.checkpoint()
        rows = [row for row in self._sagas.values() if _is_shown(row, shown, kinds)]
        orders: dict[Shown, Callable[[SagaRow], int]] = {
            "unfinished": lambda row: row.run_ms,
            "failed": lambda row: row.failed_ms,
            "stranded": lambda row: row.started_ms,
            "ended": lambda row: -row.ended_ms,
        }
        rows.sort(key=orders[shown])
        return rows[:limit], len(rows)

    async def counts(self, kinds: Sequence[Kind]) -> Counts:
        await trio.lowlevel.checkpoint()
        counts: dict[str, int] = {}
        for row in self._sagas.values():
            if not row.ended_ms:
                known = (row.saga_type, row.version) in kinds
                name = row.status if known else "stranded"
                counts[name] = counts.get(name, 0) + 1
        return Counts(**counts)

    async def prune(self, before_ms: int, limit: int) -> int:
        await trio.lowlevel.checkpoint()
        ended = [row for row in self._sagas.values() if 0 < row.ended_ms < before_ms]
        ended.sort(key=lambda row: row.ended_ms)
        for row in ended[:limit]:
            del self._sagas[row.id]
        return len(ended[:limit])


def _is_shown(row: SagaRow, shown: Shown, kinds: Sequence[Kind]) -> bool:
    if shown == "unfinished":
        return row.status in UNFINISHED
    if shown == "failed":
        return row.status == "failed"
    if shown == "ended":
        return row.ended_ms > 0
    return not row.ended_ms and (row.saga_type, row.version) not in kinds
