"""Giving a repeated request the first answer: crashes, nodes, bounds, secrecy."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tchatd.edge.idempotency import (
    REPLAYED,
    Idempotency,
    IdempotencySettings,
    KeyReused,
    StillRunning,
)
from tchatd.edge.ports import Response
from tchatd.kernel.clock import ManualClock
from tchatd.kernel.crypto import Keys
from tchatd.kernel.errors import Invalid, Unavailable
from tchatd.kernel.ids import Ids
from tchatd.stores.memory.idempotency import MemoryIdempotencyStore

KEYS = Keys.of_one_secret(bytes(32))
ANSWER = Response(201, b"content-type: application/json\r\n", b'{"token":"secret"}')
REPLAY = Response(201, ANSWER.headers + REPLAYED, ANSWER.body)


class Effect:
    """What is run: remembers with which ids, and may fail, wait or be refused."""

    def __init__(self, *answers: Response | BaseException) -> None:
        self.ids: list[UUID] = []
        self._answers = list(answers) or [ANSWER]
        self.gate: trio.Event | None = None

    async def __call__(self, idempotency_id: UUID) -> Response:
        self.ids.append(idempotency_id)
        if self.gate is not None:
            await self.gate.wait()
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer


class World:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = MemoryIdempotencyStore()

    def node(self, name: str = "a", **settings: Any) -> Idempotency:
        return Idempotency(
            self.store,
            KEYS.vault,
            KEYS.lookup_hash("idempotency"),
            self.clock,
            Ids(self.clock),
            IdempotencySettings(node=name, **settings),
        )


@pytest.fixture
def world() -> World:
    return World()


async def ask(
    node: Idempotency, effect: Effect, key: bytes = b"k", body: bytes = b"{}"
) -> Response:
    return await node.answer("user 7 thing.make", key, (b"/things", body), effect)


async def test_a_repeat_gets_the_first_answer_for_a_day(world: World) -> None:
    effect = Effect()
    node = world.node()

    assert await ask(node, effect) == ANSWER
    world.clock.advance(86_399_000)
    assert await ask(node, effect) == REPLAY
    world.clock.advance(1_000)
    assert await ask(node, effect) == ANSWER
    assert len(effect.ids) == 2


async def test_other_content_is_refused(world: World) -> None:
    effect = Effect()
    await ask(world.node(), effect)

    with pytest.raises(KeyReused):
        await ask(world.node(), effect, body=b"{1}")


async def test_parts_of_the_content_do_not_run_together(world: World) -> None:
    node, effect = world.node(), Effect()
    await node.answer("s", b"k", (b"ab", b"c"), effect)

    with pytest.raises(KeyReused):
        await node.answer("s", b"k", (b"a", b"bc"), effect)


async def test_a_run_that_a_crash_cut_short_is_run_again_with_the_same_id(
    world: World,
) -> None:
    effect = Effect(KeyError("crash"), ANSWER)
    with pytest.raises(KeyError):
        await ask(world.node(), effect)

    assert await ask(world.node(), effect) == ANSWER
    assert len(effect.ids) == 2
    assert len(set(effect.ids)) == 1
    assert effect.ids[0].version == 7


async def test_a_cancelled_run_is_run_again_with_the_same_id(world: World) -> None:
    effect, node = Effect(), world.node()
    effect.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, node, effect)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    effect.gate.set()

    assert await ask(node, effect) == ANSWER
    assert len(set(effect.ids)) == 1


async def test_an_answer_is_kept_although_its_asker_is_cancelled_meanwhile(
    world: World,
) -> None:
    effect, node = Effect(), world.node()
    scope = trio.CancelScope()

    async def run(idempotency_id: UUID) -> Response:
        scope.cancel()
        return await effect(idempotency_id)

    with scope:
        await node.answer("user 7 thing.make", b"k", (b"/things", b"{}"), run)

    assert await ask(node, effect) == REPLAY


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_what_may_succeed_later_is_not_kept(world: World, status: int) -> None:
    effect = Effect(Response(status, b"", b""), ANSWER)
    node = world.node()

    assert (await ask(node, effect)).status == status
    assert await ask(world.node("b"), effect) == ANSWER
    assert len(set(effect.ids)) == 1


async def test_duplicates_wait_for_the_first_only_so_long(
    world: World, autojump_clock: Any
) -> None:
    effect, node = Effect(), world.node(wait_s=3.0)
    effect.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, node, effect)
        await wait_all_tasks_blocked()

        with pytest.raises(StillRunning) as late:
            await ask(node, effect)

        assert late.value.retry_after_s == 1
        assert trio.current_time() > 2
        effect.gate.set()
    assert len(effect.ids) == 1


async def test_only_so_many_run_and_wait(world: World) -> None:
    effect, node = Effect(), world.node(running_max=1, waiting_max=1)
    effect.gate = trio.Event()
    answers: list[Response] = []

    async def one() -> None:
        answers.append(await ask(node, effect))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one)
        await wait_all_tasks_blocked()
        nursery.start_soon(one)
        await wait_all_tasks_blocked()
        with pytest.raises(StillRunning):
            await ask(node, effect)
        with pytest.raises(Unavailable):
            await ask(node, effect, key=b"another")
        effect.gate.set()

    assert sorted(answers, key=lambda answer: answer.headers) == [ANSWER, REPLAY]


async def test_another_node_waits_for_the_one_that_runs(
    world: World, autojump_clock: Any
) -> None:
    effect = Effect()
    effect.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, world.node("a"), effect)
        await wait_all_tasks_blocked()
        gate = effect.gate

        async def open_gate() -> None:
            await trio.sleep(1)
            gate.set()

        nursery.start_soon(open_gate)
        assert await ask(world.node("b"), effect) == REPLAY
    assert len(effect.ids) == 1


async def test_a_store_that_is_down_refuses_before_anything_ran(world: World) -> None:
    effect = Effect()

    class Down(MemoryIdempotencyStore):
        async def reserve(self, *args: Any, **kwargs: Any) -> Any:
            raise Unavailable

    world.store = Down()
    with pytest.raises(Unavailable):
        await ask(world.node(), effect)
    assert effect.ids == []


async def test_an_answer_that_cannot_be_kept_is_given_all_the_same(
    world: World,
) -> None:
    class Full(MemoryIdempotencyStore):
        async def complete(self, *args: Any) -> None:
            raise Unavailable

    world.store = Full()
    effect = Effect()
    assert await ask(world.node(), effect) == ANSWER
    assert await ask(world.node(), effect) == ANSWER
    assert len(set(effect.ids)) == 1


async def test_what_is_stored_tells_nothing(world: World) -> None:
    await ask(world.node(), Effect(), key=b"customer-5")

    stored = repr(world.store.__dict__).encode()
    for row in world.store._rows.values():
        stored += row.answer or b""

    assert b"secret" not in stored
    assert b"customer" not in stored


@pytest.mark.parametrize("key", [b"", b"x" * 256, b"a b", b"\x7f", "ก".encode()])
async def test_keys_are_visible_ascii(world: World, key: bytes) -> None:
    with pytest.raises(Invalid):
        await ask(world.node(), Effect(), key=key)


async def test_pruning_goes_on_until_nothing_is_left(world: World) -> None:
    node = world.node()
    for number in range(1_500):
        await ask(node, Effect(), key=b"%d" % number)
    world.clock.advance(86_400_000)

    assert await node.prune() == 1_500
