"""Owns sagas without a daemon around them: a saga engine on a PostgreSQL.

python -m bench.peers.sagas_alone DSN NODE run SECONDS OUTSTANDING: sagas of five steps,
so many at a time; prints one JSON object. Steps do nothing but give way to others: what
is measured is what it costs to keep them.
… hold COUNT: begins so many, whose third step does not end; prints `held` when all are
in it, and stays. … finish COUNT: runs what is there, until so many have ended; prints
when (CLOCK_MONOTONIC) all were resumed and all had ended.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from uuid import UUID

import trio
from msgspec import Struct

from tchatd.kernel.clock import SystemClock
from tchatd.kernel.ids import Ids
from tchatd.kernel.sagas import SagaType, SagaTypes, Step, StepContext
from tchatd.observe.metrics import Metrics
from tchatd.sagas.engine import EngineSettings, SagaEngine
from tchatd.stores.postgres.pool import Pool
from tchatd.stores.postgres.sagas import PostgresSagaStore

NAMES = ("charge", "record", "settle", "tell", "finish")
HELD_AT = "settle"
WARMUP_S = 1.0
BEGINNERS = 200
LONG_S = 3_600.0
UNFINISHED = "SELECT count(*) FROM sagas WHERE ended_ms = 0"


class TopUp(Struct, frozen=True):
    """As large as the data of a top-up."""

    transaction_id: UUID
    wallet_id: UUID
    amount_minor: int
    provider: str = "sandbox"
    charge_id: str = "chrg_test_5xuy4w91xqz7d1w9u0t"
    status: str = "processing"


class Alone:
    """count: of sagas after whose first time in `HELD_AT` all are there."""

    def __init__(self, dsn: str, node: str, *, holds: bool, count: int = 0) -> None:
        self.pool = Pool(dsn, size=6)
        self.clock = SystemClock()
        self.ids = Ids(self.clock)
        self.type = SagaType(
            name="bench",
            version=1,
            steps=tuple(Step(name, self.run, timeout_s=LONG_S) for name in NAMES),
            data=TopUp,
            deadline_s=LONG_S,
        )
        self.engine = SagaEngine(
            PostgresSagaStore(self.pool),
            SagaTypes([self.type]),
            node,
            self.clock,
            self.ids,
            Metrics(process=False),
            EngineSettings(),
        )
        self._holds = holds
        self._count = count
        self._seen: set[UUID] = set()
        self._finished = 0
        self.all_there = trio.Event()
        self.all_finished = trio.Event()

    async def run(self, context: StepContext, data: TopUp) -> TopUp:
        await trio.lowlevel.checkpoint()
        if context.step == HELD_AT:
            self._seen.add(context.saga_id)
            if len(self._seen) == self._count:
                self.all_there.set()
            if self._holds:
                await trio.sleep_forever()
        elif context.step == NAMES[-1]:
            self._finished += 1
            if self._finished >= self._count:
                self.all_finished.set()
        return data

    async def begin(self) -> UUID:
        id = self.ids.v7()
        await self.engine.begin(self.type, TopUp(id, self.ids.v4(), 12_345), id)
        return id

    async def measure(self, seconds: float, outstanding: int) -> dict[str, float]:
        took_s: list[float] = []
        start_s = time.monotonic() + WARMUP_S
        end_s = start_s + seconds

        async def one_after_another() -> None:
            while (began_s := time.monotonic()) < end_s:
                row = await self.engine.settled(await self.begin())
                assert row is not None
                assert row.status == "completed", row.status
                now_s = time.monotonic()
                if start_s <= now_s < end_s:
                    took_s.append(now_s - began_s)

        async with trio.open_nursery() as nursery:
            for _ in range(outstanding):
                nursery.start_soon(one_after_another)
            await trio.sleep(WARMUP_S)
            used_s = -time.process_time()
            await trio.sleep(max(0.0, end_s - time.monotonic()))
            used_s += time.process_time()
        took_s.sort()
        count = len(took_s)
        return {
            "rate": count / seconds,
            "p50_ms": 1_000 * took_s[count // 2],
            "p99_ms": 1_000 * took_s[min(count - 1, count * 99 // 100)],
            "cpu_s_each": used_s / count,
        }

    async def hold(self, count: int) -> None:
        left = iter(range(count))

        async def begin_some() -> None:
            for _ in left:
                await self.begin()

        async with trio.open_nursery() as nursery:
            for _ in range(BEGINNERS):
                nursery.start_soon(begin_some)
        await self.all_there.wait()
        print("held", flush=True)
        await trio.sleep_forever()

    async def finish(self) -> dict[str, float]:
        print("ready", flush=True)
        await self.all_there.wait()
        resumed_s = time.monotonic()
        await self.all_finished.wait()
        while await self.pool.fetch_value(UNFINISHED):  # noqa: ASYNC110  # asks a store
            await trio.sleep(0.01)
        return {"resumed_s": resumed_s, "ended_s": time.monotonic()}


async def main(words: Sequence[str]) -> None:
    dsn, node, what, *numbers = words
    count = 0 if what == "run" else int(numbers[0])
    alone = Alone(dsn, node, holds=what == "hold", count=count)
    async with trio.open_nursery() as nursery:
        await nursery.start(alone.engine.run)
        if what == "run":
            seconds, outstanding = float(numbers[0]), int(numbers[1])
            print(json.dumps(await alone.measure(seconds, outstanding)), flush=True)
        elif what == "hold":
            await alone.hold(count)
        else:
            print(json.dumps(await alone.finish()), flush=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1:])
