"""Rare orders of events in messaging: each once lost, doubled or stopped something."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
import trio
from msgspec import UNSET
from trio.testing import wait_all_tasks_blocked

from tchatd.domains.messaging.errors import MessageNotFound
from tchatd.domains.messaging.identifiers import message_address, message_id
from tchatd.domains.messaging.models import (
    CreateDialog,
    ListMessages,
    ReadMessages,
    SendMessage,
    Sync,
)
from tchatd.domains.messaging.state import StateLimits
from tchatd.domains.messaging.store import Found, Wants
from tchatd.edge.asgi_transport import AsgiConnection, AsgiTransport
from tchatd.journal.applier import FLUSH_ROWS_MAX
from tchatd.journal.errors import JournalFull
from tchatd.stores.memory.messaging import MemoryDialogStore
from tests.support.client import uuid7
from tests.support.messaging import Core, user_id

PAST_MS = 1_700_000_000_000


class SlowStore(MemoryDialogStore):
    """Its answers to `load` are as of the question, and come when they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.holding = False
        self.asked = trio.Event()
        self._go_on = trio.Event()

    async def load(self, wants: Wants) -> Found:
        found = await super().load(wants)
        if self.holding:
            self.asked.set()
            await self._go_on.wait()
        return found

    async def next_question(self) -> None:
        """Let the answer go that is held; return when the next one is held."""
        go_on, self._go_on, self.asked = self._go_on, trio.Event(), trio.Event()
        go_on.set()
        await self.asked.wait()
        await wait_all_tasks_blocked()

    def release(self) -> None:
        self.holding = False
        self._go_on.set()


@pytest.fixture
async def nursery() -> AsyncIterator[trio.Nursery]:
    async with trio.open_nursery() as nursery:
        yield nursery
        nursery.cancel_scope.cancel()


def text(dialog_id: str, client_id: str | None = None) -> SendMessage:
    return SendMessage(
        dialog_id=dialog_id,
        type="text",
        content={"text": "hello"},
        client_id=UUID(client_id) if client_id else UNSET,
    )


def with_user(number: int) -> CreateDialog:
    return CreateDialog(type="user", participants=[user_id(number)])


async def test_a_dialog_made_flushed_and_evicted_during_a_look_up_is_not_made_again(
    nursery: trio.Nursery,
) -> None:
    store = SlowStore()
    core = Core(store, limits=StateLimits(dialogs_max=1))
    await nursery.start(core.applier.loader.run)
    created: list[Any] = []

    async def create(user: int, other: int) -> None:
        created.append(await core.do(user, with_user(other)))

    store.holding = True
    nursery.start_soon(create, 1, 2)
    await store.asked.wait()
    await store.next_question()  # told "none", it checks who may, and looks again
    nursery.start_soon(create, 2, 1)
    await wait_all_tasks_blocked()
    await store.next_question()  # the first is told "none", and so is the second, late
    assert len(created) == 1
    await core.flusher.flush()
    group = CreateDialog(type="group", name="later", participants=[user_id(3)])
    await core.do(3, group)
    await core.flusher.flush()
    store.release()
    await wait_all_tasks_blocked()

    assert len(created) == 2
    assert created[1].status == 200
    core.journal.sync()
    await core.flusher.flush()
    assert len(store.dialogs) == 2


async def test_a_client_id_sent_and_forgotten_during_a_look_up_is_not_sent_again(
    nursery: trio.Nursery,
) -> None:
    store = SlowStore()
    core = Core(store)
    await nursery.start(core.applier.loader.run)
    dialog = await core.do(1, with_user(2))

    async def send_many(from_ms: int) -> None:
        for ms in range(from_ms, from_ms + 20):
            await core.do(1, text(dialog.id, uuid7(ms)))
        await core.flusher.flush()

    await send_many(PAST_MS + 1_000)
    old, answers = uuid7(PAST_MS), list[Any]()

    async def send_old() -> None:
        answers.append(await core.do(1, text(dialog.id, old)))

    store.holding = True
    nursery.start_soon(send_old)
    await store.asked.wait()
    nursery.start_soon(send_old)  # the same device, connected anew
    await wait_all_tasks_blocked()
    await store.next_question()
    assert len(answers) == 1
    await send_many(PAST_MS + 2_000)
    store.release()
    await wait_all_tasks_blocked()

    assert len(answers) == 2
    assert answers[0].id == answers[1].id


