"""Owns random histories of records of every kind, and the core they are submitted to.

The truth is the same state machine where nothing is ever flushed, forgotten, loaded or
lost, and a few counts made without it. Records are chosen by looking at the truth; the
core under test loads what each needs, flushes, evicts and crashes in between. Whatever
it does then has to be the same, byte for byte.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio
from msgspec import structs

from tchatd.domains.messaging import records as r
from tchatd.domains.messaging.content import Button, Forward, PollContent, TextContent
from tchatd.domains.messaging.dialog import DialogState
from tchatd.domains.messaging.entry import Entry
from tchatd.domains.messaging.member import DraftState, Member, MemberExtra, extra_bytes
from tchatd.domains.messaging.message_state import MessageState
from tchatd.domains.messaging.settings import DialogSettings, settings_bytes
from tchatd.domains.messaging.state import MessagingState, StateLimits
from tchatd.domains.messaging.store import (
    ADMIN,
    GUEST,
    MEMBER,
    MESSAGE_EDITED,
    MESSAGE_NEW,
    OWNER,
    FlushBatch,
    Found,
    Wants,
)
from tchatd.journal.applier import Applier
from tchatd.journal.flusher import Flusher, FlusherSettings, batch_of
from tchatd.kernel.bitmaps import BitMap
from tchatd.observe.metrics import Metrics
from tchatd.stores.memory.messaging import MemoryDialogStore
from tests.support import applied as a
from tests.support.messaging import FakeHub, FakeJournal, client_id, shape, user_id

ACTIVE = 6
"""Users who do things; others fill dialogs up to sizes around what is large."""
SIZES = (2, 3, 4, 99, 100, 101, 102, 120)
FOREVER = StateLimits(dialogs_max=10**9, tail_max=10**9, client_ids_max=10**9)
Made = r.Record | None


class SlowStore(MemoryDialogStore):
    """Answers late, with what was true at some moment in between."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._choose = random.Random(seed)
        self.batches: list[FlushBatch] = []

    async def flush(self, batch: FlushBatch) -> None:
        await self._wait()
        await super().flush(batch)
        self.batches.append(batch)
        await self._wait()

    async def load(self, wants: Wants) -> Found:
        await self._wait()
        found = await super().load(wants)
        await self._wait()
        return found

    async def _wait(self) -> None:
        for _ in range(self._choose.randrange(4)):
            await trio.lowlevel.checkpoint()


class Truth:
    """Everything that was accepted, applied to a state that forgets nothing."""

    def __init__(self) -> None:
        self.state = MessagingState(FOREVER)
        self.entries: list[Entry] = []
        self.numbers: list[int] = []

    def take(self, record: r.Record) -> Entry:
        entry = self.state.apply(r.decode(r.encode(record)), len(self.entries) + 1)
        self.entries.append(entry)
        if entry.created is not None:
            self.numbers.append(entry.position)
        return entry

    def dialog(self, number: int) -> DialogState:
        dialog = self.state.find_number(number)
        assert dialog is not None
        return dialog

    def messages(self, dialog: DialogState) -> list[MessageState]:
        """All that were ever sent, as they are now."""
        found = (dialog.message_state(e.seq) for e in dialog.tail)
        return [state for state in found if state is not None]

    def counts(self, dialog: DialogState, user: int) -> tuple[int, int]:
        """Unread messages, and those that mention the user, counted one by one."""
        member = dialog.member(user)
        assert member is not None
        hidden = member.extra.hidden
        gone = BitMap() if hidden is None else BitMap.deserialize(hidden)
        unread = [
            state
            for state in self.messages(dialog)
            if state.seq > member.read_seq
            and not state.is_deleted
            and state.seq not in gone
        ]
        return len(unread), sum(user in state.body.mentioned for state in unread)

    async def rows(self) -> tuple[Any, ...]:
        """What a store has to have in the end, however it got there."""
        store = MemoryDialogStore()
        if self.entries:
            await store.flush(await batch_of(self.entries, 0))
        return rows_of(store)


