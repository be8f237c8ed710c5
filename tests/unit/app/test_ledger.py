"""How the ledger is put together: holds that are over go, months come and go."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import trio

from tchatd.app.configuration import load
from tchatd.app.ledger import DAY_MS, Ledger
from tchatd.domains.payment.ledger.errors import HoldEnded
from tchatd.domains.payment.ledger.models import HoldState
from tchatd.kernel.clock import ManualClock
from tchatd.kernel.errors import Unavailable
from tchatd.kernel.ids import Ids
from tchatd.observe.metrics import Metrics
from tchatd.stores.postgres.partitions import Month
from tchatd.stores.postgres.pool import Pool
from tests.support.ledger import WALLET, WORLD, answer, keep_back, key_of, move, post

MONTH = Month(2027, 1)


def make(pool: Pool, clock: ManualClock, folder: Path, **given: str) -> Ledger:
    environment = {f"TCHATD_LEDGER_{key}": value for key, value in given.items()}
    settings = load(None, environment | {"TCHATD_DATA": str(folder)})
    return Ledger(settings.ledger, pool, clock, Ids(clock), Metrics(process=False))


def test_every_setting_reaches_the_batches(tmp_path: Path) -> None:
    names = [
        *("batch_max", "waiting_max", "attempts_max", "trip_s", "retry_s"),
        "in_doubt_s",
    ]
    given = {name.upper(): str(700 - n) for n, name in enumerate(names)}
    given["ATTEMPTS_MAX"] = "9"

    ledger = make(Pool(""), ManualClock(), tmp_path, **given)

    chosen = msgspec.structs.asdict(ledger.batches._settings)
    assert chosen == {name: float(given[name.upper()]) for name in names}


@pytest.mark.service
async def test_holds_that_are_over_are_let_go_a_batch_at_a_time(
    pool: Pool, tmp_path: Path
) -> None:
    clock = ManualClock()
    ledger = make(pool, clock, tmp_path, EXPIRY_BATCH_MAX="2")
    await ledger.start()
    async with trio.open_nursery() as nursery:
        await nursery.start(ledger.batches.run)
        world = await ledger.store.open(WORLD)
        wallet = await ledger.store.open(WALLET)
        submit = ledger.batches.submit
        await answer(submit(move(world, wallet, 100)))
        ids = [
            await answer(submit(keep_back(wallet, world, 10, clock.now_ms() + after)))
            for after in (1, 2, 3, 500)
        ]
        clock.advance(100)

        assert await ledger.expire() == clock.now_ms()
        assert await ledger.expire() is None
        assert await ledger.expire() is None

        holds = [await ledger.store.hold(id) for id in ids]
        states = [hold and hold.state for hold in holds]
        assert states == [HoldState.EXPIRED] * 3 + [HoldState.PENDING]
        [account] = await ledger.store.accounts([wallet])
        assert account.held == 10
        assert holds[0] is not None
        with pytest.raises(HoldEnded):
            await answer(submit(post(holds[0])))
        ledger.close()


@pytest.mark.service
async def test_months_are_made_before_they_come_and_keys_go_when_they_are_old(
    pool: Pool, tmp_path: Path
) -> None:
    clock = ManualClock(MONTH.start_ms)
    ledger = make(pool, clock, tmp_path, KEYS_DAYS="31")
    await ledger.start()
    async with trio.open_nursery() as nursery:
        await nursery.start(ledger.run)
        world = await ledger.store.open(WORLD)
        wallet = await ledger.store.open(WALLET)
        command = move(world, wallet, 5, key_of("k"))
        first = await answer(ledger.batches.submit(command))

        clock.advance(MONTH.plus(2).start_ms - MONTH.start_ms)
        await ledger.keep_house()
        again = await answer(ledger.batches.submit(command))
        assert again.answer == str(first).encode()

        clock.advance(3 * DAY_MS)
        assert await ledger.keep_house() == clock.now_ms() + DAY_MS
        names = {
            name
            for (name,) in await pool.fetch(
                "SELECT inhrelid::regclass::text FROM pg_inherits"
            )
        }
        assert "postings_2027_01" in names
        assert "ledger_keys_2027_01" not in names
        assert {"postings_2027_06", "ledger_keys_2027_06"} <= names
        ledger.close()


@pytest.mark.service
async def test_what_was_taken_is_answered_before_it_ends(
    pool: Pool, tmp_path: Path
) -> None:
    clock = ManualClock()
    ledger = make(pool, clock, tmp_path)
    async with trio.open_nursery() as nursery:
        await nursery.start(ledger.run)
        world = await ledger.store.open(WORLD)
        wallet = await ledger.store.open(WALLET)
        taken = [ledger.batches.submit(move(world, wallet, 1)) for _ in range(5)]
        ledger.close()
        with pytest.raises(Unavailable):
            ledger.batches.submit(move(world, wallet, 1)).result()
    for one in taken:
        one.result()
