"""Scheduled sending: on time, as its author, by the rules of then, exactly once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
import trio
import trio.testing
from msgspec import UNSET

from tchatd.app.jobs import Alarm
from tchatd.domains.messaging import errors
from tchatd.domains.messaging.beside import ScheduledRow
from tchatd.domains.messaging.content import Button
from tchatd.domains.messaging.events import MessageNew
from tchatd.domains.messaging.member_models import RemoveMember
from tchatd.domains.messaging.models import ListMessages
from tchatd.domains.messaging.records import RemoveRecord
from tchatd.domains.messaging.scheduling import (
    AHEAD_S_MAX,
    LEASE_S,
    TRIES_MAX,
    CancelScheduled,
    ChangeScheduled,
    ListScheduled,
    Scheduled,
    ScheduledFailed,
    ScheduledSent,
    ScheduleMessage,
    Scheduling,
)
from tchatd.kernel.clock import ManualClock
from tchatd.kernel.errors import Invalid, RateLimited, Unavailable
from tests.support.beside import Around, around
from tests.support.messaging import Core, client_id, shape, text, user_id, with_user


@pytest.fixture
async def site() -> AsyncIterator[Around]:
    async with around() as site:
        yield site


def later(site: Around, seconds: float) -> datetime:
    ms = site.core.clock.now_ms() + round(1_000 * seconds)
    return datetime.fromtimestamp(ms / 1_000, UTC)


async def plan(
    site: Around,
    dialog_id: str,
    words: str = "later",
    s: float = 60,
    by: int = 1,
    **more: Any,
) -> Scheduled:
    command = ScheduleMessage(
        dialog_id=dialog_id,
        send_at=later(site, s),
        type="text",
        content={"text": words},
        **more,
    )
    planned: Scheduled = await site.ask(by, site.scheduling.schedule, command)
    return planned


async def texts(site: Around, dialog_id: str) -> list[str]:
    page = await site.core.do(2, ListMessages(dialog_id=dialog_id))
    return [m["content"]["text"] for m in reversed(shape(page)["messages"])]


async def own(site: Around, dialog_id: str, user: int = 1) -> list[Scheduled]:
    listed = await site.ask(user, site.scheduling.list, ListScheduled(dialog_id))
    found: list[Scheduled] = listed.scheduled
    return found


async def test_a_message_is_sent_when_it_is_due_and_not_before(site: Around) -> None:
    dialog = await site.core.do(1, with_user(2))
    planned = await plan(site, dialog.id, "for later", 60)
    site.core.clock.advance(59_999)
    due_ms = await site.scheduling.send_due()
    assert due_ms == site.core.clock.now_ms() + 1
    assert await texts(site, dialog.id) == []
    site.core.clock.advance(1)
    assert await site.scheduling.send_due() is None
    assert await texts(site, dialog.id) == ["for later"]
    [(who, event, left_out)] = [
        t for t in site.core.hub.told if type(t[1]) is MessageNew
    ]
    assert (who, left_out) == ([1, 2], None)
    assert event.message.sender_id == str(user_id(1))
    [(who, sent)] = site.told(ScheduledSent)
    assert (who, sent.id, sent.message_id) == ([1], planned.id, event.message.id)
    assert await own(site, dialog.id) == []


async def test_after_a_long_time_away_what_is_due_is_sent_in_order(
    site: Around, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tchatd.domains.messaging.scheduling.BATCH_MAX", 3)
    dialog = await site.core.do(1, with_user(2))
    for number in range(7, 0, -1):
        await plan(site, dialog.id, f"{number}", 20 * number)
    site.core.clock.advance(30 * 86_400_000)
    for _ in range(3):
        await site.scheduling.send_due()
    assert await texts(site, dialog.id) == [str(number) for number in range(1, 8)]


async def test_everything_of_a_message_goes_along(site: Around) -> None:
    dialog = await site.core.do(1, with_user(2))
    first = await site.core.do(2, text(dialog.id))
    planned = await plan(
        site, dialog.id, reply_to_id=UUID(first.id), mentions=[user_id(2)]
    )
    assert planned.reply_to_id == first.id
    assert list(planned.mentions or ()) == [str(user_id(2))]
    site.core.clock.advance(60_000)
    await site.scheduling.send_due()
    page = await site.core.do(2, ListMessages(dialog_id=dialog.id, limit=1))
    assert page.messages[0].reply_to_id == first.id
    assert page.messages[0].mentions == (str(user_id(2)),)


@pytest.mark.parametrize("seconds", [-1, 10 - 0.001, AHEAD_S_MAX + 0.001])
async def test_a_time_too_near_or_too_far_is_refused(
    site: Around, seconds: float
) -> None:
    dialog = await site.core.do(1, with_user(2))
    with pytest.raises(Invalid):
        await plan(site, dialog.id, s=seconds)
    for edge in (10, AHEAD_S_MAX):
        await plan(site, dialog.id, s=edge)


async def test_what_could_not_be_sent_now_is_not_scheduled(site: Around) -> None:
    dialog = await site.core.do(1, with_user(2))
    with pytest.raises(errors.InvalidContent):
        await plan(site, dialog.id, words="")
    with pytest.raises(errors.DialogNotFound):
        await plan(site, dialog.id, by=9)
    with pytest.raises(errors.DialogNotFound):
        await plan(site, str(uuid4()))


async def test_buttons_that_are_too_large_are_not_scheduled(site: Around) -> None:
    dialog = await site.core.do(1, with_user(2))
    large = ((Button("x", url="https://b.example/" + "x" * 2_000),) * 8,) * 2
    with pytest.raises(errors.InvalidContent):
        await plan(site, dialog.id, buttons=large)
    planned = await plan(site, dialog.id)
    change = ChangeScheduled(
        id=UUID(planned.id),
        send_at=later(site, 60),
        type="text",
        content={"text": "x"},
        buttons=large,
    )
    with pytest.raises(errors.InvalidContent):
        await site.ask(1, site.scheduling.change, change)


async def test_who_left_meanwhile_is_told_that_it_failed(site: Around) -> None:
    group = await site.group(1, 2, 3)
    planned = await plan(site, group.id, by=3)
    dialog = site.core.state.find(group.id)
    assert dialog is not None
    ids = user_id(1).bytes + user_id(2).bytes
    record = RemoveRecord(
        dialog.number, 0, 3, user_id(3).bytes, 3, user_id(3).bytes, "left", ids
    )
    await site.core.settle(site.core.applier.submit(record))
    site.core.clock.advance(60_000)
    assert await site.scheduling.send_due() is None
    [(who, event)] = site.told(ScheduledFailed)
    assert (who, event.id, event.reason) == ([3], planned.id, "dialog-not-found")
    [failed] = await own(site, group.id, 3)
    assert failed.failed == "dialog-not-found"
    assert await texts(site, group.id) == []
    await site.ask(3, site.scheduling.cancel, CancelScheduled(UUID(failed.id)))
    assert await own(site, group.id, 3) == []


async def test_the_author_changes_and_cancels_nobody_else_does(site: Around) -> None:
    dialog = await site.core.do(1, with_user(2))
    one, other = (
        UUID((await plan(site, dialog.id)).id),
        UUID((await plan(site, dialog.id)).id),
    )
    new = ChangeScheduled(
        id=one, send_at=later(site, 30), type="text", content={"text": "changed"}
    )
    for handler, command in (
        (site.scheduling.change, new),
        (site.scheduling.cancel, CancelScheduled(one)),
    ):
        with pytest.raises(errors.ScheduledNotFound):
            await site.ask(2, handler, command)
    changed = await site.ask(1, site.scheduling.change, new)
    assert changed.content == {"text": "changed"}
    await site.ask(1, site.scheduling.cancel, CancelScheduled(other))
    assert [row.id for row in await own(site, dialog.id)] == [str(one)]
    assert await own(site, dialog.id, 2) == []
    site.core.clock.advance(30_000)
    await site.scheduling.send_due()
    assert await texts(site, dialog.id) == ["changed"]
    for handler, command in (
        (site.scheduling.change, new),
        (site.scheduling.cancel, CancelScheduled(one)),
    ):
        with pytest.raises((errors.ScheduledNotFound, Invalid)):
            await site.ask(1, handler, command)


async def test_members_that_the_type_does_not_know_are_not_kept(site: Around) -> None:
    dialog = await site.core.do(1, with_user(2))
    content = {"text": "later", "more": "x" * 100_000}
    command = ScheduleMessage(
        dialog_id=dialog.id, send_at=later(site, 60), type="text", content=content
    )
    planned = await site.ask(1, site.scheduling.schedule, command)
    change = ChangeScheduled(
        id=UUID(planned.id), send_at=later(site, 60), type="text", content=content
    )
    for answer in (planned, await site.ask(1, site.scheduling.change, change)):
        assert answer.content == {"text": "later"}
        row = await site.schedule_store.scheduled(UUID(planned.id))
        assert row is not None
        assert row.message == '{"type":"text","content":{"text":"later"}}'
    assert [one.content for one in await own(site, dialog.id)] == [{"text": "later"}]


async def test_the_list_is_of_one_dialog(site: Around) -> None:
    one, other = await site.group(1, 2), await site.group(1, 2)
    planned = await plan(site, one.id)
    await plan(site, other.id)
    assert [row.id for row in await own(site, one.id.upper())] == [planned.id]
    with pytest.raises(Invalid):
        await own(site, "x" * 36)


async def test_what_is_being_sent_can_not_be_taken_back(site: Around) -> None:
    dialog = await site.core.do(1, with_user(2))
    id = UUID((await plan(site, dialog.id)).id)
    site.core.clock.advance(60_000)
    now_ms = site.core.clock.now_ms()
    await site.schedule_store.claim_due(now_ms, now_ms + 1, 9)
    with pytest.raises(errors.ScheduledNotFound):
        await site.ask(1, site.scheduling.cancel, CancelScheduled(id))


async def test_an_author_has_only_so_many(
    site: Around, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site.scheduling, "_per_user_max", 2)
    dialog = await site.core.do(1, with_user(2))
    for _ in range(2):
        await plan(site, dialog.id)
    with pytest.raises(errors.TooManyScheduled):
        await plan(site, dialog.id)
    await plan(site, dialog.id, by=2)


async def test_whoever_waits_is_woken_by_what_is_new(site: Around) -> None:
    woken: list[str] = []
    site.scheduling.wake = lambda: woken.append("!")
    dialog = await site.core.do(1, with_user(2))
    await plan(site, dialog.id)
    assert woken == ["!"]


# Crashes: exactly once


async def crashed(site: Around, *, flushed: bool) -> Any:
    if flushed:
        await site.core.flusher.flush()
    return await site.core.restart(users=300)


@pytest.mark.parametrize("flushed", [False, True])
@pytest.mark.parametrize("meanwhile", [0, 20])
async def test_a_crash_before_the_row_is_forgotten_sends_nothing_twice(
    site: Around, flushed: bool, meanwhile: int
) -> None:
    """Also when the author's later client_ids have pushed it out of memory."""
    dialog = await site.core.do(1, with_user(2))
    await plan(site, dialog.id)
    site.core.clock.advance(60_000)
    sent, forget = [], site.schedule_store.sent

    async def crash(ids: Any) -> None:
        sent.extend(ids)
        raise Unavailable

    site.schedule_store.sent = crash  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await site.scheduling.send_due()
    assert len(sent) == 1
    for number in range(meanwhile):
        id = client_id(site.core.clock.now_ms() + number)
        await site.core.do(1, text(dialog.id, f"{number}", client_id=id))
    site.schedule_store.sent = forget  # type: ignore[method-assign]
    site.core.clock.advance(1_000 * LEASE_S)
    async with around(await crashed(site, flushed=flushed), site) as again:
        assert await again.scheduling.send_due() is None
        assert (await texts(again, dialog.id)).count("later") == 1
        assert await own(again, dialog.id) == []


