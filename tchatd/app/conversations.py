"""Owns what other domains see of messaging: a message, a dialog, as a member does."""

from __future__ import annotations

from uuid import UUID

from tchatd.domains.bots.models import SeenMessage
from tchatd.domains.messaging.access import ATTEMPTS_MAX, DialogAccess
from tchatd.domains.messaging.dialog import DialogState
from tchatd.domains.messaging.errors import DialogNotFound, MessageNotFound
from tchatd.domains.messaging.identifiers import message_address
from tchatd.domains.messaging.message_state import MessageState
from tchatd.domains.messaging.state import MessagingState
from tchatd.domains.messaging.store import CommandLog
from tchatd.kernel.errors import Unavailable


class Conversations:
    """A `Conversations` of bots."""

    def __init__(self, state: MessagingState, log: CommandLog) -> None:
        self._log = log
        self._access = DialogAccess(state, log)

    async def message(self, user_number: int, id: UUID) -> SeenMessage:
        """Raises: MessageNotFound, also of one that is deleted; Unavailable."""
        dialog, state = await self._find(user_number, id)
        return SeenMessage(
            id=state.id,
            dialog_id=dialog.id,
            dialog_number=dialog.number,
            sender=state.sender,
            sender_id=UUID(bytes=state.sender_id),
            message=dialog.message_of(state),
        )

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
                if state.id != str(id) or state.is_deleted:
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
