"""Owns what is true: accepted commands, folded into dicts as plainly as can be.

It knows nothing of how the daemon keeps or tells it. People are their numbers, messages
their seqs, reactions (emoji, person). What a command does is what CONTRACT says of it;
whether it was accepted is what the daemon decided.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from msgspec import UNSET

from tchatd.domains.messaging import member_models, message_commands, models
from tchatd.domains.messaging.identifiers import message_address
from tests.support.messaging import user_id

Taken = tuple[int, Any, int, str, str, str]
"""An accepted command: who, the command, the dialog's number and id, what was journaled
of it (by the record's name): clearing a dialog is reading and hiding; and the text of a
message: a forward takes one along that its source had at some time."""


class Saying:
    """A message."""

    def __init__(self, sender: int, text: str) -> None:
        self.sender = sender
        self.text = text
        self.texts = {text}
        self.origin = 0
        self.mentions: list[int] = []
        self.reply_to = 0
        self.thread = 0
        self.is_edited = False
        self.is_deleted = False
        self.reactions: list[tuple[str, int]] = []
        self.options = 0
        self.votes: dict[int, tuple[int, ...]] = {}
        self.is_closed = False


class Being:
    """Somebody in a dialog."""

    def __init__(self, role: str = "member", read: int = 0) -> None:
        self.role: str = role
        self.read = read
        self.is_pinned = False
        self.is_archived = False
        self.draft = ""
        self.hidden: set[int] = set()
        self.cleared = 0
        self.is_silenced = False


class Talk:
    """A dialog. gone: who was in it; what they have hidden stays hidden."""

    def __init__(self, id: str, type: str, name: str) -> None:
        self.id = id
        self.type = type
        self.name = name
        self.slow_mode_s = 0
        self.last = 1
        self.active = 0
        self.people: dict[int, Being] = {}
        self.gone: dict[int, Being] = {}
        self.says: dict[int, Saying] = {}
        self.pins: list[int] = []

    def next(self) -> int:
        self.last += 1
        return self.last

    def hides(self, user: int, seq: int) -> bool:
        me = self.people[user]
        return seq <= me.cleared or seq in me.hidden

    def unread(self, user: int) -> list[int]:
        me = self.people[user]
        return [
            seq
            for seq, said in self.says.items()
            if seq > me.read and not said.is_deleted and not self.hides(user, seq)
        ]

    def newest(self, user: int) -> int:
        """The last message that they see, 0 for none."""
        return max((seq for seq in self.says if not self.hides(user, seq)), default=0)

    def readers(self, seq: int) -> list[int]:
        """Who has read it, but for the sender; nobody tells it of a crowd."""
        if len(self.people) > 100:
            return []
        sender = self.says[seq].sender
        return sorted(
            u for u, b in self.people.items() if b.read >= seq and u != sender
        )

    def mentions(self, user: int) -> list[int]:
        return [seq for seq in self.unread(user) if user in self.says[seq].mentions]

    def thread(self, root: int) -> tuple[int, int, tuple[int, ...]] | None:
        """How many, the last seq, the first ten who wrote in it."""
        below = [(seq, said) for seq, said in self.says.items() if said.thread == root]
        if not below:
            return None
        people = list(dict.fromkeys(said.sender for _, said in below))
        count = sum(not said.is_deleted for _, said in below)
        return count, below[-1][0], tuple(people[:10])


class Truth:
    def __init__(self, taken: Sequence[Taken] = ()) -> None:
        self.taken: list[Taken] = []
        self.talks: dict[int, Talk] = {}
        self.said: dict[tuple[int, int], Saying] = {}  # also of what is dropped
        for one in taken:
            self.take(one)

    def take(self, one: Taken) -> None:
        self.taken.append(one)
        user, command, number, id, record, text = one
        if isinstance(command, models.CreateDialog):
            self.talks[number] = _created(user, command, id)
        elif record == "ReadRecord":
            talk = self.talks[number]
            seq = _seq(getattr(command, "message_id", None)) or max(talk.says)
            talk.people[user].read = seq
            if len(talk.people) <= 100:
                talk.next()
        elif record == "DropRecord":
            del self.talks[number]
        elif record == "RestrictRecord":  # an admin is silenced no more
            other = self.talks[number].people[person(command.user_id)]
            other.is_silenced = bool(command.silenced_until)
        else:
            _FOLD[type(command)](self.talks[number], user, command)
        if record in ("DialogRecord", "MessageRecord"):
            self.talks[number].active = len(self.taken)
        if record == "MessageRecord":
            talk = self.talks[number]
            said = self.said[number, talk.last] = talk.says[talk.last]
            if isinstance(command, message_commands.ForwardMessage):
                address = message_address(command.message_id)
                assert address is not None
                source = self.said[address]
                assert text in source.texts
                said.text, said.texts = text, {text}
                said.origin = source.origin or source.sender

    def listed(self, user: int) -> list[Talk]:
        """As they are listed: where somebody wrote last comes first."""
        return sorted(self.of(user).values(), key=lambda t: t.active, reverse=True)

    def of(self, user: int) -> dict[str, Talk]:
        return {t.id: t for t in self.talks.values() if user in t.people}


@lru_cache(1_000)
def person(id: str | UUID) -> int:
    return UUID(str(id)).int - user_id(0).int


def _seq(id: UUID | None) -> int:
    address = message_address(id) if id is not None else None
    return address[1] if address else 0


def _created(user: int, command: models.CreateDialog, id: str) -> Talk:
    talk = Talk(id, command.type, command.name or "")
    for one in {user, *map(person, command.participants)}:
        talk.people[one] = Being()
    if command.type != "user":
        talk.people[user].role = "owner"
    return talk


def _send(talk: Talk, user: int, command: models.SendMessage) -> None:
    seq = talk.next()
    content = command.content
    said = talk.says[seq] = Saying(user, content.get("text") or content["question"])
    said.options = len(content.get("options", ()))
    said.mentions = [person(id) for id in command.mentions or ()]
    said.reply_to = _seq(command.reply_to_id or None)
    said.thread = _seq(command.thread_id or None)
    talk.people[user].read = seq


def _forward(talk: Talk, user: int, command: message_commands.ForwardMessage) -> None:
    seq = talk.next()
    talk.says[seq] = Saying(user, "")
    talk.people[user].read = seq


def _edit(talk: Talk, user: int, command: message_commands.EditMessage) -> None:
    talk.next()
    said = talk.says[_seq(command.message_id)]
    said.text, said.is_edited = command.content["text"], True
    said.texts.add(said.text)
    if command.mentions is not UNSET:
        said.mentions = [person(id) for id in command.mentions]


def _delete(talk: Talk, user: int, command: message_commands.DeleteMessage) -> None:
    seq = _seq(command.message_id)
    if command.for_ == "me":
        talk.people[user].hidden.add(seq)
        return
    talk.next()
    said = talk.says[seq]
    said.is_deleted, said.text, said.mentions, said.reactions = True, "", [], []
    said.options, said.is_edited = 0, False
    talk.pins = [pin for pin in talk.pins if pin != seq]


def _clear(talk: Talk, user: int, command: Any) -> None:
    me = talk.people[user]
    me.cleared, me.hidden = talk.last, set()


def _react(talk: Talk, user: int, command: message_commands.React) -> None:
    talk.next()
    talk.says[_seq(command.message_id)].reactions.append((command.emoji, user))


def _unreact(talk: Talk, user: int, command: message_commands.Unreact) -> None:
    talk.next()
    talk.says[_seq(command.message_id)].reactions.remove((command.emoji, user))


def _pin(talk: Talk, user: int, command: message_commands.PinMessage) -> None:
    talk.next()
    talk.pins.append(_seq(command.message_id))


def _unpin(talk: Talk, user: int, command: message_commands.UnpinMessage) -> None:
    talk.next()
    talk.pins.remove(_seq(command.message_id))


def _vote(talk: Talk, user: int, command: message_commands.Vote) -> None:
    talk.next()
    votes = talk.says[_seq(command.message_id)].votes
    votes.pop(user, None)
    if command.options:
        votes[user] = tuple(command.options)


def _close(talk: Talk, user: int, command: message_commands.ClosePoll) -> None:
    talk.next()
    talk.says[_seq(command.message_id)].is_closed = True


def _add(talk: Talk, user: int, command: member_models.AddMembers) -> None:
    seq = talk.next()
    for one in map(person, command.user_ids):
        if one not in talk.people:
            me = talk.people[one] = Being(command.role, seq)
            before = talk.gone.get(one, me)
            me.hidden, me.cleared = before.hidden, before.cleared
            me.is_silenced = before.is_silenced


def _change(talk: Talk, user: int, command: member_models.ChangeMember) -> None:
    talk.next()
    if command.role == "owner" and command.hands_over:
        talk.people[user].role = "admin"
    assert command.role is not UNSET
    talk.people[person(command.user_id)].role = command.role


def _remove(talk: Talk, user: int, command: Any) -> None:
    talk.next()
    other = person(command.user_id)
    if other in talk.people:  # who is banned may have gone before
        talk.gone[other] = talk.people.pop(other)


def _unban(talk: Talk, user: int, command: member_models.EndBan) -> None:
    talk.next()


def _change_dialog(talk: Talk, user: int, command: member_models.ChangeDialog) -> None:
    talk.next()
    if command.name is not UNSET:
        talk.name = command.name
    if command.settings is not UNSET and command.settings.slow_mode_s is not UNSET:
        talk.slow_mode_s = command.settings.slow_mode_s


def _change_own(talk: Talk, user: int, command: member_models.ChangeOwn) -> None:
    me = talk.people[user]
    if command.is_pinned is not UNSET:
        me.is_pinned = command.is_pinned
    if command.is_archived is not UNSET:
        me.is_archived = command.is_archived


def _draft(talk: Talk, user: int, command: member_models.SaveDraft) -> None:
    talk.people[user].draft = command.text


def _nothing(talk: Talk, user: int, command: Any) -> None:
    """What has been delivered is told live only."""


_FOLD: Final[dict[type, Callable[[Talk, int, Any], None]]] = {
    models.SendMessage: _send,
    message_commands.ForwardMessage: _forward,
    message_commands.EditMessage: _edit,
    message_commands.DeleteMessage: _delete,
    message_commands.ClearDialog: _clear,
    message_commands.React: _react,
    message_commands.Unreact: _unreact,
    message_commands.PinMessage: _pin,
    message_commands.UnpinMessage: _unpin,
    message_commands.Vote: _vote,
    message_commands.ClosePoll: _close,
    message_commands.DeliverMessages: _nothing,
    member_models.AddMembers: _add,
    member_models.ChangeMember: _change,
    member_models.RemoveMember: _remove,
    member_models.BanUser: _remove,
    member_models.EndBan: _unban,
    member_models.ChangeDialog: _change_dialog,
    member_models.DropDialog: _clear,
    member_models.ChangeOwn: _change_own,
    member_models.SaveDraft: _draft,
}
