"""Owns random histories of messaging, and the truth that they are held against."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias
from uuid import UUID

from tchatd.domains.messaging.events import OwnState
from tchatd.domains.messaging.identifiers import (
    keyed_dialog_id,
    user_dialog_id,
    uuid_text,
)
from tchatd.domains.messaging.models import (
    Dialog,
    GetDialog,
    ListDialogs,
    ListEvents,
    Message,
    ReadMessages,
    ReadState,
)
from tchatd.domains.messaging.state import StateLimits
from tchatd.kernel.deferred import Deferred
from tests.support.messaging import (
    Core,
    client_id,
    group_of,
    loading,
    shape,
    text,
    user_id,
    with_user,
)

Taken: TypeAlias = tuple[str, str, int, Any]
"""An accepted command: op of its event, dialog, who asked, and what for."""


class Truth:
    """What accepted commands make of dialogs, folded from nothing but the list of them.

    reads: up to which seq a member has read. sent: seq and position by dialog, sender
    and client_id. changed: position of a dialog's latest command.
    """

    def __init__(self, taken: Sequence[Taken] = ()) -> None:
        self.taken: list[Taken] = []
        self.members: dict[str, tuple[int, ...]] = {}
        self.logs: dict[str, list[tuple[str, int, Any]]] = {}
        self.reads: dict[tuple[str, int], int] = {}
        self.sent: dict[tuple[str, int, UUID], tuple[int, int]] = {}
        self.changed: dict[str, int] = {}
        for command in taken:
            self.take(command)

    def take(self, command: Taken) -> None:
        self.taken.append(command)
        op, id, user, detail = command
        position = self.changed[id] = len(self.taken)
        log = self.logs.setdefault(id, [])
        if op == "dialog.created":
            self.members[id] = detail
            log.append((op, 0, None))  # the event does not say who
        elif op == "message.new":
            log.append((op, user, detail[0]))
            self.sent[id, user, detail[1]] = len(log), position
            self.reads[id, user] = len(log)
        else:
            self.reads[id, user] = detail
            if len(self.members[id]) <= 100:
                log.append((op, user, detail))

    def unread(self, id: str, user: int) -> int:
        read = self.reads.get((id, user), 0)
        return sum(op == "message.new" for op, _, _ in self.logs[id][read:])


class History:
    """Commands at random to a core and to the truth, whose answers are compared.

    Nobody waits for an answer: the disk is behind by as much as it happens to be, and
    what it lacks at a crash never was. `ids` are of messages somebody was told of.
    """

    def __init__(self, seed: int) -> None:
        self.choose = random.Random(seed)
        self.limits = StateLimits(dialogs_max=2, tail_max=2, client_ids_max=2)
        self.core = Core(seed=seed, limits=self.limits, auto=False)
        self.truth = Truth()
        self.ids: dict[tuple[str, int], UUID] = {}
        self.answered = 0

    async def ask(
        self, answer: Any, position: int, check: Callable[[Any], None]
    ) -> None:
        """Check the answer when there is one; the command is decided on return.

        position: of the latest record that the answer shows.
        """

        def told(answer: Any) -> None:
            assert self.core.journal.durable_position >= position
            self.answered += 1
            check(getattr(answer, "body", answer))

        if isinstance(answer, Awaitable):
            answer = await answer
        if isinstance(answer, Deferred):
            answer.on_done(lambda deferred: told(deferred.result()))
        else:
            told(answer)

    async def create(self) -> None:
        one, other = self.choose.sample(range(1, 5), 2)
        key, size = UUID(int=self.choose.randrange(3)), self.choose.choice([2, 4, 120])
        if size == 2:
            members: tuple[int, ...] = (one, other)
            command = with_user(other)
            id = user_dialog_id(user_id(one).bytes, user_id(other).bytes)
        else:
            members, command = tuple(range(1, size + 1)), group_of(range(1, size + 1))
            id = keyed_dialog_id(user_id(one).bytes, key.bytes)
        text_id = uuid_text(id)
        if text_id not in self.truth.members:
            self.truth.take(("dialog.created", text_id, one, members))
        count = len(self.truth.members[text_id])
        unread = self.truth.unread(text_id, one)
        position = self.truth.changed[text_id]

        def check(dialog: Dialog) -> None:
            assert dialog.id == text_id
            assert (dialog.member_count, dialog.unread_count) == (count, unread)

        context = self.core.context(one, idempotency_id=key)
        await self.ask(
            self.core.service.create_dialog(context, command), position, check
        )

    async def send(self) -> None:
        choose, now_ms = self.choose, self.core.clock.now_ms()
        id, user = self.somebody()
        at_ms = choose.choice([now_ms, now_ms, 5, now_ms + 10**9, now_ms - 10**6])
        key = (id, user, client_id(at_ms, choose.randrange(3)))
        if self.truth.sent and choose.random() < 0.4:
            key = choose.choice(list(self.truth.sent)[-choose.choice([9, 999]) :])
        id, user, name = key
        words = str(len(self.truth.taken))
        if key not in self.truth.sent:
            self.truth.take(("message.new", id, user, (words, name)))
        seq, position = self.truth.sent[key]
        said = self.truth.logs[id][seq - 1][2]

        def check(message: Message) -> None:
            assert (message.dialog_id, message.seq) == (id, seq)
            assert shape(message)["content"] == {"text": said}
            known = self.ids.setdefault((id, seq), UUID(message.id))
            assert known == UUID(message.id)

        context, command = self.core.context(user), text(id, words, client_id=name)
        await self.ask(
            self.core.service.send_message(context, command), position, check
        )

    async def read(self) -> None:
        if not self.ids:
            return
        (id, seq), message = self.choose.choice(list(self.ids.items()))
        user = self.choose.choice(self.truth.members[id][:4])
        if seq > self.truth.reads.get((id, user), 0):
            self.truth.take(("message.read", id, user, seq))
        now = self.truth.reads[id, user]
        want = (id, now, self.truth.unread(id, user))
        position = self.truth.changed[id]

        def check(state: ReadState) -> None:
            assert (state.dialog_id, state.read_seq, state.unread_count) == want

        context, command = self.core.context(user), ReadMessages(message)
        await self.ask(
            self.core.service.read_messages(context, command), position, check
        )

    async def look(self) -> None:
        id, user = self.somebody()
        want = (len(self.truth.logs[id]), self.truth.unread(id, user))
        position = self.truth.changed[id]

        def check(dialog: Dialog) -> None:
            assert (dialog.last_seq, dialog.unread_count) == want

        context, command = self.core.context(user), GetDialog(id)
        await self.ask(self.core.service.get_dialog(context, command), position, check)

    def somebody(self) -> tuple[str, int]:
        id = self.choose.choice(list(self.truth.members))
        return id, self.choose.choice(self.truth.members[id][:4])

    def sync(self) -> None:
        journal = self.core.journal
        first, last = journal.durable_position, journal.next_position - 1
        journal.sync(self.choose.randint(first, last))

    async def run(self, steps: int) -> None:
        """One process: it ends by a crash."""
        began = self.core.journal.durable_position
        async with loading(self.core):
            for _ in range(steps):
                self.core.clock.advance(self.choose.randrange(-20, 100))
                step = self.choose.random()
                if step < 0.1 or not self.truth.members:
                    await self.create()
                elif step < 0.5:
                    await self.send()
                elif step < 0.65:
                    await self.read()
                elif step < 0.75:
                    await self.look()
                elif step < 0.9:
                    self.sync()
                else:
                    await self.core.flusher.flush_batch()
                # Everything accepted is a record, and nothing else is.
                assert self.core.journal.next_position == len(self.truth.taken) + 1
        durable = self.core.journal.durable_position
        events = [e for _, e, _ in self.core.hub.told if not isinstance(e, OwnState)]
        assert len(events) == durable - began
        self.truth = Truth(self.truth.taken[:durable])
        self.core = await self.core.restart(limits=self.limits)

    async def check(self, core: Core) -> None:
        """Every member is told the log and the count that the truth has."""
        async with loading(core):
            for id, log in self.truth.logs.items():
                for user in self.truth.members[id][:4]:
                    command = ListEvents(dialog_id=id, limit=1_000)
                    page = shape(await core.do(user, command))
                    seqs = [event["seq"] for event in page["events"]]
                    assert seqs == list(range(1, len(log) + 1))
                    assert [said(event) for event in page["events"]] == log
                    dialog = await core.do(user, GetDialog(id))
                    assert dialog.unread_count == self.truth.unread(id, user)
            for user in range(1, 5):
                listed = await core.do(user, ListDialogs(limit=100))
                assert {d.id: d.unread_count for d in listed.dialogs} == {
                    id: self.truth.unread(id, user)
                    for id, members in self.truth.members.items()
                    if user in members
                }


def said(event: Any) -> tuple[str, int, Any]:
    """A wire event as the truth has it."""
    if event["op"] == "message.new":
        message = event["message"]
        return event["op"], number_of(message["sender_id"]), message["content"]["text"]
    if event["op"] == "message.read":
        return event["op"], number_of(event["user_id"]), event["read_seq"]
    return event["op"], 0, None


def number_of(user: str) -> int:
    return UUID(user).int - user_id(0).int
