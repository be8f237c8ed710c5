"""What people show of themselves comes from sign-in's profiles."""

from __future__ import annotations

from uuid import UUID

from tchatd.app.people import AuthUsers
from tchatd.domains.auth.models import ChangeProfile
from tests.support.auth import EMAIL, PHONE, World


async def test_cards_have_what_a_profile_has() -> None:
    world = World()
    by_phone = await world.sign_in(PHONE)
    by_email = await world.sign_in(EMAIL)
    first = world.caller(by_phone.access_token)
    second = world.caller(by_email.access_token)
    await world.service.change_profile(
        first, ChangeProfile(name="Somchai", avatar="https://f.example/a")
    )
    cards = await AuthUsers(world.service).cards(
        [first.user_number, second.user_number, 99]
    )
    assert set(cards) == {first.user_number, second.user_number}
    one, two = cards[first.user_number], cards[second.user_number]
    assert (UUID(one.id), one.name, one.phone, one.avatar) == (
        first.user_id,
        "Somchai",
        PHONE,
        "https://f.example/a",
    )
    assert (two.phone, two.avatar) == (None, None)


async def test_phones_are_found_and_others_left_out() -> None:
    world = World()
    signed = await world.sign_in(PHONE)
    number = world.caller(signed.access_token).user_number
    asked = [PHONE, "+66812345679", "12", "somchai@example.com"]
    found = await AuthUsers(world.service).numbers_of_phones(asked)
    assert dict(found) == {PHONE: number}
    assert dict(await AuthUsers(world.service).numbers_of_phones(["x"])) == {}
