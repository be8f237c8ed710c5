"""A process that begins sagas and runs them until it is killed.

python saga_child.py DSN NODE FROM TO: begins those numbers that are not there yet. An
effect is a row of `effects`: of a plain step in a transaction of its own, as a provider
with idempotency keys would have it; of an atomic step in that of the progress. Numbers
that are multiples of 5 are refused at the last step, so all before it is undone.
"""

from __future__ import annotations

import sys
from uuid import UUID

import trio
from msgspec import Struct

from tchatd.kernel.clock import SystemClock
from tchatd.kernel.errors import Unavailable
from tchatd.kernel.ids import Ids
from tchatd.kernel.sagas import (
    RECORDED,
    Abort,
    Recorded,
    SagaType,
    SagaTypes,
    Step,
    StepContext,
    Superseded,
)
from tchatd.observe.metrics import Metrics
from tchatd.sagas.engine import EngineSettings, SagaEngine
from tchatd.stores.postgres.pool import Pool
from tchatd.stores.postgres.sagas import PostgresSagaStore, progress_statement

STEP_S = 0.005
EFFECT = (
    "INSERT INTO effects (key, saga, what) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"
)
STRICT = "INSERT INTO effects (key, saga, what) VALUES (%s, %s, %s)"
TABLE = """CREATE TABLE effects (number bigint GENERATED ALWAYS AS IDENTITY,
    key uuid PRIMARY KEY, saga uuid NOT NULL, what text NOT NULL)"""
SETTINGS = EngineSettings(lease_s=1.0, poll_s=0.1, retry_s=0.1)


class Number(Struct, frozen=True):
    number: int


def saga_id(number: int) -> UUID:
    return UUID(int=(0x7000_8000 << 64) + number)


class Effects:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.type = SagaType(
            name="effects",
            version=1,
            steps=(
                Step("reserve", self.plain, self.undo),
                Step("transfer", self.atomic, self.undo, is_atomic=True),
                Step("tell", self.plain),
                Step("count", self.atomic, is_atomic=True),
                Step("finish", self.finish),
            ),
            data=Number,
            deadline_s=300,
        )

    async def plain(self, context: StepContext, data: Number) -> Number:
        await trio.sleep(STEP_S)
        await self._pool.execute(EFFECT, (context.key, context.saga_id, context.step))
        await trio.sleep(STEP_S)
        return data

    async def atomic(self, context: StepContext, data: Number) -> Recorded:
        progress = context.progress(data)
        async with self._pool.transaction() as connection:
            moved = await connection.fetch(*progress_statement([progress]))
            if not moved:
                raise Superseded
            await connection.execute(
                STRICT, (context.key, context.saga_id, context.step)
            )
        return RECORDED

    async def finish(self, context: StepContext, data: Number) -> Number:
        if data.number % 5 == 0:
            raise Abort("a multiple of five")
        return await self.plain(context, data)

    async def undo(self, context: StepContext, data: Number) -> Number:
        what = f"undo {context.step}"
        await self._pool.execute(EFFECT, (context.key, context.saga_id, what))
        return data


async def main(dsn: str, node: str, first: int, last: int) -> None:
    clock, pool = SystemClock(), Pool(dsn, size=6)
    saga_type = Effects(pool).type
    engine = SagaEngine(
        PostgresSagaStore(pool),
        SagaTypes([saga_type]),
        node,
        clock,
        Ids(clock),
        Metrics(process=False),
        SETTINGS,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(engine.run)
        for number in range(first, last):
            try:
                await engine.begin(saga_type, Number(number), saga_id(number))
            except Unavailable:
                await trio.sleep(0.1)
        print("begun", flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
