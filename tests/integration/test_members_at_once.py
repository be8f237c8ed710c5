"""Members of dialogs that memory has forgotten, that are large, or that two change at
once: as if one after the other, and never without an owner."""

from __future__ import annotations

import random
from typing import Any
from uuid import UUID

import pytest

from tchatd.domains.messaging import errors
from tchatd.domains.messaging.events import MemberAdded
from tchatd.domains.messaging.models import Done, GetDialog
from tchatd.domains.messaging.state import StateLimits
from tchatd.domains.messaging.store import OWNER, TYPES
from tchatd.kernel.errors import DomainError, ErrorKind
from tests.support.members import (
    add,
    at_once,
    change,
    channel_of,
    forget,
    remove,
    roles,
    small_core,
)
from tests.support.messaging import (
    Core,
    FakeDirectory,
    group_of,
    loading,
    text,
    user_id,
)


async def test_everything_works_on_what_is_not_in_memory() -> None:
    async with small_core() as core:
        dialog = await core.do(1, group_of([2, 3, 4]))
        for user, command in (
            (1, add(dialog, 5)),
            (1, change(dialog, 2, "admin")),
            (2, remove(dialog, 3)),
            (4, remove(dialog, 4)),
            (1, change(dialog, 5, "owner", hands_over=False)),
            (1, remove(dialog, 1)),
            (5, change(dialog, 2, "owner")),
        ):
            await forget(core)
            await core.do(user, command)
        await forget(core)
        assert await roles(core, dialog) == {2: "owner", 5: "admin"}
        again = await core.restart(limits=StateLimits(dialogs_max=1, tail_max=2))
        async with loading(again):
            assert await roles(again, dialog) == {2: "owner", 5: "admin"}


async def test_a_large_dialog_shows_its_first_hundred_however_it_changes() -> None:
    async with small_core() as core:
        dialog = await core.do(101, group_of(range(1, 104)))  # 1 to 103
        for gone in (1, 50, 102, 2, 3):
            await forget(core, 101)
            await core.do(101, remove(dialog, gone))
        await forget(core, 101)
        await core.do(101, add(dialog, 2))
        await forget(core, 101)
        view = await core.do(101, GetDialog(dialog.id))
        left = [n for n in range(1, 104) if n not in (1, 50, 102, 3)]
        assert view.participants == tuple(str(user_id(n)) for n in left)
        assert view.member_count == 99
        with pytest.raises(errors.DialogNotFound):
            await core.do(3, GetDialog(dialog.id))


@pytest.mark.parametrize("size", [99, 100, 101, 102, 103])
async def test_a_dialog_grows_and_shrinks_around_its_hundredth_member(
    size: int,
) -> None:
    async with small_core() as core:
        dialog = await core.do(1, group_of(range(2, size + 1)))
        message = await core.do(1, text(dialog.id))
        await core.do(1, add(dialog, 150, 151))
        for gone in (150, 2, 3, 151):
            await forget(core)
            await core.do(gone, remove(dialog, gone))
        view = await core.do(4, GetDialog(dialog.id))
        assert (view.member_count, view.unread_count) == (size - 2, 1)
        assert view.last_message.id == message.id
        again = await core.restart(limits=StateLimits(dialogs_max=1, tail_max=2))
        async with loading(again):
            assert await again.do(4, GetDialog(dialog.id)) == view


async def test_an_owner_leaves_a_large_dialog_while_another_is_stored_only() -> None:
    async with small_core() as core:
        dialog = await core.do(1, group_of(range(2, 151)))
        await forget(core)
        with pytest.raises(errors.LastOwner):
            await core.do(1, remove(dialog, 1))
        await core.do(1, change(dialog, 120, "owner", hands_over=False))
        await forget(core)
        await core.do(1, remove(dialog, 1))
        await forget(core, 120)
        with pytest.raises(errors.LastOwner):
            await core.do(120, change(dialog, 120, "member"))


async def test_a_member_whose_account_is_gone_does_not_keep_others_in() -> None:
    async with small_core() as core:
        dialog = await core.do(1, group_of(range(2, 103)))
        core.service.membership._directory = FakeDirectory(100)
        await core.do(2, remove(dialog, 2))
        view = await core.do(1, GetDialog(dialog.id))
        assert view.participants[-2:] == (str(user_id(100)), str(UUID(int=0)))


# Two at once


@pytest.mark.parametrize("members", [3, 150])
@pytest.mark.parametrize("is_stored", [False, True])
async def test_two_owners_who_leave_at_once_leave_one(
    members: int, is_stored: bool
) -> None:
    async with small_core() as core:
        dialog = await core.do(1, group_of(range(2, members + 1)))
        await core.do(1, change(dialog, 2, "owner", hands_over=False))
        if is_stored:
            await forget(core)
        answers = await at_once(
            core, (1, remove(dialog, 1)), (2, remove(dialog, 2)), (3, text(dialog.id))
        )
        refused = [a for a in answers if isinstance(a, errors.LastOwner)]
        assert len(refused) == 1
        left = await roles(core, dialog)
        assert list(left.values()).count("owner") == 1


