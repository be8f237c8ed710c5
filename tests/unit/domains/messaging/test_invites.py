"""Invite links: who may make them, who comes in by them, how often, and never more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import trio
from msgspec import UNSET

from tchatd.domains.messaging import errors
from tchatd.domains.messaging.beside import InviteRow
from tchatd.domains.messaging.events import MemberAdded
from tchatd.domains.messaging.invites import (
    CLAIM_S,
    CreateInvite,
    GetInvite,
    Invite,
    JoinByInvite,
    ListInvites,
    RevokeInvite,
)
from tchatd.domains.messaging.joining import (
    DecideJoinRequest,
    JoinAnswer,
    ListJoinRequests,
)
from tchatd.domains.messaging.records import (
    DropRecord,
    RemoveRecord,
)
from tchatd.journal.errors import JournalFull
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.clock import LAST_MS
from tchatd.kernel.errors import Invalid
from tchatd.kernel.routing import Reply
from tests.support.beside import Around, around
from tests.support.messaging import user_id, with_user


@pytest.fixture
async def site() -> AsyncIterator[Around]:
    async with around() as site:
        yield site


async def invite(site: Around, dialog_id: str, by: int = 1, **fields: Any) -> Invite:
    command = CreateInvite(dialog_id=dialog_id, **fields)
    made: Invite = await site.ask(by, site.invites.create, command)
    return made


async def join(site: Around, user: int, code: str) -> Any:
    return await site.ask(user, site.invites.join, JoinByInvite(code))


async def uses(site: Around, dialog_id: str) -> list[int]:
    listed = await site.ask(1, site.invites.list, ListInvites(dialog_id))
    return [one.uses for one in listed.invites]


def at(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1_000, UTC)


async def remove(site: Around, number: int, user: int, reason: str) -> None:
    dialog = site.core.state.find_number(number)
    assert dialog is not None
    left = dialog.members - BitMap((user,))
    record = RemoveRecord(
        number,
        dialog.active_ms,
        1,
        user_id(1).bytes,
        user,
        user_id(user).bytes,
        reason,
        b"".join(user_id(n).bytes for n in left[:100]),
    )
    await site.core.settle(site.core.applier.submit(record))


def number_of(site: Around, dialog_id: str) -> int:
    dialog = site.core.state.find(dialog_id)
    assert dialog is not None
    return dialog.number


async def test_whoever_has_the_link_comes_in_and_is_told_and_shown(
    site: Around,
) -> None:
    group = await site.group(1, 2)
    made = await invite(site, group.id, title="for all")
    assert len(made.code) == 22
    preview = await site.ask(9, site.invites.preview, GetInvite(made.code))
    assert (preview.name, preview.type, preview.member_count) == ("Lunch", "group", 2)
    assert (preview.is_member, preview.dialog_id) == (False, UNSET)
    answer = await join(site, 9, made.code)
    assert answer.status == "joined"
    assert answer.dialog.participants == tuple(str(user_id(n)) for n in (1, 2, 9))
    assert answer.dialog.unread_count == 0
    [(who, event)] = site.told(MemberAdded)
    assert who == [1, 2]
    assert (event.user_ids, event.by) == ((str(user_id(9)),), str(user_id(9)))
    assert await uses(site, group.id) == [1]
    again = await site.ask(9, site.invites.preview, GetInvite(made.code))
    assert (again.is_member, again.dialog_id) == (True, group.id)


async def test_who_is_in_already_costs_no_use(site: Around) -> None:
    group = await site.group(1, 2)
    made = await invite(site, group.id, uses_max=1)
    for user in (2, 9, 9):
        assert (await join(site, user, made.code)).dialog.id == group.id
    assert await uses(site, group.id) == [1]


@pytest.mark.parametrize("user", [2, 9])
async def test_only_who_may_invite_sees_and_makes_links(
    site: Around, user: int
) -> None:
    group = await site.group(1, 2)
    made = await invite(site, group.id)
    wanted: type[Exception] = errors.DialogNotFound if user == 9 else errors.NotAllowed
    for handler, command in (
        (site.invites.create, CreateInvite(dialog_id=group.id)),
        (site.invites.list, ListInvites(group.id)),
        (site.invites.revoke, RevokeInvite(group.id, made.code)),
        (site.joining.list_requests, ListJoinRequests(dialog_id=group.id)),
        (site.joining.decide, DecideJoinRequest(group.id, user_id(3), True)),
    ):
        if user == 2 and handler.__name__ in ("list_requests", "decide"):
            continue  # members of a group may add
        with pytest.raises(wanted):
            await site.ask(user, handler, command)


async def test_nobody_invites_into_a_dialog_of_two(site: Around) -> None:
    dialog = await site.core.do(1, with_user(2))
    with pytest.raises(errors.NotAllowed):
        await invite(site, dialog.id)


async def test_unknown_expired_used_up_and_revoked_links_look_alike(
    site: Around,
) -> None:
    now_ms = site.core.clock.now_ms()
    group = await site.group(1, 2)
    gone = await site.group(1, 3)
    expired = await invite(site, group.id, expires_at=at(now_ms + 1_000))
    used_up = await invite(site, group.id, uses_max=1)
    await join(site, 8, used_up.code)
    revoked = await invite(site, group.id)
    await site.ask(1, site.invites.revoke, RevokeInvite(group.id, revoked.code))
    dropped = await invite(site, gone.id)
    record = DropRecord(number_of(site, gone.id), now_ms, 1, user_id(1).bytes)
    await site.core.settle(site.core.applier.submit(record))
    site.core.clock.advance(1_000)
    problems = set()
    for code in (
        *("x", "A" * 22, "\ud800"),
        *(one.code for one in (expired, used_up, revoked, dropped)),
    ):
        for handler, command in (
            (site.invites.preview, GetInvite(code)),
            (site.invites.join, JoinByInvite(code)),
        ):
            with pytest.raises(errors.InviteNotFound) as raised:
                await site.ask(9, handler, command)
            problems.add(str(raised.value))
    assert len(problems) == 1
    assert await site.members(group.id) == [1, 2, 8]


async def test_an_invite_into_the_past_is_none(site: Around) -> None:
    group = await site.group(1, 2)
    with pytest.raises(Invalid):
        await invite(site, group.id, expires_at=at(site.core.clock.now_ms()))


async def test_parallel_joins_never_exceed_the_uses(site: Around) -> None:
    group = await site.group(1, 2)
    made = await invite(site, group.id, uses_max=7)
    came: list[int] = []

    async def one(user: int) -> None:
        try:
            await join(site, user, made.code)
        except errors.InviteNotFound:
            return
        came.append(user)

    async with trio.open_nursery() as nursery:
        for user in range(10, 40):
            nursery.start_soon(one, user)
            nursery.start_soon(one, user)
    assert await site.members(group.id) == [1, 2, *sorted(set(came))]
    assert len(set(came)) == 7
    assert await uses(site, group.id) == [7]
    assert await site.invite_store.claims_before(1 << 60, 99) == []


async def test_a_join_that_fails_gives_its_use_back(site: Around) -> None:
    group = await site.group(1, 2)
    made = await invite(site, group.id, uses_max=1)
    room, site.core.journal.room = site.core.journal.room, 0
    with pytest.raises(JournalFull):
        await join(site, 9, made.code)
    assert await uses(site, group.id) == [0]
    site.core.journal.room = room
    await join(site, 9, made.code)
    assert await uses(site, group.id) == [1]


async def test_the_banned_are_refused_and_cost_nothing(site: Around) -> None:
    group = await site.group(1, 2, 3)
    made = await invite(site, group.id)
    await remove(site, number_of(site, group.id), 3, "banned")
    with pytest.raises(errors.Banned):
        await join(site, 3, made.code)
    assert await uses(site, group.id) == [0]
    await remove(site, number_of(site, group.id), 2, "left")
    assert (await join(site, 2, made.code)).status == "joined"


async def test_a_full_dialog_is_refused(
    site: Around, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tchatd.domains.messaging.rules._SIZE_MAX", (2, 3, 9, 9))
    group = await site.group(1, 2)
    made = await invite(site, group.id)
    await join(site, 3, made.code)
    with pytest.raises(errors.TooManyMembers):
        await join(site, 4, made.code)
    assert await uses(site, group.id) == [1]


async def test_who_comes_back_keeps_what_they_sent(site: Around) -> None:
    """The client_ids of a member who left are read again before they are in."""
    group = await site.group(1, 2)
    made = await invite(site, group.id)
    await remove(site, number_of(site, group.id), 2, "left")
    await site.core.flusher.flush()
    restarted = await site.core.restart(users=300)
    async with around(restarted, site) as again:
        answer = await join(again, 2, made.code)
        assert answer.dialog.participants == (str(user_id(1)), str(user_id(2)))


# A crash between the claim and the record


async def test_a_use_of_who_never_came_is_given_back(site: Around) -> None:
    group = await site.group(1, 2)
    made = await invite(site, group.id, uses_max=1)
    code_hash = site.invites._hash(made.code)
    ids, clock = site.core.ids, site.core.clock
    await site.invite_store.claim(code_hash, 9, ids.v7(), clock.now_ms())
    with pytest.raises(errors.InviteNotFound):
        await join(site, 8, made.code)
    assert await site.invites.sweep() == 0
    clock.advance(CLAIM_S * 1_000 + 1)
    assert await site.invites.sweep() == 1
    assert await uses(site, group.id) == [0]
    assert await site.invites.sweep() == 0


async def test_a_use_of_who_came_stays_though_it_was_not_settled(site: Around) -> None:
    group = await site.group(1, 2)
    made = await invite(site, group.id, uses_max=2)
    code_hash = site.invites._hash(made.code)
    ids, clock = site.core.ids, site.core.clock
    await site.invite_store.claim(code_hash, 9, ids.v7(), clock.now_ms())
    context = site.core.context(9)
    await site.joining.join(context, number_of(site, group.id))
    clock.advance(CLAIM_S * 1_000 + 1)
    assert await site.invites.sweep() == 1
    assert await uses(site, group.id) == [1]


async def test_who_repeats_after_a_crash_comes_in_with_the_use_they_had(
    site: Around,
) -> None:
    group = await site.group(1, 2)
    made = await invite(site, group.id, uses_max=1)
    code_hash = site.invites._hash(made.code)
    await site.invite_store.claim(code_hash, 9, site.core.ids.v7(), 5)
    await site.core.flusher.flush()
    restarted = await site.core.restart(users=300)
    async with around(restarted, site) as again:
        assert (await join(again, 9, made.code)).status == "joined"
        assert await uses(again, group.id) == [1]
        assert await again.invite_store.claims_before(1 << 60, 9) == []


async def test_expired_ones_are_forgotten_after_a_while(site: Around) -> None:
    group = await site.group(1, 2)
    await invite(site, group.id, expires_at=at(site.core.clock.now_ms() + 1_000))
    assert await site.invites.prune() == 0
    site.core.clock.advance(8 * 86_400_000)
    assert await site.invites.prune() == 1
    assert await uses(site, group.id) == []


async def test_a_dialog_has_only_so_many(
    site: Around, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site.invites, "_invites_max", 2)
    group = await site.group(1, 2)
    codes = {(await invite(site, group.id)).code for _ in range(2)}
    assert len(codes) == 2
    with pytest.raises(errors.TooManyInvites):
        await invite(site, group.id)


async def test_a_link_that_needs_approval_makes_a_request(site: Around) -> None:
    group = await site.group(1, 2)
    made = await invite(site, group.id, needs_approval=True, uses_max=1)
    for _ in range(2):
        answer = await join(site, 9, made.code)
        assert answer == Reply(JoinAnswer("requested"), 202)
    with pytest.raises(errors.InviteNotFound):
        await join(site, 8, made.code)
    decision = DecideJoinRequest(group.id, user_id(9), False)
    await site.ask(1, site.joining.decide, decision)
    assert await site.members(group.id) == [1, 2]
    assert (await join(site, 8, made.code)).status == 202
    decision = DecideJoinRequest(group.id, user_id(8), True)
    await site.ask(1, site.joining.decide, decision)
    assert await site.members(group.id) == [1, 2, 8]
    assert await uses(site, group.id) == [1]


async def test_an_invite_may_expire_past_what_can_be_shown(site: Around) -> None:
    group = await site.group(1, 2)
    last = "9999-12-31T23:59:59.999Z"
    far = datetime.fromisoformat("9999-12-31T23:59:59-12:00")
    made = await invite(site, group.id, expires_at=far)
    assert made.expires_at == last
    number = number_of(site, group.id)
    later = InviteRow(b"h", b"s", number, 1, user_id(1), 0, LAST_MS + 1, 0, False, "")
    assert await site.invite_store.create(later, 0, 100)
    listed = await site.ask(1, site.invites.list, ListInvites(group.id))
    assert [one.expires_at for one in listed.invites] == [last, last]
