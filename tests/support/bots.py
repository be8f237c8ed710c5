"""Owns bots in a box: services over memory, a hub and sessions that remember."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import UUID

import trio

from tchatd.domains.bots.callbacks import Callbacks
from tchatd.domains.bots.errors import ButtonNotFound
from tchatd.domains.bots.models import Bot, CreateBot, PutWebhook, SeenMessage
from tchatd.domains.bots.rules import BotSettings
from tchatd.domains.bots.service import BotService
from tchatd.domains.bots.store import WebhookStore
from tchatd.domains.bots.webhooks import Webhooks
from tchatd.kernel.clock import ManualClock
from tchatd.kernel.crypto import Keys
from tchatd.kernel.ids import Ids
from tchatd.kernel.routing import Caller, Context
from tchatd.providers.courier import NotDelivered
from tchatd.stores.memory.bots import MemoryBotStore, MemoryWebhookStore
from tests.support.messaging import FakeHub, user_id

SECRET = bytes(range(32))
URL = "https://bot.example/hook"
OWNERS = {number: user_id(number) for number in range(1, 10)}


class EndedSessions:
    def __init__(self) -> None:
        self.ended: list[tuple[UUID, int]] = []
        self.forgotten: list[int] = []

    def session_ended(self, session_id: UUID, user_number: int, ended_ms: int) -> None:
        self.ended.append((session_id, user_number))

    def forget(self, user_number: int) -> None:
        self.forgotten.append(user_number)


class FakeConversations:
    """Messages by id, seen by everybody. now: what those are that webhooks tell."""

    def __init__(self) -> None:
        self.messages: dict[UUID, SeenMessage] = {}
        self.now: dict[UUID, Any] = {}

    async def message(self, user_number: int, id: UUID) -> SeenMessage:
        await trio.lowlevel.checkpoint()
        if id not in self.messages:
            raise ButtonNotFound
        return self.messages[id]

    async def message_now(self, id: UUID) -> Any:
        await trio.lowlevel.checkpoint()
        return self.now.get(id)


class BotWorld:
    """`another` is a second process over the same store."""

    def __init__(
        self,
        settings: BotSettings | None = None,
        *,
        bots: MemoryBotStore | None = None,
        store: WebhookStore | None = None,
        clock: ManualClock | None = None,
    ) -> None:
        chance = random.Random(1).randbytes
        self.settings = settings or BotSettings()
        self.bots = bots or MemoryBotStore(OWNERS)
        self.store = store or MemoryWebhookStore(self.bots)
        self.clock = clock or ManualClock()
        self.keys = Keys.of_one_secret(SECRET)
        self.ids = Ids(self.clock)
        self.hub = FakeHub()
        self.sessions = EndedSessions()
        self.service = BotService(
            self.bots, self.sessions, self.keys, self.clock, self.ids, self.settings
        )
        self.conversations = FakeConversations()
        self.webhooks = Webhooks(
            self.store,
            self.service,
            self.conversations,
            self.hub,
            self.keys,
            self.clock,
            self.ids,
            self.settings,
            chance,
        )
        self.callbacks = Callbacks(
            self.service,
            self.webhooks,
            self.conversations,
            self.hub,
            self.clock,
            self.ids,
            self.settings.callbacks_max,
        )

    async def another(self) -> BotWorld:
        world = BotWorld(
            self.settings, bots=self.bots, store=self.store, clock=self.clock
        )
        await world.service.start()
        await world.webhooks.start()
        return world

    async def make(self, username: str = "echo_bot", owner: int = 1) -> Bot:
        command = CreateBot(name="Echo", username=username)
        return await self.service.create(as_user(owner), command)

    async def number_of(self, bot: Bot) -> int:
        record = await self.bots.bot(UUID(bot.id))
        assert record is not None
        return record.number

    async def hooked(self, username: str = "echo_bot", **fields: Any) -> int:
        """The number of a new bot with a webhook."""
        bot = await self.make(username)
        await self.put(bot, **fields)
        return await self.number_of(bot)

    async def put(self, bot: Bot, **fields: Any) -> Any:
        command = PutWebhook(id=UUID(bot.id), url=fields.pop("url", URL), **fields)
        return await self.webhooks.put(as_user(1), command)


def as_user(number: int, connection: int | None = None) -> Context:
    caller = Caller(user_id(number), number, user_id(number))
    return Context("r-1", "127.0.0.1", caller, connection)


class FakeCourier:
    """Remembers (when, url, event id); answers by `plans`, the last one for ever.

    A plan is None (taken), a reason, seconds that the endpoint hangs, or an exception
    that nobody foresaw. on_delivering: called once, during the next delivery.
    """

    def __init__(self) -> None:
        self.plans: dict[str, list[str | float | Exception | None]] = {}
        self.on_delivering: Callable[[], Awaitable[object]] | None = None
        self.delivered: list[tuple[float, str, str]] = []
        self.headers: list[Mapping[str, str]] = []
        self.bodies: list[bytes] = []

    async def deliver(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        await trio.lowlevel.checkpoint()
        event_id = headers["X-Tchat-Event-Id"]
        self.delivered.append((trio.current_time(), url, event_id))
        self.headers.append(headers)
        self.bodies.append(body)
        meanwhile, self.on_delivering = self.on_delivering, None
        if meanwhile is not None:
            await meanwhile()
        plans = self.plans.get(url, [None])
        plan = plans.pop(0) if len(plans) > 1 else plans[0]
        if isinstance(plan, Exception):
            raise plan
        if isinstance(plan, str):
            raise NotDelivered(plan)
        if plan is not None:
            await trio.sleep(plan)
            raise NotDelivered("no answer")
