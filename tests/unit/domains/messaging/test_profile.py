"""Name, avatar and settings of a dialog; and its end."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import UNSET, structs

from tchatd.domains.messaging import errors
from tchatd.domains.messaging.events import DialogDeleted, DialogUpdated, OwnState
from tchatd.domains.messaging.member_models import (
    AddMembers,
    ChangeDialog,
    DropDialog,
    SettingsChange,
)
from tchatd.domains.messaging.models import (
    CreateDialog,
    GetDialog,
    ListDialogs,
    ListEvents,
)
from tchatd.domains.messaging.settings import PLAIN, DialogSettings
from tchatd.domains.messaging.state import StateLimits
from tchatd.kernel.errors import Invalid
from tests.support.members import (
    channel_of,
    forget,
    ranked,
    small_core,
)
from tests.support.messaging import (
    Core,
    group_of,
    loading,
    text,
    user_id,
    with_user,
)
from tests.unit.domains.messaging.test_reach import FakeBlocks

URL = "https://f.example/a"


def put(dialog: Any, **fields: Any) -> ChangeDialog:
    if "settings" in fields:
        fields["settings"] = SettingsChange(**fields["settings"])
    return ChangeDialog(dialog_id=dialog.id, **fields)


async def test_a_dialog_is_renamed_for_everybody(core: Core) -> None:
    dialog = await core.do(1, group_of([2]))
    core.hub.told.clear()
    view = await core.do(1, put(dialog, name="Dinner", avatar=URL))
    assert (view.name, view.avatar, view.role) == ("Dinner", URL, "owner")
    [(members, event, _)] = core.hub.told
    assert (members, type(event)) == ([1, 2], DialogUpdated)
    assert (event.name, event.avatar, event.settings) == ("Dinner", URL, PLAIN)
    view = await core.do(1, put(dialog, avatar=None))
    assert (view.name, view.avatar) == ("Dinner", UNSET)
    assert (await core.do(2, GetDialog(dialog.id))).name == "Dinner"


async def test_settings_are_merged_and_taken_back(core: Core) -> None:
    dialog = await core.do(1, group_of([2]))
    await core.do(1, put(dialog, settings={"description": "d", "slow_mode_s": 5}))
    view = await core.do(1, put(dialog, settings={"who_may_write": "admin"}))
    assert view.settings == DialogSettings(
        description="d", slow_mode_s=5, who_may_write="admin"
    )
    with pytest.raises(errors.NotAllowed):
        await core.do(2, text(dialog.id))
    view = await core.do(1, put(dialog, settings={"who_may_write": None}))
    assert view.settings.who_may_write is UNSET
    await core.do(2, text(dialog.id))
    at = core.journal.next_position
    unchanged: list[dict[str, Any]] = [
        {},
        {"settings": {}},
        {"settings": {"description": "d", "who_may_write": None}},
        {"name": "Lunch", "avatar": None},
    ]
    for same in unchanged:
        assert (await core.do(1, put(dialog, **same))).settings == view.settings
    assert core.journal.next_position == at


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "  "},
        {"settings": {"public_name": "lunch_bkk"}},
        {"settings": {"assignee_id": str(user_id(2))}},
        {"settings": {"is_closed": True}},
    ],
)
async def test_what_has_a_route_of_its_own_is_refused(
    core: Core, fields: dict[str, Any]
) -> None:
    dialog = await core.do(1, group_of([2]))
    with pytest.raises(Invalid):
        await core.do(1, put(dialog, **fields))
    assert core.journal.next_position == 2


async def test_two_people_set_what_vanishes_and_nothing_else(core: Core) -> None:
    dialog = await core.do(1, with_user(2))
    view = await core.do(2, put(dialog, settings={"vanish_after_s": 3_600}))
    assert view.settings.vanish_after_s == 3_600
    foreign: list[dict[str, Any]] = [
        *({"name": "x"}, {"avatar": URL}, {"avatar": None}),
        *({"settings": {"description": "x"}}, {"settings": {"slow_mode_s": 1}}),
        *({"settings": {"who_may_write": "owner"}},),
        *({"settings": {"needs_approval": True}},),
    ]
    for fields in foreign:
        with pytest.raises(Invalid):
            await core.do(1, put(dialog, **fields))


@pytest.mark.parametrize(
    ("type", "settings"),
    [
        ("user", {"description": "x"}),
        ("user", {"slow_mode_s": 1}),
        ("channel", {"public_name": "lunch_bkk"}),
        ("business", {"assignee_id": "x"}),
        ("business", {"is_closed": True}),
    ],
)
async def test_a_dialog_is_not_made_with_settings_that_it_cannot_have(
    core: Core, type: str, settings: dict[str, Any]
) -> None:
    command = channel_of(2, type=type, settings=DialogSettings(**settings))
    with pytest.raises(Invalid):
        await core.do(1, command)
    assert core.journal.kept == []


async def test_a_dialog_is_made_with_its_settings() -> None:
    async with small_core() as core:
        settings = DialogSettings(description="d", who_may_write="owner")
        group = structs.replace(group_of([2]), settings=settings)
        dialog = await core.do(1, group)
        assert dialog.settings == settings
        await forget(core)
        with pytest.raises(errors.NotAllowed):
            await core.do(2, text(dialog.id))
        pair = CreateDialog(
            type="user",
            participants=[user_id(2)],
            settings=DialogSettings(vanish_after_s=3_600),
        )
        assert (await core.do(1, pair)).settings.vanish_after_s == 3_600


@pytest.mark.parametrize("user", [2, 3])
async def test_members_and_guests_change_and_delete_nothing(
    core: Core, user: int
) -> None:
    dialog = await ranked(core)
    at = core.journal.next_position
    for command in (put(dialog, name="x"), DropDialog(dialog.id)):
        with pytest.raises(errors.NotAllowed):
            await core.do(user, command)
    with pytest.raises(errors.NotAllowed, match="leave"):
        await core.do(4, DropDialog(dialog.id))
    for command in (put(dialog, name="x"), DropDialog(dialog.id)):
        with pytest.raises(errors.DialogNotFound):
            await core.do(9, command)
    assert core.journal.next_position == at


@pytest.mark.parametrize("size", [3, 150])
async def test_a_deleted_dialog_is_gone_for_everybody(size: int) -> None:
    async with small_core() as core:
        dialog = await core.do(1, group_of(range(2, size + 1)))
        message = await core.do(2, text(dialog.id))
        await forget(core)
        core.hub.told.clear()
        await core.do(1, DropDialog(dialog.id))
        [told] = [t for t in core.hub.told if isinstance(t[1], DialogDeleted)]
        assert told[0] == list(range(1, size + 1))
        for is_stored in (False, True):
            if is_stored:
                await forget(core, 9)
            for user in (1, 2):
                for command in (
                    *(GetDialog(dialog.id), text(dialog.id), DropDialog(dialog.id)),
                    *(put(dialog, name="x"), ListEvents(dialog_id=dialog.id)),
                    AddMembers(dialog_id=dialog.id, user_ids=[user_id(5)]),
                ):
                    with pytest.raises(errors.DialogNotFound):
                        await core.do(user, command)
            assert (await core.do(2, ListDialogs())).total == 0
        assert message.seq == 2
        again = await core.restart(limits=StateLimits(dialogs_max=1, tail_max=2))
        async with loading(again):
            with pytest.raises(errors.DialogNotFound):
                await again.do(2, GetDialog(dialog.id))


async def test_changes_of_what_is_not_in_memory_are_kept() -> None:
    async with small_core() as core:
        dialog = await core.do(1, group_of(range(2, 110)))
        await forget(core)
        await core.do(1, put(dialog, name="Dinner"))
        await forget(core)
        await core.do(1, put(dialog, settings={"slow_mode_s": 9}))
        await forget(core)
        again = await core.restart(limits=StateLimits(dialogs_max=1, tail_max=2))
        async with loading(again):
            view = await again.do(105, GetDialog(dialog.id))
            assert (view.name, view.settings.slow_mode_s) == ("Dinner", 9)


async def test_who_clears_a_dialog_of_two_is_told_what_has_become_of_it(
    core: Core,
) -> None:
    """Found by the simulation: the answer does not say it, nor did the device hear."""
    dialog = await core.do(1, with_user(2))
    await core.do(2, text(dialog.id))
    core.hub.told.clear()
    await core.do(1, DropDialog(dialog.id), connection=7)
    [told] = [t for t in core.hub.told if isinstance(t[1], OwnState)]
    members, own, left_out = told
    assert (members, left_out) == ([1], None)
    assert (own.cleared_seq, own.read_seq, own.unread_count) == (3, 2, 0)


async def test_who_is_blocked_sets_nothing_in_a_dialog_of_two() -> None:
    blocks = FakeBlocks()
    core = Core(blocks=blocks)
    async with loading(core):
        dialog = await core.do(1, with_user(2))
        group = await core.do(1, group_of([2]))
        blocks.blocked = {(2, 1)}
        vanish = {"vanish_after_s": 3_600}
        with pytest.raises(errors.NotAllowed):
            await core.do(1, put(dialog, settings=vanish))
        view = await core.do(2, put(dialog, settings=vanish))
        assert view.settings.vanish_after_s == 3_600
        await core.do(1, put(group, settings=vanish))
        await core.do(1, DropDialog(dialog.id))  # for themselves
