"""Memberships over the real store: what is loaded back is what was, step by step.

The same commands are given to two cores, one over memory and one over PostgreSQL, whose
state forgets everything between any two of them.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from tchatd.domains.messaging import member_models as m
from tchatd.domains.messaging.models import GetDialog
from tchatd.domains.messaging.state import StateLimits
from tchatd.kernel.errors import DomainError
from tchatd.stores.postgres.messaging import PostgresDialogStore
from tchatd.stores.postgres.pool import Pool
from tests.support.messaging import (
    Core,
    group_of,
    loading,
    shape,
    text,
    user_id,
    with_user,
)

pytestmark = pytest.mark.service

LIMITS = StateLimits(dialogs_max=1, tail_max=2)
USERS = 130
ROLES = ("owner", "admin", "member", "guest")


def random_command(dialog_id: str, chance: random.Random) -> tuple[int, Any]:
    by, whom = chance.choice((1, 1, 2, 3, 60)), chance.randint(1, USERS - 1)
    id = user_id(whom)
    role: Any = chance.choice(ROLES)
    commands: list[Any] = [
        m.AddMembers(
            dialog_id=dialog_id,
            user_ids=[user_id(chance.randint(1, USERS - 1)) for _ in range(5)],
            role=role,
        ),
        m.ChangeMember(
            dialog_id=dialog_id,
            user_id=id,
            role=role,
            hands_over=chance.random() < 0.2,
        ),
        m.RemoveMember(dialog_id=dialog_id, user_id=id, ban=chance.random() < 0.3),
        m.RemoveMember(dialog_id=dialog_id, user_id=id),
        m.BanUser(dialog_id, id),
        m.EndBan(dialog_id, id),
        m.ChangeOwn(dialog_id=dialog_id, is_pinned=chance.random() < 0.5),
        m.SaveDraft(dialog_id=dialog_id, text=chance.choice(("", "x"))),
        m.ChangeDialog(
            dialog_id=dialog_id,
            settings=m.SettingsChange(who_may_add=role, slow_mode_s=0),
        ),
        m.ListMembers(dialog_id=dialog_id, role=role, limit=chance.randint(1, 50)),
        m.ListMembers(dialog_id=dialog_id, limit=chance.randint(1, 100)),
        m.ListBans(dialog_id=dialog_id, limit=2),
        text(dialog_id),
        GetDialog(dialog_id),
    ]
    return by, chance.choice(commands)


async def told(core: Core, user: int, command: Any) -> Any:
    """What a client sees: the answer, or the refusal."""
    try:
        return shape(await core.do(user, command))
    except DomainError as error:
        return [error.code, error.fields]


async def forget(core: Core) -> None:
    core.journal.sync()
    await core.flusher.flush()
    await core.do(USERS, with_user(1))
    core.journal.sync()
    await core.flusher.flush()


@pytest.mark.parametrize("seed", range(3))
async def test_both_stores_say_the_same_whatever_is_done(pool: Pool, seed: int) -> None:
    chance = random.Random(seed)
    memory = Core(users=USERS, seed=seed)
    stored = Core(PostgresDialogStore(pool), users=USERS, limits=LIMITS, seed=seed)
    await stored.applier.recover(stored.flusher.flush)
    async with loading(memory), loading(stored):
        group = group_of(range(2, 101 + 2 * seed))
        dialog = await memory.do(1, group)
        assert (await stored.do(1, group)).id == dialog.id
        refused = 0
        for _ in range(150):
            user, command = random_command(dialog.id, chance)
            for core in (memory, stored):
                core.clock.advance(1_000)
            if chance.random() < 0.4:
                await forget(stored)
                await memory.do(USERS, with_user(1))
            want = await told(memory, user, command)
            assert await told(stored, user, command) == want, command
            refused += isinstance(want, list)
        assert 10 < refused < 120
        again = await stored.restart(limits=LIMITS, users=USERS)
        async with loading(again):
            for user in range(1, USERS):
                seen = GetDialog(dialog.id)
                assert await told(again, user, seen) == await told(memory, user, seen)
