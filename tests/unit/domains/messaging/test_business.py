"""Businesses: profiles, one dialog a customer, who answers in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import trio
from msgspec import UNSET

from tchatd.domains.messaging import errors
from tchatd.domains.messaging.business import (
    Assign,
    GetBusiness,
    GetOwnBusiness,
    ListQuickReplies,
    PutBusiness,
    QuickReply,
    SetConversation,
)
from tchatd.domains.messaging.business_hours import Hours, Interval
from tchatd.domains.messaging.events import DialogUpdated, MemberAdded
from tchatd.domains.messaging.models import CreateDialog, Dialog, GetDialog
from tchatd.domains.messaging.records import DropRecord, RemoveRecord
from tchatd.journal.errors import JournalFull
from tchatd.kernel.errors import Invalid
from tchatd.kernel.routing import Reply
from tests.support.beside import Around, around
from tests.support.messaging import user_id
from tests.unit.domains.messaging.test_reach import FakeBlocks

SHOP, ANNA, BERT, CUSTOMER = 5, 6, 7, 20


@pytest.fixture
async def site() -> AsyncIterator[Around]:
    async with around() as site:
        yield site


async def shop(site: Around, *agents: int, by: int = SHOP, **fields: Any) -> Any:
    people = tuple(user_id(number) for number in agents)
    command = PutBusiness(agents=people, **fields)
    return await site.ask(by, site.businesses.put, command)


async def opened(
    site: Around, customer: int = CUSTOMER, business: int = SHOP
) -> Dialog:
    command = CreateDialog(type="business", participants=[user_id(business)])
    answer = await site.core.do(customer, command)
    dialog: Dialog = answer.body if isinstance(answer, Reply) else answer
    return dialog


async def roles(site: Around, dialog_id: str) -> dict[int, str]:
    found = {}
    for user in await site.members(dialog_id):
        found[user] = (await site.core.do(user, GetDialog(dialog_id))).role
    return found


async def test_a_profile_comes_back_as_it_was_put(site: Around) -> None:
    with pytest.raises(errors.BusinessNotFound):
        await site.ask(SHOP, site.businesses.get, GetOwnBusiness())
    hours = Hours(time_zone="Asia/Bangkok", weekly=(Interval("mon", "09:00", "17:00"),))
    quick = (QuickReply("hi", "Hello!"),)
    put = await shop(
        site, ANNA, ANNA, SHOP, greeting="สวัสดี", hours=hours, quick_replies=quick
    )
    assert put.agents == (user_id(ANNA),)
    assert await site.ask(SHOP, site.businesses.get, GetOwnBusiness()) == put
    async with around(await site.core.restart(users=300), site) as again:
        assert await again.ask(SHOP, again.businesses.get, GetOwnBusiness()) == put


async def test_a_profile_that_cannot_be_is_refused(site: Around) -> None:
    with pytest.raises(errors.InvalidParticipants):
        await shop(site, 9_999)
    with pytest.raises(Invalid):
        await shop(site, hours=Hours(time_zone="Nowhere", weekly=()))


async def test_two_who_change_a_profile_at_once_both_succeed(site: Around) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(partial(shop, site, greeting=f"{number}"))
    row = await site.stores.business.business(SHOP)
    assert row is not None
    assert row.version == 3


async def test_customers_see_whether_it_is_open(site: Around) -> None:
    get = GetBusiness(user_id(SHOP))
    with pytest.raises(errors.BusinessNotFound):
        await site.ask(CUSTOMER, site.businesses.get_public, get)
    await shop(site, greeting="hi")
    seen = await site.ask(CUSTOMER, site.businesses.get_public, get)
    assert (seen.is_open, seen.hours) == (True, UNSET)
    await shop(site, hours=Hours(time_zone="Asia/Bangkok", weekly=()))
    seen = await site.ask(CUSTOMER, site.businesses.get_public, get)
    assert not seen.is_open


async def test_a_customer_is_a_guest_among_the_business_and_its_agents(
    site: Around,
) -> None:
    await shop(site, ANNA, BERT)
    dialog = await opened(site)
    assert dialog.role == "guest"
    assert await roles(site, dialog.id) == {
        SHOP: "owner",
        ANNA: "member",
        BERT: "member",
        CUSTOMER: "guest",
    }
    [(who, event)] = site.told(MemberAdded)
    assert who == [SHOP, ANNA, BERT]
    assert event.by == str(user_id(SHOP))


async def test_a_customer_has_one_dialog_with_a_business(site: Around) -> None:
    await shop(site, ANNA)
    command = CreateDialog(type="business", participants=[user_id(SHOP)])
    ids: list[str] = []

    async def open_it() -> None:
        ids.append((await opened(site)).id)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(open_it)
    assert len(set(ids)) == 1
    again = await site.core.do(CUSTOMER, command)
    assert isinstance(again, Reply)
    assert again.status == 200
    assert (await opened(site, 21)).id not in ids
    assert len(site.told(MemberAdded)) == 2


async def test_an_agent_can_be_a_customer_too(site: Around) -> None:
    await shop(site, ANNA, BERT)
    dialog = await opened(site, ANNA)
    assert (await roles(site, dialog.id))[ANNA] == "guest"
    assert await site.replies.follow() is None
    assert (await roles(site, dialog.id))[ANNA] == "guest"


async def test_who_is_no_business_makes_a_plain_dialog_of_the_type(
    site: Around,
) -> None:
    dialog = await opened(site, CUSTOMER, 30)
    assert await roles(site, dialog.id) == {CUSTOMER: "owner", 30: "member"}
    assert await site.stores.business.business_dialog(1) is None


async def leave(site: Around, dialog_id: str, user: int) -> None:
    dialog = site.core.state.find(dialog_id)
    assert dialog is not None
    ids = b"".join(user_id(n).bytes for n in dialog.members if n != user)
    me = user_id(user).bytes
    record = RemoveRecord(dialog.number, 0, user, me, user, me, "left", ids)
    await site.core.settle(site.core.applier.submit(record))


async def test_a_customer_who_left_comes_back_to_the_same_dialog(site: Around) -> None:
    await shop(site, ANNA)
    dialog = await opened(site)
    await leave(site, dialog.id, CUSTOMER)
    again = await opened(site)
    assert again.id == dialog.id
    assert (await roles(site, dialog.id))[CUSTOMER] == "guest"


async def test_after_a_dialog_was_deleted_there_is_another(site: Around) -> None:
    await shop(site)
    dialog = await opened(site)
    state = site.core.state.find(dialog.id)
    assert state is not None
    record = DropRecord(state.number, 0, SHOP, user_id(SHOP).bytes)
    await site.core.settle(site.core.applier.submit(record))
    again = await opened(site)
    assert again.id != dialog.id
    assert (await opened(site)).id == again.id


async def test_a_crash_between_creation_and_coming_is_mended(site: Around) -> None:
    await shop(site, ANNA)
    site.core.journal.room = 1
    with pytest.raises(JournalFull):
        await opened(site)
    site.core.journal.room = 1 << 20
    site.core.journal.sync()
    async with around(await site.core.restart(users=300), site) as again:
        dialog = await opened(again)
        assert await roles(again, dialog.id) == {
            SHOP: "owner",
            ANNA: "member",
            CUSTOMER: "guest",
        }


# Who may open one


class Closed:
    """A gate that lets nobody of these open a dialog."""

    def __init__(self, *users: int) -> None:
        self.users = users

    def check_open(self, user_number: int) -> None:
        if user_number in self.users:
            raise errors.Silenced

    def admit(
        self, user_number: int, dialog_number: int, content: Any, buttons: Any
    ) -> None:
        raise AssertionError

    def admit_edit(self, user_number: int, content: Any, buttons: Any) -> None:
        raise AssertionError


async def test_who_may_open_no_dialog_opens_none_with_a_business(site: Around) -> None:
    await shop(site)
    dialog = await opened(site)
    site.businesses.gate = Closed(CUSTOMER, 21)
    assert (await opened(site)).id == dialog.id  # it is there, and they are in
    await leave(site, dialog.id, CUSTOMER)
    position = site.core.journal.next_position
    for customer in (CUSTOMER, 21):
        with pytest.raises(errors.Silenced):
            await opened(site, customer)
    assert site.core.journal.next_position == position
    assert (await opened(site, 22)).role == "guest"


@pytest.mark.parametrize("blocked", [(SHOP, CUSTOMER), (CUSTOMER, SHOP)])
async def test_who_is_blocked_by_the_other_opens_none(blocked: tuple[int, int]) -> None:
    blocks = FakeBlocks()
    async with around(blocks=blocks) as site:
        await shop(site)
        dialog = await opened(site)
        blocks.blocked = {blocked}
        assert (await opened(site)).id == dialog.id
        await leave(site, dialog.id, CUSTOMER)
        with pytest.raises(errors.NotAllowed):
            await opened(site)
        assert (await opened(site, 21)).role == "guest"


async def test_who_minds_becomes_no_agent(site: Around) -> None:
    blocks = FakeBlocks()
    async with around(blocks=blocks) as site:
        await shop(site, ANNA)
        blocks.refusing = [ANNA, BERT]
        with pytest.raises(errors.NotAllowed) as refused:
            await shop(site, ANNA, BERT)
        assert refused.value.fields == {"agents": str(user_id(BERT))}
        # Who is one stays one, and is put into no dialog any more.
        assert (await shop(site, ANNA)).agents == (user_id(ANNA),)
        dialog = await opened(site)
        assert await roles(site, dialog.id) == {SHOP: "owner", CUSTOMER: "guest"}


# Who answers


async def test_agents_assign_to_who_can_answer(site: Around) -> None:
    await shop(site, ANNA, BERT)
    dialog = await opened(site)
    assigned = await site.ask(
        ANNA, site.businesses.assign, Assign(dialog.id, user_id(BERT))
    )
    assert assigned.settings.assignee_id == str(user_id(BERT))
    [(who, event)] = site.told(DialogUpdated)
    assert who == [SHOP, ANNA, BERT, CUSTOMER]
    assert event.settings.assignee_id == str(user_id(BERT))
    for nobody in (CUSTOMER, 99, 9_999):
        with pytest.raises(errors.MemberNotFound):
            await site.ask(
                ANNA, site.businesses.assign, Assign(dialog.id, user_id(nobody))
            )
    nobody_any_more = await site.ask(
        BERT, site.businesses.assign, Assign(dialog.id, None)
    )
    assert nobody_any_more.settings.assignee_id is UNSET
    again = await site.ask(BERT, site.businesses.assign, Assign(dialog.id, None))
    assert again.last_seq == nobody_any_more.last_seq


async def test_customers_neither_assign_nor_close_nor_see_quick_replies(
    site: Around,
) -> None:
    await shop(site, ANNA, quick_replies=(QuickReply("hi", "Hello!"),))
    dialog = await opened(site)
    asks: list[tuple[Any, Any]] = [
        (site.businesses.assign, Assign(dialog.id, None)),
        (site.businesses.set_conversation, SetConversation(dialog.id, True)),
        (site.businesses.quick_replies, ListQuickReplies(dialog.id)),
    ]
    for handler, command in asks:
        with pytest.raises(errors.NotAllowed):
            await site.ask(CUSTOMER, handler, command)
        with pytest.raises(errors.DialogNotFound):
            await site.ask(99, handler, command)
        await site.ask(ANNA, handler, command)
    seen = await site.ask(
        ANNA, site.businesses.quick_replies, ListQuickReplies(dialog.id)
    )
    assert seen.quick_replies == (QuickReply("hi", "Hello!"),)


async def test_nobody_assigns_in_a_group(site: Around) -> None:
    group = await site.group(1, 2)
    with pytest.raises(errors.NotAllowed):
        await site.ask(1, site.businesses.assign, Assign(group.id, user_id(2)))


async def test_a_conversation_is_closed_and_opened(site: Around) -> None:
    await shop(site, ANNA)
    dialog = await opened(site)
    for is_closed in (True, True, False):
        now = await site.ask(
            ANNA,
            site.businesses.set_conversation,
            SetConversation(dialog.id, is_closed),
        )
        assert now.settings.is_closed is is_closed
    assert len(site.told(DialogUpdated)) == 2