def rows_of(store: MemoryDialogStore) -> tuple[Any, ...]:
    return store.dialogs, store.members, store.log


class Records:
    """Valid records at random, by what the truth says."""

    def __init__(self, truth: Truth, choose: random.Random) -> None:
        self.truth = truth
        self.choose = choose
        self.at_ms = a.AT_MS
        self.sent = 0

    def next(self) -> r.Record:
        makers: list[tuple[int, Callable[[DialogState], Made]]] = [
            (30, self.message),
            (15, self.read),
            (8, self.edit),
            (6, self.delete),
            (10, self.react),
            (4, self.pin),
            (5, self.vote),
            (7, self.add),
            (7, self.remove),
            (3, self.role),
            (3, self.profile),
            (1, self.drop),
            (6, self.own),
            (5, self.deliver),
            (3, self.restrict),
            (2, self.ban),
        ]
        if not self.truth.numbers:
            return self.create()
        weights, kinds = zip(*makers, strict=True)
        for _ in range(100):
            self.at_ms += self.choose.randrange(3)
            if self.choose.random() < 0.03:
                return self.create()
            dialog = self.truth.dialog(self.choose.choice(self.truth.numbers[-4:]))
            [make] = self.choose.choices(kinds, weights)
            record: Made = make(dialog) if dialog.members else None
            if record is not None:
                return record
        return self.create()

    def create(self) -> r.Record:
        size = self.choose.choice(SIZES)
        type = "user" if size == 2 else self.choose.choice(("group", "channel"))
        users = self.choose.sample(range(1, ACTIVE + 1), min(size, ACTIVE))
        users += range(ACTIVE + 1, size + 1)
        settings = self.choose.choice((None, DialogSettings(vanish_after_s=60)))
        record: r.DialogRecord = a.dialog_of(
            *users, type=type, settings=settings and settings_bytes(settings)
        )
        id = self.choose.randbytes(16)
        return structs.replace(record, at_ms=self.at_ms, dialog_id=id)

    def somebody(self, dialog: DialogState) -> int:
        active = [n for n in dialog.members if n <= ACTIVE]
        return self.choose.choice(active or list(dialog.members))

    def a_message(
        self, dialog: DialogState, fits: Callable[[MessageState], bool]
    ) -> MessageState | None:
        found = [
            state
            for state in self.truth.messages(dialog)
            if not state.is_deleted and fits(state)
        ]
        if self.choose.random() < 0.5:
            found = found[-3:]
        return self.choose.choice(found) if found else None

    def by(self, dialog: DialogState, user: int) -> tuple[int, int, int, bytes]:
        return dialog.number, self.at_ms, user, user_id(user).bytes

    def message(self, dialog: DialogState) -> Made:
        choose, user = self.choose, self.somebody(dialog)
        self.sent += 1
        time_ms = choose.choice([self.at_ms, 5, self.at_ms + choose.randrange(99)])
        name = client_id(time_ms, self.sent).bytes if choose.random() < 0.7 else None
        mentioned = self.others(dialog, user) if choose.random() < 0.3 else ()
        root = None
        if choose.random() < 0.2:
            root = self.a_message(dialog, lambda state: not state.thread_seq)
        content: Any = TextContent(f"{self.sent} สวัสดี")
        type = "text"
        if choose.random() < 0.15:
            type = "poll"
            content = PollContent("?", ["a", "b"], is_anonymous=choose.random() < 0.5)
        by = self.by(dialog, user)
        return r.MessageRecord(
            *by,
            type,
            content,
            name,
            None if root is None else root.id,
            tuple(str(user_id(n)) for n in mentioned),
            mentioned,
            0 if root is None else root.seq,
            choose.choice([None] * 9 + [Forward(str(user_id(3)), "2026")]),
            choose.choice([None] * 9 + [((Button("ok", data="1"),),)]),
        )

    def others(self, dialog: DialogState, user: int) -> tuple[int, ...]:
        others = [n for n in dialog.members[:8] if n != user]
        count = min(len(others), self.choose.randrange(1, 4))
        return tuple(self.choose.sample(others, count))

    def read(self, dialog: DialogState) -> Made:
        user = self.somebody(dialog)
        member = dialog.member(user)
        assert member is not None
        since = member.read_seq
        found = [s for s in self.truth.messages(dialog) if s.seq > since]
        if not found:
            return None
        state = self.choose.choice(found)
        by = self.by(dialog, user)
        return r.ReadRecord(*by, state.seq, state.ordinal, state.id)

    def edit(self, dialog: DialogState) -> Made:
        state = self.a_message(
            dialog, lambda s: s.sender in dialog.members and s.body.type == "text"
        )
        if state is None:
            return None
        kept = [n for n in state.body.mentioned if self.choose.random() < 0.5]
        new = {*kept, *self.others(dialog, state.sender)} if kept else set[int]()
        mentioned = tuple(sorted(new & set(dialog.members)))
        return r.EditRecord(
            *self.by(dialog, state.sender),
            state.seq,
            TextContent(f"edited {self.choose.randrange(99)}"),
            tuple(str(user_id(n)) for n in mentioned),
            mentioned,
            tuple(n for n in state.body.mentioned if n not in mentioned),
            self.choose.choice([None] * 3 + [((Button("go", url="https://a"),),)]),
        )

    def delete(self, dialog: DialogState) -> Made:
        state = self.a_message(dialog, lambda _: True)
        if state is None:
            return None
        by = self.by(dialog, self.somebody(dialog))
        if state.expires_ms and self.choose.random() < 0.5:
            by = (dialog.number, self.at_ms, 0, bytes(16))
        reason = self.choose.choice((None, "spam"))
        return r.DeleteRecord(*by, state.seq, state.thread_seq, reason)

    def react(self, dialog: DialogState) -> Made:
        state = self.a_message(dialog, lambda _: True)
        if state is None:
            return None
        user, emoji = self.somebody(dialog), self.choose.choice("👍❤🙏")
        is_there = any(
            reactors.emoji == emoji and user in BitMap.deserialize(reactors.users)
            for reactors in state.changes.reactions
        )
        return r.ReactRecord(*self.by(dialog, user), state.seq, emoji, not is_there)

    def pin(self, dialog: DialogState) -> Made:
        state = self.a_message(dialog, lambda _: True)
        if state is None:
            return None
        by = self.by(dialog, self.somebody(dialog))
        return r.PinRecord(*by, state.seq, state.id not in dialog.pins)

    def vote(self, dialog: DialogState) -> Made:
        state = self.a_message(dialog, _is_open_poll)
        if state is None:
            return None
        by = self.by(dialog, self.somebody(dialog))
        if self.choose.random() < 0.1:
            return r.VoteRecord(*by, state.seq, (), True)
        return r.VoteRecord(*by, state.seq, self.choose.choice(((), (0,), (0, 1))))

    def add(self, dialog: DialogState) -> Made:
        if dialog.type == 0:
            return None
        banned = dialog.banned or BitMap()
        outside = [
            n for n in range(1, 130) if n not in dialog.members and n not in banned
        ]
        active = [n for n in outside if n <= ACTIVE] or outside
        count = self.choose.choice((1, 1, 2))
        users = BitMap(self.choose.sample(active, min(len(active), count)))
        if not users:
            return None
        actor = self.choose.choice((self.somebody(dialog), users[0]))
        return r.AddRecord(
            *self.by(dialog, actor),
            users.serialize(),
            a.ids_of(users),
            a.ids_of(dialog.members | users),
            self.choose.choice((MEMBER, MEMBER, GUEST, ADMIN)),
        )

    def remove(self, dialog: DialogState) -> Made:
        if dialog.type == 0 or len(dialog.members) < 2:
            return None
        user = self.somebody(dialog)
        actor, reason = self.choose.choice(
            ((user, "left"), (self.somebody(dialog), "removed"), (user, "banned"))
        )
        return r.RemoveRecord(
            *self.by(dialog, actor),
            user,
            user_id(user).bytes,
            reason,
            a.ids_of(dialog.members - BitMap((user,))),
        )

    def role(self, dialog: DialogState) -> Made:
        user, actor = self.somebody(dialog), self.somebody(dialog)
        if dialog.type == 0 or user == actor:
            return None
        by, id = self.by(dialog, actor), user_id(user).bytes
        member = dialog.member(actor)
        if member is not None and member.role == OWNER:
            return r.RoleRecord(*by, user, id, OWNER, True)
        return r.RoleRecord(*by, user, id, self.choose.choice((MEMBER, ADMIN, GUEST)))

    def profile(self, dialog: DialogState) -> Made:
        settings = DialogSettings(
            description=self.choose.choice(("", "d")),
            vanish_after_s=self.choose.choice((0, 60)),
            slow_mode_s=self.choose.choice((0, 5)),
        )
        by = self.by(dialog, self.somebody(dialog))
        name, avatar = self.choose.choice((("Dinner", "https://a"), (None, None)))
        return r.ProfileRecord(*by, name, avatar, settings_bytes(settings))

    def drop(self, dialog: DialogState) -> Made:
        if self.choose.random() < 0.7:
            return None
        return r.DropRecord(*self.by(dialog, self.somebody(dialog)))

    def own(self, dialog: DialogState) -> Made:
        choose, user = self.choose, self.somebody(dialog)
        member = dialog.member(user)
        assert member is not None
        messages = self.truth.messages(dialog)
        extra, read = member.extra, (0, 0)
        hidden = BitMap() if extra.hidden is None else BitMap.deserialize(extra.hidden)
        if messages and choose.random() < 0.5:
            hidden = hidden | BitMap((choose.choice(messages).seq,))
        if messages and choose.random() < 0.2:
            last = messages[-1]
            read = (last.seq, last.ordinal)
        extra = MemberExtra(
            is_pinned=choose.random() < 0.5,
            draft=choose.choice((None, DraftState("he", None, self.at_ms))),
            hidden=hidden.serialize() if hidden else None,
            cleared_seq=read[0] or extra.cleared_seq,
            silenced_until_ms=extra.silenced_until_ms,
        )
        return r.OwnRecord(*self.by(dialog, user), extra_bytes(extra), *read)

    def deliver(self, dialog: DialogState) -> Made:
        by = self.by(dialog, self.somebody(dialog))
        return r.DeliverRecord(*by, self.choose.randint(1, dialog.last_seq))

    def restrict(self, dialog: DialogState) -> Made:
        by, user = self.by(dialog, self.somebody(dialog)), self.somebody(dialog)
        until_ms = self.choose.choice((0, self.at_ms))
        return r.RestrictRecord(*by, user, user_id(user).bytes, until_ms)

    def ban(self, dialog: DialogState) -> Made:
        banned = [n for n in dialog.banned or () if self.choose.random() < 0.5]
        if self.choose.random() < 0.2 and 129 not in dialog.members:
            banned.append(129)
        by = self.by(dialog, self.somebody(dialog))
        return r.BanRecord(*by, BitMap(banned).serialize())


