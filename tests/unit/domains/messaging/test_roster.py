"""The list of members: whole and once each, from memory and from the store."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
import trio
from msgspec import UNSET

from tchatd.domains.messaging import errors
from tchatd.domains.messaging import member_models as m
from tchatd.domains.messaging.models import ReadMessages
from tchatd.domains.messaging.roster import _SCANNED_MAX
from tchatd.kernel.errors import Invalid
from tests.support.members import (
    add,
    change,
    channel_of,
    forget,
    remove,
    small_core,
)
from tests.support.messaging import (
    Core,
    FakeDirectory,
    group_of,
    loading,
    text,
    user_id,
    with_user,
)


async def everybody(
    core: Core, user: int, dialog: Any, limit: int = 100, role: Any = UNSET
) -> list[m.DialogMember]:
    found: list[m.DialogMember] = []
    cursor: Any = UNSET
    for _ in range(200):
        command = m.ListMembers(
            dialog_id=dialog.id, limit=limit, cursor=cursor, role=role
        )
        page = await core.do(user, command)
        assert len(page.members) <= limit
        assert page.has_more == (page.next_cursor is not UNSET)
        found += page.members
        if not page.has_more:
            return found
        cursor = page.next_cursor
    raise AssertionError("the list never ends")


def numbers(members: list[m.DialogMember]) -> list[int]:
    first = user_id(0).int
    return [UUID(member.user_id).int - first for member in members]


async def test_a_small_dialog_shows_who_has_read_how_far(core: Core) -> None:
    dialog = await core.do(1, group_of([2, 3]))
    message = await core.do(1, text(dialog.id))
    await core.do(2, ReadMessages(UUID(message.id)))
    await core.do(1, add(dialog, 4, role="guest"))
    assert await everybody(core, 3, dialog, limit=2) == [
        m.DialogMember(str(user_id(1)), "owner", UNSET, 2, 2),
        m.DialogMember(str(user_id(2)), "member", UNSET, 2, 2),
        m.DialogMember(str(user_id(3)), "member", UNSET, 0, 0),
        m.DialogMember(str(user_id(4)), "guest", 4, 4, 4),
    ]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("size", [3, 100, 102, 130])
@pytest.mark.parametrize("is_stored", [False, True])
async def test_pages_have_everybody_once_in_order(
    size: int, limit: int, is_stored: bool
) -> None:
    async with small_core() as core:
        dialog = await core.do(1, group_of(range(2, size + 1)))
        if is_stored:
            await forget(core)
        shown = await everybody(core, 2, dialog, limit)
        assert numbers(shown) == list(range(1, size + 1))
        assert [member.role for member in shown[:2]] == ["owner", "member"]
        assert (shown[0].read_seq is UNSET) == (size > 100)


@pytest.mark.parametrize("limit", [1, 2, 5, 100])
@pytest.mark.parametrize("is_stored", [False, True])
async def test_a_page_may_be_of_one_role(limit: int, is_stored: bool) -> None:
    async with small_core() as core:
        dialog = await core.do(1, group_of(range(2, 100)))
        await core.do(1, add(dialog, *range(110, 116), role="guest"))
        await core.do(1, add(dialog, 120, 121, role="admin"))
        await core.do(1, change(dialog, 50, "guest"))
        await core.do(1, change(dialog, 111, "member"))
        if is_stored:
            await forget(core)
        # Of these memory knows by now, of the others the store.
        await core.do(1, change(dialog, 112, "admin"))
        await core.do(1, change(dialog, 51, "guest"))
        await core.do(1, remove(dialog, 113))
        want = {
            "owner": [1],
            "admin": [112, 120, 121],
            "guest": [50, 51, 110, 114, 115],
            "member": [n for n in [*range(2, 100), 111] if n not in (50, 51)],
        }
        for role, people in want.items():
            shown = await everybody(core, 2, dialog, limit, role)
            assert numbers(shown) == people
            assert {member.role for member in shown} == {role}


async def test_a_page_looks_through_so_many_and_no_more() -> None:
    core = Core(users=3_000)
    async with loading(core):
        dialog = await core.do(1, group_of([2]))
        await core.do(1, add(dialog, *range(3, 900), role="guest"))
        await core.do(1, add(dialog, *range(900, 1_500), role="guest"))
        await core.do(1, add(dialog, 1_600))
        core.journal.sync()
        await core.flusher.flush()
        kept = core.state.find(dialog.id)
        assert kept is not None
        assert not kept.all_loaded
        known = len(kept.by_number)
        first = m.ListMembers(dialog_id=dialog.id, role="member")
        page = await core.do(1, first)
        assert (numbers(page.members), page.has_more) == ([2], True)
        assert numbers(await everybody(core, 1, dialog, 50, "member")) == [2, 1_600]
        assert _SCANNED_MAX < 1_500
        assert len(kept.by_number) <= known + 1  # who asked


async def test_a_silence_is_shown_to_moderators_and_to_the_silenced(
    core: Core,
) -> None:
    dialog = await core.do(1, group_of([2, 3]))
    until = datetime.fromtimestamp(1_800_000_060, UTC)
    await core.do(1, change(dialog, 2, silenced_until=until))
    for user, sees in ((1, True), (2, True), (3, False)):
        silenced = (await everybody(core, user, dialog))[1].silenced_until
        assert (silenced is not UNSET) == sees
    core.clock.advance(60_000)
    shown = (await everybody(core, 1, dialog))[1]
    assert shown.silenced_until is UNSET  # it is over


async def test_members_are_shown_to_those_who_may_see_them(core: Core) -> None:
    channel = await core.do(1, channel_of(2))
    group = await core.do(1, group_of([3]))
    await core.do(1, add(group, 4, role="guest"))
    pair = await core.do(1, with_user(2))
    for user, dialog in ((2, channel), (4, group)):
        with pytest.raises(errors.NotAllowed):
            await everybody(core, user, dialog)
    for user, dialog in ((1, channel), (3, group), (2, pair)):
        assert len(await everybody(core, user, dialog)) == dialog.member_count or 3
    with pytest.raises(errors.DialogNotFound):
        await everybody(core, 5, group)


@pytest.mark.parametrize(
    "cursor", ["x", "m1.", "m1.x", str(user_id(1)), f"m1.{user_id(9_999)}"]
)
async def test_a_cursor_is_from_here(core: Core, cursor: str) -> None:
    dialog = await core.do(1, group_of([2]))
    for command in (m.ListMembers, m.ListBans):
        with pytest.raises(Invalid):
            await core.do(1, command(dialog_id=dialog.id, cursor=cursor))


async def test_a_member_without_an_account_ends_no_list(core: Core) -> None:
    dialog = await core.do(1, group_of([2, 3, 4, 5]))
    directory = FakeDirectory(5)
    directory._numbers.pop(user_id(3))
    core.service.roster._directory = directory
    shown = await everybody(core, 1, dialog, 2)
    assert [member.user_id for member in shown][2] == str(UUID(int=0))
    assert len(shown) == 5


async def test_what_is_listed_is_durable() -> None:
    core = Core(auto=False)
    async with loading(core):
        created = await core.service.create_dialog(core.context(1), group_of([2]))
        core.journal.sync()
        dialog = created.result()
        await core.service.membership.add(core.context(1), add(dialog, 3))
        pages: list[m.MemberPage] = []

        async def look() -> None:
            command = m.ListMembers(dialog_id=dialog.id)
            pages.append(await core.do(1, command))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            await trio.testing.wait_all_tasks_blocked()
            assert pages == []
            core.journal.sync()
        assert len(pages[0].members) == 3
