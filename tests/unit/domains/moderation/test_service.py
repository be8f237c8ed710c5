"""Reports: of what somebody sees, as it was, sealed under the right keys."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tchatd.domains.moderation.errors import OwnThing, UserNotFound
from tchatd.domains.moderation.models import (
    ReportDialog,
    ReportMessage,
    ReportRecord,
    ReportUser,
)
from tchatd.kernel.errors import NotForBots
from tests.support.bots import as_user
from tests.support.moderation import DIALOG, MESSAGE, USERS, ModerationWorld


async def only(world: ModerationWorld) -> ReportRecord:
    [report], _ = await world.store.open_reports(9)
    return report


async def test_a_reported_message_is_kept_as_it_was() -> None:
    world = ModerationWorld()
    command = ReportMessage(message_id=MESSAGE, reason="abuse", comment="look")
    await world.reports.report_message(as_user(1), command)
    world.conversations.messages[MESSAGE] = (2, {"text": "edited"})
    report = await only(world)
    assert (report.reporter, report.accused, report.dialog_id) == (1, 2, DIALOG)
    assert await world.reports.opened(report) == ("look", '{"text":"bad"}')


async def test_what_is_kept_is_each_persons_own() -> None:
    world = ModerationWorld()
    command = ReportMessage(message_id=MESSAGE, reason="abuse", comment="look")
    await world.reports.report_message(as_user(1), command)
    report = await only(world)
    assert b"bad" not in (report.evidence or b"")
    assert b"look" not in (report.comment or b"")
    del world.people.keys[2]
    assert await world.reports.opened(report) == ("look", None)
    del world.people.keys[1]
    assert await world.reports.opened(report) == (None, None)


async def test_only_what_the_reporter_sees_can_be_reported() -> None:
    world = ModerationWorld()
    for user, id in ((3, MESSAGE), (1, uuid4())):
        with pytest.raises(UserNotFound):
            await world.reports.report_message(
                as_user(user), ReportMessage(message_id=id, reason="spam")
            )
    with pytest.raises(UserNotFound):
        await world.reports.report_dialog(
            as_user(3), ReportDialog(dialog_id=str(DIALOG), reason="spam")
        )
    with pytest.raises(UserNotFound):
        await world.reports.report_user(
            as_user(1), ReportUser(user_id=uuid4(), reason="spam")
        )
    assert await world.store.open_reports(9) == ([], 0)


async def test_nobody_reports_themselves_but_their_own_dialog() -> None:
    world = ModerationWorld()
    with pytest.raises(OwnThing):
        await world.reports.report_message(
            as_user(2), ReportMessage(message_id=MESSAGE, reason="spam")
        )
    with pytest.raises(OwnThing):
        await world.reports.report_user(
            as_user(1), ReportUser(user_id=USERS[1], reason="spam")
        )
    await world.reports.report_dialog(
        as_user(1), ReportDialog(dialog_id=str(DIALOG), reason="illegal")
    )
    report = await only(world)
    assert (report.thing, report.accused) == ("dialog", 1)
    assert await world.reports.opened(report) == (None, '{"name":"Bad people"}')


async def test_a_bot_reports_nothing() -> None:
    world = ModerationWorld()
    world.people.bots = {1}
    reports, bot = world.reports, as_user(1)
    with pytest.raises(NotForBots):
        await reports.report_message(
            bot, ReportMessage(message_id=MESSAGE, reason="abuse")
        )
    with pytest.raises(NotForBots):
        await reports.report_user(bot, ReportUser(user_id=USERS[2], reason="abuse"))
    with pytest.raises(NotForBots):
        await reports.report_dialog(
            bot, ReportDialog(dialog_id=str(DIALOG), reason="abuse")
        )
    assert await world.store.open_reports(9) == ([], 0)


async def test_a_user_is_reported_without_evidence() -> None:
    world = ModerationWorld()
    reported = await world.reports.report_user(
        as_user(1), ReportUser(user_id=USERS[3], reason="impersonation")
    )
    report = await only(world)
    assert reported.success
    assert (report.accused_id, report.evidence) == (USERS[3], None)


async def test_a_filter_is_a_reporter_without_a_name() -> None:
    world = ModerationWorld()
    await world.reports.flag(MESSAGE, DIALOG, 2, {"text": "bad"})
    report = await only(world)
    assert (report.reporter, report.reporter_id, report.reason) == (0, None, "filter")
    assert await world.reports.opened(report) == (None, '{"text":"bad"}')
