"""A device that was away gets every event it missed, once, in order."""

from __future__ import annotations

import random
from base64 import urlsafe_b64encode
from typing import Any
from uuid import UUID

import msgspec
import pytest
import trio
from msgspec import UNSET

from tchatd.domains.messaging import sync
from tchatd.domains.messaging.member_models import (
    AddMembers,
    ChangeOwn,
    DropDialog,
    RemoveMember,
    SaveDraft,
)
from tchatd.domains.messaging.message_commands import DeleteMessage, EditMessage
from tchatd.domains.messaging.models import (
    GetDialog,
    ListDialogs,
    ReadMessages,
    Sync,
)
from tchatd.domains.messaging.state import StateLimits
from tchatd.domains.messaging.store import ChangedDialog
from tchatd.kernel.errors import Invalid
from tchatd.stores.memory.messaging import MemoryDialogStore
from tests.support.messaging import (
    Core,
    group_of,
    loading,
    shape,
    text,
    user_id,
    with_user,
)

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


async def test_a_dialog_that_leaves_the_rest_of_the_list_is_told_by_its_event(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "DIALOGS_PAGE_MAX", 1)
    low, middle, top = [await core.do(1, with_user(n)) for n in (2, 3, 4)]
    begun = await core.do(1, Sync())
    assert [d.id for d in begun.dialogs] == [top.id]
    await core.do(2, text(low.id))
    rest = await core.do(1, ListDialogs(cursor=begun.dialogs_cursor))
    assert [d.id for d in rest.dialogs] == [middle.id]
    page = await core.do(1, Sync(cursor=begun.cursor))
    assert [(event.dialog_id, event.seq) for event in page.events] == [(low.id, 2)]
    assert (await core.do(1, GetDialog(low.id))).last_seq == 2


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
    assert [event.seq for event in pages["next"].events] == [2]
    assert [event.seq for event in pages["first of many"].events] == [2]
    later = await core.do(2, Sync(cursor=pages["next"].cursor))
    assert [event.seq for event in later.events] == [3]


async def test_what_is_not_durable_yet_holds_nobody_up_but_who_is_told_of_it(
    core: Core,
) -> None:
    dialog = await core.do(1, with_user(2))
    other = await core.do(3, with_user(4))
    cursor = (await core.do(2, Sync())).cursor
    await core.do(1, text(dialog.id))
    await core.flusher.flush()
    core.auto = False
    core.service.send_message(core.context(3), text(other.id))
    page = await core.do(2, Sync(cursor=cursor))
    assert [event.seq for event in page.events] == [2]
    core.journal.sync()