def test_over_tls_a_page_larger_than_the_queue_is_sent() -> None:
    transport = AsgiTransport(
        queue_bytes_max=100, queue_messages_max=1_024, slow_consumer="gap"
    )
    state = AsgiConnection(is_msgpack=False)
    number = transport.opened(state)

    assert transport.queue(number, b"x" * 1_000)
    assert transport.queue(number, b"y" * 10)
    state.is_sending = True
    assert not all(transport.queue(number, b"y" * 10) for _ in range(20))
    assert [len(frame) for frame in state.frames] != [1_000]


async def test_new_groups_of_thousands_go_to_the_store_a_few_at_a_time() -> None:
    core = Core(users=5_000)
    everybody = [user_id(number) for number in range(1, 5_001)]
    for _ in range(10):
        command = CreateDialog(type="group", name="all", participants=everybody)
        group = await core.do(1, command)
        await core.do(2, text(group.id))

    batches = []
    while entries := core.applier.flushable(1_000):
        batches.append(sum(e.created is not None for e in entries))
        core.applier.flushed(entries)
    assert sum(batches) == 10
    assert max(batches) * 5_000 <= FLUSH_ROWS_MAX


async def test_what_memory_cannot_hold_is_refused_and_taken_once_flushed(
    nursery: trio.Nursery,
) -> None:
    core = Core()
    await nursery.start(core.applier.loader.run)
    dialog = await core.do(1, with_user(2))
    core.applier._unflushed_max = 3
    await core.do(1, text(dialog.id))
    await core.do(1, text(dialog.id))
    with pytest.raises(JournalFull):
        await core.do(1, text(dialog.id))
    assert core.journal.next_position == 4

    await core.flusher.flush()
    assert (await core.do(1, text(dialog.id))).seq == 4


async def test_a_replay_needs_more_dialogs_than_memory_keeps(
    nursery: trio.Nursery,
) -> None:
    core = Core()
    await nursery.start(core.applier.loader.run)
    dialogs = [(await core.do(1, with_user(other))).id for other in range(2, 7)]
    await core.flusher.flush()
    for dialog_id in dialogs:
        await core.do(1, text(dialog_id))

    core = await core.restart(limits=StateLimits(dialogs_max=2))
    assert len(core.state) == 2
    assert [len(log) for log in core.store.log.values()] == [2] * 5  # type: ignore[attr-defined]


async def test_a_pass_of_pages_ends_soon_however_much_has_come_since(
    nursery: trio.Nursery,
) -> None:
    core = Core()
    await nursery.start(core.applier.loader.run)
    one, two = [(await core.do(1, with_user(other))).id for other in (2, 3)]
    page = await core.do(1, Sync())
    for dialog_id in (one, one, two):
        await core.do(1, text(dialog_id))
    page = await core.do(1, Sync(cursor=page.cursor, limit=1))
    for _ in range(200):
        await core.do(1, text(two))
    await core.flusher.flush()

    seen = []
    for _ in range(4):
        page = await core.do(1, Sync(cursor=page.cursor, limit=1))
        seen += [(event.dialog_id, event.seq) for event in page.events]
    # The pass ends, and the next one follows at once.
    assert seen == [(one, 3), (two, 2), (two, 3), (two, 4)]


async def test_a_page_begins_at_messages_alone(nursery: trio.Nursery) -> None:
    core = Core()
    await nursery.start(core.applier.loader.run)
    dialog = await core.do(1, with_user(2))
    message = await core.do(1, text(dialog.id))
    await core.do(2, ReadMessages(UUID(message.id)))
    await core.flusher.flush()
    core = await core.restart()
    await nursery.start(core.applier.loader.run)
    [row] = await core.store.events(message_address(UUID(message.id))[0], 2, 3, 1)  # type: ignore[index]

    forged = UUID(message_id(row.at_ms, row.dialog_number, row.seq))
    with pytest.raises(MessageNotFound):
        await core.do(1, ListMessages(dialog_id=dialog.id, before=forged))