async def test_a_crash_before_the_record_sends_it_after_the_lease(
    site: Around,
) -> None:
    dialog = await site.core.do(1, with_user(2))
    await plan(site, dialog.id)
    site.core.clock.advance(60_000)
    now_ms = site.core.clock.now_ms()
    await site.schedule_store.claim_due(now_ms, now_ms + 1_000 * LEASE_S, 9)
    async with around(await crashed(site, flushed=True), site) as again:
        assert await again.scheduling.send_due() == now_ms + 1_000 * LEASE_S
        assert await texts(again, dialog.id) == []
        again.core.clock.advance(1_000 * LEASE_S)
        assert await again.scheduling.send_due() is None
        assert await texts(again, dialog.id) == ["later"]


async def test_a_full_journal_is_waited_for_however_long(site: Around) -> None:
    dialog = await site.core.do(1, with_user(2))
    await plan(site, dialog.id)
    room, site.core.journal.room = site.core.journal.room, 0
    for _ in range(TRIES_MAX + 5):
        site.core.clock.advance(61_000)
        due_ms = await site.scheduling.send_due()
        assert due_ms is not None
    assert site.told(ScheduledFailed) == []
    site.core.journal.room = room
    site.core.clock.advance(61_000)
    assert await site.scheduling.send_due() is None
    assert await texts(site, dialog.id) == ["later"]


