"""Who comes, goes and rises in a dialog: by right, in memory or not, two at once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from msgspec import UNSET, structs

from tchatd.domains.messaging import errors
from tchatd.domains.messaging import member_models as m
from tchatd.domains.messaging.events import (
    DialogCreated,
    DialogDeleted,
    MemberAdded,
    MemberRemoved,
    MemberRole,
    OwnState,
)
from tchatd.domains.messaging.models import (
    Done,
    GetDialog,
    Message,
)
from tchatd.journal.errors import JournalFull
from tchatd.kernel.errors import DomainError, Invalid
from tests.support.members import (
    add,
    change,
    channel_of,
    forget,
    ranked,
    remove,
    roles,
    small_core,
)
from tests.support.messaging import (
    Core,
    client_id,
    group_of,
    loading,
    text,
    user_id,
    with_user,
)
from tests.unit.domains.messaging.test_reach import FakeBlocks

NOW_MS = 1_800_000_000_000


# Adding


async def test_who_is_added_finds_the_dialog_and_the_others_are_told(
    core: Core,
) -> None:
    dialog = await core.do(1, group_of([2]))
    core.hub.told.clear()
    answer = await core.do(1, add(dialog, 3, 4, 2), connection=9)
    assert isinstance(answer, MemberAdded)
    assert (answer.user_ids, answer.count) == ((str(user_id(3)), str(user_id(4))), 2)
    assert (answer.seq, answer.member_count, answer.role) == (2, 4, "member")
    (others, event, _), (new, created, _) = core.hub.told
    assert (others, event) == ([1, 2], answer)
    assert (new, type(created)) == ([3, 4], DialogCreated)
    view = await core.do(4, GetDialog(dialog.id))
    assert (view.member_count, view.unread_count, view.role) == (4, 0, "member")
    assert view.participants == tuple(str(user_id(n)) for n in (1, 2, 3, 4))


async def test_adding_nobody_new_journals_nothing(core: Core) -> None:
    dialog = await core.do(1, group_of([2]))
    answer = await core.do(1, add(dialog, 2, 1))
    assert (answer.user_ids, answer.count, answer.seq) == ((), 0, 1)
    assert core.journal.next_position == 2


@pytest.mark.parametrize(
    ("users", "error"),
    [((9_999,), errors.InvalidParticipants), ((3, 9_999), errors.InvalidParticipants)],
)
async def test_everybody_who_is_added_exists(
    core: Core, users: tuple[int, ...], error: type[DomainError]
) -> None:
    dialog = await core.do(1, group_of([2]))
    with pytest.raises(error):
        await core.do(1, add(dialog, *users))
    assert core.journal.next_position == 2


async def test_an_outsider_adds_nobody_and_learns_nothing(core: Core) -> None:
    dialog = await core.do(1, group_of([2]))
    for command in (add(dialog, 4), change(dialog, 2, "admin"), remove(dialog, 2)):
        with pytest.raises(errors.DialogNotFound):
            await core.do(3, command)


@pytest.mark.parametrize(
    ("type", "size"), [("group", 5_000), ("business", 100), ("channel", 5_000)]
)
async def test_a_dialog_takes_as_many_as_its_type_allows(type: str, size: int) -> None:
    core = Core(users=size + 10)
    async with loading(core):
        dialog = await core.do(1, channel_of(*range(2, size), type=type))
        assert dialog.member_count == size - 1
        answer = await core.do(1, add(dialog, size))
        assert answer.member_count == size
        assert (await core.do(1, add(dialog, size))).count == 0
        if type == "channel":
            assert (await core.do(1, add(dialog, size + 1))).count == 1
            return
        with pytest.raises(errors.TooManyMembers):
            await core.do(1, add(dialog, size + 1))


async def test_nobody_is_added_as_owner_and_an_admin_only_by_who_promotes(
    core: Core,
) -> None:
    group = await core.do(1, group_of([2]))
    with pytest.raises(errors.NotAllowed):
        await core.do(1, add(group, 3, role="owner"))
    with pytest.raises(errors.NotAllowed):
        await core.do(2, add(group, 3, role="admin"))
    await core.do(1, add(group, 3, role="admin"))
    await core.do(2, add(group, 4, role="guest"))
    assert await roles(core, group) == {1: "owner", 2: "member", 3: "admin", 4: "guest"}


async def test_the_banned_are_let_in_after_the_ban_is_ended_only(core: Core) -> None:
    dialog = await core.do(1, group_of([2, 3]))
    await core.do(1, remove(dialog, 3, ban=True))
    for adder in (1, 2):
        with pytest.raises(errors.Banned):
            await core.do(adder, add(dialog, 3, 4))
    await core.do(1, m.EndBan(dialog.id, user_id(3)))
    assert (await core.do(2, add(dialog, 3, 4))).count == 2


async def test_who_comes_back_keeps_the_names_of_what_they_sent() -> None:
    async with small_core() as core:
        dialog = await core.do(1, group_of([2, 3]))
        id = client_id(NOW_MS, 5)
        first = await core.do(2, text(dialog.id, "one", client_id=id))
        await core.do(2, remove(dialog, 2))
        await forget(core)
        await core.do(1, add(dialog, 2))
        again = await core.do(2, text(dialog.id, "two", client_id=id))
        assert isinstance(again, Message)
        assert again.id == first.id
        view = await core.do(2, GetDialog(dialog.id))
        assert (view.unread_count, view.role) == (0, "member")


class ShyUsers:
    """Nobody may add user 3."""

    def is_blocked(self, by: int, user: int) -> bool:
        return False

    async def load(self, numbers: Sequence[int]) -> None:
        return

    async def not_addable(self, adder: int, numbers: Sequence[int]) -> list[int]:
        return [number for number in numbers if number == 3]


async def test_who_does_not_want_to_be_added_is_not_and_nobody_with_them() -> None:
    core = Core(blocks=ShyUsers())
    async with loading(core):
        dialog = await core.do(1, group_of([2]))
        with pytest.raises(errors.NotAllowed) as refused:
            await core.do(1, add(dialog, 3, 4))
        assert refused.value.fields == {"user_ids": str(user_id(3))}
        assert (await core.do(1, add(dialog, 4))).count == 1


async def test_in_a_full_journal_nothing_changes(core: Core) -> None:
    dialog = await core.do(1, group_of([2]))
    core.journal.room = 0
    for command in (add(dialog, 3), change(dialog, 2, "admin"), remove(dialog, 2)):
        with pytest.raises(JournalFull):
            await core.do(1, command)
    assert await roles(core, dialog) == {1: "owner", 2: "member"}


async def test_who_leaves_while_they_are_added_is_asked_too() -> None:
    class Blocks(FakeBlocks):
        async def not_addable(self, adder: int, numbers: Sequence[int]) -> list[int]:
            if 3 in self.refusing and 3 not in numbers:
                await core.do(3, remove(dialog, 3))
            return await super().not_addable(adder, numbers)

    blocks = Blocks()
    core = Core(blocks=blocks)
    async with loading(core):
        dialog = await core.do(1, group_of([2, 3]))
        blocks.refusing = [3]
        with pytest.raises(errors.NotAllowed) as refused:
            await core.do(1, add(dialog, 3, 4))
        assert refused.value.fields == {"user_ids": str(user_id(3))}
        assert await roles(core, dialog) == {1: "owner", 2: "member"}


# Roles


@pytest.mark.parametrize(
    ("by", "whom", "role"),
    [
        (1, 2, "admin"),
        (1, 2, "guest"),
        (1, 3, "admin"),
        (1, 4, "member"),
        (4, 2, "admin"),
        (4, 2, "guest"),
        (4, 3, "member"),
        (4, 4, "member"),
        (4, 4, "guest"),
    ],
)
async def test_roles_are_given_to_those_below_oneself(
    core: Core, by: int, whom: int, role: str
) -> None:
    dialog = await ranked(core)
    before = await roles(core, dialog)
    answer = await core.do(by, change(dialog, whom, role))
    assert (answer.user_id, answer.role) == (str(user_id(whom)), role)
    assert await roles(core, dialog) == before | {whom: role}
    told = [(who, e) for who, e, _ in core.hub.told if isinstance(e, MemberRole)]
    assert {(event.role, event.hands_over) for _, event in told} == {(role, False)}
    assert sorted(user for who, _ in told for user in who) == [1, 2, 3, 4, 5]
    assert told[0][1].user_id == str(user_id(whom))
    assert whom in told[0][0]


@pytest.mark.parametrize(
    ("by", "whom", "role"),
    [
        (2, 2, "admin"),
        (2, 2, "guest"),
        (2, 3, "member"),
        (2, 1, "guest"),
        (3, 3, "member"),
        (4, 1, "member"),
        (4, 5, "member"),
        (4, 4, "owner"),
        (4, 2, "owner"),
    ],
)
async def test_nobody_touches_their_equals_or_makes_more_of_themselves(
    core: Core, by: int, whom: int, role: str
) -> None:
    dialog = await ranked(core)
    at = core.journal.next_position
    with pytest.raises(errors.NotAllowed):
        await core.do(by, change(dialog, whom, role))
    assert core.journal.next_position == at


async def test_a_role_that_somebody_has_is_given_without_a_record(core: Core) -> None:
    dialog = await ranked(core)
    at = core.journal.next_position
    for whom, role in ((2, "member"), (1, "owner"), (4, "admin")):
        assert (await core.do(1, change(dialog, whom, role))).role == role
    assert core.journal.next_position == at


async def test_a_change_says_what_and_of_whom(core: Core) -> None:
    dialog = await core.do(1, group_of([2]))
    with pytest.raises(Invalid):
        await core.do(1, change(dialog, 2))
    for nobody in (3, 9_999):
        with pytest.raises(errors.MemberNotFound):
            await core.do(1, change(dialog, nobody, "admin"))
        with pytest.raises(errors.MemberNotFound):
            await core.do(1, remove(dialog, nobody))


async def test_handing_over_makes_the_owner_an_admin(core: Core) -> None:
    dialog = await ranked(core)
    await core.do(1, change(dialog, 3, "owner"))
    after = {1: "admin", 2: "member", 3: "owner", 4: "admin", 5: "admin"}
    assert await roles(core, dialog) == after
    event = core.hub.told[-1][1]
    assert (event.role, event.hands_over) == ("owner", True)
    with pytest.raises(errors.NotAllowed):
        await core.do(1, change(dialog, 2, "owner"))


async def test_owners_can_be_two_and_one_of_them_may_go(core: Core) -> None:
    dialog = await core.do(1, group_of([2, 3]))
    with pytest.raises(errors.LastOwner):
        await core.do(1, remove(dialog, 1))
    with pytest.raises(errors.LastOwner):
        await core.do(1, change(dialog, 1, "admin"))
    await core.do(1, change(dialog, 2, "owner", hands_over=False))
    assert await roles(core, dialog) == {1: "owner", 2: "owner", 3: "member"}
    for one, other in ((1, 2), (2, 1)):
        with pytest.raises(errors.NotAllowed):
            await core.do(one, change(dialog, other, "member"))
        with pytest.raises(errors.NotAllowed):
            await core.do(one, remove(dialog, other))
    await core.do(1, change(dialog, 1, "member"))
    with pytest.raises(errors.LastOwner):
        await core.do(2, remove(dialog, 2))
    await core.do(2, change(dialog, 1, "owner", hands_over=False))
    await core.do(1, change(dialog, 2, "owner"))  # to one who is an owner already
    assert await roles(core, dialog) == {1: "admin", 2: "owner", 3: "member"}


# Silence


async def test_the_silenced_are_told_and_nobody_else(core: Core) -> None:
    dialog = await core.do(1, group_of([2]))
    await core.do(2, m.SaveDraft(dialog_id=dialog.id, text="secret"))
    core.hub.told.clear()
    until = datetime.fromtimestamp(NOW_MS / 1_000 + 60, UTC)
    answer = await core.do(1, change(dialog, 2, silenced_until=until))
    assert answer.silenced_until == "2027-01-15T08:01:00.000Z"
    assert "secret" not in repr(answer)
    [(members, event, _)] = core.hub.told
    assert (members, type(event)) == ([2], OwnState)
    with pytest.raises(errors.Silenced) as silenced:
        await core.do(2, text(dialog.id))
    assert silenced.value.fields == {
        "scope": "dialog",
        "silenced_until": answer.silenced_until,
    }
    at = core.journal.next_position
    await core.do(1, change(dialog, 2, silenced_until=until))
    assert core.journal.next_position == at
    await core.do(1, change(dialog, 2, silenced_until=None))
    await core.do(2, text(dialog.id))


async def test_silence_ends_by_itself_and_the_past_is_none(core: Core) -> None:
    dialog = await core.do(1, group_of([2]))
    until = datetime.fromtimestamp(NOW_MS / 1_000 + 60, UTC)
    await core.do(1, change(dialog, 2, silenced_until=until))
    core.clock.advance(60_000)
    await core.do(2, text(dialog.id))
    answer = await core.do(1, change(dialog, 2, silenced_until=until))
    assert answer.silenced_until is UNSET


@pytest.mark.parametrize("role", ["admin", "owner", "guest"])
async def test_who_rises_to_run_the_dialog_is_heard_again(
    core: Core, role: str
) -> None:
    dialog = await core.do(1, group_of([2]))
    until = datetime.fromtimestamp(NOW_MS / 1_000 + 60, UTC)
    await core.do(1, change(dialog, 2, silenced_until=until))
    answer = await core.do(1, change(dialog, 2, role))
    assert (answer.silenced_until is UNSET) == (role != "guest")
    if role == "guest":
        with pytest.raises(errors.Silenced):
            await core.do(2, text(dialog.id))
    else:
        await core.do(2, text(dialog.id))


@pytest.mark.parametrize(("by", "whom"), [(2, 3), (4, 4), (4, 5), (4, 1), (1, 1)])
async def test_only_those_above_silence(core: Core, by: int, whom: int) -> None:
    dialog = await ranked(core)
    until = datetime.fromtimestamp(NOW_MS / 1_000 + 60, UTC)
    with pytest.raises(errors.NotAllowed):
        await core.do(by, change(dialog, whom, silenced_until=until))


@pytest.mark.parametrize("hands_over", [False, True])
async def test_nobody_is_silenced_in_a_role_that_nobody_is_above(
    core: Core, hands_over: bool
) -> None:
    dialog = await ranked(core)
    until = datetime.fromtimestamp(NOW_MS / 1_000 + 60, UTC)
    at = core.journal.next_position
    for by, role in ((1, "owner"), (4, "admin")):
        command = change(dialog, 2, role, silenced_until=until, hands_over=hands_over)
        with pytest.raises(Invalid) as refused:
            await core.do(by, command)
        assert list(refused.value.fields) == ["silenced_until"]
    assert core.journal.next_position == at
    answer = await core.do(1, change(dialog, 2, "admin", silenced_until=until))
    assert (answer.role, answer.silenced_until is UNSET) == ("admin", False)
    answer = await core.do(1, change(dialog, 2, "owner", silenced_until=None))
    assert (answer.role, answer.silenced_until) == ("owner", UNSET)


async def test_a_role_and_a_silence_come_in_one_call(core: Core) -> None:
    dialog = await core.do(1, group_of([2]))
    until = datetime.fromtimestamp(NOW_MS / 1_000 + 60, UTC)
    answer = await core.do(1, change(dialog, 2, "guest", silenced_until=until))
    assert (answer.role, answer.silenced_until is UNSET) == ("guest", False)
    with pytest.raises(errors.NotAllowed):  # and neither, if one is refused
        await core.do(2, change(dialog, 1, "guest", silenced_until=None))


# Removing and leaving


async def test_who_is_removed_is_told_and_finds_nothing_any_more(core: Core) -> None:
    dialog = await core.do(1, group_of([2, 3]))
    core.hub.told.clear()
    assert await core.do(1, remove(dialog, 2)) == Done()
    [(members, event, _)] = core.hub.told
    assert members == [1, 2, 3]
    assert isinstance(event, MemberRemoved)
    assert (event.reason, event.member_count) == ("removed", 2)
    for command in (GetDialog(dialog.id), text(dialog.id), remove(dialog, 2)):
        with pytest.raises(errors.DialogNotFound):
            await core.do(2, command)
    view = await core.do(3, GetDialog(dialog.id))
    assert view.participants == (str(user_id(1)), str(user_id(3)))


@pytest.mark.parametrize(("by", "whom"), [(2, 3), (4, 5), (4, 1), (3, 2)])
async def test_nobody_removes_their_equals(core: Core, by: int, whom: int) -> None:
    dialog = await ranked(core)
    with pytest.raises(errors.NotAllowed):
        await core.do(by, remove(dialog, whom))


async def test_who_leaves_is_gone_by_themselves(core: Core) -> None:
    dialog = await core.do(1, group_of([2]))
    assert await core.do(2, remove(dialog, 2)) == Done()
    event = core.hub.told[-1][1]
    assert (event.reason, event.user_id, event.by) == (
        "left",
        str(user_id(2)),
        str(user_id(2)),
    )
    with pytest.raises(Invalid):
        await core.do(1, remove(dialog, 1, ban=True))


async def test_the_last_one_out_closes_the_door(core: Core) -> None:
    dialog = await core.do(1, group_of([2]))
    await core.do(2, remove(dialog, 2))
    await core.do(1, remove(dialog, 1))
    assert isinstance(core.hub.told[-1][1], DialogDeleted)
    with pytest.raises(errors.DialogNotFound):
        await core.do(1, GetDialog(dialog.id))


async def test_two_people_stay_two(core: Core) -> None:
    dialog = await core.do(1, with_user(2))
    for command in (
        *(add(dialog, 3), remove(dialog, 1), remove(dialog, 2)),
        *(change(dialog, 1, "guest"), change(dialog, 2, "owner")),
    ):
        with pytest.raises(errors.NotAllowed):
            await core.do(1, command)


def test_every_field_of_a_member_can_be_absent_but_name_and_role() -> None:
    shown = m.DialogMember("u", "member")
    assert structs.asdict(shown).keys() - {"user_id", "role"} == {
        *("joined_seq", "read_seq", "delivered_seq", "silenced_until")
    }
