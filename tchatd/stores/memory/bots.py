"""Owns bots, webhooks, their outbox and dead letters in memory, for tests.

Every method has a checkpoint before it touches anything, none in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import trio
from msgspec import structs

from tchatd.domains.bots.errors import TooManyBots, UsernameTaken
from tchatd.domains.bots.models import (
    BotRecord,
    DeadLetter,
    NewBot,
    OutgoingEvent,
    PendingEvent,
    WebhookRecord,
)

FIRST_NUMBER = 1_000
"""Of the bots made here; owners have lower ones."""


class MemoryBotStore:
    """A `BotStore`. owners: ids of users by number."""

    def __init__(self, owners: dict[int, UUID]) -> None:
        self._owners = owners
        self._bots: dict[int, BotRecord] = {}
        self._next = FIRST_NUMBER
        self.webhooks: MemoryWebhookStore | None = None

    async def create_bot(self, bot: NewBot, bots_max: int) -> BotRecord:
        mine = await self.bots_of(bot.owner)
        if bot.owner not in self._owners or len(mine) >= bots_max:
            raise TooManyBots
        if any(other.username == bot.username for other in self._bots.values()):
            raise UsernameTaken(fields={"username": "is taken"})
        made = BotRecord(
            number=self._next,
            id=bot.id,
            owner=bot.owner,
            owner_id=self._owners[bot.owner],
            name=bot.name,
            username=bot.username,
            token_hash=bot.token_hash,
            session_id=bot.session_id,
            created_ms=bot.created_ms,
            data_key=bot.data_key,
        )
        self._next += 1
        self._bots[made.number] = made
        return made

    async def bot(self, id: UUID) -> BotRecord | None:
        await trio.lowlevel.checkpoint()
        return next((bot for bot in self._bots.values() if bot.id == id), None)

    async def bot_numbered(self, number: int) -> BotRecord | None:
        await trio.lowlevel.checkpoint()
        return self._bots.get(number)

    async def bot_named(self, username: str) -> BotRecord | None:
        await trio.lowlevel.checkpoint()
        named = (bot for bot in self._bots.values() if bot.username == username)
        return next(named, None)

    async def bots_of(self, owner: int) -> list[BotRecord]:
        await trio.lowlevel.checkpoint()
        return [bot for bot in self._bots.values() if bot.owner == owner]

    async def change_token(
        self, number: int, token_hash: bytes, session_id: UUID
    ) -> BotRecord | None:
        await trio.lowlevel.checkpoint()
        bot = self._bots.get(number)
        if bot is None:
            return None
        changed = structs.replace(bot, token_hash=token_hash, session_id=session_id)
        self._bots[number] = changed
        return changed

    async def delete_bot(self, number: int, now_ms: int) -> None:
        await trio.lowlevel.checkpoint()
        self._bots.pop(number, None)
        if self.webhooks is not None:
            await self.webhooks.delete_webhook(number)

    async def owners(self) -> list[tuple[int, int]]:
        await trio.lowlevel.checkpoint()
        return [(bot.number, bot.owner) for bot in self._bots.values()]

    def id_of(self, number: int) -> UUID:
        return self._bots[number].id


class MemoryWebhookStore:
    """A `WebhookStore` for the bots of a `MemoryBotStore`."""

    def __init__(self, bots: MemoryBotStore) -> None:
        self._bots = bots
        bots.webhooks = self
        self._webhooks: dict[int, WebhookRecord] = {}
        self._events: dict[int, PendingEvent] = {}
        self._dead: dict[int, DeadLetter] = {}
        self._position = 0
        self._next = 1

    async def webhooks(self) -> list[tuple[WebhookRecord, UUID]]:
        await trio.lowlevel.checkpoint()
        return [(hook, self._bots.id_of(bot)) for bot, hook in self._webhooks.items()]

    async def webhook(self, bot: int) -> WebhookRecord | None:
        await trio.lowlevel.checkpoint()
        return self._webhooks.get(bot)

    async def count(self, bot: int) -> int:
        return len(await self.pending(bot, 1 << 31))

    async def put_webhook(self, webhook: WebhookRecord) -> None:
        await trio.lowlevel.checkpoint()
        self._webhooks[webhook.bot] = structs.replace(
            webhook, dead_run=0, disabled_ms=None, disabled_why=None
        )
        for number, event in self._events.items():
            if event.bot == webhook.bot:
                self._events[number] = structs.replace(event, due_ms=0, attempts=0)

    async def delete_webhook(self, bot: int) -> None:
        await trio.lowlevel.checkpoint()
        self._webhooks.pop(bot, None)
        self._events = {n: e for n, e in self._events.items() if e.bot != bot}

    async def position(self) -> int:
        await trio.lowlevel.checkpoint()
        return self._position

    async def append(
        self, events: Sequence[OutgoingEvent], position: int | None = None
    ) -> bool:
        await trio.lowlevel.checkpoint()
        if position is not None:
            if position <= self._position:
                return False
            self._position = position
        for event in events:
            if event.bot in self._webhooks:
                self._add(event, event.created_ms)
        return True

    def _add(self, event: OutgoingEvent | DeadLetter, due_ms: int) -> None:
        self._events[self._next] = PendingEvent(
            number=self._next,
            bot=event.bot,
            id=event.id,
            type=event.type,
            body=event.body,
            created_ms=event.created_ms,
            due_ms=due_ms,
            attempts=0,
        )
        self._next += 1

    async def waiting(self) -> list[tuple[int, int, int]]:
        found = []
        for bot, webhook in sorted(self._webhooks.items()):
            events = await self.pending(bot, 1 << 31)
            if events and webhook.disabled_ms is None:
                found.append((bot, len(events), events[0].due_ms))
        return found

    async def pending(self, bot: int, limit: int) -> list[PendingEvent]:
        await trio.lowlevel.checkpoint()
        return [event for event in self._events.values() if event.bot == bot][:limit]

    async def delivered(self, event: PendingEvent) -> None:
        await trio.lowlevel.checkpoint()
        self._events.pop(event.number, None)
        webhook = self._webhooks.get(event.bot)
        if webhook is not None:
            self._webhooks[event.bot] = structs.replace(webhook, dead_run=0)

    async def put_off(self, event: PendingEvent, due_ms: int) -> None:
        await trio.lowlevel.checkpoint()
        kept = self._events.get(event.number)
        if kept is not None:
            self._events[event.number] = structs.replace(
                kept, attempts=kept.attempts + 1, due_ms=due_ms
            )

    async def bury(
        self, event: PendingEvent, now_ms: int, why: str, run_max: int
    ) -> bool:
        await trio.lowlevel.checkpoint()
        kept = self._events.pop(event.number, None)
        if kept is None:
            return False
        self._dead[event.number] = DeadLetter(
            number=kept.number,
            bot=kept.bot,
            bot_id=self._bots.id_of(kept.bot),
            id=kept.id,
            type=kept.type,
            body=kept.body,
            created_ms=kept.created_ms,
            attempts=kept.attempts + 1,
            dead_ms=now_ms,
            why=why,
        )
        webhook = self._webhooks.get(event.bot)
        if webhook is None or webhook.disabled_ms is not None:
            return False
        run = webhook.dead_run + 1
        self._webhooks[event.bot] = structs.replace(webhook, dead_run=run)
        return run >= run_max and await self.disable(event.bot, now_ms, why)

    async def disable(self, bot: int, now_ms: int, why: str) -> bool:
        await trio.lowlevel.checkpoint()
        webhook = self._webhooks.get(bot)
        if webhook is None or webhook.disabled_ms is not None:
            return False
        self._webhooks[bot] = structs.replace(
            webhook, disabled_ms=now_ms, disabled_why=why
        )
        return True

    async def dead_letters(self, limit: int) -> tuple[list[DeadLetter], int]:
        await trio.lowlevel.checkpoint()
        letters = sorted(self._dead.values(), key=lambda d: (-d.dead_ms, -d.number))
        return letters[:limit], len(letters)

    async def dead_letter(self, number: int) -> DeadLetter | None:
        await trio.lowlevel.checkpoint()
        return self._dead.get(number)

    async def retry(self, number: int, now_ms: int) -> DeadLetter | None:
        await trio.lowlevel.checkpoint()
        letter = self._dead.get(number)
        if letter is None or letter.bot not in self._webhooks:
            return None
        del self._dead[number]
        self._add(letter, now_ms)
        return letter

    async def drop(self, number: int) -> bool:
        await trio.lowlevel.checkpoint()
        return self._dead.pop(number, None) is not None

    async def prune(self, dead_before_ms: int, count: int) -> int:
        await trio.lowlevel.checkpoint()
        old = [n for n, d in self._dead.items() if d.dead_ms < dead_before_ms][:count]
        for number in old:
            del self._dead[number]
        over = [
            number
            for number, event in self._events.items()
            if (webhook := self._webhooks.get(event.bot)) is not None
            and webhook.disabled_ms is not None
            and webhook.disabled_ms < dead_before_ms
        ][:count]
        for number in over:
            del self._events[number]
        return len(old) + len(over)
