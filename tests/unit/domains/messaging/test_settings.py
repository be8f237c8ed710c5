"""How a dialog is set: stored, and what it moves of what a role may."""

from __future__ import annotations

from itertools import product
from typing import Any, get_args

import pytest
from msgspec import UNSET, structs

from tchatd.domains.messaging import settings as s
from tchatd.domains.messaging.settings import (
    DialogSettings,
    Least,
    rights,
    settings_bytes,
    settings_of,
)
from tchatd.domains.messaging.store import ADMIN, GUEST, MEMBER, OWNER, TYPES

FULL = DialogSettings(
    description="d",
    who_may_write="admin",
    who_may_add="owner",
    who_may_pin="guest",
    slow_mode_s=10,
    vanish_after_s=3_600,
    needs_approval=True,
    public_name="lunch_bkk",
    assignee_id="a",
    is_closed=True,
)
RANKED = (GUEST, MEMBER, ADMIN, OWNER)
MOVABLE = {"who_may_write": s.WRITE, "who_may_add": s.ADD, "who_may_pin": s.PIN}


def test_settings_come_back_as_they_were() -> None:
    assert settings_of(settings_bytes(FULL)) == FULL
    assert settings_bytes(DialogSettings()) is None
    assert settings_of(None) == DialogSettings()


@pytest.mark.parametrize("name", structs.asdict(FULL))
def test_each_setting_is_stored_by_its_name(name: str) -> None:
    one = DialogSettings(**{name: getattr(FULL, name)})
    assert one != DialogSettings()
    assert settings_of(settings_bytes(one)) == one


def test_settings_that_were_written_first_are_read() -> None:
    written = "82ab6465736372697074696f6ea164ad77686f5f6d61795f7772697465a561646d696e"
    want = DialogSettings(description="d", who_may_write="admin")
    assert settings_of(bytes.fromhex(written)) == want
    later = bytes.fromhex("82a36e657701" + written[2 : 2 + 28])
    assert settings_of(later) == DialogSettings(description="d")


@pytest.mark.parametrize(
    ("type", "setting", "least"),
    list(product(("group", "channel", "business"), MOVABLE, get_args(Least))),
)
def test_a_setting_moves_its_right_and_no_other(
    type: str, setting: str, least: Least
) -> None:
    number = TYPES.index(type)
    before = rights(number, DialogSettings())
    after = rights(number, structs.replace(DialogSettings(), **{setting: least}))
    names = ("guest", "member", "admin", "owner")
    for role in RANKED:
        allowed = RANKED.index(role) >= names.index(least)
        assert bool(after[role] & MOVABLE[setting]) == allowed
        assert (after[role] ^ before[role]) & s.ALL_RIGHTS & ~MOVABLE[setting] == 0


def test_in_a_dialog_of_two_settings_move_nothing() -> None:
    number = TYPES.index("user")
    moved = zip(rights(number, FULL), rights(number, DialogSettings()), strict=True)
    assert all((one ^ other) & s.ALL_RIGHTS == 0 for one, other in moved)


def test_every_role_of_every_type_has_rights_of_the_table() -> None:
    for index, type in enumerate(TYPES):
        found = rights(index, DialogSettings())
        for role in RANKED:
            assert found[role] & s.ALL_RIGHTS == s.RIGHTS[type][role]
            assert found[role] & ~s.ALL_RIGHTS in (0, s.WRITE_FREELY)
    assert DialogSettings().who_may_write is UNSET


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("slow_mode_s", [0, 10])
@pytest.mark.parametrize("least", [UNSET, "guest", "admin"])
def test_who_writes_freely_may_write_and_is_not_slowed(
    type: str, slow_mode_s: int, least: Any
) -> None:
    settings = DialogSettings(who_may_write=least, slow_mode_s=slow_mode_s)
    for role, found in enumerate(rights(TYPES.index(type), settings)):
        slowed = slow_mode_s > 0 and type != "user" and role in (MEMBER, GUEST)
        assert bool(found & s.WRITE_FREELY) == bool(found & s.WRITE and not slowed)


def test_in_slow_mode_owners_and_admins_write_freely() -> None:
    slow = DialogSettings(slow_mode_s=5)
    for settings, free in ((DialogSettings(), RANKED), (slow, (ADMIN, OWNER))):
        found = rights(TYPES.index("group"), settings)
        for role in free:
            assert found[role] & s.WRITE_FREELY
    assert not rights(TYPES.index("group"), slow)[MEMBER] & s.WRITE_FREELY
    assert not rights(TYPES.index("channel"), slow)[MEMBER] & s.WRITE_FREELY
