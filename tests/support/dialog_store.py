"""Owns what every `DialogStore` has to do; run over memory and over PostgreSQL."""

from __future__ import annotations

import random
from itertools import product
from typing import Any
from uuid import UUID

import pytest
from msgspec import UNSET, structs

from tchatd.domains.messaging.models import CreateDialog, ReadMessages, SendMessage
from tchatd.domains.messaging.store import (
    ADMIN,
    GUEST,
    MESSAGE_NEW,
    OWNER,
    DialogStore,
    EventColumns,
    EventRow,
    FlushBatch,
    MemberRow,
    StoreDiverged,
    Wants,
)
from tchatd.journal.flusher import batch_of
from tchatd.kernel.bitmaps import BitMap
from tchatd.stores.memory.messaging import MemoryDialogStore
from tests.support.messaging import Core, loading, user_id
from tests.support.record_history import batches_of, truth_of

USERS = 130


class RecordingStore(MemoryDialogStore):
    """Keeps the batches it was given, to be given to another store."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[FlushBatch] = []

    async def flush(self, batch: FlushBatch) -> None:
        await super().flush(batch)
        self.batches.append(batch)


async def history(seed: int = 7, commands: int = 300) -> RecordingStore:
    """Dialogs of 2, 4 and 130 members, messages and reads, in batches of any size."""
    store, choose = RecordingStore(), random.Random(seed)
    core = Core(store, users=USERS, seed=seed)
    async with loading(core):
        dialogs: list[tuple[Any, tuple[int, ...]]] = []
        messages: list[tuple[str, tuple[int, ...]]] = []
        for one, other in ((1, 2), (2, 3), (1, 4)):
            people = [user_id(other)]
            command = CreateDialog(type="user", participants=people)
            dialogs.append((await core.do(one, command), (one, other)))
        for size in (4, USERS):
            people = [user_id(n) for n in range(1, size + 1)]
            command = CreateDialog(type="group", name=f"{size}", participants=people)
            dialogs.append((await core.do(1, command), tuple(range(1, size + 1))))
        for step in range(commands):
            core.clock.advance(choose.randrange(2_000))
            dialog, users = choose.choice(dialogs)
            user = choose.choice(users[:5])
            if choose.random() < 0.3 and messages:
                id, users = choose.choice(messages)
                await core.do(choose.choice(users[:5]), ReadMessages(UUID(id)))
            else:
                send = SendMessage(
                    dialog_id=dialog.id,
                    type="text",
                    content={"text": f"{step} \0 สวัสดี"},
                    client_id=core.ids.v7() if choose.random() < 0.7 else UNSET,
                )
                messages.append(((await core.do(user, send)).id, users))
            if choose.random() < 0.1:
                await core.flusher.flush()
        await core.flusher.flush()
    return store


async def copied(store: DialogStore) -> RecordingStore:
    """`store` has the same history now as the one that is answered."""
    source = await history()
    assert await store.position() == 0
    for batch in source.batches:
        await store.flush(batch)
    return source


def nothing(previous: int, position: int) -> FlushBatch:
    return FlushBatch(previous, position, EventColumns(), [], [], [], [])


class DialogStoreContract:
    """Answers are compared with those of the memory store, whose code is evident."""

    async def test_a_new_store_is_at_position_0(self, store: DialogStore) -> None:
        assert await store.position() == 0
        assert await store.position() == 0
        assert await store.listed(
            1, type=None, without=[], before=None, offset=0, limit=5
        ) == ([], 0)

    async def test_a_batch_is_written_once(self, store: DialogStore) -> None:
        source = await history(commands=40)
        await store.position()
        for batch in source.batches:
            await store.flush(batch)
            await store.flush(batch)
        assert await store.position() == source.batches[-1].position
        for number, log in source.log.items():
            assert await store.events(number, 0, 1_000, 1_000) == log

    async def test_a_batch_that_does_not_follow_is_refused(
        self, store: DialogStore
    ) -> None:
        await store.position()
        await store.flush(nothing(0, 5))
        for batch in (nothing(0, 4), nothing(4, 6), nothing(6, 7)):
            with pytest.raises(StoreDiverged):
                await store.flush(batch)
        assert await store.position() == 5

    async def test_snapshots_are_as_of_the_last_batch(self, store: DialogStore) -> None:
        source = await copied(store)
        for row in source.dialogs.values():
            found = await store.load(Wants(ids={row.id}))
            assert found.dialogs == [row]
            assert await store.load(Wants(numbers={row.number})) == found
        keys = set(source.members)
        found = await store.load(Wants(members=keys | {(99_999, 1), (1, 99_999)}))
        assert sorted(found.members, key=structs.astuple) == sorted(
            source.members.values(), key=structs.astuple
        )

    async def test_a_small_dialog_comes_with_its_members(
        self, store: DialogStore
    ) -> None:
        source = await copied(store)
        numbers = set(source.dialogs)
        found = await store.load(Wants(numbers=numbers | {12_345}, ids={bytes(16)}))
        assert sorted(d.number for d in found.dialogs) == sorted(numbers)
        want = await source.load(Wants(numbers=numbers))
        assert sorted(found.members, key=structs.astuple) == sorted(
            want.members, key=structs.astuple
        )
        assert len(found.members) < USERS

    async def test_a_message_is_found_by_who_sent_it_where_as_what(
        self, store: DialogStore
    ) -> None:
        source = await copied(store)
        keys: list[tuple[int, int, bytes]] = []
        for log in source.log.values():
            keys += [
                (e.dialog_number, e.actor, e.client_id) for e in log if e.client_id
            ]
        wrong = {(1, 99, keys[0][2]), (99, keys[0][1], keys[0][2])}
        found = await store.load(Wants(sent={*keys, *wrong, (1, 1, b"x" * 16)}))
        assert len(found.sent) == len(keys) > 50
        for row in found.sent:
            assert source.log[row.dialog_number][row.seq - 1] == row

    async def test_pages_of_a_log(self, store: DialogStore) -> None:
        source = await copied(store)
        choose = random.Random(3)
        for number, log in [*source.log.items(), (77_777, [])]:
            for _ in range(10):
                after, until = choose.randrange(90), choose.randrange(120)
                limit = choose.randrange(1, 50)
                args: tuple[Any, ...] = (number, after, until, limit)
                assert await store.events(*args) == await source.events(*args)
                args = (number, after, until, limit)
                assert (
                    await store.messages_after(*args)
                    == [e for e in log[after:until] if e.kind == MESSAGE_NEW][:limit]
                )
                args = (number, until, limit)
                assert await store.messages_before(*args) == (
                    await source.messages_before(*args)
                )

    async def test_pages_of_a_users_dialogs(self, store: DialogStore) -> None:
        source = await copied(store)
        positions = [row.active_position for row in source.dialogs.values()]
        for user in (1, 2, 5, 120, 999):
            for type in (None, 0, 1, 2):
                for without in ([], [1], list(source.dialogs)):
                    for before in (None, *positions):
                        for offset, limit in ((0, 2), (1, 1), (0, 50), (9, 9)):
                            args: dict[str, Any] = {
                                "type": type,
                                "without": without,
                                "before": before,
                                "offset": offset,
                                "limit": limit,
                            }
                            want = await source.listed(user, **args)
                            assert await store.listed(user, **args) == want

    async def test_what_changed_since_any_position(self, store: DialogStore) -> None:
        source = await copied(store)
        source_number = next(iter(source.dialogs))
        for position in range(source.batches[-1].position + 2):
            for index, (user, start, limit) in enumerate(
                ((1, 0, 10), (1, 2, 10), (2, 0, 1), (130, 0, 9))
            ):
                args: dict[str, Any] = {
                    "after_position": position,
                    "until_position": position + 40 * index,
                    "from_number": start,
                    "also": [source_number] if position % 3 else [],
                    "limit": limit,
                    "count_max": limit + position % 4,
                }
                want = await source.changed(user, **args)
                assert await store.changed(user, **args) == want

    async def test_ranges_of_many_logs(self, store: DialogStore) -> None:
        source = await copied(store)
        ranges = [(number, number, 20 + number) for number in source.log]
        for until in (0, 30, 100, 10_000):
            want = await source.ranges(ranges, until)
            assert await store.ranges(ranges, until) == want
        assert await store.ranges([], 10) == ([], [])

    @pytest.mark.parametrize("seed", range(4))
    async def test_any_records_leave_the_same_rows_in_batches_of_any_size(
        self, store: DialogStore, seed: int
    ) -> None:
        # Given records of every kind, which memory takes in one batch,
        truth = truth_of(seed)
        source = MemoryDialogStore()
        await source.flush(await batch_of(truth.entries, 0))
        # when they are written in many, each of them twice,
        await store.position()
        for batch in await batches_of(truth, seed):
            await store.flush(batch)
            await store.flush(batch)
        # then every row is the same.
        wants = Wants(numbers=set(source.dialogs), members=set(source.members))
        found = await store.load(wants)
        dialogs = {row.number: row for row in found.dialogs}
        members = {(m.dialog_number, m.user_number): m for m in found.members}
        log = {number: await store.events(number, 0, 999, 999) for number in dialogs}
        assert (dialogs, members, log) == (source.dialogs, source.members, source.log)

    async def test_messages_of_a_thread(self, store: DialogStore) -> None:
        source = await rich(store)
        threads = {
            (row.dialog_number, row.thread_seq)
            for log in source.log.values()
            for row in log
            if row.thread_seq
        }
        assert len(threads) > 5
        for number, thread_seq in [*threads, (1, 0), (99_999, 2)]:
            for seq, limit in ((999, 50), (999, 1), (20, 2), (1, 9)):
                args = (number, thread_seq, seq, limit)
                want = await source.thread_before(*args) if thread_seq else []
                assert await store.thread_before(*args) == want

    async def test_rows_of_members_asked_for_by_user(self, store: DialogStore) -> None:
        source = await rich(store)
        for number in [*source.dialogs, 99_999]:
            for users in ([], [3], list(range(1, 140))):
                found = await store.members_of(number, users)
                want = await source.members_of(number, users)
                assert sorted(found, key=by_user) == sorted(want, key=by_user)

    async def test_members_by_role_but_who_has_left(self, store: DialogStore) -> None:
        source = await rich(store)
        total = 0
        for number in [*source.dialogs, 99_999]:
            for roles in ([OWNER], [OWNER, ADMIN], [GUEST], []):
                found = await store.in_role(number, roles)
                assert found == await source.in_role(number, roles)
                total += len(found)
                for after, limit in ((0, 1), (3, 2), (40, 999)):
                    page = await store.in_role(number, roles, after=after, limit=limit)
                    above = [row for row in found if row.user_number > after]
                    assert page == above[:limit]
        assert total > 10

    async def test_what_has_expired_and_is_not_deleted(
        self, store: DialogStore
    ) -> None:
        source = await rich(store)
        times = sorted(
            row.expires_ms
            for log in source.log.values()
            for row in log
            if row.expires_ms
        )
        assert len(times) > 5
        for now_ms in (0, times[0] - 1, times[0], times[3], times[-1]):
            for limit in (1, 3, 999):
                found = await store.expired(now_ms, limit)
                want = await source.expired(now_ms, 999)
                assert set(found) <= set(want)
                assert len(found) == min(limit, len(want))

    async def test_what_became_of_dialogs_and_members_since(
        self, store: DialogStore
    ) -> None:
        source = await rich(store)
        positions = (0, 20, 100, 180, 249, 250, 251)
        for user, after, until in product((1, 2, 3, 129), positions, positions):
            args: dict[str, Any] = {
                "after_position": after,
                "until_position": until,
                "from_number": 0,
                "also": [],
                "limit": 50,
                "count_max": 60,
            }
            want = await source.changed(user, **args)
            assert await store.changed(user, **args) == want

    async def test_who_has_left_or_whose_dialog_was_dropped_lists_it_no_more(
        self, store: DialogStore
    ) -> None:
        source = await rich(store)
        gone = 0
        for user in range(1, 8):
            args: dict[str, Any] = {"type": None, "without": [], "before": None}
            found, total = await store.listed(user, **args, offset=0, limit=99)
            assert (found, total) == await source.listed(
                user, **args, offset=0, limit=99
            )
            for row in source.dialogs.values():
                is_listed = any(one.dialog.number == row.number for one in found)
                assert is_listed == (user in BitMap.deserialize(row.members))
                gone += not is_listed and (row.number, user) in source.members
        assert gone > 3

    async def test_messages_and_whole_memberships_are_loaded(
        self, store: DialogStore
    ) -> None:
        source = await rich(store)
        keys = {
            (n, seq) for n, log in source.log.items() for seq in range(len(log) + 2)
        }
        found = await store.load(Wants(messages=keys))
        assert sorted(found.messages, key=by_place) == [
            row
            for number in sorted(source.log)
            for row in source.log[number]
            if row.kind == MESSAGE_NEW
        ]
        numbers = set(source.dialogs)
        found = await store.load(Wants(whole=numbers | {99_999}))
        assert found.whole >= numbers
        for number, row in source.dialogs.items():
            users = {m.user_number for m in found.members if m.dialog_number == number}
            assert users >= set(BitMap.deserialize(row.members))
        for member in found.members:
            assert source.members[member.dialog_number, member.user_number] == member


async def rich(store: DialogStore) -> MemoryDialogStore:
    """`store` has records of every kind now, and so has the one that is answered."""
    truth, source = truth_of(17), MemoryDialogStore()
    await store.position()
    for batch in await batches_of(truth, 17):
        await store.flush(batch)
        await source.flush(batch)
    return source


def by_user(row: MemberRow) -> int:
    return row.user_number


def by_place(row: EventRow) -> tuple[int, int]:
    return row.dialog_number, row.seq
