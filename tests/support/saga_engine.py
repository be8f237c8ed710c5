"""Owns engines for tests, and steps that note what is run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from msgspec import structs

from tchatd.kernel.ids import Ids
from tchatd.kernel.sagas import Retry, SagaRow, SagaType, SagaTypes, Step, StepContext
from tchatd.observe.metrics import Metrics
from tchatd.sagas.engine import EngineSettings, SagaEngine
from tchatd.sagas.store import SagaStore
from tests.support.saga_world import TrioClock
from tests.support.sagas import Amount, id_of

SETTINGS = EngineSettings(
    running_max=4, claim_max=3, batch_max=8, poll_s=1.0, lease_s=3.0, retry_s=0.2
)


class Steps:
    """Notes what is run; what a step does beside it is set by tests."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.does: dict[str, Callable[[StepContext], Awaitable[Any]]] = {}

    async def run(self, context: StepContext, data: Amount) -> Any:
        self.calls.append(context.step)
        if context.step in self.does:
            result = await self.does[context.step](context)
            if result is not None:
                return result
        return Amount(data.amount_minor, (*data.done, context.step))

    async def undo(self, context: StepContext, data: Amount) -> Any:
        self.calls.append(f"undo {context.step}")
        if f"undo {context.step}" in self.does:
            await self.does[f"undo {context.step}"](context)
        return data

    def type(self, names: str = "abc", **changes: Any) -> SagaType[Amount]:
        retry = Retry(first_s=1, factor=2, attempts=3)
        steps = tuple(Step(name, self.run, self.undo, retry) for name in names)
        fields: dict[str, Any] = {"version": 1, "deadline_s": 600.0} | changes
        return SagaType(name="topup", steps=steps, data=Amount, **fields)


def an_engine(
    store: Any, *types: SagaType[Amount], node: str = "one", **changes: Any
) -> SagaEngine:
    clock = TrioClock()
    engine = SagaEngine(
        store,
        SagaTypes(types),
        node,
        clock,
        Ids(clock),
        Metrics(process=False),
        structs.replace(SETTINGS, **changes),
        lambda: 1.0,
    )
    engine.report = reported.append
    return engine


reported: list[Exception] = []


@asynccontextmanager
async def running(*engines: SagaEngine) -> AsyncIterator[None]:
    reported.clear()
    async with trio.open_nursery() as nursery:
        for engine in engines:
            await nursery.start(engine.run)
        yield
        nursery.cancel_scope.cancel()


async def ended(store: SagaStore, number: int = 1) -> SagaRow:
    with trio.fail_after(500):
        while True:
            row = await store.saga(id_of(number))
            if row is not None and (row.ended_ms or row.status == "failed"):
                return row
            await trio.sleep(0.05)
