"""Owns how sagas are put together, and what operators see and do of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, get_args
from uuid import UUID

import msgspec
import trio

from tchatd.app.jobs import report
from tchatd.app.moderators import REASON_CHARS_MAX, options_of, who
from tchatd.app.settings import Sagas as SagaSettings
from tchatd.edge.console import Command, ConsoleError, Row, Rows
from tchatd.kernel.clock import Clock, rfc3339
from tchatd.kernel.ids import Ids
from tchatd.kernel.sagas import SagaRow, SagaType, SagaTypes
from tchatd.observe.metrics import Metrics
from tchatd.sagas import transitions
from tchatd.sagas.engine import EngineSettings, SagaEngine
from tchatd.sagas.store import Order, SagaStore, Shown

PRUNED_AT_ONCE: Final = 1_000
DRAIN_S: Final = 5.0
"""At the stop, for steps under way. What is cut is run again, here or elsewhere."""
_OPTIONS: Final = "--reason WHY"
_USAGE: Final = (
    f"usage: saga list [{'|'.join(get_args(Shown))}], show ID,"
    f" or resume|abort ID {_OPTIONS}"
)
_HIDDEN: Final = "(hidden)"


class Sagas:
    """types: what else is built adds its saga types, before `run`."""

    def __init__(
        self,
        settings: SagaSettings,
        store: SagaStore,
        node: str,
        clock: Clock,
        ids: Ids,
        metrics: Metrics,
    ) -> None:
        self.types = SagaTypes()
        self.store = store
        self._clock = clock
        self._kept_ms = round(1_000 * settings.kept_s)
        self.engine = SagaEngine(
            store,
            self.types,
            node,
            clock,
            ids,
            metrics,
            EngineSettings(
                running_max=settings.running_max,
                claim_max=settings.claim_max,
                batch_max=settings.batch_max,
                poll_s=settings.poll_s,
                lease_s=settings.lease_s,
                retry_s=settings.retry_s,
                drain_s=DRAIN_S,
            ),
        )
        self.engine.report = partial(report, "sagas")

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run sagas until `close`."""
        await self.engine.run(task_status=task_status)

    def close(self) -> None:
        self.engine.close()

    async def prune(self) -> int:
        """Forget one batch of what ended long ago."""
        before_ms = self._clock.now_ms() - self._kept_ms
        return await self.store.prune(before_ms, PRUNED_AT_ONCE)

    def command(self, rows_max: int) -> Command:
        console = SagaConsole(
            self.store, self.types, self._clock, rows_max, self.engine.wake
        )
        return Command(
            "saga",
            "list|show|resume|abort [WHAT]",
            "What goes on by itself over hours and days; abort undoes it.",
            console.run,
            _OPTIONS,
        )


