"""What operators decide has its effect and its line in the log."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from msgspec import structs

from tchatd.domains.moderation import decisions
from tchatd.domains.moderation.errors import (
    ActionImpossible,
    Silenced,
    UserNotFound,
)
from tchatd.domains.moderation.models import Action, ReportRecord
from tchatd.kernel.errors import Banned, Unavailable
from tests.support.moderation import (
    MESSAGE,
    USERS,
    ModerationWorld,
    new_report,
    sanction,
)

WHO: Any = {"who": "root", "reason": "why"}


async def reported(world: ModerationWorld) -> ReportRecord:
    number = await world.store.report(new_report())
    report = await world.store.report_numbered(number)
    assert report is not None
    return report


async def log(world: ModerationWorld) -> list[tuple[str, str]]:
    decisions, _ = await world.store.decisions(99)
    return [(made.action, made.thing) for made in decisions]


async def test_a_ban_signs_out_at_once_and_ends_by_hand() -> None:
    world = ModerationWorld()
    assert await world.decisions.sanction(2, USERS[2], "ban", **WHO) == 2
    assert world.people.signed_out == [2]
    with pytest.raises(Banned):
        world.standing.check_ban(2)
    assert await world.decisions.end_sanction(2, USERS[2], "ban", **WHO)
    assert not await world.decisions.end_sanction(2, USERS[2], "ban", **WHO)
    world.standing.check_ban(2)
    user = f"user {USERS[2]}"
    assert await log(world) == [("unban", user), ("ban", user)]


async def test_a_tier_is_set_and_written_down() -> None:
    world = ModerationWorld()
    assert await world.decisions.set_tier(2, USERS[2], 3, **WHO)
    assert world.store.tiers == {2: 3}
    assert await log(world) == [("tier 3", f"user {USERS[2]}")]


async def test_who_could_not_be_signed_out_is_until_it_is_done() -> None:
    world = ModerationWorld()
    woken: list[None] = []
    world.decisions.on_unfinished = lambda: woken.append(None)
    world.people.is_away = True
    with pytest.raises(Unavailable):
        await world.decisions.sanction(2, USERS[2], "ban", **WHO)
    assert world.standing.is_banned(2)
    assert len(woken) == 1
    with pytest.raises(Unavailable):
        await world.decisions.finish()
    world.people.is_away = False
    assert await world.decisions.finish() is None
    assert await world.decisions.finish() is None
    assert world.people.signed_out == [2]


async def test_after_a_crash_whoever_is_banned_is_signed_out_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = ModerationWorld()
    monkeypatch.setattr(decisions, "SIGNED_OUT_AT_ONCE", 2)
    world.standing.load(sanction(number=number) for number in (1, 2, 3))
    world.standing.add(sanction(number=4, kind="silence"))
    world.decisions.resume()
    world.standing.end(2, "ban")
    assert await world.decisions.finish() == world.clock.now_ms()
    assert await world.decisions.finish() is None
    assert sorted(world.people.signed_out) == [1, 3]


async def test_a_silence_signs_nobody_out_and_ends_by_time() -> None:
    world = ModerationWorld()
    until_ms = world.clock.now_ms() + 60_000
    await world.decisions.sanction(2, USERS[2], "silence", **WHO, until_ms=until_ms)
    assert world.people.signed_out == []
    with pytest.raises(Silenced):
        world.standing.check_send(2)
    world.clock.advance(60_000)
    world.standing.check_send(2)


async def test_a_removed_message_has_a_reason_and_a_line() -> None:
    world = ModerationWorld()
    await world.decisions.remove(MESSAGE, **WHO)
    assert world.conversations.removed == [(MESSAGE, "why")]
    assert await log(world) == [("remove", f"message {MESSAGE}")]
    with pytest.raises(UserNotFound):
        await world.decisions.remove(uuid4(), **WHO)


@pytest.mark.parametrize(
    ("action", "done"),
    [
        ("remove", ["resolve: remove", "remove"]),
        ("ban", ["resolve: ban", "ban"]),
        ("silence", ["resolve: silence", "silence"]),
        ("none", ["resolve: none"]),
    ],
)
async def test_a_report_is_acted_on_and_closed(action: Action, done: list[str]) -> None:
    world = ModerationWorld()
    report = await reported(world)
    await world.store.report(new_report(reporter=3))
    assert await world.decisions.resolve(report, action, **WHO) == 2
    assert [made for made, _ in await log(world)] == done
    assert (await world.store.open_reports(9))[1] == 0


async def test_what_cannot_be_done_leaves_the_report_open() -> None:
    world = ModerationWorld()
    report = await reported(world)
    about_user = structs.replace(report, thing="user")
    with pytest.raises(ActionImpossible):
        await world.decisions.resolve(about_user, "remove", **WHO)
    erased = structs.replace(report, accused_id=None)
    with pytest.raises(ActionImpossible):
        await world.decisions.resolve(erased, "ban", **WHO)
    world.conversations.messages.clear()
    with pytest.raises(UserNotFound):
        await world.decisions.resolve(report, "remove", **WHO)
    assert (await world.store.open_reports(9))[1] == 1
