"""Privacy, contacts and blocks: what is decided, and what it does to what is shown."""

from __future__ import annotations

from typing import Any, get_args
from uuid import uuid4

import pytest
from msgspec import UNSET

from tchatd.domains.people.errors import (
    ListFull,
    NotYourself,
    PersonNotFound,
    PreferencesTooLarge,
    TooManyNumbers,
)
from tchatd.domains.people.models import (
    AddBlocks,
    AddContacts,
    Audience,
    ChangePrivacy,
    ListPeople,
    Privacy,
)
from tchatd.domains.people.rules import PeopleSettings
from tchatd.kernel.errors import NotForBots
from tests.support.people import World, caller, id_of, phone_of

ME, OTHER, THIRD = caller(1), caller(2), caller(3)


@pytest.fixture
def world() -> World:
    return World()


async def test_privacy_has_defaults_and_changes_in_parts(world: World) -> None:
    assert await world.service.privacy(ME) == Privacy()
    changed = await world.service.change_privacy(ME, ChangePrivacy(phone="nobody"))
    assert changed == Privacy(phone="nobody")
    assert await world.service.privacy(ME) == changed
    assert world.presence.told == []
    await world.service.change_privacy(ME, ChangePrivacy(last_seen="contacts"))
    assert world.presence.told == [1]


@pytest.mark.parametrize("audience", get_args(Audience))
@pytest.mark.parametrize("viewer", ["self", "contact", "stranger", "blocked"])
async def test_phone_and_picture_are_shown_by_privacy(
    world: World, audience: Audience, viewer: str
) -> None:
    await world.service.change_privacy(
        OTHER, ChangePrivacy(phone=audience, profile_photo=audience)
    )
    if viewer == "contact":
        await world.service.add_contacts(OTHER, AddContacts(user_ids=[id_of(1)]))
    if viewer == "blocked":
        await world.service.add_blocks(OTHER, AddBlocks(user_ids=[id_of(1)]))
    asking = OTHER if viewer == "self" else ME
    profile = await world.service.profile(asking, id_of(2))
    shown = viewer == "self" or (
        viewer != "blocked"
        and (audience == "everyone" or (audience, viewer) == ("contacts", "contact"))
    )
    assert (profile.phone is not UNSET) is shown
    assert (profile.avatar is not UNSET) is shown
    assert profile.name == "User 2"


async def test_who_does_not_exist_has_no_profile(world: World) -> None:
    with pytest.raises(PersonNotFound):
        await world.service.profile(ME, uuid4())
    world.users.erased = {2}
    with pytest.raises(PersonNotFound):
        await world.service.profile(ME, id_of(2))


async def test_contacts_are_added_by_id_and_by_phone(world: World) -> None:
    added = await world.service.add_contacts(
        ME,
        AddContacts(
            user_ids=[id_of(2), uuid4(), id_of(1)],
            phones=[phone_of(3), "+66819999999", "no phone", phone_of(1)],
        ),
    )
    told = [(contact.person.id, contact.phone) for contact in added.contacts]
    assert told == [(str(id_of(2)), UNSET), (str(id_of(3)), phone_of(3))]
    assert added.total == 2
    assert all(contact.person.is_contact for contact in added.contacts)


async def test_unknown_numbers_add_nobody_and_are_no_mistake(world: World) -> None:
    added = await world.service.add_contacts(ME, AddContacts(phones=["+66819999999"]))
    assert (added.contacts, added.total) == ([], 0)


@pytest.mark.parametrize(
    ("audience", "knows", "found"),
    [
        ("everyone", False, True),
        ("contacts", False, False),
        ("contacts", True, True),
        ("nobody", True, False),
    ],
)
async def test_who_is_found_by_phone_decides_that_themselves(
    world: World, audience: Audience, knows: bool, found: bool
) -> None:
    if knows:
        await world.service.add_contacts(OTHER, AddContacts(user_ids=[id_of(1)]))
    await world.service.change_privacy(OTHER, ChangePrivacy(findable_by_phone=audience))
    added = await world.service.add_contacts(ME, AddContacts(phones=[phone_of(2)]))
    assert len(added.contacts) == found


async def test_who_blocks_is_not_found_by_phone(world: World) -> None:
    await world.service.add_blocks(OTHER, AddBlocks(user_ids=[id_of(1)]))
    added = await world.service.add_contacts(ME, AddContacts(phones=[phone_of(2)]))
    assert added.contacts == []


async def test_numbers_are_looked_up_so_many_a_day() -> None:
    world = World(PeopleSettings(phones_per_user_day=3))
    ask = AddContacts(phones=["+66819999999", "+66819999998"])
    await world.service.add_contacts(ME, ask)
    with pytest.raises(TooManyNumbers) as refused:
        await world.service.add_contacts(ME, ask)
    assert refused.value.retry_after_s is not None
    await world.service.add_contacts(OTHER, ask)
    world.clock.advance(refused.value.retry_after_s * 1000 + 1000)
    await world.service.add_contacts(ME, ask)


