"""Owns a world for sagas: engines that die, a store that goes away, effects that count.

Everything follows from a seed. An effect of a plain step is at a provider that knows
idempotency keys; of an atomic step it is in the store's own transaction. Each saga has
a script of what its steps do, made from its number.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import trio
from msgspec import Struct

from tchatd.kernel.errors import Unavailable
from tchatd.kernel.ids import Ids
from tchatd.kernel.sagas import (
    RECORDED,
    Abort,
    Recorded,
    Retry,
    RetryLater,
    SagaRow,
    SagaType,
    SagaTypes,
    Step,
    StepContext,
    Superseded,
    Wait,
)
from tchatd.observe.metrics import Metrics
from tchatd.sagas.engine import EngineSettings, SagaEngine
from tchatd.sagas.store import SagaStore
from tchatd.stores.memory.sagas import MemorySagaStore
from tests.support.sagas import NOW

SETTINGS = EngineSettings(
    running_max=20, claim_max=7, batch_max=5, poll_s=0.5, lease_s=3.0, retry_s=0.2
)


class TrioClock:
    """The time of day goes with Trio's."""

    def now_ms(self) -> int:
        return NOW + round(1_000 * trio.current_time())


class Plan(Struct, frozen=True):
    """A saga's data. number: what its script is made from."""

    number: int
    steps: tuple[str, ...] = ()


class FaultyStore:
    """Passes everything on, unless `trouble` has something for this call.

    trouble: told the call's name; may raise, before it or after it was done.
    """

    def __init__(self, store: SagaStore) -> None:
        self._store = store
        self.calls = 0
        self.before: Callable[[str], Awaitable[None]] = _nothing
        self.after: Callable[[str], Awaitable[None]] = _nothing

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        async def call(*arguments: Any, **named: Any) -> Any:
            self.calls += 1
            await self.before(name)
            result = await method(*arguments, **named)
            await self.after(name)
            return result

        return call


async def _nothing(_: str) -> None:
    return None


