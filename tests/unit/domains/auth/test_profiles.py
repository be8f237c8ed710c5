"""The cache of profiles: never older than what was told, and empty of the erased."""

from __future__ import annotations

from uuid import UUID, uuid4

import msgspec
import pytest
from msgspec import UNSET

from tchatd.domains.auth.errors import ProfileRefused, TokenRefused
from tchatd.domains.auth.models import ChangeProfile, Status, User
from tchatd.kernel.crypto import Unreadable
from tchatd.kernel.routing import Caller
from tests.support.auth import PHONE, World, settings_with

CHOICES: tuple[Status, ...] = ("busy", "away", "offline", "online")


class OwnPresence:
    """A `Presence` that says what it is told to. told: what it was told of choices."""

    def __init__(self) -> None:
        self.seen: tuple[Status | None, str | None] = (None, None)
        self.is_loaded = True
        self.told: list[tuple[int, UUID, Status]] = []

    def own(self, number: int) -> tuple[Status | None, str | None] | None:
        return self.seen if self.is_loaded else None

    async def load_own(self, number: int) -> None:
        self.is_loaded = True

    def choose(self, number: int, user_id: UUID, status: Status) -> None:
        self.told.append((number, user_id, status))


async def test_a_read_that_was_overtaken_by_a_change_does_not_undo_it() -> None:
    world = World()
    caller = world.caller((await world.sign_in()).access_token)
    profiles = world.service.profiles
    [before] = await world.store.users_by_number([caller.user_number])
    changed = await profiles.change(caller.user_number, ChangeProfile(name="New"))
    assert profiles.see(before) is changed
    assert profiles.get(caller.user_number) is changed


async def test_two_changes_in_one_millisecond_are_told_apart() -> None:
    world = World()
    caller = world.caller((await world.sign_in()).access_token)
    first, second = [
        await world.service.change_profile(caller, ChangeProfile(name=name))
        for name in ("One", "Two")
    ]
    assert first.updated_at < second.updated_at


async def test_a_profile_that_is_not_here_is_waited_for_once() -> None:
    world = World()
    signed = await world.sign_in()
    caller = world.caller(signed.access_token)
    profiles = world.another().service.profiles
    loading = profiles.get(caller.user_number)
    assert not isinstance(loading, User)
    assert await loading == signed.user
    assert isinstance(profiles.get(caller.user_number), User)
    profiles.forget(caller.user_number)
    assert not isinstance(again := profiles.get(caller.user_number), User)
    assert await again == signed.user


async def test_the_cache_is_bounded() -> None:
    world = World(settings_with(profiles_known_max=2))
    callers = [
        world.caller((await world.sign_in(f"p{i}@example.com")).access_token)
        for i in range(3)
    ]
    found = [world.service.profile(caller) for caller in callers]
    assert [isinstance(user, User) for user in found] == [False, True, True]
    assert isinstance(await found[0], User)  # type: ignore[misc]  # the awaitable


async def test_a_bot_is_not_verified() -> None:
    """Nobody has proved a phone or an email."""
    world = World()
    await world.sign_in()
    record = await world.service.record(1)
    assert record is not None
    assert world.service.profiles.see(record).is_verified
    bot = msgspec.structs.replace(record, is_bot=True)
    assert not world.service.profiles.see(bot).is_verified


async def test_an_unknown_user_reads_and_changes_nothing() -> None:
    world = World()
    nobody = Caller(uuid4(), 77, uuid4())
    loading = world.service.profile(nobody)
    assert not isinstance(loading, User)
    with pytest.raises(TokenRefused):
        await loading
    with pytest.raises(TokenRefused):
        await world.service.change_profile(nobody, ChangeProfile(name="No"))


async def test_a_refused_change_changes_nothing() -> None:
    world = World()
    signed = await world.sign_in()
    caller = world.caller(signed.access_token)
    with pytest.raises(ProfileRefused):
        await world.service.change_profile(
            caller, ChangeProfile(name="x", status="busy")
        )
    assert world.service.profile(caller) is signed.user


