"""Who is kept out, before they come or after, and let in again."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import UNSET

from tchatd.domains.messaging import bans, errors, membership
from tchatd.domains.messaging.events import DialogUpdated, MemberRemoved
from tchatd.domains.messaging.member_models import BanUser, EndBan, ListBans
from tchatd.domains.messaging.models import Done
from tchatd.domains.messaging.state import StateLimits
from tchatd.kernel.errors import Invalid
from tests.support.members import (
    add,
    at_once,
    channel_of,
    forget,
    ranked,
    remove,
    small_core,
)
from tests.support.messaging import Core, group_of, loading, user_id, with_user


async def banned(core: Core, user: int, dialog: Any, limit: int = 100) -> list[str]:
    found: list[str] = []
    cursor: Any = UNSET
    for _ in range(50):
        command = ListBans(dialog_id=dialog.id, limit=limit, cursor=cursor)
        page = await core.do(user, command)
        found += page.user_ids
        if not page.has_more:
            assert page.total == len(found)
            return found
        cursor = page.next_cursor
    raise AssertionError("the list never ends")


async def test_a_member_is_removed_and_kept_out(core: Core) -> None:
    dialog = await core.do(1, group_of([2, 3]))
    assert await core.do(1, BanUser(dialog.id, user_id(2))) == Done()
    event = core.hub.told[-1][1]
    assert isinstance(event, MemberRemoved)
    assert event.reason == "banned"
    assert await banned(core, 1, dialog) == [str(user_id(2))]
    with pytest.raises(errors.Banned) as refused:
        await core.do(3, add(dialog, 2))
    assert refused.value.fields == {"scope": "dialog"}


async def test_somebody_is_kept_out_before_they_come(core: Core) -> None:
    dialog = await core.do(1, group_of([2]))
    assert await core.do(1, BanUser(dialog.id, user_id(3))) == Done()
    assert isinstance(core.hub.told[-1][1], DialogUpdated)
    at = core.journal.next_position
    assert await core.do(1, BanUser(dialog.id, user_id(3))) == Done()
    assert core.journal.next_position == at
    with pytest.raises(errors.Banned):
        await core.do(1, add(dialog, 3))
    assert await core.do(1, EndBan(dialog.id, user_id(3))) == Done()
    assert await core.do(1, EndBan(dialog.id, user_id(3))) == Done()
    assert core.journal.next_position == at + 1
    assert (await core.do(1, add(dialog, 3))).count == 1


async def test_bans_are_kept_and_listed_page_by_page() -> None:
    async with small_core() as core:
        dialog = await core.do(1, group_of(range(2, 105)))
        for user in (110, 3, 111, 5, 112):
            await forget(core)
            await core.do(1, BanUser(dialog.id, user_id(user)))
        await forget(core)
        want = [str(user_id(user)) for user in (3, 5, 110, 111, 112)]
        for limit in (1, 2, 5, 100):
            assert await banned(core, 1, dialog, limit) == want
        again = await core.restart(limits=StateLimits(dialogs_max=1, tail_max=2))
        async with loading(again):
            assert await banned(again, 1, dialog) == want


@pytest.mark.parametrize(("by", "whom"), [(2, 9), (3, 9), (2, 3), (4, 5), (4, 1)])
async def test_only_those_above_ban(core: Core, by: int, whom: int) -> None:
    dialog = await ranked(core)
    at = core.journal.next_position
    with pytest.raises(errors.NotAllowed):
        await core.do(by, BanUser(dialog.id, user_id(whom)))
    if by in (2, 3):
        with pytest.raises(errors.NotAllowed):
            await core.do(by, EndBan(dialog.id, user_id(whom)))
        with pytest.raises(errors.NotAllowed):
            await banned(core, by, dialog)
    assert core.journal.next_position == at


async def test_nobody_bans_themselves_or_somebody_who_does_not_exist(
    core: Core,
) -> None:
    dialog = await core.do(1, group_of([2]))
    with pytest.raises(Invalid):
        await core.do(1, BanUser(dialog.id, user_id(1)))
    for command in (BanUser, EndBan):
        with pytest.raises(errors.MemberNotFound):
            await core.do(1, command(dialog.id, user_id(9_999)))
        with pytest.raises(errors.DialogNotFound):
            await core.do(3, command(dialog.id, user_id(2)))
    pair = await core.do(1, with_user(2))
    with pytest.raises(errors.NotAllowed):
        await core.do(1, BanUser(pair.id, user_id(2)))


async def test_a_dialog_bans_so_many_and_no_more(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (bans, membership):
        monkeypatch.setattr(module, "BANNED_MAX", 2)
    dialog = await core.do(1, channel_of(2, 3, 4))
    await core.do(1, BanUser(dialog.id, user_id(9)))
    await core.do(1, remove(dialog, 2, ban=True))
    for command in (
        *(BanUser(dialog.id, user_id(10)), BanUser(dialog.id, user_id(3))),
        remove(dialog, 3, ban=True),
    ):
        with pytest.raises(errors.TooManyBanned):
            await core.do(1, command)
    await core.do(1, remove(dialog, 3))
    await core.do(1, BanUser(dialog.id, user_id(9)))
    await core.do(1, EndBan(dialog.id, user_id(9)))
    await core.do(1, BanUser(dialog.id, user_id(3)))


async def test_who_leaves_while_they_are_banned_is_banned() -> None:
    for is_first in (True, False):
        async with small_core() as core:
            dialog = await core.do(1, group_of(range(2, 104)))
            await forget(core)
            work = [(1, BanUser(dialog.id, user_id(7))), (7, remove(dialog, 7))]
            await at_once(core, *(work if is_first else work[::-1]))
            assert await banned(core, 1, dialog) == [str(user_id(7))]
            with pytest.raises(errors.DialogNotFound):
                await core.do(7, remove(dialog, 7))
