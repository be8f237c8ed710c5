"""Owns which webhook is told what: their settings, and the outbox that feeds delivery.

Theory of operation
    `WebhookFeed.take` follows the journal's flusher: each durable change of a dialog
    that a bot with a webhook is in becomes a row of the outbox, in the order of the
    journal, before the change itself is flushed. The outbox remembers the position of
    the last batch it had, so a crash anywhere neither loses an event nor keeps it
    twice. Delivery (`providers/delivery.py`) takes the rows of a bot in order.

    What a message says is not in the outbox but put in when it is sent (`shown`).

    A bot that is shut out is told nothing of what happens meanwhile: nothing is kept
    for it. What waits goes on waiting until the first event after it.

    An event's id follows from position and bot: whoever gets it twice can tell.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import UNSET, Struct

from tchatd.domains.bots import bodies, rules
from tchatd.domains.bots.bodies import Payload
from tchatd.domains.bots.errors import WebhookNotFound
from tchatd.domains.bots.models import (
    BotCommand,
    BotRecord,
    DeadLetter,
    Done,
    OutgoingEvent,
    PendingEvent,
    PutWebhook,
    Webhook,
    WebhookDisabled,
    WebhookRecord,
)
from tchatd.domains.bots.rules import BotSettings
from tchatd.domains.bots.service import BotService
from tchatd.domains.bots.store import Conversations, Following, Hub, WebhookStore
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.clock import Clock, rfc3339
from tchatd.kernel.crypto import Keys
from tchatd.kernel.ids import Ids
from tchatd.kernel.routing import Context

_SECRET_BYTES: Final = 32
TOO_FAR_BEHIND: Final = "too many events wait"


class Hook(Struct):
    """An enabled webhook in memory. pending: events that wait, about."""

    bot_id: str
    events: frozenset[str]
    pending: int = 0


class Webhooks:
    """Settings of webhooks, and the feed of their outbox. Call `start` first.

    on_pending: told of each bot that has something to be delivered; on_changed: of
    each whose webhook is another one now.
    """

    def __init__(
        self,
        store: WebhookStore,
        bots: BotService,
        conversations: Conversations,
        hub: Hub,
        keys: Keys,
        clock: Clock,
        ids: Ids,
        settings: BotSettings,
        random: Callable[[int], bytes],
    ) -> None:
        self._store = store
        self._bots = bots
        self._conversations = conversations
        self._hub = hub
        self._vault = keys.vault
        self._clock = clock
        self._ids = ids
        self._settings = settings
        self._random = random
        self._hooks: dict[int, Hook] = {}
        self._hooked = BitMap()
        self._position = 0
        self.on_pending: Callable[[int], None] = lambda bot: None
        self.on_changed: Callable[[int], None] = lambda bot: None
        bots.on_deleted = self.forget

    async def start(self) -> None:
        """Learn which webhooks there are; before the journal is replayed."""
        waiting = {bot: count for bot, count, _ in await self._store.waiting()}
        for webhook, bot_id in await self._store.webhooks():
            if webhook.disabled_ms is None:
                pending = waiting.get(webhook.bot, 0)
                self._hook(webhook.bot, bot_id, webhook.events, pending)
        self._position = await self._store.position()

    def _hook(
        self, bot: int, bot_id: UUID, events: Sequence[str], pending: int
    ) -> Hook:
        hook = self._hooks[bot] = Hook(str(bot_id), frozenset(events), pending)
        self._hooked.add(bot)
        return hook

    def is_hooked(self, bot: int) -> bool:
        """Whether it has a webhook that is enabled, and is not shut out."""
        return bot in self._hooks and not self._bots.is_shut_out(bot)

    def forget(self, bot: int) -> None:
        """It has no webhook any more, or none that is enabled."""
        self._hooks.pop(bot, None)
        self._hooked.discard(bot)

    # Settings

    async def put(self, context: Context, command: PutWebhook) -> Webhook:
        """Raises: BotNotFound, WebhookRefused, Unavailable."""
        rules.check_url(
            command.url, allow_private=self._settings.allow_private_webhooks
        )
        bot = await self._bots.owned(context.user, command.id, or_itself=True)
        old = await self._store.webhook(bot.number)
        key = self._vault.unwrap(bot.data_key, bot.id.bytes)
        made: str | None = None
        if command.secret is not UNSET:
            sealed = key.seal(command.secret.encode(), _context(bot))
        elif old is not None:
            sealed = old.secret
        else:
            made = urlsafe_b64encode(self._random(_SECRET_BYTES)).rstrip(b"=").decode()
            sealed = key.seal(made.encode(), _context(bot))
        webhook = WebhookRecord(
            bot=bot.number,
            url=command.url,
            secret=sealed,
            events=tuple(dict.fromkeys(command.events)),
            updated_ms=self._clock.now_ms(),
        )
        await self._store.put_webhook(webhook)
        hook = self._hook(bot.number, bot.id, webhook.events, 0)
        self.on_changed(bot.number)  # at once: nothing more is for the old URL
        hook.pending = pending = await self._store.count(bot.number)
        return _shown(webhook, pending, made)

    async def get(self, context: Context, command: BotCommand) -> Webhook:
        """Raises: BotNotFound, WebhookNotFound, Unavailable."""
        bot = await self._bots.owned(context.user, command.id, or_itself=True)
        webhook = await self._store.webhook(bot.number)
        if webhook is None:
            raise WebhookNotFound
        return _shown(webhook, await self._store.count(bot.number))

    async def delete(self, context: Context, command: BotCommand) -> Done:
        """What waits is dropped. Raises: BotNotFound, Unavailable."""
        bot = await self._bots.owned(context.user, command.id, or_itself=True)
        self.forget(bot.number)
        await self._store.delete_webhook(bot.number)
        return Done()

    # The outbox

    async def take(self, entries: Sequence[Following]) -> None:
        """Keep what webhooks are to be told of these; see `journal.flusher.Feed`."""
        hooked = self._hooked
        if not hooked:
            return
        outgoing: list[OutgoingEvent] = []
        for entry in entries:
            if entry.position <= self._position:
                continue
            if entry.event is not None and entry.members is not None:
                size = len(entry.members)
                self._gather(outgoing, entry, entry.members & hooked, entry.event, size)
            if entry.changes is not None:
                for members, event in entry.changes.told:
                    self._gather(outgoing, entry, members & hooked, event, 0)
        if outgoing:
            await self._append(outgoing, entries[-1].position)

    def _gather(
        self,
        outgoing: list[OutgoingEvent],
        entry: Following,
        bots: BitMap,
        event: Any,
        size: int,
    ) -> None:
        if not bots:
            return
        kind = str(event.__struct_config__.tag)
        data: msgspec.Raw | None = None
        for number in bots:
            hook = self._hooks[number]
            if (
                number == entry.actor
                or self._bots.is_shut_out(number)
                or not rules.is_wanted(hook.events, kind, event, hook.bot_id, size)
            ):
                continue
            data = data or bodies.waiting(event)
            id = rules.event_id(entry.position, number, kind)
            outgoing.append(self._event(number, hook, id, kind, entry.at_ms, data))

    def _event(
        self, bot: int, hook: Hook, id: UUID, kind: str, at_ms: int, data: Any
    ) -> OutgoingEvent:
        payload = Payload(str(id), kind, hook.bot_id, rfc3339(at_ms), data)
        body = bodies.encoded(payload)
        return OutgoingEvent(bot=bot, id=id, type=kind, body=body, created_ms=at_ms)

    async def tell(self, bot: int, kind: str, event: Any) -> bool:
        """Keep an event that is in no log for the bot's webhook; False if it has none
        that wants it. Raises: Unavailable."""
        hook = self._hooks.get(bot)
        if hook is None or kind not in hook.events or not self.is_hooked(bot):
            return False
        at_ms = self._clock.now_ms()
        await self._append(
            [self._event(bot, hook, self._ids.v4(), kind, at_ms, event)], None
        )
        return True

    async def _append(
        self, outgoing: Sequence[OutgoingEvent], position: int | None
    ) -> None:
        if await self._store.append(outgoing, position):
            for event in outgoing:
                hook = self._hooks.get(event.bot)
                if hook is not None:
                    hook.pending += 1
        if position is not None:
            self._position = position
        for bot in dict.fromkeys(event.bot for event in outgoing):
            hook = self._hooks.get(bot)
            if hook is not None and hook.pending > self._settings.webhook_pending_max:
                await self.disable(bot, TOO_FAR_BEHIND)
            elif hook is not None:
                self.on_pending(bot)

    async def shown(self, event: PendingEvent | DeadLetter) -> bytes:
        """The body as it is to be sent now: a message in it is as it is by now, and
        nothing is left of one that nobody sees any more. Raises: Unavailable."""
        body, id = event.body, bodies.message_in(event.type, event.body)
        if id is not None:
            message = await self._conversations.message_now(id)
            if message is not None:
                body = bodies.with_message(event.type, body, message)
        return body.encode()

    # What delivery tells

    def settled(self, event: PendingEvent) -> None:
        """It was delivered or given up."""
        hook = self._hooks.get(event.bot)
        if hook is not None:
            hook.pending = max(0, hook.pending - 1)

    async def disable(self, bot: int, why: str) -> None:
        """Deliver nothing more, and tell the owner. Raises: Unavailable."""
        if await self._store.disable(bot, self._clock.now_ms(), why):
            await self.disabled(bot, why)

    async def disabled(self, bot: int, why: str) -> None:
        """It was disabled: tell the owner's connections."""
        self.forget(bot)
        record = await self._bots.numbered(bot)
        if record is not None:
            at = rfc3339(self._clock.now_ms())
            event = WebhookDisabled(str(record.id), why, at)
            self._hub.deliver_user(record.owner, event)
            self._hub.flush()

    async def target(self, bot: int) -> tuple[str, str] | None:
        """Where to deliver, and the secret to sign with; None if nowhere, or not now.

        Raises: Unavailable; Unreadable, if the secret's master key is not here.
        """
        if not self.is_hooked(bot):
            return None
        webhook = await self._store.webhook(bot)
        record = await self._bots.numbered(bot)
        if webhook is None or record is None or webhook.disabled_ms is not None:
            return None
        key = self._vault.unwrap(record.data_key, record.id.bytes)
        return webhook.url, key.open(webhook.secret, _context(record)).decode()

    def statistics(self) -> dict[str, int]:
        return {
            "webhooks": len(self._hooks),
            "pending": sum(hook.pending for hook in self._hooks.values()),
        }


def _context(bot: BotRecord) -> bytes:
    return b"webhook/" + bot.id.bytes


def _shown(webhook: WebhookRecord, pending: int, secret: str | None = None) -> Webhook:
    disabled_ms, why = webhook.disabled_ms, webhook.disabled_why
    return Webhook(
        url=webhook.url,
        events=webhook.events,
        updated_at=rfc3339(webhook.updated_ms),
        pending=pending,
        secret=UNSET if secret is None else secret,
        disabled_at=UNSET if disabled_ms is None else rfc3339(disabled_ms),
        disabled_why=UNSET if why is None else why,
    )
