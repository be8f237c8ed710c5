"""Owns finding a message for one of the members of its dialog, and deciding about it.

Whoever is not in the dialog, and who has deleted the message for themselves, is told
that there is none. A command is decided on what memory has (`decide`): what is missing
is loaded and looked at again, and between the last look and the record there is no
await. Who only reads (`look`) leaves nothing behind in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from msgspec import Struct

from tchatd.domains.messaging.access import ATTEMPTS_MAX, DialogAccess
from tchatd.domains.messaging.dialog import DialogState
from tchatd.domains.messaging.errors import DialogNotFound, MessageNotFound
from tchatd.domains.messaging.identifiers import message_address, message_id
from tchatd.domains.messaging.member import Member
from tchatd.domains.messaging.message_state import MessageState, as_of, state_of_row
from tchatd.domains.messaging.models import Message
from tchatd.domains.messaging.reach import Blocks, may_reach
from tchatd.domains.messaging.store import (
    MESSAGE_NEW,
    CommandLog,
    DialogStore,
    EventRow,
)
from tchatd.kernel.errors import Unavailable


class Target(Struct, gc=False):
    """A message as it is now, its dialog, and the member who asks; good until the next
    await."""

    dialog: DialogState
    member: Member
    state: MessageState

    @property
    def message(self) -> Message:
        """As the member sees it, with who has read it."""
        message = self.dialog.message_of(self.state)
        return self.dialog.with_readers(message, self.member)


class Missing(Struct, frozen=True):
    """Answered by who decides: these have to be in memory first, of the same dialog.

    members: user numbers. seqs: of messages.
    """

    members: tuple[int, ...] = ()
    seqs: tuple[int, ...] = ()


Decide = Callable[[Target], Any]


class MessageAccess:
    """sees_hidden: whether what the member has deleted for themselves is found, too."""

    def __init__(
        self,
        log: CommandLog,
        store: DialogStore,
        access: DialogAccess,
        blocks: Blocks,
    ) -> None:
        self._log = log
        self._store = store
        self._access = access
        self._blocks = blocks

    def decide(
        self,
        user: int,
        id: UUID,
        decide: Decide,
        *,
        sees_hidden: bool = False,
        reaches: bool = False,
    ) -> Any:
        """What `decide` answers about the message; awaitable if it must be loaded.

        reaches: it comes to the others as something new, so that in a dialog of two
        it is refused to whom the other blocks.

        Raises:
            MessageNotFound: there is none, or it is not the user's to see.
            NotAllowed: of who is blocked.
        """
        target = self.find(user, id, sees_hidden=sees_hidden)
        if target is not None and (
            not reaches or may_reach(self._blocks, target.dialog, user)
        ):
            answer = decide(target)
            if type(answer) is not Missing:
                return answer
        return self.decide_later(
            user, id, decide, sees_hidden=sees_hidden, reaches=reaches
        )

    async def decide_later(
        self,
        user: int,
        id: UUID,
        decide: Decide,
        *,
        sees_hidden: bool = False,
        reaches: bool = False,
    ) -> Any:
        """As `decide`, loading what is missing.

        Raises:
            MessageNotFound, NotAllowed
            Unavailable: the store is away, or too much is being loaded.
        """
        for _ in range(ATTEMPTS_MAX):
            target = await self.open(user, id, sees_hidden=sees_hidden)
            number = target.dialog.number
            if reaches and not may_reach(self._blocks, target.dialog, user):
                await self._blocks.load(list(target.dialog.members))
                continue
            answer = decide(target)
            if type(answer) is not Missing:
                return answer
            await self._log.load(
                members=[(number, n) for n in answer.members],
                messages=[(number, seq) for seq in answer.seqs],
            )
        raise Unavailable("Too much is being loaded.")

    def find(self, user: int, id: UUID, *, sees_hidden: bool = False) -> Target | None:
        """None if something has to be loaded. Raises MessageNotFound."""
        number, seq = address_of(id)
        try:
            dialog = self._access.find_number(user, number)
        except DialogNotFound:
            raise MessageNotFound from None
        if dialog is None:
            return None
        state = dialog.message_state(seq)
        if state is None:
            if seq >= dialog.tail_first_seq:
                raise MessageNotFound
            return None
        return _target(dialog, user, state, id, sees_hidden=sees_hidden)

    async def open(self, user: int, id: UUID, *, sees_hidden: bool = False) -> Target:
        """As `find`, with the message in the state, until the next await.

        Raises:
            MessageNotFound
            Unavailable: the store is away, or too much is being loaded.
        """
        number, seq = address_of(id)
        for attempt in range(ATTEMPTS_MAX):
            await self._open_dialog(user, number)
            target = self.find(user, id, sees_hidden=sees_hidden)
            if target is not None:
                return target
            if attempt:  # it was loaded and is not there: is it a message at all?
                await self._row(number, seq, id)
            await self._log.load(messages=((number, seq),))
        target = self.find(user, id, sees_hidden=sees_hidden)
        if target is not None:
            return target
        raise Unavailable("Too much is being loaded.")

    async def look(self, user: int, id: UUID, *, sees_hidden: bool = False) -> Target:
        """As `open`, for who only reads: nothing is kept in memory.

        Raises:
            MessageNotFound, Unavailable
        """
        number, seq = address_of(id)
        await self._open_dialog(user, number)
        target = self.find(user, id, sees_hidden=sees_hidden)
        if target is not None:
            return target
        with self._log.pinned(number):
            row = await self._row(number, seq, id)
            dialog = await self._open_dialog(user, number)
            state = dialog.message_state(seq) or state_of_row(row)
            return _target(dialog, user, state, id, sees_hidden=sees_hidden)

    async def _open_dialog(self, user: int, number: int) -> DialogState:
        try:
            return await self._access.open_number(user, number)
        except DialogNotFound:
            raise MessageNotFound from None

    async def _row(self, number: int, seq: int, id: UUID) -> EventRow:
        """Raises MessageNotFound: the store has no such message."""
        rows = await self._store.events(number, seq - 1, seq, 1)
        if (
            not rows
            or rows[0].kind != MESSAGE_NEW
            or message_id(rows[0].at_ms, number, seq) != str(id)
        ):
            raise MessageNotFound
        return rows[0]


def address_of(id: UUID) -> tuple[int, int]:
    """(dialog number, seq). Raises MessageNotFound: no message has such an id."""
    address = message_address(id)
    if address is None:
        raise MessageNotFound
    return address


def _target(
    dialog: DialogState,
    user: int,
    state: MessageState,
    id: UUID,
    *,
    sees_hidden: bool,
) -> Target:
    member = dialog.by_number[user]
    if state.id != str(id):
        raise MessageNotFound
    if not sees_hidden and member.extra.hides(state.seq):
        raise MessageNotFound
    return Target(dialog, member, as_of(state, dialog.now_ms()))