class World:
    """Effects, and the sagas that have them."""

    def __init__(self, seed: int, types: int = 4) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.store = MemorySagaStore()
        self.clock = TrioClock()
        self.atomic = Counter[UUID]()
        """How often each effect in the store's transaction happened."""
        self.log: dict[UUID, list[str]] = {}
        """Of each saga: what happened to the world, `a` or `undo a`, each key once."""
        self._known_keys: set[UUID] = set()
        self._tries = Counter[tuple[UUID, str]]()
        self.types = SagaTypes(self._type(number) for number in range(types))

    def engine(self, node: str, store: Any) -> SagaEngine:
        """store: a `SagaStore`."""
        return SagaEngine(
            store,
            self.types,
            node,
            self.clock,
            Ids(self.clock, self.chance.randbytes),
            Metrics(process=False),
            SETTINGS,
            self.chance.random,
        )

    def _type(self, number: int) -> SagaType[Plan]:
        dice = random.Random(f"type {self.seed} {number}")
        steps = []
        pivot = dice.choice([-1, -1, 1, 2])
        for index in range(dice.randint(1, 5)):
            is_atomic = dice.random() < 0.4
            steps.append(
                Step(
                    "abcde"[index],
                    self._run_atomic if is_atomic else self._run,
                    self._undo if dice.random() < 0.7 else None,
                    Retry(first_s=0.5, factor=2, max_s=4, attempts=6),
                    timeout_s=5.0,
                    is_atomic=is_atomic,
                    is_pivot=index == pivot,
                )
            )
        return SagaType(
            name=f"type-{number}",
            version=1,
            steps=tuple(steps),
            data=Plan,
            deadline_s=60.0,
        )

    # What steps do.

    async def _run(self, context: StepContext, plan: Plan) -> Plan | Wait[Plan]:
        wait = await self._trouble(context, plan)
        if wait is not None:
            return wait
        self._happens(context, context.step)
        await self._lose_answer(context, plan)
        return Plan(plan.number, (*plan.steps, context.step))

    async def _run_atomic(
        self, context: StepContext, plan: Plan
    ) -> Recorded | Wait[Plan]:
        wait = await self._trouble(context, plan)
        if wait is not None:
            return wait
        progress = context.progress(Plan(plan.number, (*plan.steps, context.step)))

        def effect() -> None:
            self.atomic[context.key] += 1
            self._happens(context, context.step)

        if not await self.store.commit(effect, progress=[progress]):
            raise Superseded
        await self._lose_answer(context, plan)
        return RECORDED

    async def _undo(self, context: StepContext, plan: Plan) -> Plan:
        dice = self._dice(context, plan)
        await trio.sleep(dice.choice([0, 0, 0.1]))
        if self._tries_of(context) <= dice.choice([0, 0, 1, 2]):
            raise RetryLater("not yet")
        if context.step in self.log[context.saga_id] or not context.in_doubt:
            self._happens(context, f"undo {context.step}")
        return Plan(plan.number, plan.steps[:-1])

    async def _trouble(self, context: StepContext, plan: Plan) -> Wait[Plan] | None:
        dice = self._dice(context, plan)
        await trio.sleep(dice.choice([0, 0, 0, 0.05, 1.0]))
        tries, kind = self._tries_of(context), dice.random()
        if kind < 0.08 and self._may_say_no(context):
            raise Abort("no")
        if kind < 0.2 and tries <= 2:
            raise RetryLater("not yet", dice.choice([None, 0.0, 1.5]))
        if kind < 0.3 and tries <= 1:
            raise Unavailable
        if kind < 0.35 and tries <= 1:
            raise LookupError("nobody foresaw")
        is_late = context.now_ms >= context.deadline_ms
        if kind < 0.45 and not is_late and context.signal("go", bool) is None:
            return Wait(plan, context.now_ms + 1_000_000)
        if kind < 0.5 and tries <= 1:
            return Wait(plan, context.now_ms + 2_000)
        if kind < 0.53 and tries <= 1:
            await trio.sleep(60)
        return None

    async def _lose_answer(self, context: StepContext, plan: Plan) -> None:
        """What happened is sometimes not told."""
        dice = self._dice(context, plan, "answer")
        if dice.random() < 0.1 and self._tries_of(context, "answer") <= 1:
            raise Unavailable

    def _may_say_no(self, context: StepContext) -> bool:
        """It has had no effect, and there is a way back."""
        is_past = context.saga_type.is_past_pivot(context.row.current_step)
        return context.key not in self._known_keys and not is_past

    def _happens(self, context: StepContext, what: str) -> None:
        if context.key in self._known_keys:
            return  # the provider knows the key
        self._known_keys.add(context.key)
        self.log[context.saga_id].append(what)

    def _dice(self, context: StepContext, plan: Plan, of: str = "") -> random.Random:
        """The same in each attempt."""
        return random.Random(f"{self.seed} {plan.number} {context.key} {of}")

    def _tries_of(self, context: StepContext, of: str = "") -> int:
        self._tries[context.key, of] += 1
        return self._tries[context.key, of]

    # What has to be true.

    def check(self, row: SagaRow) -> None:
        """An ended saga's effects are those that its status says."""
        saga_type = next(t for t in self.types if t.name == row.saga_type)
        names = [step.name for step in saga_type.steps]
        log = self.log[row.id]
        done = [what for what in log if not what.startswith("undo ")]
        undone = [what.removeprefix("undo ") for what in log if what not in done]
        assert log == [*done, *(f"undo {name}" for name in undone)]
        assert done == names[: len(done)]
        if row.status == "completed":
            assert (done, undone) == (names, [])
            assert row.current_step == row.total_steps
        else:
            assert row.status == "compensated"
            to_undo = [
                step.name
                for step in saga_type.steps[: len(done)]
                if step.compensate is not None
            ]
            assert undone == to_undo[::-1]
            assert not any(step.is_pivot for step in saga_type.steps[: len(done)]), (
                "it went back past a pivot"
            )
        assert all(count == 1 for count in self.atomic.values())
