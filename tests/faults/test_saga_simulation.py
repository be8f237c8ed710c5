"""Random sagas on two nodes that die, on a store that goes away: nothing gets stuck.

A crash is a cancellation at a counted turn of the scheduler, or before or after a
counted call to the store. TCHATD_SAGA_SEEDS asks for more histories.
"""

from __future__ import annotations

import os
import random
from uuid import UUID

import pytest
import trio
from trio.testing import MockClock

from tchatd.kernel.errors import Unavailable
from tchatd.kernel.sagas import SagaType
from tchatd.sagas.engine import SagaEngine
from tchatd.sagas.store import Order
from tests.support.saga_world import FaultyStore, Plan, World
from tests.support.sagas import NOW, id_of

SEEDS = int(os.environ.get("TCHATD_SAGA_SEEDS", "25"))
SAGAS, CRASHES, PATIENCE_S = 25, 12, 600


class Node:
    """A node that starts again whenever it died."""

    def __init__(self, world: World, name: str, chance: random.Random) -> None:
        self._world = world
        self._name = name
        self._chance = chance
        self._crashes = CRASHES
        self.store = FaultyStore(world.store)
        self.store.before = self.store.after = self._trouble
        self.scope = trio.CancelScope()
        self.is_calm = False
        self.engine = self._new_engine()

    def _new_engine(self) -> SagaEngine:
        return self._world.engine(self._name, self.store)

    async def run(self) -> None:
        while True:
            self.scope = trio.CancelScope()
            with self.scope:
                await self.engine.run()
            self.engine = self._new_engine()
            await trio.sleep(self._chance.choice([0, 0.5, 20]))

    async def _trouble(self, _: str) -> None:
        if self.is_calm:
            return
        dice = self._chance.random()
        if dice < 0.02:
            raise Unavailable
        if dice < 0.04 and self._crashes:
            self._crashes -= 1
            self.scope.cancel()
            await trio.lowlevel.checkpoint()
        if dice < 0.06:
            await trio.sleep(self._chance.choice([0.1, 1, 8]))


class CrashAtTurns(trio.abc.Instrument):
    """Cancels a node at counted turns of its tasks."""

    def __init__(self, nodes: list[Node], chance: random.Random) -> None:
        self._nodes = nodes
        self._chance = chance
        self._left = CRASHES
        self._next = chance.randint(1, 400)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._next -= 1
        if self._next or not self._left:
            return
        self._left -= 1
        self._next = self._chance.randint(1, 800)
        self._chance.choice(self._nodes).scope.cancel()


async def begin_all(
    world: World, nodes: list[Node], types: list[SagaType[Plan]]
) -> None:
    """Each is begun, however often it takes: as who keeps an idempotency key would."""
    for number in range(SAGAS):
        world.log[id_of(number)] = []
        while True:
            node = world.chance.choice(nodes)
            try:
                with trio.fail_after(5):
                    await node.engine.begin(
                        world.chance.choice(types), Plan(number), id_of(number)
                    )
                    break
            except (Unavailable, trio.TooSlowError):
                await trio.sleep(0.3)
        await trio.sleep(world.chance.choice([0, 0, 0.2]))


async def meddle(world: World, nodes: list[Node]) -> None:
    """Signals and operators come at any time; not all of them are heard."""
    for _ in range(SAGAS):
        id = id_of(world.chance.randrange(SAGAS))
        try:
            if world.chance.random() < 0.8:
                await world.chance.choice(nodes).engine.signal(id, "go", True)
            else:
                await world.store.abort(Order(id, NOW, "me", "abort", "asked for"))
        except Unavailable:
            pass
        await trio.sleep(world.chance.choice([0, 0.5, 3]))


async def until_all_ended(world: World) -> None:
    for id in world.log:
        with trio.move_on_after(PATIENCE_S):
            while (row := await world.store.saga(id)) is None or not row.ended_ms:
                await trio.sleep(1)
        assert row is not None
        assert row.ended_ms, f"stuck: {row}"


async def play(seed: int) -> World:
    world = World(seed)
    types = list(world.types)
    nodes = [Node(world, name, world.chance) for name in ("one", "other")]
    crashes = CrashAtTurns(nodes, world.chance)
    async with trio.open_nursery() as nursery:
        for node in nodes:
            nursery.start_soon(node.run)
        await trio.lowlevel.checkpoint()
        trio.lowlevel.add_instrument(crashes)
        nursery.start_soon(meddle, world, nodes)
        await begin_all(world, nodes, types)
        await trio.sleep(world.chance.uniform(0, 40))
        trio.lowlevel.remove_instrument(crashes)
        for node in nodes:
            node.is_calm = True
        await until_all_ended(world)
        nursery.cancel_scope.cancel()
    return world


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_every_saga_ends_with_the_effects_it_says(
    seed: int, autojump_clock: MockClock
) -> None:
    world = await play(seed)
    for id in world.log:
        row = await world.store.saga(id)
        assert row is not None
        world.check(row)


async def test_the_simulation_plays_what_it_is_for(autojump_clock: MockClock) -> None:
    """Else it would hold for histories without anything in them."""
    endings: set[str] = set()
    undone = atomic = 0
    for seed in range(5):
        world = await play(seed)
        ids: list[UUID] = list(world.log)
        rows = [await world.store.saga(id) for id in ids]
        endings |= {row.status for row in rows if row is not None}
        undone += sum("undo" in what for log in world.log.values() for what in log)
        atomic += len(world.atomic)
    assert endings == {"completed", "compensated"}
    assert undone >= 20
    assert atomic >= 20
