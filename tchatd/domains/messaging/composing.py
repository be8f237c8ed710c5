"""Owns what a message carries beside its content: mentions, thread, buttons, origin.

Most messages carry nothing of it, and are sent without asking anything here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from msgspec import UNSET, Struct

from tchatd.domains.messaging import rules
from tchatd.domains.messaging.content import Buttons, Forward
from tchatd.domains.messaging.dialog import DialogState
from tchatd.domains.messaging.errors import (
    ForeignReply,
    MessageGone,
    MessageNotFound,
    NoThreadHere,
    OnlyBots,
)
from tchatd.domains.messaging.identifiers import message_address
from tchatd.domains.messaging.member import Member
from tchatd.domains.messaging.message_access import Missing
from tchatd.domains.messaging.message_state import as_of
from tchatd.domains.messaging.models import SendMessage
from tchatd.domains.messaging.store import Bots


class Beside(Struct, frozen=True, gc=False):
    """The last fields of a MessageRecord."""

    mentions: tuple[str, ...] = ()
    mention_numbers: tuple[int, ...] = ()
    thread_seq: int = 0
    forward: Forward | None = None
    buttons: Buttons | None = None


class Nobody:
    """Where there are no bots: a test, a tool."""

    def is_bot(self, user_number: int) -> bool:
        return False


NOTHING: Final = Beside()


def says_more(command: SendMessage) -> bool:
    """Whether it has to be looked at before it can be sent."""
    return bool(
        command.mentions or command.reply_to_id or command.thread_id or command.buttons
    )


def beside(
    command: SendMessage,
    dialog: DialogState,
    user: int,
    numbers: Mapping[UUID, int],
    origin: Forward | None,
    bots: Bots,
) -> Beside | Missing:
    """What this message has, or what must be in memory to know. numbers: of users.

    Raises:
        InvalidMention, OnlyBots, InvalidContent (of buttons), and of the thread:
        ForeignReply, MessageNotFound, MessageGone, NoThreadHere
    """
    buttons: Any = command.buttons or None
    if buttons is not None and not bots.is_bot(user):
        raise OnlyBots
    rules.check_buttons(command.buttons)
    mentions = () if command.mentions is UNSET else command.mentions
    texts, mentioned = rules.mentioned(dialog, mentions, numbers)
    missing = tuple(n for n in mentioned if dialog.member(n) is None)
    if missing:
        return Missing(members=missing)
    thread_seq = 0
    if command.thread_id:
        member = dialog.by_number[user]
        thread_seq = _seq_in(dialog, command.thread_id)
        if not _check_root(dialog, member, command.thread_id, thread_seq):
            return Missing(seqs=(thread_seq,))
    return Beside(texts, mentioned, thread_seq, origin, buttons)


def no_thread() -> MessageNotFound:
    """There is no message whose thread it could be in."""
    return MessageNotFound(fields={"thread_id": "is no message"})


def _seq_in(dialog: DialogState, thread_id: UUID) -> int:
    """Raises ForeignReply, MessageNotFound."""
    address = message_address(thread_id)
    if address is None:
        raise no_thread()
    if address[0] != dialog.number:
        raise ForeignReply(fields={"thread_id": "is not of this dialog"})
    return address[1]


def _check_root(dialog: DialogState, member: Member, id: UUID, seq: int) -> bool:
    """Whether the message whose thread it is is in memory.

    Raises:
        MessageNotFound, MessageGone, NoThreadHere
    """
    state = dialog.message_state(seq)
    if state is None:
        if seq >= dialog.tail_first_seq:
            raise no_thread()
        return False
    state = as_of(state, dialog.now_ms())
    if state.id != str(id) or member.extra.hides(seq):
        raise no_thread()
    if state.is_deleted:
        raise MessageGone(fields={"thread_id": "is deleted"})
    if state.thread_seq:
        raise NoThreadHere(fields={"thread_id": "is in a thread itself"})
    return True
