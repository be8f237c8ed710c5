"""Operators see sagas without what is personal, and resume or abort them."""

from __future__ import annotations

import os
from typing import Any

import pytest
from msgspec import Struct

from tchatd.app.sagas import SagaConsole
from tchatd.edge.console import PEER, ConsoleError
from tchatd.kernel.clock import ManualClock
from tchatd.kernel.sagas import SagaType, SagaTypes, Step, StepContext, progress_of
from tchatd.stores.memory.sagas import MemorySagaStore
from tests.support.sagas import NOW, ONE, begun, id_of, put, row_of

DATA = '{"amount_minor":100,"name":"Somchai"}'


class TopUp(Struct, frozen=True):
    amount_minor: int
    name: str


async def run(context: StepContext, data: TopUp) -> TopUp:
    return data


TYPE = SagaType(
    name="topup",
    version=1,
    steps=(
        Step("charge", run, run),
        Step("settle", run, run, is_pivot=True),
        Step("tell", run),
    ),
    data=TopUp,
    deadline_s=60,
    shown=("amount_minor",),
)


class Console:
    def __init__(self) -> None:
        self.store = MemorySagaStore()
        self.woken = 0
        self._console = SagaConsole(
            self.store, SagaTypes([TYPE]), ManualClock(NOW), 2, self._wake
        )

    def _wake(self) -> None:
        self.woken += 1

    async def ask(self, line: str, *more: str) -> Any:
        return await self._console.run([*line.split(), *more])

    async def move(self, number: int, **changes: Any) -> None:
        await self.store.write(
            [], [progress_of(await row_of(self.store, number), **changes)]
        )


@pytest.fixture
async def console() -> Console:
    PEER.set(os.geteuid())
    return Console()


async def test_sagas_are_listed_by_what_they_are(console: Console) -> None:
    await put(
        console.store,
        *(begun(1, data=DATA), begun(2, ONE, data=DATA), begun(3, ONE, data=DATA)),
        *(begun(4, saga_type="unknown", data=DATA, run_ms=NOW + 1),),
    )
    listed = await console.ask("saga list".removeprefix("saga "))
    assert listed.total == 4
    assert [row["id"] for row in listed.rows] == [str(id_of(1)), str(id_of(2))]
    assert listed.rows[0]["step"] == "charge"
    assert [row["due_at"] for row in listed.rows][1] == "running"
    [stranded] = (await console.ask("list stranded")).rows
    assert (stranded["status"], stranded["step"]) == ("started, stranded", None)
    fails = {"status": "failed", "is_released": True, "failed_ms": NOW, "error": "why"}
    await console.move(3, **fails, compensation_data="{}", current_step=2)
    [failed] = (await console.ask("list failed")).rows
    assert (failed["step"], failed["why"]) == ("undo settle", "why")
    await console.move(2, status="completed", is_released=True, ended_ms=NOW)
    [ended] = (await console.ask("list ended")).rows
    assert (ended["status"], ended["step"]) == ("completed", None)


async def test_what_is_shown_has_nothing_personal(console: Console) -> None:
    await put(console.store, begun(1, ONE, data=DATA))
    await console.store.signal(id_of(1), "paid", '{"by":"Somchai"}')
    shown = await console.ask("show", str(id_of(1)))
    assert shown["data"] == {"amount_minor": 100, "name": "(hidden)"}
    assert (shown["current_step"], shown["total_steps"]) == (0, 3)
    assert shown["signals"] == ["paid"]
    assert "Somchai" not in str(shown)
    await put(console.store, begun(2, version=9, data=DATA))
    unknown = await console.ask("show", str(id_of(2)))
    assert set(unknown["data"].values()) == {"(hidden)"}


async def test_what_stands_still_is_resumed_and_it_is_written_down(
    console: Console,
) -> None:
    await put(console.store, begun(1, ONE, data=DATA))
    await console.move(1, status="failed", is_released=True, failed_ms=NOW)
    line = ("resume", str(id_of(1)), "--reason", "the bank is back")
    await console.ask(*line)
    row = await row_of(console.store, 1)
    assert (row.status, row.run_ms, console.woken) == ("started", 0, 1)
    [order] = (await console.ask("show", str(id_of(1))))["orders"]
    assert f"uid {os.geteuid()}" in order
    assert order.endswith("the bank is back")


async def test_an_abort_is_not_taken_past_the_point_of_no_return(
    console: Console,
) -> None:
    await put(console.store, begun(1, data=DATA), begun(2, ONE, data=DATA))
    await console.ask("abort", str(id_of(1)), "--reason", "asked for")
    assert (await row_of(console.store, 1)).abort_reason == "asked for"
    await console.move(2, current_step=2)
    with pytest.raises(ConsoleError, match="no return"):
        await console.ask("abort", str(id_of(2)), "--reason", "asked for")
    assert (await row_of(console.store, 2)).abort_reason is None


async def test_what_has_ended_or_runs_is_left_alone(console: Console) -> None:
    await put(console.store, begun(1, ONE, data=DATA), begun(2, ONE, data=DATA))
    with pytest.raises(ConsoleError, match="runs now"):
        await console.ask("resume", str(id_of(1)), "--reason", "x")
    await console.move(2, status="completed", is_released=True, ended_ms=NOW)
    for action in ("resume", "abort"):
        with pytest.raises(ConsoleError, match="ended"):
            await console.ask(action, str(id_of(2)), "--reason", "x")


@pytest.mark.parametrize(
    "line",
    [
        *("", "list nothing", "show", "show x", "resume 5", "drop 5"),
        f"abort {id_of(1)}",
        f"abort {id_of(1)} --reason",
        f"show {id_of(99)}",
    ],
)
async def test_what_makes_no_sense_is_refused(console: Console, line: str) -> None:
    with pytest.raises(ConsoleError):
        await console.ask(line)