def _is_open_poll(state: MessageState) -> bool:
    poll = state.changes.poll
    return state.body.type == "poll" and (poll is None or not poll.closed_ms)


class Engine:
    """Journal, state and flusher, without anybody who decides what is a record."""

    def __init__(
        self,
        store: SlowStore,
        journal: FakeJournal,
        limits: StateLimits = StateLimits(),  # noqa: B008  # frozen
        settings: FlusherSettings = FlusherSettings(),  # noqa: B008  # frozen
    ) -> None:
        self.journal = journal
        self.state = MessagingState(limits)
        self.applier = Applier(journal, self.state, store, FakeHub())
        self.flusher = Flusher(
            self.applier, journal, store, Metrics(process=False), settings
        )

    @asynccontextmanager
    async def loading(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.applier.loader.run)
            yield
            nursery.cancel_scope.cancel()


class RecordHistory:
    """Records at random submitted to a core with little room, which crashes at times.

    `run` is one life of a process. What differs from the truth is found at once.
    """

    def __init__(self, seed: int, limits: StateLimits | None = None) -> None:
        self.choose = random.Random(seed)
        self.limits = limits or StateLimits(
            dialogs_max=2, tail_max=self.choose.choice((1, 3)), client_ids_max=2
        )
        self.settings = FlusherSettings(
            interval_s=0, batch_max=self.choose.choice((1, 3, 20, 1_000))
        )
        self.store = SlowStore(seed)
        self.core = self._engine(FakeJournal())
        self.truth = Truth()
        self.records: list[r.Record] = []

    def _engine(self, journal: FakeJournal) -> Engine:
        return Engine(self.store, journal, self.limits, self.settings)

    async def run(self, steps: int) -> None:
        make = Records(self.truth, self.choose)
        make.sent = len(self.records) * 1_000
        if self.truth.entries:
            make.at_ms = max(entry.at_ms for entry in self.truth.entries)
        async with self.core.loading(), trio.open_nursery() as nursery:
            busy = [False]
            for _ in range(steps):
                step = self.choose.random()
                if step < 0.7:
                    await self._submit(make.next())
                elif step < 0.8:
                    await self._look()
                elif step < 0.9:
                    journal = self.core.journal
                    first, last = journal.durable_position, journal.next_position - 1
                    journal.sync(self.choose.randint(first, last))
                elif not busy[0]:
                    busy[0] = True
                    nursery.start_soon(self._flush, busy)
                self._check_dirty()
                self._check_tails()

    async def crash(self) -> None:
        """The next process, over what the disk and the store have."""
        durable = self.core.journal.durable_position
        self.records = self.records[:durable]
        self.truth = Truth()
        for record in self.records:
            self.truth.take(record)
        self.core = self._engine(self.core.journal.crash())
        await self.core.applier.recover(self.core.flusher.flush)

    async def finish(self) -> None:
        """Flush everything and compare rows, then what everybody sees."""
        self.core.journal.sync()
        await self.core.flusher.flush()
        assert plain(rows_of(self.store)) == plain(await self.truth.rows())
        async with self.core.loading():
            await self._check_views()

    async def _flush(self, busy: list[bool]) -> None:
        await self.core.flusher.flush_batch()
        busy[0] = False

    async def _load(self, wants: Wants) -> None:
        await self.core.applier.load(
            ids=wants.ids,
            numbers=wants.numbers,
            members=wants.members,
            messages=wants.messages,
            whole=wants.whole,
        )

    async def _submit(self, record: r.Record) -> None:
        position = self.core.journal.next_position
        for _ in range(50):
            wants = self.core.state.missing([(position, record)])
            if not len(wants):
                break
            await self._load(wants)
        else:
            raise AssertionError(f"{record} never gets what it needs")
        self.core.applier.submit(record)
        self.records.append(record)
        entry = self.core.applier.unflushed[-1]
        assert told(entry) == told(self.truth.take(record))

    async def _look(self) -> None:
        """Somebody loads what they may or may not need."""
        numbers = self.truth.numbers
        if not numbers:
            return
        number = self.choose.choice(numbers)
        seq = self.choose.randint(1, self.truth.dialog(number).last_seq)
        wants = Wants(numbers={number}, members={(number, self.choose.randint(1, 9))})
        if self.choose.random() < 0.5:
            wants.messages.add((number, seq))
        await self._load(wants)

    def _check_dirty(self) -> None:
        """Who was told of what the store lacks finds the dialog."""
        state = self.core.state
        for entry in self.core.applier.unflushed:
            for user in entry.members or (entry.actor,):
                if user <= ACTIVE:
                    numbers = {dialog.number for dialog in state.dirty_of(user)}
                    assert entry.dialog_number in numbers
        for user in range(1, ACTIVE + 1):
            assert all(dialog.unflushed for dialog in state.dirty_of(user))

    def _check_tails(self) -> None:
        """No event shows what its message does not say any more."""
        for number in self.truth.numbers:
            dialog = self.core.state.find_number(number)
            if dialog is None:
                continue
            true = self.truth.dialog(number)
            for entry in dialog.tail:
                if entry.kind not in (MESSAGE_NEW, MESSAGE_EDITED):
                    continue
                state = true.message_state(entry.event.message.seq)
                assert state is not None
                shown: Any = dialog.shown_event(entry.event)
                assert shape(shown.message) == shape(true.message_of(state))
            assert dialog.tail_first_seq + len(dialog.tail) == dialog.last_seq + 1

    async def _check_views(self) -> None:
        for number in self.truth.numbers:
            true = self.truth.dialog(number)
            users = [n for n in range(1, ACTIVE + 1) if n in true.members]
            wants = Wants(numbers={number}, members={(number, n) for n in users})
            for _ in range(50):
                await self._load(wants)
                dialog = self.core.state.find_number(number)
                if dialog is not None and all(dialog.member(n) for n in users):
                    break
            assert dialog is not None
            for user in users:
                member, same = dialog.member(user), true.member(user)
                assert member is not None
                assert same is not None
                counts = dialog.unread(member), dialog.mention_count(member)
                assert counts == self.truth.counts(true, user)
                assert seen(dialog.view(member)) == seen(true.view(same))
                assert shape(dialog.own_state(member)) == shape(true.own_state(same))
                self._check_sent(member, same)

    def _check_sent(self, member: Member, true: Member) -> None:
        """No client_id that was ever taken can be taken for a new one."""
        for id in true.recent:
            assert id in member.recent or int.from_bytes(id[:6], "big") <= (
                member.floor_ms
            )


