"""Sagas are run, wait, are woken, change hands, and are let go."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tchatd.kernel.errors import Invalid, Unavailable
from tchatd.kernel.sagas import Abort, RetryLater, StepContext, Wait, progress_of
from tchatd.sagas.engine import COUNT_S
from tchatd.sagas.store import Order
from tchatd.stores.memory.sagas import MemorySagaStore
from tests.support.saga_engine import (
    SETTINGS,
    Steps,
    an_engine,
    ended,
    reported,
    running,
)
from tests.support.saga_world import FaultyStore
from tests.support.sagas import NOW, Amount, begun, id_of, put


@pytest.fixture
def store() -> MemorySagaStore:
    return MemorySagaStore()


@pytest.fixture
def steps() -> Steps:
    return Steps()


async def test_a_saga_runs_to_its_end_at_once(
    store: MemorySagaStore, steps: Steps, autojump_clock: MockClock
) -> None:
    engine = an_engine(store, steps.type())
    async with running(engine):
        assert await engine.begin(steps.type(), Amount(5), id_of(1))
        row = await engine.settled(id_of(1))
        assert not await engine.begin(steps.type(), Amount(6), id_of(1))
    assert row is not None
    assert (row.status, row.current_step) == ("completed", 3)
    assert row.data == '{"amount_minor":5,"done":["a","b","c"]}'
    assert row == await store.saga(id_of(1))
    assert trio.current_time() < 0.1
    assert await engine.settled(id_of(9)) is None


async def test_a_refusal_undoes_what_was_done(
    store: MemorySagaStore, steps: Steps, autojump_clock: MockClock
) -> None:
    async def refuse(_: StepContext) -> None:
        raise Abort("no funds")

    steps.does["c"] = refuse
    engine = an_engine(store, steps.type())
    async with running(engine):
        await engine.begin(steps.type(), Amount(), id_of(1))
        row = await ended(store)
    assert (row.status, row.error) == ("compensated", "no funds")
    assert steps.calls == ["a", "b", "c", "undo b", "undo a"]


async def test_a_failure_is_tried_again_later(
    store: MemorySagaStore, steps: Steps, autojump_clock: MockClock
) -> None:
    async def fail_twice(context: StepContext) -> None:
        if context.attempt < 3:
            raise RetryLater("busy")

    steps.does["b"] = fail_twice
    engine = an_engine(store, steps.type())
    async with running(engine):
        await engine.begin(steps.type(), Amount(), id_of(1))
        row = await ended(store)
    assert row.status == "completed"
    assert steps.calls == ["a", "b", "b", "b", "c"]
    assert 3.0 <= trio.current_time() < 3.2


async def test_what_cannot_be_undone_stands_still_until_it_is_resumed(
    store: MemorySagaStore, steps: Steps, autojump_clock: MockClock
) -> None:
    async def fail(_: StepContext) -> None:
        raise LookupError

    steps.does |= {"b": fail, "undo a": fail}
    engine = an_engine(store, steps.type())
    async with running(engine):
        await engine.begin(steps.type(), Amount(), id_of(1))
        row = await ended(store)
        assert (row.status, row.attempts) == ("failed", 2)
        assert reported
        del steps.does["undo a"]
        assert await store.resume(Order(row.id, NOW, "me", "resume", "fixed"))
        engine.wake()
        while (row := await ended(store)).status == "failed":
            await trio.sleep(0.1)
    assert row.status == "compensated"


async def test_a_signal_wakes_a_saga_that_waits(
    store: MemorySagaStore, steps: Steps, autojump_clock: MockClock
) -> None:
    async def until_paid(context: StepContext) -> Wait[Amount] | None:
        if context.signal("paid", int) is None:
            return Wait(Amount(), context.now_ms + 500_000)
        return None

    steps.does["b"] = until_paid
    engine = an_engine(store, steps.type())
    async with running(engine):
        await engine.begin(steps.type(), Amount(), id_of(1))
        row = await engine.settled(id_of(1))
        assert row is not None
        assert (row.status, row.current_step, row.runner) == ("started", 1, None)
        await trio.sleep(100)
        assert await engine.signal(id_of(1), "paid", 5)
        assert (await ended(store)).status == "completed"
        assert trio.current_time() < 101
        assert not await engine.signal(id_of(1), "paid", 5)
        assert not await engine.signal(id_of(9), "paid", 5)
    for name, body in (("No Name", 1), ("paid", "x" * 10_000)):
        with pytest.raises(Invalid):
            await engine.signal(id_of(1), name, body)


async def test_a_signal_before_the_wait_is_not_lost(
    store: MemorySagaStore, steps: Steps, autojump_clock: MockClock
) -> None:
    async def told_meanwhile(context: StepContext) -> Wait[Amount] | None:
        if context.signal("paid", int) is not None:
            return None
        await engine.signal(context.saga_id, "paid", 5)
        return Wait(Amount(), context.now_ms + 500_000)

    steps.does["a"] = told_meanwhile
    engine = an_engine(store, steps.type())
    async with running(engine):
        await engine.begin(steps.type(), Amount(), id_of(1))
        await ended(store)
    assert trio.current_time() < 1


async def test_a_deadline_ends_a_wait(
    store: MemorySagaStore, steps: Steps, autojump_clock: MockClock
) -> None:
    async def for_ever(context: StepContext) -> Wait[Amount]:
        return Wait(Amount(), context.now_ms + 10**9)

    steps.does["b"] = for_ever
    saga_type = steps.type(deadline_s=100)
    engine = an_engine(store, saga_type)
    async with running(engine):
        await engine.begin(saga_type, Amount(), id_of(1))
        row = await ended(store)
    assert row.status == "compensated"
    assert steps.calls == ["a", "b", "undo b", "undo a"]
    assert 100 <= trio.current_time() < 101


async def test_only_so_many_run_at_once_and_none_is_forgotten(
    store: MemorySagaStore, steps: Steps, autojump_clock: MockClock
) -> None:
    at_once = most = 0

    async def work(_: StepContext) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await trio.sleep(1)
        at_once -= 1

    steps.does["a"] = work
    engine = an_engine(store, steps.type())
    async with running(engine):
        for number in range(1, 21):
            await engine.begin(steps.type(), Amount(), id_of(number))
        for number in range(1, 21):
            assert (await ended(store, number)).status == "completed"
    assert most == SETTINGS.running_max


async def test_a_graceful_stop_leaves_the_rest_to_others_at_once(
    store: MemorySagaStore, steps: Steps, autojump_clock: MockClock
) -> None:
    async def work(_: StepContext) -> None:
        await trio.sleep(2)

    steps.does["b"] = work
    engine = an_engine(store, steps.type(), drain_s=5.0)
    async with trio.open_nursery() as nursery:
        await nursery.start(engine.run)
        await engine.begin(steps.type(), Amount(), id_of(1))
        await trio.sleep(1)
        engine.close()
    assert trio.current_time() == pytest.approx(2, abs=0.1)
    row = await store.saga(id_of(1))
    assert row is not None
    assert (row.current_step, row.runner) == (2, None)
    assert await store.runners() == []
    with pytest.raises(Unavailable):
        await engine.begin(steps.type(), Amount(), id_of(2))


async def test_a_step_that_takes_too_long_is_cut_at_the_stop(
    store: MemorySagaStore, steps: Steps, autojump_clock: MockClock
) -> None:
    async def hang(_: StepContext) -> None:
        await trio.sleep(25)

    steps.does["a"] = hang
    engine = an_engine(store, steps.type(), drain_s=5.0)
    async with trio.open_nursery() as nursery:
        await nursery.start(engine.run)
        await engine.begin(steps.type(), Amount(), id_of(1))
        await trio.sleep(0.1)
        engine.close()
    assert trio.current_time() == pytest.approx(5.1, abs=0.1)
    row = await store.saga(id_of(1))
    assert row is not None
    assert (row.current_step, row.runner, row.status) == (0, None, "started")


async def test_what_a_transaction_of_others_began_is_launched(
    store: MemorySagaStore, steps: Steps, autojump_clock: MockClock
) -> None:
    engine = an_engine(store, steps.type())
    async with running(engine):
        first = engine.begun(steps.type(), Amount(), id_of(1))
        forgotten = engine.begun(steps.type(), Amount(), id_of(2))
        await store.commit(lambda: None, begun=[first, forgotten])
        engine.launch(first)
        engine.launch(first)
        assert (await ended(store, 1)).status == "completed"
        assert trio.current_time() < 0.2
        assert (await ended(store, 2)).status == "completed"
        assert trio.current_time() < 4 * SETTINGS.lease_s
    assert steps.calls == list("abcabc")


async def test_an_older_version_goes_on_under_the_new_code(
    store: MemorySagaStore, steps: Steps, autojump_clock: MockClock
) -> None:
    await put(store, begun(1), begun(2, version=2, total_steps=2), begun(3, version=9))
    newer = steps.type(
        "xyz", version=3, upgrades={1: lambda done, data: (done + 2, data)}
    )
    engine = an_engine(store, newer, steps.type("ab", version=2))
    async with running(engine):
        first, second = await ended(store, 1), await ended(store, 2)
        await trio.sleep(COUNT_S)
        assert (engine.counts.stranded, engine.counts.started) == (1, 0)
    assert (first.version, first.current_step) == (3, 3)
    assert (second.version, second.status) == (2, "completed")
    assert sorted(steps.calls) == ["a", "b", "z"]
    stranded = await store.saga(id_of(3))
    assert stranded is not None
    assert (stranded.status, stranded.revision) == ("started", 0)


async def test_data_that_cannot_be_upgraded_stands_still(
    store: MemorySagaStore, steps: Steps, autojump_clock: MockClock
) -> None:
    def upgrade(_: int, data: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        raise KeyError("gone")

    await put(store, begun(1))
    async with running(an_engine(store, steps.type(version=2, upgrades={1: upgrade}))):
        row = await ended(store)
    assert row.status == "failed"
    assert row.error is not None
    assert "KeyError" in row.error


async def test_steps_that_changed_without_a_new_version_are_not_run(
    store: MemorySagaStore, steps: Steps, autojump_clock: MockClock
) -> None:
    await put(store, begun(1, total_steps=2))
    async with running(an_engine(store, steps.type("abc"))):
        row = await ended(store)
    assert (row.status, row.error) == ("failed", "its type has other steps now")
    assert steps.calls == []


async def test_an_operator_aborts_one_that_runs(
    store: MemorySagaStore, steps: Steps, autojump_clock: MockClock
) -> None:
    async def work(_: StepContext) -> None:
        await store.abort(Order(id_of(1), NOW, "me", "abort", "asked for"))

    steps.does["a"] = work
    engine = an_engine(store, steps.type())
    async with running(engine):
        await engine.begin(steps.type(), Amount(), id_of(1))
        row = await ended(store)
    assert (row.status, row.error) == ("compensated", "asked for")
    assert steps.calls == ["a", "undo b", "undo a"]


async def test_a_lost_answer_does_not_run_the_step_again(
    store: MemorySagaStore, steps: Steps, autojump_clock: MockClock
) -> None:
    lost, faulty = 0, FaultyStore(store)

    async def lose(name: str) -> None:
        nonlocal lost
        if name == "write" and steps.calls == ["a", "b"] and lost < 2:
            lost += 1
            raise Unavailable

    faulty.after = lose
    engine = an_engine(faulty, steps.type())
    async with running(engine):
        await engine.begin(steps.type(), Amount(), id_of(1))
        row = await ended(store)
    assert lost == 2  # the second try was refused: it was done; the third said so
    assert row.status == "completed"
    assert steps.calls == ["a", "b", "c"]


async def test_a_commit_that_came_before_the_timeout_was_seen_counts(
    store: MemorySagaStore, steps: Steps, autojump_clock: MockClock
) -> None:
    async def commit_and_hang(context: StepContext) -> None:
        progress = context.progress(Amount(7))
        assert await store.commit(lambda: effects.append("b"), progress=[progress])
        await trio.sleep_forever()

    effects: list[str] = []
    steps.does["b"] = commit_and_hang
    engine = an_engine(store, steps.type())
    async with running(engine):
        await engine.begin(steps.type(), Amount(), id_of(1))
        row = await ended(store)
    assert (row.status, effects) == ("completed", ["b"])
    assert steps.calls == ["a", "b", "c"]
    assert row.data == '{"amount_minor":7,"done":["c"]}'


async def test_without_saga_types_nothing_is_asked_but_what_there_is(
    store: MemorySagaStore, autojump_clock: MockClock
) -> None:
    await put(store, begun(1))
    faulty = FaultyStore(store)
    engine = an_engine(faulty)
    async with trio.open_nursery() as nursery:
        await nursery.start(engine.run)
        await trio.sleep(1_000)
        assert faulty.calls == 1
        assert engine.counts.stranded == 1
        engine.close()


async def test_progress_of_who_lost_the_saga_is_refused_and_it_stops(
    store: MemorySagaStore, steps: Steps, autojump_clock: MockClock
) -> None:
    async def lose(context: StepContext) -> None:
        row = await store.saga(context.saga_id)
        assert row is not None
        end = {"status": "completed", "ended_ms": NOW, "is_released": True}
        store.move(progress_of(row, **end))

    steps.does["a"] = lose
    engine = an_engine(store, steps.type())
    async with running(engine):
        await engine.begin(steps.type(), Amount(), id_of(1))
        await trio.sleep(20)
    assert steps.calls == ["a"]
