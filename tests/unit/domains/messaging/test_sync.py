"""A device that was away gets every event it missed, once, in order."""

from __future__ import annotations

import random
from typing import Any
from uuid import UUID

import pytest
import trio
from msgspec import UNSET

from tchatd.domains.messaging import sync
from tchatd.domains.messaging.models import ReadMessages, Sync
from tchatd.domains.messaging.state import StateLimits
from tchatd.domains.messaging.store import ChangedDialog
from tchatd.kernel.errors import Invalid
from tchatd.stores.memory.messaging import MemoryDialogStore
from tests.support.messaging import Core, group_of, loading, shape, text, with_user

Known = dict[str, list[Any]]


class Device:
    """Keeps what it was told, by dialog; complains of holes and repeats."""

    def __init__(self, user: int) -> None:
        self.user = user
        self.cursor: Any = UNSET
        self.last_seq: dict[str, int] = {}
        self.events: Known = {}

    async def page(self, core: Core, limit: int) -> bool:
        page = shape(await core.do(self.user, Sync(cursor=self.cursor, limit=limit)))
        for dialog in page.get("dialogs", ()):
            if dialog["last_seq"] > self.last_seq.get(dialog["id"], 0):
                self.last_seq[dialog["id"]] = dialog["last_seq"]
                self.events.pop(dialog["id"], None)
        for id in page.get("left", ()):
            self.last_seq.pop(id, None)
        assert len(page["events"]) <= limit
        for event in page["events"]:
            id, seq = event["dialog_id"], event["seq"]
            if seq <= self.last_seq.get(id, 0):
                continue  # what a snapshot had already may come once more
            assert seq == self.last_seq.get(id, 0) + 1, "a hole"
            self.last_seq[id] = seq
            self.events.setdefault(id, []).append(event)
        self.cursor = page["cursor"]
        return bool(page["has_more"])

    async def catch_up(self, core: Core, limit: int) -> None:
        for _ in range(10_000):
            if not await self.page(core, limit):
                return
        raise AssertionError("sync never ends")


async def test_a_new_device_gets_its_dialogs_and_goes_on_from_there(core: Core) -> None:
    dialog = await core.do(1, with_user(2))
    await core.do(1, text(dialog.id))
    page = await core.do(2, Sync())
    assert [d.id for d in page.dialogs] == [dialog.id]
    assert (page.events, page.has_more, page.dialogs_cursor) == ([], False, UNSET)
    message = await core.do(1, text(dialog.id))
    page = await core.do(2, Sync(cursor=page.cursor))
    assert [event.message for event in page.events] == [message]
    assert page.dialogs is UNSET
    again = await core.do(2, Sync(cursor=page.cursor))
    assert (again.events, again.has_more) == ([], False)


async def test_what_arrives_while_paging_is_for_the_next_pass(core: Core) -> None:
    dialog = await core.do(1, with_user(2))
    device = Device(2)
    await device.catch_up(core, 10)
    for _ in range(6):
        await core.do(1, text(dialog.id))
    assert await device.page(core, 4)
    late = await core.do(1, with_user(2)), await core.do(1, text(dialog.id))
    await core.do(2, with_user(3))
    assert await device.page(core, 4)  # the pass is over, another one is to follow
    assert device.last_seq[dialog.id] == 7
    assert not await device.page(core, 4)
    assert device.last_seq[dialog.id] == late[1].seq == 8
    assert len(device.last_seq) == 2


async def test_no_page_is_told_before_its_end_is_durable(core: Core) -> None:
    dialog = await core.do(1, with_user(2))
    cursor = (await core.do(2, Sync())).cursor
    await core.do(1, text(dialog.id))
    await core.flusher.flush()
    core.auto = False
    core.service.send_message(core.context(1), text(dialog.id))
    pages: dict[str, Any] = {}

    async def ask(name: str, command: Sync) -> None:
        pages[name] = await core.do(2, command)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, "new", Sync())
        nursery.start_soon(ask, "next", Sync(cursor=cursor))
        nursery.start_soon(ask, "first of many", Sync(cursor=cursor, limit=1))
        await trio.testing.wait_all_tasks_blocked()
        assert pages == {}
        core.journal.sync()
    assert [d.last_seq for d in pages["new"].dialogs] == [3]
    assert [event.seq for event in pages["next"].events] == [2, 3]
    assert [event.seq for event in pages["first of many"].events] == [2]


async def test_a_dialog_that_is_new_since_comes_whole(core: Core) -> None:
    device = Device(5)
    await device.catch_up(core, 10)
    dialog = await core.do(1, group_of(range(2, 150)))
    await core.do(3, text(dialog.id))
    await core.flusher.flush()
    last = await core.do(1, text(dialog.id))
    page = await core.do(5, Sync(cursor=device.cursor))
    assert page.events == []
    assert [(d.id, d.last_seq, d.unread_count) for d in page.dialogs] == [
        (dialog.id, last.seq, 2)
    ]
    await core.do(3, text(dialog.id))
    page = await core.do(5, Sync(cursor=page.cursor))
    assert ([event.seq for event in page.events], page.dialogs) == ([4], UNSET)


async def test_a_cursor_of_another_journal_begins_anew(core: Core) -> None:
    dialog = await core.do(1, with_user(2))
    cursor = sync.text_of(sync.SyncCursor(after=999))
    page = await core.do(1, Sync(cursor=cursor))
    assert [d.id for d in page.dialogs] == [dialog.id]