@pytest.mark.parametrize("is_stored", [False, True])
async def test_handing_over_and_leaving_at_once_leave_an_owner(
    is_stored: bool,
) -> None:
    for pair in (
        ((1, "owner", 2), (2, None, 2)),
        ((2, None, 2), (1, "owner", 2)),
        ((1, "owner", 2), (1, None, 1)),
        ((1, "owner", 2), (1, "owner", 3)),
    ):
        async with small_core() as core:
            dialog = await core.do(1, group_of(range(2, 130)))
            if is_stored:
                await forget(core)
            work = [
                (by, change(dialog, whom, role) if role else remove(dialog, whom))
                for by, role, whom in pair
            ]
            await at_once(core, *work)
            state = core.state.find(dialog.id)
            assert state is not None
            owners = [
                n
                for n, member in state.by_number.items()
                if member.role == OWNER and n in state.members
            ]
            assert len(owners) == 1


async def test_many_who_add_at_once_never_exceed_the_size() -> None:
    async with small_core() as core:
        dialog = await core.do(1, channel_of(*range(2, 95), type="business"))
        await forget(core)
        answers = await at_once(
            core, *((1, add(dialog, *range(n, n + 3))) for n in range(100, 121, 3))
        )
        added = [a.count for a in answers if isinstance(a, MemberAdded)]
        assert sum(added) == 6
        view = await core.do(1, GetDialog(dialog.id))
        assert view.member_count == 100


async def test_two_who_add_the_same_people_add_them_once() -> None:
    async with small_core() as core:
        dialog = await core.do(1, group_of([2]))
        work = [(n, add(dialog, 3, 4, 5)) for n in (1, 2, 1, 2)]
        answers = await at_once(core, *work)
        assert sorted(a.count for a in answers) == [0, 0, 0, 3]
        await forget(core)


async def test_two_who_remove_at_once_keep_the_hundred_right() -> None:
    async with small_core() as core:
        dialog = await core.do(1, group_of(range(2, 104)))
        await forget(core)
        answers = await at_once(core, *[(1, remove(dialog, n)) for n in (5, 6, 7, 5)])
        refused = [a for a in answers if a != Done()]
        assert [type(a) for a in refused] == [errors.MemberNotFound]
        view = await core.do(1, GetDialog(dialog.id))
        left = [n for n in range(1, 104) if n not in (5, 6, 7)]
        assert view.participants == tuple(str(user_id(n)) for n in left)


async def test_whoever_is_added_and_removed_at_once_is_in_or_out() -> None:
    async with small_core() as core:
        dialog = await core.do(1, group_of([2, 3]))
        await at_once(core, (2, add(dialog, 3, 4)), (1, remove(dialog, 3)))
        await at_once(core, (1, remove(dialog, 4, ban=True)), (2, add(dialog, 4)))
        await forget(core)
        again = await core.restart()
        async with loading(again):
            assert await roles(again, dialog) == await roles(core, dialog)


# Many at once


@pytest.mark.parametrize("seed", range(40))
async def test_whatever_many_do_at_once_there_is_an_owner_and_no_crowd(
    seed: int,
) -> None:
    """Business dialogs are full at 100, which is where large ones begin, too."""
    chance = random.Random(seed)
    size = chance.choice((3, 97, 99))
    type = chance.choice(("business", "group"))
    async with small_core(seed=seed) as core:
        dialog = await core.do(1, channel_of(*range(2, size + 1), type=type))
        await core.do(1, change(dialog, 2, "owner", hands_over=False))
        await core.do(1, change(dialog, 3, "admin"))
        for _ in range(12):
            if chance.random() < 0.5:
                await forget(core)
            work = [_command(chance, dialog, size) for _ in range(6)]
            answers = await at_once(core, *work)
            assert not [a for a in answers if type_of_failure(a)]
            if await is_over(core, dialog):
                break
        await forget(core)
        again = await core.restart()
        async with loading(again):
            assert await is_over(again, dialog) == await is_over(core, dialog)


def _command(chance: random.Random, dialog: Any, size: int) -> tuple[int, Any]:
    user = chance.choice((1, 2, 3))
    other = chance.choice((1, 2, 3, chance.randint(4, 110)))
    commands = (
        add(dialog, *{other, chance.randint(90, 120), chance.randint(90, 120)}),
        change(dialog, other, "owner", hands_over=chance.random() < 0.7),
        change(dialog, other, chance.choice(("admin", "member"))),
        change(dialog, user, "admin"),
        remove(dialog, other),
        remove(dialog, user),
        remove(dialog, other, ban=chance.random() < 0.2),
    )
    return user, chance.choice(commands)


def type_of_failure(answer: Any) -> bool:
    """Whether it is no answer that a client could act on."""
    return isinstance(answer, DomainError) and answer.kind in (
        ErrorKind.UNAVAILABLE,
        ErrorKind.UNAUTHORIZED,
    )


async def is_over(core: Core, dialog: Any) -> bool:
    """Whether nobody is in it any more; else somebody owns it, and it is as shown."""
    state = core.state.find(dialog.id)
    if state is None:
        await core.applier.load(ids=(UUID(dialog.id).bytes,))
        state = core.state.find(dialog.id)
    assert state is not None
    if state.is_dropped:
        assert not state.members
        return True
    number, people = state.number, list(state.members)
    await core.applier.load(members=[(number, user) for user in people])
    state = core.state.find_number(number)
    assert state is not None
    known = {user: state.member(user) for user in people}
    assert sum(m is not None and m.role == OWNER for m in known.values()) >= 1
    assert all(m is not None and not m.left_seq for m in known.values())
    assert len(people) <= (100 if TYPES[state.type] == "business" else 5_000)
    shown = tuple(str(user_id(user)) for user in people[:100])
    assert state.participants == shown
    return False