async def test_a_choice_is_known_after_a_restart_and_told_to_presence() -> None:
    world = World()
    presence = world.service.presence = OwnPresence()
    caller = world.caller((await world.sign_in()).access_token)
    change, number = world.service.change_profile, caller.user_number
    assert world.service.profiles.choice_of(number) == "online"
    for choice in CHOICES:
        user = await change(caller, ChangeProfile(status=choice))
        assert (user.status, user.last_seen) == (choice, UNSET)
        assert presence.told.pop() == (number, caller.user_id, choice)
        again = world.another()
        await again.service.start()
        for one in (world, again):
            assert one.service.profiles.choice_of(number) == choice
    await change(caller, ChangeProfile(name="Ánh"))
    assert presence.told == []


async def test_ones_own_profile_shows_how_one_is_seen_and_when_one_was_here() -> None:
    world = World()
    presence = world.service.presence = OwnPresence()
    caller = world.caller((await world.sign_in()).access_token)
    seen = world.service.profile(caller)
    assert isinstance(seen, User)
    assert (seen.status, seen.last_seen) == ("online", UNSET)
    presence.seen = ("offline", None)  # invisible
    seen = world.service.profile(caller)
    assert isinstance(seen, User)
    assert (seen.status, seen.last_seen) == ("offline", UNSET)
    presence.seen, presence.is_loaded = (None, "2026-01-02T03:04:05Z"), False
    loading = world.service.profile(caller)
    assert not isinstance(loading, User)
    seen = await loading
    assert (seen.status, seen.last_seen) == ("online", "2026-01-02T03:04:05Z")
    assert isinstance(world.service.profile(caller), User)


async def test_an_avatar_is_set_and_taken_away() -> None:
    world = World()
    caller = world.caller((await world.sign_in()).access_token)
    change = world.service.change_profile
    user = await change(caller, ChangeProfile(avatar="https://a.example/b"))
    assert user.avatar == "https://a.example/b"
    user = await change(caller, ChangeProfile(locale="id-ID"))
    assert (user.avatar, user.locale) == ("https://a.example/b", "id-ID")
    user = await change(caller, ChangeProfile(avatar=None))
    assert user.avatar is UNSET


async def test_whose_key_is_destroyed_has_no_phone_any_more() -> None:
    world = World()
    caller = world.caller((await world.sign_in(PHONE)).access_token)
    [record] = await world.store.users_by_number([caller.user_number])
    erased = msgspec.structs.replace(record, data_key=None)
    profiles = world.another().service.profiles
    assert profiles.see(erased).phone is UNSET
    with pytest.raises(Unreadable):
        profiles.data_key(erased)


async def test_a_phone_moved_to_another_users_row_does_not_open() -> None:
    world = World()
    first = world.caller((await world.sign_in(PHONE)).access_token)
    second = world.caller((await world.sign_in("+66898765432")).access_token)
    [a, b] = await world.store.users_by_number([first.user_number, second.user_number])
    swapped = msgspec.structs.replace(a, phone_sealed=b.phone_sealed)
    with pytest.raises(Unreadable):
        world.another().service.profiles.see(swapped)
    stolen = msgspec.structs.replace(a, data_key=b.data_key)
    with pytest.raises(Unreadable):
        world.another().service.profiles.see(stolen)


async def test_many_profiles_come_by_one_query_and_the_known_by_none() -> None:
    world = World()
    numbers = [
        world.caller((await world.sign_in(f"p{i}@example.com")).access_token)
        for i in range(3)
    ]
    wanted = [caller.user_number for caller in numbers]
    profiles = world.another().service.profiles
    for _ in range(2):
        found = await profiles.of([*wanted, 99])
        assert sorted(found) == sorted(wanted)
        assert all(isinstance(profiles.get(number), User) for number in wanted)