async def test_a_cursor_that_names_a_later_end_waits_for_it(core: Core) -> None:
    dialog = await core.do(1, with_user(2))
    await core.do(1, text(dialog.id))
    core.auto = False
    core.service.send_message(core.context(1), text(dialog.id))
    ahead = core.applier.applied_position
    pages: list[Any] = []

    async def ask() -> None:
        cursor = sync.text_of(sync.SyncCursor(after=1, until=ahead))
        pages.append(await core.do(2, Sync(cursor=cursor)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        assert pages == []
        core.journal.sync()
    assert [event.seq for event in pages[0].events][-1] == 3


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


# Who comes and goes

STORED = pytest.mark.parametrize("is_stored", [False, True])


async def flushed(core: Core, is_stored: bool) -> None:
    if is_stored:
        await core.flusher.flush()


async def add(core: Core, dialog_id: str, *users: int) -> None:
    ids = [user_id(user) for user in users]
    await core.do(1, AddMembers(dialog_id=dialog_id, user_ids=ids))


def gone(dialog_id: str, user: int) -> RemoveMember:
    return RemoveMember(dialog_id=dialog_id, user_id=user_id(user))


@STORED
async def test_who_joined_gets_the_dialog_whole_and_no_event_twice(
    core: Core, is_stored: bool
) -> None:
    dialog = await core.do(1, group_of([2]))
    cursor = (await core.do(3, Sync())).cursor
    await core.do(1, text(dialog.id))
    await add(core, dialog.id, 3)
    last = await core.do(1, text(dialog.id))
    await flushed(core, is_stored)
    page = await core.do(3, Sync(cursor=cursor))
    [whole] = page.dialogs
    assert (whole.last_seq, whole.unread_count) == (last.seq, 1)
    assert whole.last_message == last
    assert (page.events, page.own, page.left) == ([], UNSET, UNSET)
    later = await core.do(1, text(dialog.id))
    page = await core.do(3, Sync(cursor=page.cursor))
    assert [event.message for event in page.events] == [later]


@STORED
@pytest.mark.parametrize("by", [1, 3])
async def test_who_left_is_told_so_and_nothing_after_it(
    core: Core, is_stored: bool, by: int
) -> None:
    dialog = await core.do(1, group_of([2, 3]))
    cursor = (await core.do(3, Sync())).cursor
    await core.do(1, text(dialog.id))
    await core.do(by, gone(dialog.id, 3))
    await core.do(1, text(dialog.id, "a secret"))
    await flushed(core, is_stored)
    for _ in range(2):
        page = await core.do(3, Sync(cursor=cursor))
        assert [shape(event)["op"] for event in page.events] == [
            "message.new",
            "member.removed",
        ]
        assert (page.left, page.own, page.dialogs) == ([dialog.id], UNSET, UNSET)
        after = page.cursor
        await core.do(1, text(dialog.id))
    page = await core.do(3, Sync(cursor=after))
    assert (page.events, page.left) == ([], UNSET)


@STORED
async def test_who_left_and_joined_again_gets_the_dialog_whole(
    core: Core, is_stored: bool
) -> None:
    dialog = await core.do(1, group_of([2, 3]))
    cursor = (await core.do(3, Sync())).cursor
    await core.do(3, gone(dialog.id, 3))
    await flushed(core, is_stored)
    await core.do(1, text(dialog.id))
    await add(core, dialog.id, 3)
    page = await core.do(3, Sync(cursor=cursor))
    assert [(d.id, d.last_seq) for d in page.dialogs] == [(dialog.id, 4)]
    assert (page.events, page.left) == ([], UNSET)


@STORED
async def test_who_joined_and_left_is_told_of_the_leaving_alone(
    core: Core, is_stored: bool
) -> None:
    dialog = await core.do(1, group_of([2]))
    cursor = (await core.do(3, Sync())).cursor
    await add(core, dialog.id, 3)
    await core.do(1, text(dialog.id))
    await core.do(3, gone(dialog.id, 3))
    await flushed(core, is_stored)
    page = await core.do(3, Sync(cursor=cursor))
    assert (page.events, page.dialogs, page.left) == ([], UNSET, [dialog.id])


@STORED
async def test_a_dialog_that_was_deleted_is_left(core: Core, is_stored: bool) -> None:
    dialog = await core.do(1, group_of([2]))
    cursor = (await core.do(2, Sync())).cursor
    await core.do(1, DropDialog(dialog.id))
    await flushed(core, is_stored)
    page = await core.do(2, Sync(cursor=cursor))
    assert [shape(event)["op"] for event in page.events] == ["dialog.deleted"]
    assert page.left == [dialog.id]
    page = await core.do(2, Sync(cursor=page.cursor))
    assert (page.events, page.left) == ([], UNSET)


async def test_who_left_and_joined_again_since_the_pass_began_begins_anew(
    core: Core,
) -> None:
    """Found by the simulation: a hole before the leaving that comes live."""
    dialog = await core.do(1, group_of([2, 3]))
    cursor = (await core.do(3, Sync())).cursor
    for _ in range(4):
        await core.do(1, text(dialog.id))
    page = await core.do(3, Sync(cursor=cursor, limit=2))
    assert (len(page.events), page.has_more) == (2, True)
    await core.do(3, gone(dialog.id, 3))
    await add(core, dialog.id, 3)
    page = await core.do(3, Sync(cursor=page.cursor, limit=2))
    assert (page.events, page.left, page.has_more) == ([], [dialog.id], True)
    page = await core.do(3, Sync(cursor=page.cursor, limit=2))
    assert ([d.last_seq for d in page.dialogs], page.has_more) == ([7], False)


async def test_a_dialog_that_is_deleted_while_a_page_is_made_is_left() -> None:
    """Found by the simulation: nothing was told of it, and a hole was left."""
    core = Core(auto=False)
    async with loading(core), trio.open_nursery() as nursery:
        core.auto = True
        cursor = (await core.do(2, Sync())).cursor
        dialog = await core.do(1, group_of([2]))
        await core.do(1, text(dialog.id))
        core.auto = False
        pages = []

        async def ask() -> None:
            pages.append(await core.do(2, Sync(cursor=cursor)))

        core.service.send_message(core.context(1), text(dialog.id))
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(core.do, 1, DropDialog(dialog.id))
        await trio.testing.wait_all_tasks_blocked()
        core.journal.sync()
        await trio.testing.wait_all_tasks_blocked()
        core.auto = True
        left = [page.left for page in pages]
        later = await core.do(2, Sync(cursor=pages[0].cursor))
    assert [*left, later.left] == [UNSET, [dialog.id]], "it was deleted after the pass"


# Too much


@STORED
async def test_who_missed_too_much_of_a_dialog_gets_it_whole(
    core: Core, is_stored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "MISSED_EVENTS_MAX", 5)
    dialogs = [await core.do(1, with_user(user)) for user in (2, 3)]
    cursor = (await core.do(1, Sync())).cursor
    for _ in range(5):
        await core.do(2, text(dialogs[0].id))
        await core.do(3, text(dialogs[1].id))
    last = await core.do(3, text(dialogs[1].id))
    await flushed(core, is_stored)
    page = await core.do(1, Sync(cursor=cursor))
    assert {event.dialog_id for event in page.events} == {dialogs[0].id}
    assert len(page.events) == 5
    [whole] = page.dialogs
    assert (whole.last_message, whole.unread_count) == (last, 6)


async def test_after_very_many_events_the_rest_comes_whole(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "PASS_EVENTS_MAX", 5)
    dialogs = [await core.do(1, with_user(user)) for user in range(2, 7)]
    cursor = (await core.do(1, Sync())).cursor
    for user, dialog in enumerate(dialogs, 2):
        for _ in range(3):
            await core.do(user, text(dialog.id))
    told, whole, more = [], [], True
    while more:
        page = await core.do(1, Sync(cursor=cursor, limit=2))
        told += [event.dialog_id for event in page.events]
        whole += [d.id for d in page.dialogs or ()]
        cursor, more = page.cursor, page.has_more
    assert told == [dialogs[0].id] * 3 + [dialogs[1].id] * 3
    assert whole == [d.id for d in dialogs[2:]]


async def test_very_many_changed_dialogs_begin_the_device_anew(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "CHANGED_DIALOGS_MAX", 3)
    dialogs = [await core.do(1, with_user(user)) for user in range(2, 6)]
    cursor = (await core.do(1, Sync())).cursor
    for count, dialog in enumerate(dialogs, 1):
        await core.do(1, text(dialog.id))
        await core.flusher.flush()
        page = await core.do(1, Sync(cursor=cursor, limit=2))
        assert page.is_reset == (count > 3)
    assert (len(page.dialogs), page.events, page.has_more) == (4, [], False)
    assert not (await core.do(1, Sync(cursor=page.cursor, limit=2))).is_reset


@STORED
async def test_a_long_pass_begins_with_how_the_latest_dialogs_look(
    core: Core, is_stored: bool
) -> None:
    dialogs = [await core.do(1, with_user(user)) for user in (2, 3, 4)]
    cursor = (await core.do(1, Sync())).cursor
    for user, dialog in ((3, dialogs[1]), (2, dialogs[0])):
        for _ in range(2):
            last = await core.do(user, text(dialog.id))
    await flushed(core, is_stored)
    page = await core.do(1, Sync(cursor=cursor, limit=1))
    assert [d.id for d in page.latest] == [dialogs[0].id, dialogs[1].id]
    assert shape(page.latest[0].last_message) == shape(last)
    assert [d.unread_count for d in page.latest] == [2, 2]
    assert len(page.events) == 1
    page = await core.do(1, Sync(cursor=page.cursor, limit=1))
    assert (page.latest, len(page.events)) == (UNSET, 1)
    short = await core.do(1, Sync(cursor=cursor))
    assert (short.latest, len(short.events), short.has_more) == (UNSET, 4, False)


# What is one's own


@STORED
async def test_what_other_devices_changed_of_ones_own_arrives(
    core: Core, is_stored: bool
) -> None:
    dialog = await core.do(1, with_user(2))
    cursor = (await core.do(1, Sync())).cursor
    await core.do(1, ChangeOwn(dialog_id=dialog.id, is_pinned=True))
    await core.do(1, SaveDraft(dialog_id=dialog.id, text="well"))
    await flushed(core, is_stored)
    page = await core.do(1, Sync(cursor=cursor))
    [own] = page.own
    assert (own.is_pinned, own.draft.text, own.last_seq) == (True, "well", 1)
    assert page.events == []
    assert (await core.do(1, Sync(cursor=page.cursor))).own is UNSET
    assert (await core.do(2, Sync(cursor=cursor))).own is UNSET


@STORED
async def test_what_was_read_in_a_crowd_arrives(core: Core, is_stored: bool) -> None:
    dialog = await core.do(1, group_of(range(2, 120)))
    sent = [await core.do(1, text(dialog.id)) for _ in range(3)]
    cursor = (await core.do(5, Sync())).cursor
    await core.do(5, ReadMessages(UUID(sent[1].id)))
    await flushed(core, is_stored)
    page = await core.do(5, Sync(cursor=cursor))
    [own] = page.own
    assert (own.read_seq, own.unread_count) == (sent[1].seq, 1)
    assert page.events == []


@STORED
async def test_messages_are_told_as_they_are_by_now(
    core: Core, is_stored: bool
) -> None:
    dialog = await core.do(1, with_user(2))
    cursor = (await core.do(2, Sync())).cursor
    sent = [UUID((await core.do(1, text(dialog.id, "x"))).id) for _ in range(3)]
    await flushed(core, is_stored)
    await core.do(1, EditMessage(message_id=sent[0], content={"text": "y"}))
    await core.do(1, EditMessage(message_id=sent[0], content={"text": "z"}))
    await flushed(core, is_stored)
    await core.do(1, DeleteMessage(message_id=sent[1]))
    await core.do(2, DeleteMessage(message_id=sent[2], for_="me"))
    page = shape(await core.do(2, Sync(cursor=cursor)))
    ops = [event["op"] for event in page["events"]]
    assert ops == ["message.new"] * 3 + ["message.edited"] * 2 + ["message.deleted"]
    said = [event["message"]["content"] for event in page["events"][:5]]
    assert said == [{"text": "z"}, {}, {}, {"text": "z"}, {"text": "z"}]
    [own] = page["own"]
    assert (own["unread_count"], own["hidden"]) == (1, [[4, 4]])


# The cost and the cursor


class CountingStore(MemoryDialogStore):
    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if name in ("changed", "ranges", "load", "listed", "events"):
            self.asked.append(name)
        return super().__getattribute__(name)


async def test_300_missed_events_are_one_page_of_two_queries() -> None:
    store = CountingStore()
    core = Core(store)
    async with loading(core):
        dialogs = [await core.do(1, with_user(user)) for user in range(2, 12)]
        cursor = (await core.do(1, Sync())).cursor
        for turn in range(29):
            for user, dialog in enumerate(dialogs, 2):
                sent = await core.do(user, text(dialog.id, str(turn)))
        for _ in range(10):
            edit = EditMessage(message_id=UUID(sent.id), content={"text": str(_)})
            await core.do(11, edit)
        await core.flusher.flush()
        core = await core.restart()
    async with loading(core):
        store.asked.clear()
        page = await core.do(1, Sync(cursor=cursor))
    assert (len(page.events), page.has_more) == (300, False)
    assert store.asked == ["changed", "ranges"]


async def test_cursors_from_before_this_version_are_taken(core: Core) -> None:
    dialog = await core.do(1, with_user(2))
    await core.do(1, Sync())
    sent = [await core.do(2, text(dialog.id)) for _ in range(3)]
    for until, number, seq in ((0, 0, 0), (4, dialog.last_seq, 2)):
        old = msgspec.msgpack.encode([1, 1, until, number, seq])
        cursor = urlsafe_b64encode(old).rstrip(b"=").decode()
        page = await core.do(1, Sync(cursor=cursor))
        assert [event.message for event in page.events] == sent
        assert sync.cursor_of(page.cursor).version == 2


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
