"""Owns records made by hand, and a state that they are applied to one after another."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from tchatd.domains.messaging import records as r
from tchatd.domains.messaging.dialog import DialogState
from tchatd.domains.messaging.entry import Entry
from tchatd.domains.messaging.member import Member
from tchatd.domains.messaging.message_state import MessageState
from tchatd.domains.messaging.state import MessagingState, StateLimits
from tchatd.domains.messaging.store import Wants
from tchatd.kernel.bitmaps import BitMap
from tests.support.messaging import user_id

AT_MS = 1_800_000_000_000


class Applied:
    """A state over no store at all: what is forgotten is gone."""

    def __init__(self, **limits: int) -> None:
        self.state = MessagingState(StateLimits(**limits))
        self.position = 0
        self.entries: list[Entry] = []

    def __call__(self, record: r.Record) -> Entry:
        """As if replayed: what the record says is what the journal keeps of it."""
        self.position += 1
        entry = self.state.apply(r.decode(r.encode(record)), self.position)
        self.entries.append(entry)
        return entry

    def flush(self, count: int | None = None) -> None:
        count = len(self.entries) if count is None else count
        self.state.flushed(self.entries[:count])
        del self.entries[:count]

    def dialog(self, number: int = 1) -> DialogState:
        dialog = self.state.find_number(number)
        assert dialog is not None
        return dialog

    def member(self, user: int, number: int = 1) -> Member:
        member = self.dialog(number).member(user)
        assert member is not None
        return member

    def message(self, seq: int, number: int = 1) -> MessageState:
        state = self.dialog(number).message_state(seq)
        assert state is not None
        return state

    def missing(self, *records: r.Record) -> Wants:
        return self.state.missing(enumerate(records, self.position + 1))


def ids_of(users: Iterable[int]) -> bytes:
    """16 bytes each, of the first 100."""
    return b"".join(user_id(number).bytes for number in sorted(users)[:100])


def dialog_of(*users: int, type: str = "group", **fields: Any) -> r.DialogRecord:
    """Created by the first of them."""
    return r.DialogRecord(
        dialog_id=random.randbytes(16),
        at_ms=AT_MS,
        type=type,
        creator=users[0],
        creator_id=user_id(users[0]).bytes,
        members=BitMap(users).serialize(),
        participants=ids_of(users),
        name="Lunch",
        **fields,
    )


def message(
    number: int, user: int, client_id: bytes | None = None, **fields: Any
) -> r.MessageRecord:
    id = user_id(user).bytes
    values = {"type": "text", "content": {"text": "x"}, "client_id": client_id}
    return r.MessageRecord(number, AT_MS + 5, user, id, **(values | fields))


def poll(number: int, user: int, **fields: Any) -> r.MessageRecord:
    content = {"question": "Where?", "options": ["a", "b", "c"], **fields}
    return message(number, user, type="poll", content=content)


def read(number: int, user: int, seq: int, ordinal: int) -> r.ReadRecord:
    id = user_id(user).bytes
    return r.ReadRecord(number, AT_MS + 9, user, id, seq, ordinal, "m")


def edit(
    number: int, user: int, seq: int, words: str = "y", **fields: Any
) -> r.EditRecord:
    content = {"text": words}
    return r.EditRecord(*_by(number, user), seq, **({"content": content} | fields))


def delete(number: int, user: int, seq: int, **fields: Any) -> r.DeleteRecord:
    return r.DeleteRecord(*_by(number, user), seq, **fields)


def react(
    number: int, user: int, seq: int, emoji: str = "👍", *, is_added: bool = True
) -> r.ReactRecord:
    return r.ReactRecord(*_by(number, user), seq, emoji, is_added)


def pin(number: int, user: int, seq: int, *, is_pinned: bool = True) -> r.PinRecord:
    return r.PinRecord(*_by(number, user), seq, is_pinned)


def vote(
    number: int, user: int, seq: int, *options: int, closes: bool = False
) -> r.VoteRecord:
    return r.VoteRecord(*_by(number, user), seq, options, closes)


def add(apply: Applied, number: int, actor: int, *users: int, role: int = 0) -> Entry:
    members = apply.dialog(number).members | BitMap(users)
    return apply(
        r.AddRecord(
            *_by(number, actor),
            BitMap(users).serialize(),
            ids_of(users),
            ids_of(members),
            role,
        )
    )


def remove(
    apply: Applied, number: int, actor: int, user: int, reason: str = "left"
) -> Entry:
    members = apply.dialog(number).members - BitMap((user,))
    id = user_id(user).bytes
    by = _by(number, actor)
    return apply(r.RemoveRecord(*by, user, id, reason, ids_of(members)))


def role(
    number: int, actor: int, user: int, role: int, *, hands_over: bool = False
) -> r.RoleRecord:
    id = user_id(user).bytes
    return r.RoleRecord(*_by(number, actor), user, id, role, hands_over)


def profile(
    number: int,
    actor: int,
    name: str | None = None,
    settings: bytes | None = None,
) -> r.ProfileRecord:
    return r.ProfileRecord(*_by(number, actor), name, None, settings)


def drop(number: int, actor: int) -> r.DropRecord:
    return r.DropRecord(*_by(number, actor))


def own(number: int, actor: int, extra: bytes | None = None, *read: int) -> r.OwnRecord:
    return r.OwnRecord(*_by(number, actor), extra, *read)


def deliver(number: int, actor: int, seq: int) -> r.DeliverRecord:
    return r.DeliverRecord(*_by(number, actor), seq)


def restrict(number: int, actor: int, user: int, until_ms: int) -> r.RestrictRecord:
    id = user_id(user).bytes
    return r.RestrictRecord(*_by(number, actor), user, id, until_ms)


def ban(number: int, actor: int, *users: int) -> r.BanRecord:
    return r.BanRecord(*_by(number, actor), BitMap(users).serialize())


def _by(number: int, user: int) -> tuple[int, int, int, bytes]:
    return number, AT_MS + 7, user, user_id(user).bytes