def told(entry: Entry) -> Any:
    """All that an entry says, to clients and to the store."""
    changes = entry.changes
    return (
        *(entry.position, entry.dialog_number, entry.kind, entry.seq, entry.ordinal),
        *(entry.count, entry.at_ms, entry.actor, entry.read_seq, entry.client_ms),
        *(shape(entry.event), seen(entry.answer)),
        None if entry.members is None else list(entry.members),
        None if changes is None else changes.members,
        None if changes is None else [shape_of(s) for s in changes.messages],
        None if changes is None else [(list(w), seen(e)) for w, e in changes.told],
    )


def seen(value: Any) -> Any:
    """But for a dialog's last message when the member has hidden the latest: which one
    is shown in its place depends on what memory has."""
    found = shape(value)
    dialog = found.get("dialog", found)
    if {"hidden", "cleared_seq"} & dialog.keys():
        dialog.pop("last_message", None)
    return found


def shape_of(state: MessageState) -> Any:
    return state.seq, state.position, msgspec.to_builtins(state.changes), state.id


def plain(rows: tuple[Any, ...]) -> tuple[Any, ...]:
    """The rows with sets for bitmaps: one set has more than one form as bytes."""
    dialogs, members, log = rows
    return (
        {key: _without_bytes(row) for key, row in dialogs.items()},
        {key: _without_bytes(row) for key, row in members.items()},
        log,
    )


def _without_bytes(row: Any) -> dict[str, Any]:
    fields: dict[str, Any] = structs.asdict(row)
    for name in {"members", "deleted", "banned", "mentions"} & fields.keys():
        if fields[name] is not None:
            fields[name] = list(BitMap.deserialize(fields[name]))
    return fields


def truth_of(seed: int, count: int = 250) -> Truth:
    """Of so many records at random."""
    truth = Truth()
    records = Records(truth, random.Random(seed))
    for _ in range(count):
        truth.take(records.next())
    return truth


async def batches_of(truth: Truth, seed: int) -> list[FlushBatch]:
    """All of it in batches of any size."""
    choose, batches, start = random.Random(seed), [], 0
    while start < len(truth.entries):
        end = start + choose.choice((1, 2, 5, 30, 100))
        batches.append(await batch_of(truth.entries[start:end], start))
        start = batches[-1].position
    return batches
