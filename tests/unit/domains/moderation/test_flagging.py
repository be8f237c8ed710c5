"""Flagged messages become reports from the journal, once each."""

from __future__ import annotations

import pytest

from tchatd.domains.moderation.filters import Words, patterns_of
from tchatd.domains.moderation.flagging import Flagging
from tchatd.domains.moderation.gate import Gate
from tchatd.domains.moderation.rates import Rates
from tchatd.kernel.errors import Unavailable
from tests.support.messaging import Core, loading, text, with_user
from tests.support.moderation import ModerationWorld


def flagging(world: ModerationWorld, core: Core, *lines: str) -> Gate:
    rates = Rates(user_per_minute=0, dialog_per_minute=0, keys_max=9)
    words = Words(patterns_of(lines)) if lines else None
    gate = Gate(world.standing, rates, words)
    core.flusher.feeds.append(Flagging(gate, world.reports))
    return gate


async def test_a_flagged_message_is_reported_with_what_it_said() -> None:
    world, core = ModerationWorld(), Core()
    flagging(world, core, "flag: lottery")
    async with loading(core):
        dialog = await core.do(1, with_user(2))
        sent = await core.do(1, text(dialog.id, "Lottery!"))
        await core.do(1, text(dialog.id, "hello"))
    await core.flusher.flush()
    [report], _ = await world.store.open_reports(9)
    assert str(report.thing_id) == sent.id
    assert str(report.dialog_id) == dialog.id
    assert (report.reporter, report.accused) == (0, 1)
    _, evidence = await world.reports.opened(report)
    assert "Lottery!" in str(evidence)


async def test_nothing_is_looked_at_without_a_filter() -> None:
    world, core = ModerationWorld(), Core()
    gate = flagging(world, core)
    async with loading(core):
        dialog = await core.do(1, with_user(2))
        await core.do(1, text(dialog.id, "lottery"))
    await core.flusher.flush()
    assert await world.store.open_reports(9) == ([], 0)
    gate.filter = Words(patterns_of(["flag: lottery"]))
    async with loading(core):
        await core.do(1, text(dialog.id, "lottery"))
    await core.flusher.flush()
    assert (await world.store.open_reports(9))[1] == 1


async def test_a_store_that_is_away_is_asked_again_and_has_it_once(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, core = ModerationWorld(), Core()
    flagging(world, core, "flag: lottery")
    report, failures = world.store.report, [1, 2]

    async def fail(new: object) -> int:
        if failures:
            failures.pop()
            raise Unavailable("away")
        return await report(new)  # type: ignore[arg-type]

    monkeypatch.setattr(world.store, "report", fail)
    async with loading(core):
        dialog = await core.do(1, with_user(2))
        for _ in range(2):
            await core.do(1, text(dialog.id, "lottery"))
        await core.flusher.flush()
    assert (await world.store.open_reports(9))[1] == 2
