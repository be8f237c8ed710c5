"""Owns commands about members, short to write, and a core that forgets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from msgspec import UNSET

from tchatd.domains.messaging.member_models import (
    AddMembers,
    ChangeMember,
    RemoveMember,
)
from tchatd.domains.messaging.models import CreateDialog, Dialog, GetDialog
from tchatd.domains.messaging.state import StateLimits
from tchatd.kernel.errors import DomainError
from tests.support.messaging import Core, group_of, loading, user_id, with_user


def add(dialog: Any, *users: int, role: str = "member") -> AddMembers:
    people = [user_id(user) for user in users]
    return AddMembers(dialog_id=dialog.id, user_ids=people, role=role)  # type: ignore[arg-type]


def change(dialog: Any, user: int, role: Any = UNSET, **more: Any) -> ChangeMember:
    return ChangeMember(dialog_id=dialog.id, user_id=user_id(user), role=role, **more)


def remove(dialog: Any, user: int, *, ban: bool = False) -> RemoveMember:
    return RemoveMember(dialog_id=dialog.id, user_id=user_id(user), ban=ban)


def channel_of(*users: int, type: str = "channel", **more: Any) -> CreateDialog:
    people = [user_id(user) for user in users]
    return CreateDialog(type=type, name="News", participants=people, **more)  # type: ignore[arg-type]


async def roles(core: Core, dialog: Any) -> dict[int, str]:
    """Everybody's, as each of them sees it."""
    state = core.state.find(dialog.id)
    if state is None:
        await core.applier.load(ids=(_bytes(dialog.id),))
        state = core.state.find(dialog.id)
    assert state is not None
    found = {}
    for user in list(state.members):
        view = await core.do(user, GetDialog(dialog.id))
        found[user] = view.role
    return found


def _bytes(id: str) -> bytes:
    return bytes.fromhex(id.replace("-", ""))


@asynccontextmanager
async def small_core(**more: Any) -> AsyncIterator[Core]:
    """Room for one dialog and two events: everything else is in the store."""
    core = Core(limits=StateLimits(dialogs_max=1, tail_max=2), **more)
    async with loading(core):
        yield core


async def forget(core: Core, user: int = 1) -> None:
    """Everything is stored, and only another dialog is in memory."""
    core.journal.sync()
    await core.flusher.flush()
    await core.do(user, with_user(199))
    core.journal.sync()
    await core.flusher.flush()
    await trio.testing.wait_all_tasks_blocked()
    core.state.evict()
    assert len(core.state) <= 1


async def ranked(core: Core) -> Dialog:
    """1 is owner, 2 member, 3 guest, 4 and 5 admins."""
    dialog: Dialog = await core.do(1, group_of([2]))
    await core.do(1, add(dialog, 3, role="guest"))
    await core.do(1, add(dialog, 4, 5, role="admin"))
    return dialog


async def at_once(core: Core, *work: tuple[int, Any]) -> list[Any]:
    """The answers, or the errors, of commands that are given at the same time."""
    answers: list[Any] = [None] * len(work)

    async def give(index: int, user: int, command: Any) -> None:
        try:
            answers[index] = await core.do(user, command)
        except DomainError as error:
            answers[index] = error

    async with trio.open_nursery() as nursery:
        for index, (user, command) in enumerate(work):
            nursery.start_soon(give, index, user, command)
    return answers
