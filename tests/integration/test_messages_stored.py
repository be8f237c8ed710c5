"""What becomes of messages over both stores: what is loaded back is what was.

The same random commands are given to two cores. One has everything in memory; the other
flushes and forgets now and then, or starts anew. Both have to answer the same.
"""

from __future__ import annotations

import random
from typing import Any
from uuid import UUID

import pytest

from tchatd.domains.messaging import message_commands as m
from tchatd.domains.messaging.models import (
    GetDialog,
    ListDialogs,
    ListEvents,
    ListMessages,
    ReadMessages,
    SendMessage,
)
from tchatd.domains.messaging.state import StateLimits
from tchatd.domains.messaging.store import DialogStore
from tchatd.kernel.errors import DomainError
from tchatd.stores.memory.messaging import MemoryDialogStore
from tchatd.stores.postgres.messaging import PostgresDialogStore
from tchatd.stores.postgres.pool import Pool
from tests.support.messaging import Core, group_of, loading, shape, user_id, with_user

LIMITS = StateLimits(dialogs_max=1, tail_max=2, client_ids_max=2)
USERS = 130
OUTSIDER = USERS - 1
EMOJI = ("👍", "😀", ":party:")


class Twins:
    """`forgetful` keeps next to nothing in memory; `plain` never flushes."""

    def __init__(self, store: DialogStore, seed: int) -> None:
        self.chance = random.Random(seed)
        self.seed = seed
        self.plain = Core(users=USERS, seed=seed)
        self.forgetful = Core(store, users=USERS, limits=LIMITS, seed=seed)
        self.dialog_id = ""
        self.other_id = ""
        self.messages: list[UUID] = []
        self.refused = 0

    async def open(self, members: int) -> None:
        await self.forgetful.applier.recover(self.forgetful.flusher.flush)
        group = group_of(range(2, members + 1))
        other = group_of(range(2, 5), "Other")
        self.dialog_id = (await self.both(1, group))["id"]
        self.other_id = (await self.both(1, other))["id"]

    async def both(self, user: int, command: Any) -> Any:
        for core in (self.plain, self.forgetful):
            core.clock.advance(1_000)
        want = await told(self.plain, user, command)
        assert await told(self.forgetful, user, command) == want, (user, command)
        return want

    async def forget(self) -> None:
        core = self.forgetful
        core.journal.sync()
        await core.flusher.flush()
        if self.chance.random() < 0.5:
            self.forgetful = await core.restart(limits=LIMITS, users=USERS, seed=7)
        # Another dialog takes the place of the first.
        await self.both(USERS, with_user(1))
        await self.forgetful.flusher.flush()

    async def step(self) -> None:
        user = self.chance.choice((1, 1, 2, 2, 3, 4, 5, OUTSIDER))
        answer = await self.both(user, self.command())
        self.refused += isinstance(answer, list)
        if isinstance(answer, dict) and "sender_id" in answer:
            id = UUID(answer["id"])
            if id not in self.messages and answer["dialog_id"] == self.dialog_id:
                self.messages.append(id)

    def target(self) -> UUID:
        """Mostly of the latest messages; now and then one that there is not."""
        if not self.messages or self.chance.random() < 0.03:
            return UUID(int=self.chance.getrandbits(128))
        if self.chance.random() < 0.6:
            return self.chance.choice(self.messages[-6:])
        return self.chance.choice(self.messages)

    def command(self) -> Any:
        chance = self.chance
        if chance.random() < 0.3:
            return self.reading()
        id, words = self.target(), chance.choice(("one", "two"))
        emoji = chance.choice(EMOJI)
        mentions = [user_id(chance.randint(1, 6)) for _ in range(chance.randint(0, 2))]
        says: dict[str, Any] = {
            "dialog_id": self.dialog_id,
            "type": "text",
            "content": {"text": words},
            "mentions": mentions,
        }
        poll = {"question": "?", "options": ["a", "b"], "is_multiple": True}
        options = [n for n in (0, 1) if chance.random() < 0.5]
        whose: Any = chance.choice(("everyone", "me", "me"))
        return chance.choice(
            [
                SendMessage(**says),
                SendMessage(**says),
                SendMessage(**says, thread_id=id),
                SendMessage(**says, thread_id=id),
                SendMessage(dialog_id=self.dialog_id, type="poll", content=poll),
                m.EditMessage(message_id=id, content={"text": words}),
                m.EditMessage(message_id=id, content={"text": "m"}, mentions=mentions),
                m.DeleteMessage(message_id=id, for_=whose),
                m.React(message_id=id, emoji=emoji),
                m.React(message_id=id, emoji=emoji),
                m.Unreact(message_id=id, emoji=emoji),
                m.PinMessage(id),
                m.UnpinMessage(id),
                m.Vote(message_id=id, options=options),
                m.Vote(message_id=id, options=options),
                *([m.ClosePoll(id)] if chance.random() < 0.2 else []),
                *([m.ClearDialog(self.dialog_id)] if chance.random() < 0.1 else []),
                m.ForwardMessage(message_id=id, dialog_id=self.dialog_id),
                m.ForwardMessage(message_id=id, dialog_id=self.other_id),
                m.DeliverMessages(id),
                ReadMessages(id),
            ]
        )

    def reading(self) -> Any:
        chance, id = self.chance, self.target()
        limit = chance.choice((1, 2, 5, 50))
        return chance.choice(
            [
                m.GetMessage(id),
                m.GetMessageHistory(id),
                m.ListReactions(message_id=id),
                m.ListThread(message_id=id, limit=limit),
                m.ListThread(message_id=id, limit=limit, before=self.target()),
                m.ListPins(self.dialog_id),
                ListMessages(dialog_id=self.dialog_id, limit=limit),
                ListMessages(dialog_id=self.dialog_id, limit=limit, before=id),
                ListMessages(dialog_id=self.dialog_id, limit=limit, after=id),
                ListEvents(
                    dialog_id=self.dialog_id, after=chance.randint(0, 40), limit=limit
                ),
                GetDialog(self.dialog_id),
                ListDialogs(),
            ]
        )


async def told(core: Core, user: int, command: Any) -> Any:
    """What a client sees: the answer, or the refusal."""
    async with loading(core):
        try:
            return shape(await core.do(user, command))
        except DomainError as error:
            return [error.code, error.fields]


async def compare(store: DialogStore, seed: int, steps: int) -> None:
    twins = Twins(store, seed)
    await twins.open(6 if seed % 2 else 105)
    for _ in range(steps):
        if twins.chance.random() < 0.3:
            await twins.forget()
        await twins.step()
    assert steps / 20 < twins.refused < steps / 2
    await twins.forget()
    for user in range(1, 6):
        for command in (
            GetDialog(twins.dialog_id),
            ListDialogs(),
            ListMessages(dialog_id=twins.dialog_id, limit=100),
            ListEvents(dialog_id=twins.dialog_id, limit=1_000),
            m.ListPins(twins.dialog_id),
        ):
            await twins.both(user, command)


@pytest.mark.parametrize("seed", range(12))
async def test_memory_and_what_is_loaded_back_say_the_same(seed: int) -> None:
    await compare(MemoryDialogStore(), seed, 250)


@pytest.mark.service
@pytest.mark.parametrize("seed", range(4))
async def test_postgresql_says_the_same(pool: Pool, seed: int) -> None:
    await compare(PostgresDialogStore(pool), seed, 200)
