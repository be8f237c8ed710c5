"""Requests to join: who is told, who decides, and what a crash in between leaves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec import UNSET

from tchatd.domains.messaging import errors
from tchatd.domains.messaging.dialog import DialogState
from tchatd.domains.messaging.events import MemberAdded
from tchatd.domains.messaging.joining import (
    DecideJoinRequest,
    JoinDecided,
    JoinRequested,
    ListJoinRequests,
    add_record,
)
from tchatd.domains.messaging.records import RoleRecord
from tchatd.domains.messaging.store import ADMIN, GUEST
from tchatd.journal.errors import JournalFull
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.errors import Invalid
from tchatd.kernel.routing import Caller
from tests.support.beside import Around, around
from tests.support.messaging import user_id


@pytest.fixture
async def site() -> AsyncIterator[Around]:
    async with around() as site:
        yield site


def found(site: Around, dialog_id: str) -> DialogState:
    dialog = site.core.state.find(dialog_id)
    assert dialog is not None
    return dialog


async def promote(site: Around, dialog: DialogState, user: int) -> None:
    record = RoleRecord(
        dialog.number,
        dialog.active_ms,
        1,
        user_id(1).bytes,
        user,
        user_id(user).bytes,
        ADMIN,
    )
    await site.core.settle(site.core.applier.submit(record))


async def ask(site: Around, user: int, dialog: DialogState) -> None:
    await site.joining.ask(site.core.context(user), dialog.number, None)


async def waiting(site: Around, dialog: DialogState) -> tuple[list[str], int]:
    command = ListJoinRequests(dialog_id=dialog.id)
    page = await site.ask(1, site.joining.list_requests, command)
    return [request.user_id for request in page.requests], page.total


async def test_all_who_wait_are_listed_a_page_at_a_time(site: Around) -> None:
    dialog = found(site, (await site.group(1, 2)).id)
    for user in range(10, 17):
        site.core.clock.advance(user % 2)
        await ask(site, user, dialog)
    listed: list[str] = []
    cursor: Any = UNSET
    for _ in range(4):
        command = ListJoinRequests(dialog_id=dialog.id, limit=3, cursor=cursor)
        page = await site.ask(1, site.joining.list_requests, command)
        listed += [request.user_id for request in page.requests]
        cursor = page.next_cursor
        assert page.has_more == (cursor is not UNSET)
        if not page.has_more:
            break
        assert len(page.requests) == 3
        await decide(site, dialog, 9 + len(listed), approve=True)
    assert listed == [str(user_id(user)) for user in range(10, 17)]
    assert page.total == 5


@pytest.mark.parametrize(
    "cursor",
    ["x", "j1.", "j1.5", "j1.5.x", "j1.-5.{id}", "j1.{late}.{id}", "m1.{id}"],
)
async def test_a_cursor_from_elsewhere_is_refused(site: Around, cursor: str) -> None:
    dialog = found(site, (await site.group(1, 2)).id)
    text = cursor.format(id=user_id(1), late=10**18)
    command = ListJoinRequests(dialog_id=dialog.id, cursor=text)
    with pytest.raises(Invalid):
        await site.ask(1, site.joining.list_requests, command)


async def decide(site: Around, dialog: DialogState, user: int, approve: bool) -> None:
    command = DecideJoinRequest(dialog.id, user_id(user), approve)
    await site.ask(1, site.joining.decide, command)


@pytest.mark.parametrize("flushed", [False, True])
async def test_owner_and_admins_are_told_of_a_request_once(
    site: Around, flushed: bool
) -> None:
    dialog = found(site, (await site.group(1, 2, 3, *range(20, 180))).id)
    await promote(site, dialog, 3)
    if flushed:
        await site.core.flusher.flush()
    for _ in range(2):
        await ask(site, 9, dialog)
    told = site.told(JoinRequested)
    assert sorted(who for who, _ in told) == [[1], [3]]
    assert {(e.dialog_id, e.user_id) for _, e in told} == {(dialog.id, str(user_id(9)))}


async def test_who_is_approved_comes_in_by_the_admin(site: Around) -> None:
    dialog = found(site, (await site.group(1, 2)).id)
    await ask(site, 9, dialog)
    assert await waiting(site, dialog) == ([str(user_id(9))], 1)
    await decide(site, dialog, 9, approve=True)
    [(_, event)] = site.told(MemberAdded)
    assert (event.user_ids, event.by) == ((str(user_id(9)),), str(user_id(1)))
    decided = site.told(JoinDecided)
    assert sorted(who for who, _ in decided) == [[1], [9]]
    assert all(e.approved for _, e in decided)
    assert await waiting(site, dialog) == ([], 0)
    with pytest.raises(errors.RequestNotFound):
        await decide(site, dialog, 9, approve=True)


async def test_who_is_denied_may_ask_again(site: Around) -> None:
    dialog = found(site, (await site.group(1, 2)).id)
    for _ in range(2):
        await ask(site, 9, dialog)
        await decide(site, dialog, 9, approve=False)
    assert [e.approved for _, e in site.told(JoinDecided)] == [False] * 4
    assert await site.members(dialog.id) == [1, 2]


async def test_only_who_may_add_decides(site: Around) -> None:
    dialog = found(site, (await site.group(1, 2)).id)
    await ask(site, 9, dialog)
    command = DecideJoinRequest(dialog.id, user_id(9), True)
    with pytest.raises(errors.DialogNotFound):
        await site.ask(9, site.joining.decide, command)
    guest = RoleRecord(
        dialog.number, 0, 1, user_id(1).bytes, 2, user_id(2).bytes, GUEST
    )
    await site.core.settle(site.core.applier.submit(guest))
    with pytest.raises(errors.NotAllowed):
        await site.ask(2, site.joining.decide, command)


async def test_nobody_asks_no_request(site: Around) -> None:
    dialog = found(site, (await site.group(1, 2)).id)
    for user in (9, 9_999):
        with pytest.raises(errors.RequestNotFound):
            await decide(site, dialog, user, approve=True)


async def test_a_crash_after_the_record_leaves_a_request_that_is_found(
    site: Around,
) -> None:
    dialog = found(site, (await site.group(1, 2)).id)
    for user in (8, 9):
        await ask(site, user, dialog)
        await site.joining.join(site.core.context(user), dialog.number)
    assert await site.invite_store.requested(dialog.number, 9) is not None
    assert await waiting(site, dialog) == ([], 0)
    assert await site.invite_store.requested(dialog.number, 9) is None


async def test_approving_again_after_a_crash_adds_nobody_twice(site: Around) -> None:
    dialog = found(site, (await site.group(1, 2)).id)
    await ask(site, 9, dialog)
    await site.joining.join(site.core.context(9), dialog.number)
    await decide(site, dialog, 9, approve=True)
    assert len(site.told(MemberAdded)) == 1


async def test_a_request_stays_when_letting_in_fails(site: Around) -> None:
    dialog = found(site, (await site.group(1, 2)).id)
    await ask(site, 9, dialog)
    site.core.journal.room = 0
    with pytest.raises(JournalFull):
        await decide(site, dialog, 9, approve=True)
    assert (await waiting(site, dialog))[1] == 1


async def test_only_so_many_wait(site: Around, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site.joining, "_requests_max", 2)
    dialog = found(site, (await site.group(1, 2)).id)
    await ask(site, 8, dialog)
    await ask(site, 9, dialog)
    with pytest.raises(errors.TooManyRequests):
        await ask(site, 10, dialog)


async def test_the_first_hundred_of_a_new_membership_are_shown(site: Around) -> None:
    dialog = found(site, (await site.group(1, *range(3, 250, 2))).id)
    actor = Caller(user_id(1), 1, user_id(1))
    people = ((2, user_id(2)), (300, user_id(300)))
    record = add_record(dialog, 5, actor, people, 0)
    after = dialog.members | BitMap((2, 300))
    shown = [record.participants[at : at + 16] for at in range(0, 1_600, 16)]
    assert shown == [user_id(n).bytes for n in after[:100]]
    assert record.added_ids == user_id(2).bytes + user_id(300).bytes


async def test_an_admin_who_is_not_in_memory_is_loaded_to_decide(site: Around) -> None:
    dialog = found(site, (await site.group(1, 2, *range(20, 180))).id)
    await ask(site, 9, dialog)
    await site.core.flusher.flush()
    decided = site.joining._invites.requested

    async def forgetting(dialog_number: int, user_number: int) -> Any:
        dialog.by_number.clear()  # as when a large dialog makes room
        return await decided(dialog_number, user_number)

    site.joining._invites.requested = forgetting  # type: ignore[method-assign]
    await decide(site, dialog, 9, approve=True)
    assert 9 in dialog.members