class SagaConsole:
    """Shows nothing personal: of a saga's data the fields that its type names, of all
    others the name."""

    def __init__(
        self,
        store: SagaStore,
        types: SagaTypes,
        clock: Clock,
        rows_max: int,
        wake: Callable[[], object],
    ) -> None:
        self._store = store
        self._types = types
        self._clock = clock
        self._rows_max = rows_max
        self._wake = wake

    async def run(self, arguments: Sequence[str]) -> Any:
        plain, options = options_of(arguments, ("reason",))
        match plain:
            case ["list"]:
                return await self._list("unfinished")
            case ["list", which]:
                for shown in get_args(Shown):
                    if which == shown:
                        return await self._list(shown)
            case ["show", text]:
                return await self._show(await self._saga(text))
            case ["resume", text]:
                order = self._order(text, "resume", options)
                await self._resume(await self._saga(text), order)
                return {"resumed": text}
            case ["abort", text]:
                order = self._order(text, "abort", options)
                await self._abort(await self._saga(text), order)
                return {"aborting": text}
        raise ConsoleError("usage", _USAGE)

    async def _list(self, shown: Shown) -> Rows:
        kinds = self._types.kinds
        rows, total = await self._store.sagas(shown, kinds, self._rows_max)
        listed = [
            {
                "id": str(row.id),
                "type": f"{row.saga_type} {row.version}",
                "status": self._status(row),
                "step": self._step(row),
                "attempts": row.attempts,
                "due_at": _time(row.run_ms) if row.runner is None else "running",
                "started_at": _time(row.started_ms),
                "why": row.error,
            }
            for row in rows
        ]
        return Rows(listed, total)

    async def _show(self, row: SagaRow) -> Row:
        """The contract's fields, and what an operator wants beside them."""
        orders = await self._store.orders(row.id)
        is_ended = row.ended_ms > 0
        return {
            "id": str(row.id),
            "saga_type": row.saga_type,
            "version": row.version,
            "status": self._status(row),
            "current_step": row.current_step,
            "total_steps": row.total_steps,
            "step": self._step(row),
            "attempts": row.attempts,
            "why": row.error,
            "abort_reason": row.abort_reason,
            "runner": None if row.runner is None else str(row.runner),
            "due_at": _time(row.run_ms) if not is_ended else None,
            "deadline_at": _time(row.deadline_ms),
            "started_at": _time(row.started_ms),
            "completed_at": _time(row.ended_ms) if row.status == "completed" else None,
            "failed_at": _time(row.failed_ms),
            "ended_at": _time(row.ended_ms),
            "signals": sorted(msgspec.json.decode(row.signals)),
            "data": self._data(row, row.data),
            "compensation_data": self._data(row, row.compensation_data),
            "orders": [
                f"{_time(order.at_ms)} {order.action} by {order.who}: {order.reason}"
                for order in orders
            ],
        }

    async def _resume(self, row: SagaRow, order: Order) -> None:
        if row.ended_ms:
            raise ConsoleError("conflict", f"it has ended: {row.status}")
        if not await self._store.resume(order):
            raise ConsoleError("conflict", "it runs now")
        self._wake()

    async def _abort(self, row: SagaRow, order: Order) -> None:
        known = self._type_of(row)
        if known is not None and row.status in ("started", "failed"):
            upgraded, saga_type = known
            if not transitions.may_go_back(upgraded, saga_type):
                raise ConsoleError(
                    "conflict", "it is past the point of no return; resume it"
                )
        if not await self._store.abort(order):
            raise ConsoleError("conflict", "it has ended, or goes back already")
        self._wake()

    def _order(self, text: str, action: Any, options: dict[str, str]) -> Order:
        reason = options.get("reason", "").strip()
        if not reason or len(reason) > REASON_CHARS_MAX:
            raise ConsoleError(
                "usage", f"--reason WHY has 1 to {REASON_CHARS_MAX} characters"
            )
        return Order(_id(text), self._clock.now_ms(), who(), action, reason)

    async def _saga(self, text: str) -> SagaRow:
        row = await self._store.saga(_id(text))
        if row is None:
            raise ConsoleError("not-found", "there is no such saga")
        return row

    def _type_of(self, row: SagaRow) -> tuple[SagaRow, SagaType[Any]] | None:
        try:
            return self._types.upgraded(row)
        except Exception:  # noqa: BLE001  # an upgrade is somebody's function
            return None

    def _status(self, row: SagaRow) -> str:
        is_known = (row.saga_type, row.version) in self._types.kinds
        return row.status if is_known or row.ended_ms else f"{row.status}, stranded"

    def _step(self, row: SagaRow) -> str | None:
        """The name of the one that is next."""
        known = self._type_of(row)
        if known is None or row.ended_ms:
            return None
        upgraded, saga_type = known
        if upgraded.compensation_data is not None:
            if not upgraded.current_step:
                return None
            return f"undo {saga_type.steps[upgraded.current_step - 1].name}"
        names = [step.name for step in saga_type.steps]
        return (
            names[upgraded.current_step] if upgraded.current_step < len(names) else ""
        )

    def _data(self, row: SagaRow, text: str | None) -> Row | None:
        if text is None:
            return None
        known = self._type_of(row)
        shown = () if known is None else known[1].shown
        fields = json.loads(text)
        return {
            name: value if name in shown else _HIDDEN for name, value in fields.items()
        }


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise ConsoleError("usage", "ID is a saga's id") from None


def _time(at_ms: int) -> str | None:
    return rfc3339(at_ms) if at_ms else None