@pytest.mark.parametrize("flushed", [False, True])
async def test_what_was_sent_before_a_crash_has_not_failed_whatever_changed(
    site: Around, monkeypatch: pytest.MonkeyPatch, flushed: bool
) -> None:
    """Its author may not write any more when the claim is due again."""
    group = await site.group(1, 2, 3)
    planned = await plan(site, group.id, by=3)
    site.core.clock.advance(60_000)

    async def crash(ids: Any) -> None:
        raise Unavailable

    with monkeypatch.context() as patched:
        patched.setattr(site.schedule_store, "sent", crash)
        with pytest.raises(Unavailable):
            await site.scheduling.send_due()
    [message] = [event.message for _, event in site.told(MessageNew)]
    leave = RemoveMember(dialog_id=group.id, user_id=user_id(3))
    await site.core.do(3, leave)
    site.core.clock.advance(1_000 * LEASE_S)
    async with around(await crashed(site, flushed=flushed), site) as again:
        assert await again.scheduling.send_due() is None
        assert again.told(ScheduledFailed) == []
        [(who, sent)] = again.told(ScheduledSent)
        assert (who, sent.id, sent.message_id) == ([3], planned.id, message.id)
        assert await own(again, group.id, 3) == []


async def test_an_author_who_is_no_more_says_nothing(site: Around) -> None:
    dialog = await site.core.do(1, with_user(2))
    await plan(site, dialog.id)
    del site.directory._numbers[user_id(1)]
    site.core.clock.advance(60_000)
    assert await site.scheduling.send_due() is None
    assert await texts(site, dialog.id) == []
    [row] = await own(site, dialog.id)
    assert row.failed == "not-allowed"


