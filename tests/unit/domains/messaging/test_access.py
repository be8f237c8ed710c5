"""Dialogs are found by their members, loaded when they are not in memory."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from msgspec import structs

from tchatd.domains.messaging.access import ATTEMPTS_MAX, DialogAccess
from tchatd.domains.messaging.errors import DialogNotFound
from tchatd.kernel.errors import Invalid, Unavailable
from tests.support.messaging import Core, group_of, loading, with_user


def access_of(core: Core) -> DialogAccess:
    return DialogAccess(core.state, core.applier)


async def test_only_members_find_a_dialog(core: Core) -> None:
    dialog = await core.do(1, with_user(2))
    access = access_of(core)
    found = access.find(2, dialog.id)
    assert found is not None
    assert (
        found is access.find_number(1, found.number) is await access.open(1, dialog.id)
    )
    for user in (3, 0):
        with pytest.raises(DialogNotFound):
            access.find(user, dialog.id)
        with pytest.raises(DialogNotFound):
            await access.open(user, dialog.id)


@pytest.mark.parametrize("type", ["group", "channel"])
async def test_who_may_not_see_the_members_is_said_so(core: Core, type: str) -> None:
    command = structs.replace(group_of([2]), type=type)
    dialog = await core.do(1, command)
    access = access_of(core)
    members, owner_sees = await access.members_of(1, dialog.id)
    assert (set(members), owner_sees) == ({1, 2}, True)
    _, member_sees = await access.members_of(2, dialog.id)
    assert member_sees == (type == "group")
    with pytest.raises(DialogNotFound):
        await access.members_of(3, dialog.id)


async def test_what_is_not_in_memory_is_loaded_by_id_in_any_case(core: Core) -> None:
    dialog = await core.do(1, group_of(range(2, 150)))
    await core.flusher.flush()
    again = await core.restart()
    async with loading(again):
        access = access_of(again)
        assert access.find(3, dialog.id) is None
        opened = await access.open(3, dialog.id.upper())
        assert opened.id == dialog.id
        assert access.find(3, dialog.id) is opened
        assert access.find(4, dialog.id) is None  # the cursor of 4 is not here yet
        assert await access.open(4, dialog.id) is opened
        with pytest.raises(DialogNotFound):
            await access.open(199, dialog.id)


async def test_what_does_not_exist_is_not_found(core: Core) -> None:
    access = access_of(core)
    with pytest.raises(DialogNotFound):
        await access.open(1, str(uuid4()))
    with pytest.raises(DialogNotFound):
        await access.open_number(1, 5)
    assert await access.look_up(uuid4().bytes) is None
    with pytest.raises(Invalid):
        await access.open(1, "x" * 36)


async def test_what_is_evicted_whenever_it_was_loaded_is_unavailable(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    async def load(**wants: Any) -> bool:
        asked.append(wants)
        return True

    monkeypatch.setattr(core.applier, "load", load)
    with pytest.raises(Unavailable):
        await access_of(core).look_up(uuid4().bytes)
    with pytest.raises(Unavailable):
        await access_of(core).open_number(1, 5)
    assert len(asked) == 2 * ATTEMPTS_MAX


async def test_what_is_created_while_the_store_says_no_is_found(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    created: list[Any] = []

    async def load(**wants: Any) -> bool:
        monkeypatch.undo()
        created.append(await core.do(1, with_user(2)))
        return False

    monkeypatch.setattr(core.applier, "load", load)
    opened = await access_of(core).open_number(1, 1)
    assert [opened.id] == [dialog.id for dialog in created]
