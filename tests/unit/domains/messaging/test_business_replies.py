"""What a business does by itself: once, also after a crash anywhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tchatd.domains.messaging.beside import GREETING, BusinessDialogRow, ReplyRow
from tchatd.domains.messaging.business import Assign, PutBusiness, SetConversation
from tchatd.domains.messaging.business_hours import Hours
from tchatd.domains.messaging.business_replies import (
    AWAY_EVERY_S,
    BATCH_MAX,
    RETRY_MS,
    reply_id,
)
from tchatd.domains.messaging.member_models import ChangeMember, RemoveMember
from tchatd.domains.messaging.models import CreateDialog, GetDialog, ListMessages
from tchatd.kernel.errors import RateLimited, Unavailable
from tchatd.kernel.quarantine import REST_MS_MIN
from tchatd.kernel.routing import Reply
from tests.support.beside import Around, around
from tests.support.messaging import Core, shape, text, user_id
from tests.unit.domains.messaging.test_reach import FakeBlocks

SHOP, ANNA, BERT, CUSTOMER = 5, 6, 7, 20
NEVER = Hours(time_zone="Asia/Bangkok", weekly=())


@pytest.fixture
async def site() -> AsyncIterator[Around]:
    async with around() as site:
        yield site


async def shop(site: Around, *agents: int, **fields: Any) -> None:
    people = tuple(user_id(number) for number in agents)
    await site.ask(SHOP, site.businesses.put, PutBusiness(agents=people, **fields))


async def opened(site: Around) -> str:
    command = CreateDialog(type="business", participants=[user_id(SHOP)])
    answer = await site.core.do(CUSTOMER, command)
    dialog = answer.body if isinstance(answer, Reply) else answer
    return str(dialog.id)


async def say(site: Around, id: str, words: str, by: int = CUSTOMER) -> None:
    site.core.clock.advance(1_000)
    await site.core.do(by, text(id, words))


async def settle(site: Around) -> None:
    """The log is followed, and what was decided is done."""
    for _ in range(3):
        await site.core.flusher.flush()
        await site.replies.reply_due()


async def waiting(site: Around) -> list[ReplyRow]:
    return await site.stores.business.replies(site.core.clock.now_ms(), 9)


async def heard(site: Around, id: str) -> list[str]:
    page = shape(await site.core.do(SHOP, ListMessages(dialog_id=id, limit=100)))
    return [
        message["content"]["text"]
        for message in reversed(page["messages"])
        if message["sender_id"] == str(user_id(SHOP))
    ]


async def test_the_first_message_of_a_conversation_is_greeted(site: Around) -> None:
    await shop(site, ANNA, greeting="Welcome!")
    id = await opened(site)
    await settle(site)
    assert await heard(site, id) == []
    for words in ("hello?", "anybody?"):
        await say(site, id, words)
        await settle(site)
    assert await heard(site, id) == ["Welcome!"]
    await say(site, id, "I am here", by=ANNA)
    await settle(site)
    assert await heard(site, id) == ["Welcome!"]


async def test_several_messages_in_one_batch_are_greeted_once(site: Around) -> None:
    await shop(site, greeting="Welcome!")
    id = await opened(site)
    for number in range(5):
        await say(site, id, f"{number}")
    await settle(site)
    assert await heard(site, id) == ["Welcome!"]


async def test_nothing_is_said_without_a_text(site: Around) -> None:
    await shop(site, hours=NEVER)
    id = await opened(site)
    await say(site, id, "hello?")
    await settle(site)
    assert await heard(site, id) == []


async def test_outside_the_hours_it_says_so_now_and_then(site: Around) -> None:
    await shop(site, away_message="We are closed.", hours=NEVER)
    id = await opened(site)
    for hour in range(9):
        site.core.clock.advance(3_600_000)
        await say(site, id, f"{hour}")
        await settle(site)
    assert AWAY_EVERY_S == 4 * 3_600
    assert await heard(site, id) == ["We are closed."] * 3


async def test_greeting_and_away_come_in_this_order(site: Around) -> None:
    await shop(site, greeting="Welcome!", away_message="Closed.", hours=NEVER)
    id = await opened(site)
    await say(site, id, "hello?")
    await settle(site)
    assert await heard(site, id) == ["Welcome!", "Closed."]


async def close(site: Around, id: str, *, is_closed: bool = True) -> None:
    command = SetConversation(id, is_closed)
    await site.ask(SHOP, site.businesses.set_conversation, command)


async def is_closed(site: Around, id: str) -> bool:
    dialog = await site.core.do(SHOP, GetDialog(id))
    return bool(dialog.settings.is_closed)


@pytest.mark.parametrize("each_in_a_batch", [False, True])
async def test_the_customers_next_message_reopens_and_begins_anew(
    site: Around, each_in_a_batch: bool
) -> None:
    await shop(site, greeting="Welcome!")
    id = await opened(site)
    await say(site, id, "hello?")
    await settle(site)
    for _ in range(2):
        await close(site, id)
        if each_in_a_batch:
            await settle(site)
        assert await is_closed(site, id)
        await say(site, id, "one more thing")
        await settle(site)
        assert not await is_closed(site, id)
        await say(site, id, "and another")
        await settle(site)
    assert await heard(site, id) == ["Welcome!"] * 3


async def test_what_the_business_says_leaves_it_closed(site: Around) -> None:
    await shop(site, ANNA, greeting="Welcome!")
    id = await opened(site)
    await close(site, id)
    await say(site, id, "a last word", by=ANNA)
    await settle(site)
    assert await is_closed(site, id)


async def test_an_agent_who_closes_again_wins(site: Around) -> None:
    await shop(site)
    id = await opened(site)
    await close(site, id)
    await say(site, id, "wait")
    await site.core.flusher.flush()
    await close(site, id, is_closed=False)
    await close(site, id)
    await site.core.flusher.flush()
    await settle(site)
    assert await is_closed(site, id)


async def test_whoever_replies_is_woken_when_something_was_decided(
    site: Around,
) -> None:
    woken: list[str] = []
    site.replies.wake = lambda: woken.append("!")
    await shop(site, greeting="Welcome!")
    id = await opened(site)
    for _ in range(3):
        await say(site, id, "hello?")
        await site.core.flusher.flush()
    assert woken == ["!"]


# Crashes


@pytest.mark.parametrize("decided", [False, True])
@pytest.mark.parametrize("replied", [False, True])
async def test_a_crash_before_the_batch_is_stored_sends_one_reply(
    site: Around, decided: bool, replied: bool
) -> None:
    """The batch is followed again, and nothing new comes of it."""
    await shop(site, greeting="Welcome!", away_message="Closed.", hours=NEVER)
    id = await opened(site)
    await site.core.flusher.flush()
    await say(site, id, "hello?")
    await say(site, id, "anybody?")
    if decided:
        await site.replies.take(list(site.core.applier.unflushed))
    if decided and replied:
        await site.replies.reply_due()
    core = Core(
        site.core.store, site.core.journal.crash(), users=300, clock=site.core.clock
    )
    async with around(core, site) as again:
        await core.applier.recover(core.flusher.flush)
        await settle(again)
        assert await heard(again, id) == ["Welcome!", "Closed."]
        await say(again, id, "still there?")
        await settle(again)
        assert await heard(again, id) == ["Welcome!", "Closed."]


async def test_a_crash_between_the_reply_and_its_row_sends_nothing_twice(
    site: Around,
) -> None:
    await shop(site, greeting="Welcome!")
    id = await opened(site)
    await say(site, id, "hello?")
    await site.core.flusher.flush()
    keep = site.stores.business.replied

    async def crash(row: ReplyRow) -> None:
        raise Unavailable

    site.stores.business.replied = crash  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await site.replies.reply_due()
    assert await heard(site, id) == ["Welcome!"]
    site.stores.business.replied = keep  # type: ignore[method-assign]
    await site.core.flusher.flush()
    async with around(await site.core.restart(users=300), site) as again:
        await settle(again)
        assert await heard(again, id) == ["Welcome!"]
        assert await waiting(again) == []


async def test_a_full_journal_puts_a_reply_off(site: Around) -> None:
    await shop(site, greeting="Welcome!")
    id = await opened(site)
    await say(site, id, "hello?")
    await site.core.flusher.flush()
    room, site.core.journal.room = site.core.journal.room, 0
    now_ms = site.core.clock.now_ms()
    for _ in range(2):
        assert await site.replies.reply_due() == now_ms + RETRY_MS
    site.core.journal.room = room
    site.core.clock.advance(RETRY_MS)
    assert await site.replies.reply_due() is None
    assert await heard(site, id) == ["Welcome!"]


async def test_a_business_that_writes_too_fast_holds_up_no_other(
    site: Around, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shop(site, greeting="Welcome!")
    id = await opened(site)
    fast = [ReplyRow(1 << 41 | n, 1, GREETING, 1) for n in range(BATCH_MAX)]
    for row in fast:
        site.stores.business._replies[row.dialog_number, 1, GREETING] = row
    await say(site, id, "hello?")
    await site.core.flusher.flush()
    refused: list[ReplyRow] = []
    keep = site.replies._do

    async def do(row: ReplyRow) -> None:
        if row in fast:
            refused.append(row)
            raise RateLimited(retry_after_s=7)
        await keep(row)

    monkeypatch.setattr(site.replies, "_do", do)
    now_ms = site.core.clock.now_ms()
    assert await site.replies.reply_due() == now_ms
    assert await site.replies.reply_due() == now_ms + 7_000
    assert await heard(site, id) == ["Welcome!"]
    assert refused == fast


async def test_a_greeting_that_is_put_off_comes_before_what_follows_it(
    site: Around, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shop(site, greeting="Welcome!", away_message="Closed.", hours=NEVER)
    id = await opened(site)
    await say(site, id, "hello?")
    await site.core.flusher.flush()
    keep = site.replies._do

    async def do(row: ReplyRow) -> None:
        if row.kind == GREETING and site.core.clock.now_ms() == now_ms:
            raise RateLimited
        await keep(row)

    monkeypatch.setattr(site.replies, "_do", do)
    now_ms = site.core.clock.now_ms()
    assert await site.replies.reply_due() == now_ms + RETRY_MS
    assert await heard(site, id) == []
    site.core.clock.advance(RETRY_MS)
    await settle(site)
    assert await heard(site, id) == ["Welcome!", "Closed."]


@pytest.mark.parametrize("each_in_a_batch", [False, True])
async def test_messages_of_one_millisecond_get_one_away_reply(
    site: Around, each_in_a_batch: bool
) -> None:
    await shop(site, away_message="Closed.", hours=NEVER)
    id = await opened(site)
    for words in ("hello?", "is anybody", "there?"):
        await site.core.do(CUSTOMER, text(id, words))
        if each_in_a_batch:
            await settle(site)
    await settle(site)
    assert await heard(site, id) == ["Closed."]


async def test_a_dialog_whose_row_was_lost_in_a_crash_gets_it_again(
    site: Around,
) -> None:
    await shop(site, greeting="Welcome!")
    id = await opened(site)
    site.stores.business._dialogs.clear()
    await say(site, id, "hello?")
    await settle(site)
    assert await heard(site, id) == ["Welcome!"]


def test_a_reply_has_one_name_a_message_and_kind() -> None:
    row = ReplyRow(7, 3, 2, 1_800_000_000_000)
    assert reply_id(row) == reply_id(ReplyRow(7, 3, 2, 1_800_000_000_000))
    others = [ReplyRow(7, 3, 3, row.at_ms), ReplyRow(7, 4, 2, row.at_ms)]
    assert len({reply_id(one) for one in (row, *others)}) == 3
    assert reply_id(row).version == 7
    assert reply_id(row).int >> 80 == row.at_ms


# Agents


async def members(site: Around, id: str) -> list[int]:
    await site.core.do(SHOP, GetDialog(id))
    return await site.members(id)


async def test_dialogs_follow_who_the_agents_are(site: Around) -> None:
    asked: list[str] = []
    site.businesses.follow = lambda: asked.append("!")
    await shop(site, ANNA)
    id = await opened(site)
    await site.ask(SHOP, site.businesses.assign, Assign(id, user_id(ANNA)))
    assert await site.replies.follow() is None
    assert await members(site, id) == [SHOP, ANNA, CUSTOMER]
    await shop(site, BERT)
    await shop(site, BERT, greeting="the agents are the same")
    assert asked == ["!", "!"]
    for _ in range(2):
        assert await site.replies.follow() is None
        assert await members(site, id) == [SHOP, BERT, CUSTOMER]
    dialog = await site.core.do(SHOP, GetDialog(id))
    assert "assignee_id" not in shape(dialog)["settings"]
    await shop(site, ANNA, BERT)
    await site.replies.follow()
    assert await members(site, id) == [SHOP, ANNA, BERT, CUSTOMER]


async def test_following_goes_on_after_a_crash(site: Around) -> None:
    await shop(site, ANNA)
    id = await opened(site)
    await shop(site, BERT)
    keep = site.stores.business.caught_up

    async def crash(dialog_number: int, agents_version: int) -> None:
        raise Unavailable

    site.stores.business.caught_up = crash  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await site.replies.follow()
    site.stores.business.caught_up = keep  # type: ignore[method-assign]
    await site.core.flusher.flush()
    async with around(await site.core.restart(users=300), site) as again:
        before = again.core.journal.next_position
        await again.replies.follow()
        assert again.core.journal.next_position == before
        assert await members(again, id) == [SHOP, BERT, CUSTOMER]
        assert await again.stores.business.behind(9) == []


async def leaves(site: Around, id: str, heir: int = ANNA) -> None:
    """The business hands its dialog over to an agent and goes."""
    command = ChangeMember(dialog_id=id, user_id=user_id(heir), role="owner")
    await site.core.do(SHOP, command)
    await site.core.do(SHOP, RemoveMember(dialog_id=id, user_id=user_id(SHOP)))


@asynccontextmanager
async def restarted(site: Around) -> AsyncIterator[Around]:
    await site.core.flusher.flush()
    async with around(await site.core.restart(users=300), site) as again:
        yield again


async def test_a_business_that_left_does_nothing_there(site: Around) -> None:
    """Also when its row is not in memory any more."""
    await shop(site, ANNA, greeting="Welcome!")
    id = await opened(site)
    await leaves(site, id)
    command = SetConversation(id, is_closed=True)
    await site.ask(ANNA, site.businesses.set_conversation, command)
    async with restarted(site) as again:
        await say(again, id, "is anybody there?")
        await settle(again)
        assert await waiting(again) == []
        dialog = await again.core.do(ANNA, GetDialog(id))
        assert dialog.settings.is_closed
        assert dialog.last_message.content.text == "is anybody there?"


async def test_agents_stay_where_the_business_has_left(site: Around) -> None:
    await shop(site, ANNA, BERT)
    id = await opened(site)
    await site.ask(SHOP, site.businesses.assign, Assign(id, user_id(BERT)))
    await leaves(site, id)
    async with restarted(site) as again:
        await shop(again, 8)
        await again.replies.follow()
        await again.core.do(ANNA, GetDialog(id))
        assert await again.members(id) == [ANNA, BERT, CUSTOMER]
        assert await again.stores.business.behind(9) == []


async def test_agents_who_left_or_mind_by_now_are_not_called_in(site: Around) -> None:
    blocks = FakeBlocks()
    async with around(blocks=blocks) as site:
        await shop(site, ANNA, BERT)
        id = await opened(site)
        leave = RemoveMember(dialog_id=id, user_id=user_id(ANNA))
        await site.core.do(ANNA, leave)
        await shop(site, ANNA, BERT, 8, 9)
        blocks.refusing = [9]
        await site.replies.follow()
        assert await members(site, id) == [SHOP, BERT, 8, CUSTOMER]
        async with restarted(site) as again:
            await shop(again, ANNA, 8)
            await again.replies.follow()
            assert await members(again, id) == [SHOP, 8, CUSTOMER]
            # Who was removed may be called in again, who left may not.
            await shop(again, ANNA, BERT, 8)
            await again.core.flusher.flush()
            await again.replies.follow()
            assert await members(again, id) == [SHOP, BERT, 8, CUSTOMER]


# Mistakes of ours


async def test_a_reply_that_fails_unforeseen_rests_and_others_go_on(
    site: Around, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[Exception] = []
    site.replies.quarantine.report = reported.append
    monkeypatch.setattr("tchatd.domains.messaging.business_replies.BATCH_MAX", 1)
    await shop(site, greeting="Welcome!")
    id = await opened(site)
    await say(site, id, "hello?")
    broken = ReplyRow(1 << 40, 1, 2, 1)
    site.stores.business._replies[1 << 40, 1, 2] = broken
    keep = site.replies._do

    async def do(row: ReplyRow) -> None:
        assert row != broken
        await keep(row)

    monkeypatch.setattr(site.replies, "_do", do)
    await settle(site)
    assert await heard(site, id) == ["Welcome!"]
    assert len(reported) == 1
    assert await waiting(site) == [broken]
    site.core.clock.advance(REST_MS_MIN)
    await site.replies.reply_due()
    assert len(reported) == 2


async def test_a_dialog_that_fails_unforeseen_rests_and_others_follow(
    site: Around, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[Exception] = []
    site.replies.quarantine.report = reported.append
    await shop(site, ANNA)
    broken = await opened(site)
    other = CreateDialog(type="business", participants=[user_id(SHOP)])
    good = (await site.core.do(CUSTOMER + 1, other)).id
    await shop(site, BERT)
    state = site.core.state.find(broken)
    assert state is not None
    number, keep = state.number, site.replies._call_in

    async def call_in(row: BusinessDialogRow, *who: Any) -> None:
        assert row.dialog_number != number
        await keep(row, *who)

    monkeypatch.setattr(site.replies, "_call_in", call_in)
    for _ in range(2):
        await site.replies.follow()
    assert await members(site, good) == [SHOP, BERT, CUSTOMER + 1]
    assert [r.dialog_number for r in await site.stores.business.behind(9)] == [number]
    assert len(reported) == 1