async def test_who_writes_too_fast_is_given_up_some_time(
    site: Around, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialog = await site.core.do(1, with_user(2))

    def too_fast(*_: Any) -> None:
        raise RateLimited(retry_after_s=7)

    scheduling = Scheduling(
        site.joining,
        site.schedule_store,
        site.core.applier,
        site.directory,
        site.core.hub,
        too_fast,
        site.core.clock,
        site.core.ids,
    )
    planned = await plan(site, dialog.id)
    site.core.clock.advance(60_000)
    assert await scheduling.send_due() == site.core.clock.now_ms() + 7_000
    [row] = await own(site, dialog.id)
    assert (row.id, row.failed) == (planned.id, UNSET)
    for _ in range(TRIES_MAX):
        site.core.clock.advance(60_000)
        await scheduling.send_due()
    [row] = await own(site, dialog.id)
    assert row.failed == "rate-limited"
    assert await scheduling.prune() == 0
    site.core.clock.advance(31 * 86_400_000)
    assert await scheduling.prune() == 1


async def test_one_that_fails_unforeseen_rests_and_others_are_sent(
    site: Around, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tchatd.domains.messaging.scheduling.BATCH_MAX", 1)
    dialog = await site.core.do(1, with_user(2))
    broken = await plan(site, dialog.id, "broken", 60)
    await plan(site, dialog.id, "good", 61)
    reported: list[Exception] = []
    site.scheduling.quarantine.report = reported.append
    keep = site.scheduling._begin

    async def begin(row: ScheduledRow) -> Any:
        assert str(row.id) != broken.id
        return await keep(row)

    monkeypatch.setattr(site.scheduling, "_begin", begin)
    site.core.clock.advance(61_000)
    for _ in range(2):
        await site.scheduling.send_due()
    assert await texts(site, dialog.id) == ["good"]
    assert len(reported) == 1
    assert [row.id for row in await own(site, dialog.id)] == [broken.id]


class TrioClock(ManualClock):
    """Goes with Trio's clock, which jumps over what nobody does anything in."""

    def now_ms(self) -> int:
        return super().now_ms() + round(1_000 * trio.current_time())


async def test_an_alarm_sends_when_it_is_due_and_is_woken_by_what_is_sooner(
    autojump_clock: trio.testing.MockClock,
) -> None:
    core = Core(users=300, clock=TrioClock())
    async with around(core) as site, trio.open_nursery() as nursery:
        alarm = Alarm("scheduled", site.scheduling.send_due, core.clock)
        site.scheduling.wake = alarm.wake
        nursery.start_soon(alarm.run)
        dialog = await core.do(1, with_user(2))
        begun_ms = core.clock.now_ms()
        await plan(site, dialog.id, "second", 25)
        await trio.sleep(1)
        await plan(site, dialog.id, "first", 12)
        await trio.sleep(30)
        told = [event.message for _, event in site.told(MessageNew)]
        assert [m["content"]["text"] for m in shape(told)] == ["first", "second"]
        for message, after_s in zip(told, (13, 25), strict=True):
            at = datetime.fromisoformat(message.created_at).timestamp() * 1_000
            assert 0 <= at - begun_ms - 1_000 * after_s < 100
        nursery.cancel_scope.cancel()