async def test_a_page_is_bounded_in_bytes(core: Core) -> None:
    dialog = await core.do(1, with_user(2))
    device = Device(2)
    await device.catch_up(core, 10)
    for _ in range(120):
        await core.do(1, text(dialog.id, "x" * 4_000))
    for flushed in (False, True):
        if flushed:
            await core.flusher.flush()
            core.state._limits = StateLimits(dialogs_max=1)
            core.state.evict()
        page = await core.do(2, Sync(cursor=device.cursor, limit=1_000))
        assert page.has_more
        assert 20 < len(page.events) < 60
    await device.catch_up(core, 1_000)
    assert device.last_seq[dialog.id] == 121


@pytest.mark.parametrize("cursor", ["x", "é", "!!!!", "AAAA", "lQMEAAAA", "lcAEAAAA"])
async def test_what_is_no_cursor_is_refused(core: Core, cursor: str) -> None:
    with pytest.raises(Invalid):
        await core.do(1, Sync(cursor=cursor))


async def test_a_cursor_can_say_anything_and_shows_ones_own_dialogs_only(
    core: Core,
) -> None:
    theirs = await core.do(1, with_user(2))
    ours = await core.do(1, with_user(3))
    await core.flusher.flush()
    for number in range(4):
        for seq in (0, 1, 9):
            cursor = sync.text_of(sync.SyncCursor(1, 0, 2, number, seq))
            page = await core.do(3, Sync(cursor=cursor))
            assert {event.dialog_id for event in page.events} <= {ours.id}
            assert theirs.id not in str(shape(page))


class InterruptedStore(MemoryDialogStore):
    """Something happens while `changed` is on its way back."""

    async def changed(
        self, user_number: int, **how: Any
    ) -> tuple[list[ChangedDialog], int]:
        answer = await super().changed(user_number, **how)
        await self.meanwhile()
        return answer

    async def meanwhile(self) -> None:
        """What happens."""


async def test_a_state_of_ones_own_is_as_of_one_event() -> None:
    """Found by the simulation: counts of now with a cursor of before."""
    store = InterruptedStore()
    core = Core(store)
    async with loading(core):
        crowd = await core.do(1, group_of(range(1, 120)))
        await core.flusher.flush()
        cursor = (await core.do(5, Sync())).cursor
        await core.do(1, text(crowd.id))
        await core.flusher.flush()
        core = await core.restart(limits=StateLimits(tail_max=1))
    async with loading(core):

        async def send_and_store() -> None:
            store.meanwhile = nothing  # type: ignore[method-assign]
            await core.do(5, text(crowd.id))
            await core.flusher.flush()

        store.meanwhile = send_and_store  # type: ignore[method-assign]
        page = await core.do(5, Sync(cursor=cursor))
        assert [event.seq for event in page.events] == [2]
        [own] = page.own
        assert (own.last_seq, own.read_seq, own.unread_count) == (3, 3, 0)


async def nothing() -> None:
    pass


@pytest.mark.parametrize("seed", range(30))
async def test_every_device_converges_under_any_interleaving(seed: int) -> None:
    """Devices page at any time while others write; flushes, evictions, restarts."""
    choose = random.Random(seed)
    limits = StateLimits(dialogs_max=2, tail_max=2, client_ids_max=2)
    core = Core(limits=limits, seed=seed)
    devices = [Device(user) for user in (1, 2, 2, 3, 4)]
    dialogs: list[tuple[str, tuple[int, ...]]] = []
    messages: list[tuple[UUID, tuple[int, ...]]] = []

    async def write() -> None:
        kind = choose.random()
        if kind < 0.1 or not dialogs:
            users = tuple(choose.sample((1, 2, 3, 4), 2))
            command = with_user(users[1])
            if choose.random() < 0.5:
                users = (users[0], *range(1, choose.choice([4, 130])))
                command = group_of(users)
            answer = await core.do(users[0], command)
            id = getattr(answer, "body", answer).id
            dialogs.append((id, users))
            return
        id, users = choose.choice(dialogs)
        user = choose.choice([user for user in users if user < 5])
        if kind < 0.3 and messages:
            message, users = choose.choice(messages)
            await core.do(
                choose.choice([u for u in users if u < 5]), ReadMessages(message)
            )
        else:
            answer = await core.do(user, text(id, str(choose.random())))
            messages.append((UUID(answer.id), users))

    for _ in range(4):
        async with loading(core):
            for _ in range(120):
                core.clock.advance(choose.randrange(100))
                step = choose.random()
                if step < 0.5:
                    await write()
                elif step < 0.85:
                    device = choose.choice(devices)
                    await device.page(core, choose.choice([1, 2, 5, 300]))
                else:
                    await core.flusher.flush_batch()
            for device in devices:
                await device.catch_up(core, choose.choice([1, 7, 300]))
            check(core, devices)
        core = await core.restart(limits=limits)


def check(core: Core, devices: list[Device]) -> None:
    """What is applied is what every device knows, to the last seq."""
    told: Known = {}
    members: dict[str, list[int]] = {}
    for who, event, _ in core.hub.told:
        if getattr(event, "seq", UNSET) is not UNSET:
            told.setdefault(event.dialog_id, []).append(shape(event))
            members[event.dialog_id] = who
    for device in devices:
        for id, events in told.items():
            if device.user in members[id]:
                assert device.last_seq[id] == events[-1]["seq"]
                known = {event["seq"]: event for event in device.events.get(id, ())}
                assert all(known.get(e["seq"], e) == e for e in events)
            else:
                assert id not in device.last_seq
