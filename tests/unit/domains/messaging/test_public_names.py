"""Public names: one dialog each, found by anybody, repaired after a crash."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
import trio
from msgspec import UNSET

from tchatd.domains.messaging import errors
from tchatd.domains.messaging.beside import NameRow
from tchatd.domains.messaging.events import DialogUpdated, MemberAdded
from tchatd.domains.messaging.joining import JoinAnswer
from tchatd.domains.messaging.message_commands import DeleteMessage
from tchatd.domains.messaging.models import CreateDialog, Dialog
from tchatd.domains.messaging.public_names import (
    HELD_BACK_S,
    NAMES_MAX,
    UNSETTLED_S,
    DropPublicName,
    GetChannel,
    JoinChannel,
    ListChannelMessages,
    PublicChannel,
    SetPublicName,
)
from tchatd.domains.messaging.records import DropRecord
from tchatd.domains.messaging.settings import DialogSettings
from tchatd.journal.errors import JournalFull
from tchatd.kernel.routing import Reply
from tests.support.beside import Around, around
from tests.support.messaging import Core, shape, text, user_id, with_user
from tests.support.rooms import SMALL


@pytest.fixture
async def site() -> AsyncIterator[Around]:
    async with around() as site:
        yield site


async def channel(site: Around, **settings: Any) -> Dialog:
    made: Dialog = await site.core.do(
        1,
        CreateDialog(
            type="channel",
            name="Thai news",
            participants=[user_id(2)],
            settings=DialogSettings(description="All of it", **settings),
        ),
    )
    return made


async def name(site: Around, dialog_id: str, name: str, by: int = 1) -> Dialog:
    named: Dialog = await site.ask(by, site.names.set, SetPublicName(dialog_id, name))
    return named


async def found(site: Around, name: str, by: int = 9) -> PublicChannel:
    answer: PublicChannel = await site.ask(by, site.names.get, GetChannel(name))
    return answer


def number_of(site: Around, dialog: Dialog) -> int:
    state = site.core.state.find(dialog.id)
    assert state is not None
    return state.number


async def test_a_named_channel_is_found_by_anybody_in_any_case(site: Around) -> None:
    made = await channel(site)
    named = await name(site, made.id, "Thai_News")
    assert named.settings.public_name == "thai_news"
    [(who, event)] = site.told(DialogUpdated)
    assert (who, event.settings.public_name) == ([1, 2], "thai_news")
    assert await found(site, "THAI_news") == PublicChannel(
        "thai_news", "channel", "Thai news", 2, False, False, "All of it"
    )
    assert (await found(site, "thai_news", 2)).dialog_id == made.id
    for wrong in ("thai", "thai_new", "\ud800"):
        with pytest.raises(errors.ChannelNotFound):
            await found(site, wrong)


async def test_anybody_joins_by_the_name(site: Around) -> None:
    made = await channel(site)
    await name(site, made.id, "thai_news")
    for _ in range(2):
        answer = await site.ask(9, site.names.join, JoinChannel("thai_news"))
        assert (answer.status, answer.dialog.id) == ("joined", made.id)
    [(staff, event), (others, veiled)] = site.told(MemberAdded)
    assert (staff, event.by) == ([1], str(user_id(9)))
    assert (others, veiled.by, veiled.count) == ([2], UNSET, 1)


async def test_where_approval_is_needed_one_asks(site: Around) -> None:
    made = await channel(site, needs_approval=True)
    await name(site, made.id, "thai_news")
    answer = await site.ask(9, site.names.join, JoinChannel("thai_news"))
    assert answer == Reply(JoinAnswer("requested"), 202)
    assert await site.members(made.id) == [1, 2]


@pytest.mark.parametrize("flushed", [False, True])
async def test_outsiders_read_the_latest_of_a_channel_and_not_of_a_group(
    site: Around, flushed: bool
) -> None:
    made = await channel(site)
    await name(site, made.id, "thai_news")
    for number in range(80):
        await site.core.do(1, text(made.id, f"{number}"))
        if flushed:
            await site.core.flusher.flush()
    page = await site.ask(
        9, site.names.messages, ListChannelMessages(name="thai_news", limit=70)
    )
    words = [m["content"]["text"] for m in shape(page)["messages"]]
    assert words == [str(number) for number in range(79, 9, -1)]
    assert page.has_more
    assert all(m.read_by == m.reactions == () for m in page.messages)
    group = await site.group(1, 2)
    await name(site, group.id, "lunch_here")
    with pytest.raises(errors.ChannelNotFound):
        await site.ask(9, site.names.messages, ListChannelMessages(name="lunch_here"))


@pytest.mark.parametrize("evicted", [False, True])
async def test_outsiders_see_nothing_of_what_is_deleted_under_the_query(
    evicted: bool,
) -> None:
    """A row is as old as its query; what happened since is taken from memory."""
    core = Core(users=300, limits=SMALL)
    async with around(core) as site:
        made = await channel(site)
        await name(site, made.id, "thai_news")
        said = [await core.do(1, text(made.id, f"{n}")) for n in range(12)]
        await core.flusher.flush()
        store: Any = core.store
        plain = store.messages_before

        async def slow(*around: Any) -> Any:
            rows = await plain(*around)
            for other in range(3, 6 * evicted):
                await core.do(other, with_user(other + 1))
                await core.flusher.flush()
            for message in said[:6]:
                command = DeleteMessage(message_id=UUID(message.id))
                await core.do(1, command)
                await core.flusher.flush()
            return rows

        store.messages_before = slow
        page = await site.ask(
            9, site.names.messages, ListChannelMessages(name="thai_news", limit=70)
        )
        shown = shape(page)["messages"]
        assert ["deleted_at" in m for m in shown] == [False] * 6 + [True] * 6
        assert page.last_seq == 20


async def test_outsiders_read_no_channel_that_is_private_by_then() -> None:
    core = Core(users=300, limits=SMALL)
    async with around(core) as site:
        made = await channel(site)
        await name(site, made.id, "thai_news")
        for number in range(12):
            await core.do(1, text(made.id, f"{number}"))
        await core.flusher.flush()
        store: Any = core.store
        plain = store.messages_before

        async def slow(*around: Any) -> Any:
            await site.ask(1, site.names.drop, DropPublicName(made.id))
            return await plain(*around)

        store.messages_before = slow
        command = ListChannelMessages(name="thai_news", limit=70)
        with pytest.raises(errors.ChannelNotFound):
            await site.ask(9, site.names.messages, command)


async def test_a_name_belongs_to_one_dialog(site: Around) -> None:
    made, other = await channel(site), await channel(site)
    await name(site, made.id, "thai_news")
    with pytest.raises(errors.NameTaken):
        await name(site, other.id, "THAI_NEWS")
    assert (await name(site, made.id, "thai_news")).last_seq == 2
    taken: list[str] = []

    async def take(dialog: Dialog) -> None:
        try:
            await name(site, dialog.id, "other_news")
        except errors.NameTaken:
            return
        taken.append(dialog.id)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take, made)
        nursery.start_soon(take, other)
    assert len(taken) == 1
    assert (await found(site, "other_news", 1)).dialog_id == taken[0]


@pytest.mark.parametrize("word", ["admin", "Support", "tchat_thailand", "official_x"])
async def test_reserved_words_are_nobodys(site: Around, word: str) -> None:
    with pytest.raises(errors.NameReserved):
        await name(site, (await channel(site)).id, word)


async def test_only_who_may_set_the_profile_names_and_only_what_can_be_named(
    site: Around,
) -> None:
    made = await channel(site)
    with pytest.raises(errors.NotAllowed):
        await name(site, made.id, "thai_news", by=2)
    with pytest.raises(errors.DialogNotFound):
        await name(site, made.id, "thai_news", by=9)
    of_two = await site.core.do(1, with_user(2))
    with pytest.raises(errors.NotAllowed):
        await name(site, of_two.id, "thai_news")
    assert await site.stores.names.name("thai_news") is None


async def test_a_name_given_up_is_held_back_for_a_day(site: Around) -> None:
    made, other = await channel(site), await channel(site)
    await name(site, made.id, "thai_news")
    dropped = await site.ask(1, site.names.drop, DropPublicName(made.id))
    assert dropped.settings.public_name is UNSET
    with pytest.raises(errors.ChannelNotFound):
        await found(site, "thai_news")
    with pytest.raises(errors.NameTaken):
        await name(site, other.id, "thai_news")
    await name(site, made.id, "thai_news")
    await name(site, made.id, "new_news")
    with pytest.raises(errors.NameTaken):
        await name(site, other.id, "thai_news")
    site.core.clock.advance(HELD_BACK_S * 1_000)
    await name(site, other.id, "thai_news")
    assert (await found(site, "thai_news", 1)).dialog_id == other.id
    assert (await found(site, "new_news", 1)).dialog_id == made.id


async def test_nobody_takes_names_only_to_hold_them_back(site: Around) -> None:
    made = await channel(site)
    for number in range(NAMES_MAX):
        await name(site, made.id, f"thai_news{number}")
    with pytest.raises(errors.TooManyNames):
        await name(site, made.id, "one_more")
    await name(site, made.id, "thai_news0")
    site.core.clock.advance(HELD_BACK_S * 1_000)
    await name(site, made.id, "one_more")


async def test_the_name_of_a_dropped_dialog_is_free_after_a_day(site: Around) -> None:
    made, other = await channel(site), await channel(site)
    await name(site, made.id, "thai_news")
    record = DropRecord(number_of(site, made), 0, 1, user_id(1).bytes)
    await site.core.settle(site.core.applier.submit(record))
    with pytest.raises(errors.ChannelNotFound):
        await found(site, "thai_news")
    with pytest.raises(errors.NameTaken):
        await name(site, other.id, "thai_news")
    site.core.clock.advance(HELD_BACK_S * 1_000)
    assert (await name(site, other.id, "thai_news")).id == other.id


async def test_two_who_rename_at_once_agree_with_the_rows(site: Around) -> None:
    made = await channel(site)
    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(name, site, made.id, f"thai_news{number}")
    state = site.core.state.find(made.id)
    assert state is not None
    rows = [await site.stores.names.name(f"thai_news{number}") for number in range(5)]
    held = [row.name for row in rows if row is not None and not row.free_ms]
    assert held == [state.settings.public_name]


# A crash between the row and the record


async def test_a_claimed_name_without_a_record_is_given_up(site: Around) -> None:
    made, other = await channel(site), await channel(site)
    room, site.core.journal.room = site.core.journal.room, 0
    with pytest.raises(JournalFull):
        await name(site, made.id, "thai_news")
    site.core.journal.room = room
    with pytest.raises(errors.ChannelNotFound):
        await found(site, "thai_news")
    assert await site.names.repair() == 0
    site.core.clock.advance(UNSETTLED_S * 1_000 + 1)
    assert await site.names.repair() == 1
    assert await site.names.repair() == 0
    row = await site.stores.names.name("thai_news")
    assert row is not None
    assert row.free_ms == site.core.clock.now_ms() + HELD_BACK_S * 1_000
    site.core.clock.advance(HELD_BACK_S * 1_000)
    await name(site, other.id, "thai_news")


async def test_a_record_whose_name_was_not_settled_is_settled(site: Around) -> None:
    made = await channel(site)
    await name(site, made.id, "thai_news")
    before = site.core.clock.now_ms()
    site.stores.names._rows["thai_news"] = NameRow(
        "thai_news", number_of(site, made), before
    )
    site.stores.names._rows["old_news"] = NameRow(
        "old_news", number_of(site, made), before, 0, True
    )
    await site.core.flusher.flush()
    restarted = await site.core.restart(users=300)
    async with around(restarted, site) as again:
        again.core.clock.advance(UNSETTLED_S * 1_000 + 1)
        assert await again.names.repair() == 1
        assert (await found(again, "thai_news", 1)).dialog_id == made.id
        row = await again.stores.names.name("old_news")
        assert row is not None
        assert row.free_ms > 0


async def test_what_nobody_holds_back_is_forgotten(site: Around) -> None:
    made = await channel(site)
    await name(site, made.id, "thai_news")
    await site.ask(1, site.names.drop, DropPublicName(made.id))
    assert await site.names.prune() == 0
    site.core.clock.advance(HELD_BACK_S * 1_000 + 1)
    assert await site.names.prune() == 1