async def test_a_bot_looks_nobody_up_and_has_no_contacts(world: World) -> None:
    world.service.is_bot = lambda number: number == ME.user_number
    for ask in (AddContacts(phones=["+66819999999"]), AddContacts(user_ids=[id_of(2)])):
        with pytest.raises(NotForBots):
            await world.service.add_contacts(ME, ask)
    with pytest.raises(NotForBots):
        world.service.count_lookups(ME.user_number, 1)
    await world.service.add_contacts(OTHER, AddContacts(phones=["+66819999999"]))


async def test_lists_are_about_others_who_exist(world: World) -> None:
    service = world.service
    with pytest.raises(NotYourself):
        await service.add_contacts(ME, AddContacts(user_ids=[id_of(1)]))
    with pytest.raises(NotYourself):
        await service.add_blocks(ME, AddBlocks(user_ids=[id_of(2), id_of(1)]))
    with pytest.raises(PersonNotFound):
        await service.add_contacts(ME, AddContacts(user_ids=[uuid4()]))
    with pytest.raises(PersonNotFound):
        await service.add_blocks(ME, AddBlocks(user_ids=[uuid4()]))
    with pytest.raises(PersonNotFound):
        await service.contacts(ME, ListPeople(after=uuid4()))


async def test_a_full_list_is_refused_whole() -> None:
    world = World(PeopleSettings(contacts_max=2, blocks_max=1))
    three = [id_of(number) for number in (2, 3, 4)]
    with pytest.raises(ListFull):
        await world.service.add_contacts(ME, AddContacts(user_ids=three))
    with pytest.raises(ListFull):
        await world.service.add_blocks(ME, AddBlocks(user_ids=three))
    assert (await world.service.contacts(ME, ListPeople())).total == 0
    assert (await world.service.blocks(ME, ListPeople())).total == 0


async def test_lists_come_in_pages(world: World) -> None:
    ids = [id_of(number) for number in range(2, 9)]
    await world.service.add_contacts(ME, AddContacts(user_ids=ids))
    await world.service.add_blocks(ME, AddBlocks(user_ids=ids))
    for read in (world.service.contacts, world.service.blocks):
        seen: list[str] = []
        after: Any = None
        for _ in range(4):
            page = await read(ME, ListPeople(limit=3, after=after))
            seen += [person.id for person in page.people]
            assert page.total == 7
            if not page.has_more:
                break
            after = id_of(int(page.people[-1].name.split()[1]))
        assert seen == [str(id) for id in ids]


async def test_removed_people_are_gone_and_may_be_removed_again(world: World) -> None:
    ids = [id_of(2), id_of(3)]
    await world.service.add_contacts(ME, AddContacts(user_ids=ids))
    await world.service.add_blocks(ME, AddBlocks(user_ids=ids))
    for _ in range(2):
        left = await world.service.remove_contacts(ME, [id_of(2), uuid4()])
        assert left.total == 1
        assert (await world.service.remove_blocks(ME, [id_of(2)])).total == 1
    profile = await world.service.profile(ME, id_of(2))
    assert (profile.is_contact, profile.is_blocked) == (False, False)


async def test_watchers_are_reconsidered_when_it_can_matter_to_them(
    world: World,
) -> None:
    service = world.service
    await service.add_contacts(ME, AddContacts(user_ids=[id_of(2)]))
    assert world.presence.told == []
    await service.add_blocks(ME, AddBlocks(user_ids=[id_of(2)]))
    await service.remove_blocks(ME, [id_of(2)])
    await service.change_privacy(ME, ChangePrivacy(last_seen="contacts"))
    await service.add_contacts(ME, AddContacts(user_ids=[id_of(3)]))
    await service.remove_contacts(ME, [id_of(3)])
    assert world.presence.told == [1] * 5


async def test_a_block_is_known_to_whoever_asks_at_once(world: World) -> None:
    await world.service.circles.load([1, 2])
    await world.service.add_blocks(ME, AddBlocks(user_ids=[id_of(2)]))
    assert world.service.circles.is_blocked(1, 2) is True
    assert world.service.circles.is_blocked(2, 1) is False
    assert world.service.circles.sight(2, 1) == "nothing"


async def test_preferences_are_replaced_whole(world: World) -> None:
    assert bytes((await world.service.preferences(ME)).preferences) == b"{}"
    await world.service.set_preferences(ME, {"theme": "dark", "size": 3})
    await world.service.set_preferences(ME, {"theme": "ไทย"})
    kept = (await world.service.preferences(ME)).preferences
    assert bytes(kept) == '{"theme":"ไทย"}'.encode()
    with pytest.raises(PreferencesTooLarge):
        await world.service.set_preferences(ME, {"x": "y" * 9_000})
