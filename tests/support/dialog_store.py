"""Owns what every `DialogStore` has to do; run over memory and over PostgreSQL."""

from __future__ import annotations

import random
from typing import Any
from uuid import UUID

import pytest
from msgspec import UNSET, structs

from tchatd.domains.messaging.models import CreateDialog, ReadMessages, SendMessage
from tchatd.domains.messaging.store import (
    MESSAGE_NEW,
    DialogStore,
    EventColumns,
    FlushBatch,
    StoreDiverged,
    Wants,
)
from tchatd.stores.memory.messaging import MemoryDialogStore
from tests.support.messaging import Core, loading, user_id

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
