"""Owns bots and whose a bot's token is; what happens to webhooks is webhooks.py."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Final
from uuid import UUID

from msgspec import UNSET

from tchatd.domains.bots.errors import BotNotFound, BotsDoNotStart, BotsOwnNothing
from tchatd.domains.bots.models import (
    Bot,
    BotCommand,
    BotRecord,
    Bots,
    CreateBot,
    Done,
    FindBot,
    NewBot,
    Nothing,
)
from tchatd.domains.bots.rules import BotSettings
from tchatd.domains.bots.store import BotStore, Sessions
from tchatd.domains.bots.tokens import BotTokens
from tchatd.kernel.clock import Clock, rfc3339
from tchatd.kernel.crypto import Keys
from tchatd.kernel.ids import Ids
from tchatd.kernel.lru import Lru
from tchatd.kernel.routing import Caller, Context

_LOOKS_MAX: Final = 3
"""How often a bot is read again because it was changed meanwhile."""


class BotService:
    """Call `start` before the first token. on_deleted: told of each bot that is no
    more. is_barred: whether a user is shut out of the server. check_said: raises if
    that user may not write, or not that."""

    def __init__(
        self,
        store: BotStore,
        sessions: Sessions,
        keys: Keys,
        clock: Clock,
        ids: Ids,
        settings: BotSettings,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._vault = keys.vault
        self._clock = clock
        self._ids = ids
        self.settings = settings
        self._tokens = BotTokens(keys.otp_hash("bot-token"), random)
        self._known: Lru[UUID, BotRecord] = Lru(settings.bots_known_max)
        self._changes = 0
        self._owners: dict[int, int] = {}
        self.on_deleted: Callable[[int], None] = lambda number: None
        self.is_barred: Callable[[int], bool] = lambda number: False
        self.check_said: Callable[[int, str], None] = lambda number, text: None

    async def start(self) -> None:
        self._owners = dict(await self._store.owners())

    def is_bot(self, user_number: int) -> bool:
        return user_number in self._owners

    def owner_of(self, user_number: int) -> int | None:
        """None of who is no bot."""
        return self._owners.get(user_number)

    def is_shut_out(self, bot: int) -> bool:
        """Whether it is banned, or its owner is."""
        return self.is_barred(bot) or self.is_barred(self._owners.get(bot, bot))

    def check_opener(self, user_number: int) -> None:
        """Raises BotsDoNotStart."""
        if user_number in self._owners:
            raise BotsDoNotStart(
                "A bot writes where it was added, and to who opened a dialog with it."
            )

    # Whose a token is.

    def authenticate(self, token: str) -> Caller | Awaitable[Caller | None] | None:
        """None if it is no bot's; awaitable only for a bot that was not seen lately."""
        read = self._tokens.read(token)
        if read is None:
            return None
        bot_id, hash = read
        bot = self._known.get(bot_id)
        return self._look(bot_id, hash) if bot is None else self._caller(bot, hash)

    async def _look(self, bot_id: UUID, hash: bytes) -> Caller | None:
        bot = await self._find(bot_id)
        return None if bot is None else self._caller(bot, hash)

    def _caller(self, bot: BotRecord, hash: bytes) -> Caller | None:
        is_right = self._tokens.are_equal(bot.token_hash, hash)
        if not is_right or self.is_shut_out(bot.number):
            return None
        return Caller(bot.id, bot.number, bot.session_id)

    async def _find(self, bot_id: UUID) -> BotRecord | None:
        """From memory, or from the store; what changes meanwhile is not remembered."""
        bot = self._known.get(bot_id)
        for _ in range(_LOOKS_MAX):
            if bot is not None:
                return bot
            changes = self._changes
            bot = await self._store.bot(bot_id)
            if changes == self._changes:
                if bot is not None:
                    self._known.put(bot_id, bot)
                return bot
            bot = self._known.get(bot_id)
        return bot

    # What its owner does.

    async def create(self, context: Context, command: CreateBot) -> Bot:
        """Raises: BotsOwnNothing, TooManyBots, UsernameTaken, Unavailable, and what
        `check_said` does."""
        caller = context.user
        if self.is_bot(caller.user_number):
            raise BotsOwnNothing
        self.check_said(caller.user_number, f"{command.name}\n{command.username}")
        id = self._ids.v7()
        token, hash = self._tokens.new(id)
        _, wrapped = self._vault.new_data_key(id.bytes)
        bot = await self._store.create_bot(
            NewBot(
                id=id,
                owner=caller.user_number,
                name=command.name.strip(),
                username=command.username,
                token_hash=hash,
                session_id=self._ids.v4(),
                data_key=wrapped,
                data_key_id=self._vault.current,
                created_ms=self._clock.now_ms(),
            ),
            self.settings.bots_per_user_max,
        )
        self._owners[bot.number] = bot.owner
        self._known.put(bot.id, bot)
        return _shown(bot, token)

    async def mine(self, context: Context, command: Nothing) -> Bots:
        bots = await self._store.bots_of(context.user.user_number)
        return Bots([_shown(bot) for bot in bots])

    async def named(self, context: Context, command: FindBot) -> Bot:
        """Raises: BotNotFound, Unavailable."""
        bot = await self._store.bot_named(command.username)
        if bot is None:
            raise BotNotFound
        return _shown(bot)

    async def change_token(self, context: Context, command: BotCommand) -> Bot:
        """The old token ends at once, with every connection that came by it.

        Raises: BotNotFound, Unavailable.
        """
        bot = await self.owned(context.user, command.id)
        token, hash = self._tokens.new(bot.id)
        self._changes += 1
        changed = await self._store.change_token(bot.number, hash, self._ids.v4())
        self._end(bot)
        if changed is None:
            raise BotNotFound
        self._known.put(bot.id, changed)
        return _shown(changed, token)

    async def delete(self, context: Context, command: BotCommand) -> Done:
        """What it said stays. Raises: BotNotFound, Unavailable."""
        bot = await self.owned(context.user, command.id)
        self._changes += 1
        await self._store.delete_bot(bot.number, self._clock.now_ms())
        self._end(bot)
        self._owners.pop(bot.number, None)
        self._sessions.forget(bot.number)
        self.on_deleted(bot.number)
        return Done()

    def _end(self, bot: BotRecord) -> None:
        self._changes += 1
        self._known.pop(bot.id)
        now_ms = self._clock.now_ms()
        self._sessions.session_ended(bot.session_id, bot.number, now_ms)

    async def owned(
        self, caller: Caller, bot_id: UUID, *, or_itself: bool = False
    ) -> BotRecord:
        """The caller's bot, or the caller. Raises: BotNotFound."""
        bot = await self._store.bot(bot_id)
        if bot is None or not (
            bot.owner == caller.user_number
            or (or_itself and bot.number == caller.user_number)
        ):
            raise BotNotFound
        return bot

    async def numbered(self, number: int) -> BotRecord | None:
        """Raises: Unavailable."""
        return await self._store.bot_numbered(number)

    # For moderators.

    async def end_sessions(self, user_number: int) -> None:
        """Close the connections of a bot, or of a person's bots: they were barred."""
        itself = await self._store.bot_numbered(user_number)
        bots = await self._store.bots_of(user_number)
        now_ms = self._clock.now_ms()
        for bot in bots if itself is None else [itself]:
            self._sessions.session_ended(bot.session_id, bot.number, now_ms)


def _shown(bot: BotRecord, token: str | None = None) -> Bot:
    return Bot(
        id=str(bot.id),
        name=bot.name,
        username=bot.username,
        owner_id=str(bot.owner_id),
        created_at=rfc3339(bot.created_ms),
        token=UNSET if token is None else token,
    )
