"""Owns what other domains see of messaging, as a member does, and do there."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from tchatd.domains.bots.models import SeenMessage
from tchatd.domains.messaging.access import ATTEMPTS_MAX, DialogAccess
from tchatd.domains.messaging.dialog import DialogState
from tchatd.domains.messaging.errors import DialogNotFound, MessageNotFound
from tchatd.domains.messaging.identifiers import message_address
from tchatd.domains.messaging.message_state import MessageState, as_of
from tchatd.domains.messaging.models import Message
from tchatd.domains.messaging.records import DeleteRecord
from tchatd.domains.messaging.rules import check_room
from tchatd.domains.messaging.state import MessagingState
from tchatd.domains.messaging.store import TYPES, CommandLog
from tchatd.domains.moderation import models as reported
from tchatd.kernel.clock import Clock
from tchatd.kernel.errors import Unavailable

_NOBODY: Final = bytes(16)


class Conversations:
    """The port of bots and of moderation."""

    def __init__(self, state: MessagingState, log: CommandLog, clock: Clock) -> None:
        self._state = state
        self._log = log
        self._clock = clock
        self._access = DialogAccess(state, log)

    async def message(self, user_number: int, id: UUID) -> SeenMessage:
        """Raises: MessageNotFound, also of one that is deleted, for everyone or for the
        user, or whose time is over; Unavailable."""
        dialog, state = await self._find(user_number, id)
        return SeenMessage(
            id=state.id,
            dialog_id=dialog.id,
            dialog_number=dialog.number,
            sender=state.sender,
            sender_id=UUID(bytes=state.sender_id),
            message=dialog.message_of(state),
        )

    async def message_now(self, id: UUID) -> Message | None:
        """The message for who was told of it, whether or not they are still in its
        dialog; None if that is no more, or there is no such message.

        Raises: Unavailable.
        """
        address = message_address(id)
        if address is None:
            return None
        number, seq = address
        for _ in range(ATTEMPTS_MAX):
            dialog = self._state.find_number(number)
            state = None if dialog is None else dialog.message_state(seq)
            if dialog is not None and state is not None:
                if state.id != str(id) or dialog.is_dropped:
                    return None
                await self._log.durable(state.position)
                return dialog.message_of(state)
            await self._log.load(numbers=(number,), messages=((number, seq),))
            dialog = self._state.find_number(number)
            if dialog is None or dialog.message_state(seq) is None:
                return None
        raise Unavailable("Too much is being loaded.")

    async def seen_message(self, user_number: int, id: UUID) -> reported.SeenMessage:
        """Raises: as `message`."""
        dialog, state = await self._find(user_number, id)
        return reported.SeenMessage(
            UUID(dialog.id), state.sender, dialog.message_of(state)
        )

    async def seen_dialog(self, user_number: int, id: str) -> reported.SeenDialog:
        """Raises: Invalid, DialogNotFound, Unavailable."""
        dialog = await self._access.open(user_number, id)
        summary = {
            "id": dialog.id,
            "type": TYPES[dialog.type],
            "name": dialog.name,
            "avatar": dialog.avatar,
            "description": dialog.settings.description,
            "member_count": len(dialog.members),
        }
        return reported.SeenDialog(UUID(dialog.id), dialog.creator, summary)

    async def remove_message(self, id: UUID, reason: str) -> None:
        """Delete it for everyone, by nobody; returns once that is durable.

        Raises: MessageNotFound, also of one that is deleted; DialogFull; Unavailable.
        """
        address = message_address(id)
        if address is None:
            raise MessageNotFound
        number, seq = address
        wanted = [(number, seq)]
        for _ in range(ATTEMPTS_MAX):
            await self._log.load(numbers=(number,), messages=wanted)
            dialog = self._state.find_number(number)
            state = None if dialog is None else dialog.message_state(seq)
            if dialog is None or state is None:
                raise MessageNotFound
            if state.id != str(id) or state.is_deleted or dialog.is_dropped:
                raise MessageNotFound
            thread_seq = state.thread_seq
            if thread_seq and dialog.message_state(thread_seq) is None:
                wanted = [(number, seq), (number, thread_seq)]
                continue
            check_room(dialog)
            at_ms = max(self._clock.now_ms(), dialog.active_ms)
            self._log.submit(
                DeleteRecord(number, at_ms, 0, _NOBODY, seq, thread_seq, reason)
            )
            await self._log.durable(self._log.applied_position)
            return
        raise Unavailable("Too much is being loaded.")

    async def _find(self, user: int, id: UUID) -> tuple[DialogState, MessageState]:
        address = message_address(id)
        if address is None:
            raise MessageNotFound
        number, seq = address
        for _ in range(ATTEMPTS_MAX):
            try:
                dialog = await self._access.open_number(user, number)
            except DialogNotFound:
                raise MessageNotFound from None
            if seq > dialog.last_seq:
                raise MessageNotFound
            state = dialog.message_state(seq)
            if state is not None:
                is_gone = as_of(state, dialog.now_ms()).is_deleted
                hides = dialog.by_number[user].extra.hides
                if state.id != str(id) or is_gone or hides(seq):
                    raise MessageNotFound
                await self._log.durable(state.position)
                return dialog, state
            if dialog.entry_at(seq) is not None:
                raise MessageNotFound
            await self._log.load(messages=((number, seq),))
            again = self._access.find_number(user, number)
            if again is not None and again.message_state(seq) is None:
                raise MessageNotFound
        raise Unavailable("Too much is being loaded.")
