"""How the event log is put together: months made ahead, what is over goes."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tchatd.app.configuration import load
from tchatd.app.events import DAY_MS, HANDLED_MS, Events
from tchatd.kernel.clock import ManualClock
from tchatd.observe.metrics import Metrics
from tchatd.stores.postgres.event_log import append_statement
from tchatd.stores.postgres.partitions import Month
from tchatd.stores.postgres.pool import Pool
from tests.support.events import Handler, draft

MONTH = Month(2027, 1)


def make(pool: Pool, clock: ManualClock, folder: Path, *handlers: Handler) -> Events:
    settings = load(None, {"TCHATD_DATA": str(folder)})
    metrics = Metrics(process=False)
    return Events(settings.events, pool, "n", clock, metrics, handlers)


def test_every_setting_reaches_the_relay(tmp_path: Path) -> None:
    events = make(Pool(""), ManualClock(), tmp_path, Handler("a"), Handler("b"))
    assert events.relay.subscribers == ["a", "b"]
    given = {
        f"TCHATD_EVENTS_{name.upper()}": str(2 + n)
        for n, name in enumerate(events.relay._settings.__struct_fields__)
    }
    given["TCHATD_EVENTS_RETRY_S_MAX"] = "900"
    settings = load(None, given | {"TCHATD_DATA": str(tmp_path)})
    metrics = Metrics(process=False)
    made = Events(settings.events, Pool(""), "n", ManualClock(), metrics)
    for name in made.relay._settings.__struct_fields__:
        value = getattr(made.relay._settings, name)
        assert value == float(given[f"TCHATD_EVENTS_{name.upper()}"])


def test_a_mistake_is_logged_without_its_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events = make(Pool(""), ManualClock(), tmp_path)
    events.relay.report(KeyError("a value"))
    written = capsys.readouterr()
    assert "events" in written.out + written.err
    assert "a value" not in written.out + written.err


@pytest.mark.service
async def test_months_are_made_before_they_come_and_dropped_when_they_are_old(
    pool: Pool, tmp_path: Path
) -> None:
    clock = ManualClock(MONTH.start_ms)
    events = make(pool, clock, tmp_path)
    await events.start()
    await pool.execute(*append_statement([draft(created_ms=clock.now_ms())]))
    assert await events._keep_house() == clock.now_ms() + DAY_MS
    count = "SELECT count(*) FROM event_log"
    for _ in range(13):
        clock.advance(10 * DAY_MS)
        await events._keep_house()
        await pool.execute(*append_statement([draft(created_ms=clock.now_ms())]))
    assert await pool.fetch_value(count) < 14
    assert await pool.fetch_value("SELECT to_regclass('event_log_2027_01')") is None
    clock.advance(-DAY_MS)
    due_ms = events._due_ms
    assert await events._keep_house() == due_ms


@pytest.mark.service
async def test_effects_are_remembered_for_a_while(pool: Pool, tmp_path: Path) -> None:
    clock = ManualClock()
    events = make(pool, clock, tmp_path)
    await pool.execute(
        "INSERT INTO event_handled VALUES (gen_random_uuid(), 1, %s, 's')",
        (clock.now_ms(),),
    )
    await events.store.acquire("s", "n", 60, 1)
    clock.advance(HANDLED_MS)
    assert await events.prune() == 0
    clock.advance(1)
    assert await events.prune() == 1


@pytest.mark.service
async def test_what_is_written_reaches_subscribers(pool: Pool, tmp_path: Path) -> None:
    clock, handler = ManualClock(), Handler()
    events = make(pool, clock, tmp_path, handler)
    await events.start()
    async with trio.open_nursery() as nursery:
        await nursery.start(events.relay.run)
        await pool.execute(*append_statement([draft(version=n) for n in range(1, 9)]))
        events.relay.nudge()
        with trio.fail_after(20):
            while len(handler.events) < 8:
                await trio.sleep(0.01)
        events.relay.close()
    assert handler.versions == list(range(1, 9))
    [row] = await events.letters.subscriptions()
    assert row.holder is None
