"""Owns pressed buttons and their answers: live, in memory, over after a minute.

A press is told to the bot's connections, and to its webhook if that wants it; the
answer to whoever pressed. After a crash the client presses again.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from msgspec import UNSET, Struct

from tchatd.domains.bots.errors import ButtonNotFound, CallbackNotFound
from tchatd.domains.bots.models import (
    CALLBACK_S,
    AnswerCallback,
    ButtonAnswered,
    ButtonPressed,
    Done,
    PressButton,
    Pressed,
)
from tchatd.domains.bots.service import BotService
from tchatd.domains.bots.store import Conversations, Hub
from tchatd.domains.bots.webhooks import Webhooks
from tchatd.kernel.clock import Clock, rfc3339
from tchatd.kernel.ids import Ids
from tchatd.kernel.lru import Lru
from tchatd.kernel.routing import Context

PRESSED = "button.pressed"


class Callback(Struct, frozen=True):
    """bot, presser: user numbers."""

    bot: int
    presser: int
    message_id: str
    expires_ms: int


class Callbacks:
    """callbacks_max: presses that wait for an answer; beyond it the oldest goes."""

    def __init__(
        self,
        bots: BotService,
        webhooks: Webhooks,
        conversations: Conversations,
        hub: Hub,
        clock: Clock,
        ids: Ids,
        callbacks_max: int,
    ) -> None:
        self._bots = bots
        self._webhooks = webhooks
        self._conversations = conversations
        self._hub = hub
        self._clock = clock
        self._ids = ids
        self._open: Lru[UUID, Callback] = Lru(callbacks_max)

    async def press(self, context: Context, command: PressButton) -> Pressed:
        """Raises: ButtonNotFound, Unavailable, and what the message is refused with."""
        user = context.user
        seen = await self._conversations.message(user.user_number, command.message_id)
        if not self._bots.is_bot(seen.sender) or not _has(seen.message, command.data):
            raise ButtonNotFound
        now_ms = self._clock.now_ms()
        expires_ms = now_ms + CALLBACK_S * 1000
        id = self._ids.v4()
        event = ButtonPressed(
            callback_id=str(id),
            dialog_id=seen.dialog_id,
            message_id=seen.id,
            user_id=str(user.user_id),
            data=command.data,
            at=rfc3339(now_ms),
            expires_at=rfc3339(expires_ms),
        )
        callback = Callback(seen.sender, user.user_number, seen.id, expires_ms)
        self._open.put(id, callback)
        self._hub.deliver_user(seen.sender, event)
        self._hub.flush()
        await self._webhooks.tell(seen.sender, PRESSED, event)
        return Pressed(event.callback_id, event.expires_at)

    def answer(self, context: Context, command: AnswerCallback) -> Done:
        """Once, by the bot whose button it was. Raises: CallbackNotFound, and what the
        bots' `check_said` does."""
        callback = self._open.peek(command.callback_id)
        if callback is None or callback.bot != context.user.user_number:
            raise CallbackNotFound
        if command.text:
            self._bots.check_said(callback.bot, command.text)
        self._open.pop(command.callback_id)
        if callback.expires_ms <= self._clock.now_ms():
            raise CallbackNotFound
        event = ButtonAnswered(
            callback_id=str(command.callback_id),
            message_id=callback.message_id,
            text=command.text,
            alert=command.alert,
            url=command.url,
        )
        self._hub.deliver_user(callback.presser, event)
        self._hub.flush()
        return Done()


def _has(message: Any, data: str) -> bool:
    """Whether one of the message's buttons says so."""
    if message.buttons is UNSET:
        return False
    return any(button.data == data for row in message.buttons for button in row)
