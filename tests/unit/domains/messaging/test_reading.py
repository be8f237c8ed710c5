"""Pages are whole wherever their parts are: tail, store, or both."""

from __future__ import annotations

import random
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
import trio
from msgspec import UNSET

from tchatd.domains.messaging import errors
from tchatd.domains.messaging.access import ATTEMPTS_MAX
from tchatd.domains.messaging.member_models import RemoveMember
from tchatd.domains.messaging.message_commands import GetMessage
from tchatd.domains.messaging.models import (
    GetDialog,
    ListDialogs,
    ListEvents,
    ListMessages,
    ReadMessages,
    Sync,
)
from tchatd.domains.messaging.reading import within_bytes
from tchatd.domains.messaging.state import StateLimits
from tchatd.domains.messaging.store import EventRow
from tchatd.kernel.deferred import Deferred
from tchatd.kernel.errors import DomainError, Invalid, Unavailable
from tests.support.members import add, change, channel_of, remove
from tests.support.messaging import (
    Core,
    group_of,
    loading,
    shape,
    text,
    user_id,
    with_user,
)


async def talk(core: Core, count: int = 40) -> tuple[str, list[str]]:
    """A dialog of 1 and 2 in which both write and read, flushed now and then."""
    core.state._limits = StateLimits(tail_max=3)
    choose = random.Random(5)
    dialog = await core.do(1, with_user(2))
    ids: list[str] = []
    for _ in range(count):
        core.clock.advance(10)
        ids.append((await core.do(choose.choice((1, 2)), text(dialog.id))).id)
        if choose.random() < 0.3:
            await core.do(choose.choice((1, 2)), ReadMessages(UUID(ids[-1])))
        if choose.random() < 0.2:
            await core.flusher.flush()
    return dialog.id, ids


@pytest.mark.parametrize("limit", [1, 3, 7, 1_000])
async def test_the_log_is_read_in_pages_without_a_hole(core: Core, limit: int) -> None:
    dialog_id, _ = await talk(core)
    seqs: list[int] = []
    while True:
        after = seqs[-1] if seqs else 0
        page = await core.do(
            1, ListEvents(dialog_id=dialog_id, after=after, limit=limit)
        )
        seqs += [event.seq for event in page.events]
        assert page.has_more == (seqs[-1] < page.last_seq)
        if not page.has_more:
            break
    assert seqs == list(range(1, page.last_seq + 1))
    beyond = await core.do(1, ListEvents(dialog_id=dialog_id, after=10_000))
    assert (beyond.events, beyond.has_more) == ([], False)


async def test_the_log_says_the_same_from_memory_and_from_the_store(core: Core) -> None:
    dialog_id, _ = await talk(core)
    whole = ListEvents(dialog_id=dialog_id, limit=1_000)
    before = shape(await core.do(2, whole))
    await core.flusher.flush()
    again = await core.restart()
    async with loading(again):
        assert shape(await again.do(2, whole)) == before


@pytest.mark.parametrize("limit", [1, 4, 100])
async def test_messages_are_read_backwards_and_forwards(core: Core, limit: int) -> None:
    dialog_id, ids = await talk(core)

    async def pages(side: str) -> list[str]:
        found: list[str] = []
        edge: Any = UNSET if side == "before" else UUID(ids[0])
        while True:
            command = ListMessages(dialog_id=dialog_id, limit=limit, **{side: edge})
            page = await core.do(2, command)
            shown = [message.id for message in page.messages]
            assert shown == sorted(shown, reverse=True)
            found += shown if side == "before" else reversed(shown)
            if not page.has_more:
                return found
            edge = UUID(found[-1])

    assert await pages("before") == ids[::-1]
    assert await pages("after") == ids[1:]


async def test_every_page_beside_every_message_is_exact(core: Core) -> None:
    dialog_id, ids = await talk(core, 24)

    async def page(limit: int, **edge: UUID) -> tuple[list[str], bool]:
        command = ListMessages(dialog_id=dialog_id, limit=limit, **edge)
        page = await core.do(1, command)
        return [message.id for message in page.messages][::-1], page.has_more

    for limit in range(1, 26):
        assert await page(limit) == (ids[-limit:], limit < len(ids))
        for index, id in enumerate(ids):
            before, after = ids[:index], ids[index + 1 :]
            want = before[-limit:], limit < len(before)
            assert await page(limit, before=UUID(id)) == want
            assert await page(limit, after=UUID(id)) == (
                after[:limit],
                limit < len(after),
            )


async def test_messages_show_who_has_read_them(core: Core) -> None:
    dialog = await core.do(1, group_of([2, 3]))
    one, two = [await core.do(1, text(dialog.id)) for _ in range(2)]
    await core.do(2, ReadMessages(UUID(one.id)))
    await core.do(3, ReadMessages(UUID(two.id)))
    readers = {}
    for restarted in (False, True):
        if restarted:
            await core.flusher.flush()
            core = await core.restart()
        async with loading(core):
            page = await core.do(1, ListMessages(dialog_id=dialog.id))
            listed = await core.do(1, ListDialogs())
            [latest] = [d.last_message for d in listed.dialogs]
            readers[restarted] = [
                [by.user_id[-1] for by in message.read_by]
                for message in (*page.messages, latest)
            ]
    assert readers[False] == readers[True] == [["3"], ["2", "3"], ["3"]]


@pytest.mark.parametrize("edge", [uuid4(), UUID(int=7 << 76 | 2 << 62 | 9 << 31 | 1)])
async def test_a_page_begins_at_a_message_of_the_dialog(core: Core, edge: UUID) -> None:
    dialog_id, ids = await talk(core, 10)
    await core.do(1, text(dialog_id))
    last = UUID((await core.do(2, text(dialog_id))).id)
    await core.do(1, ReadMessages(last))
    created = UUID(int=UUID(ids[0]).int - 1)
    read = UUID(int=last.int + 1)
    other_times = [UUID(int=UUID(id).int ^ 1 << 90) for id in (ids[0], str(last))]
    for id in (edge, created, read, *other_times):
        with pytest.raises(errors.MessageNotFound):
            await core.do(1, ListMessages(dialog_id=dialog_id, before=id))
    both = ListMessages(dialog_id=dialog_id, before=edge, after=edge)
    with pytest.raises(Invalid):
        await core.do(1, both)


@pytest.mark.parametrize(
    "command", [GetDialog, ListEvents, ListMessages], ids=lambda type: type.__name__
)
async def test_only_members_read(core: Core, command: Any) -> None:
    dialog = await core.do(1, with_user(2))
    for id, error in (
        (dialog.id, errors.DialogNotFound),
        (str(uuid4()), errors.DialogNotFound),
        ("x" * 36, Invalid),
    ):
        with pytest.raises(error):
            await core.do(3, command(dialog_id=id))


async def test_what_is_not_durable_is_not_shown(core: Core) -> None:
    dialog = await core.do(1, with_user(2))
    core.auto = False
    core.service.send_message(core.context(1), text(dialog.id))
    shown: dict[str, Any] = {}

    async def ask(command: Any) -> None:
        shown[type(command).__name__] = await core.do(2, command)

    async with trio.open_nursery() as nursery:
        commands = (
            GetDialog(dialog.id),
            ListDialogs(),
            ListEvents(dialog_id=dialog.id),
            ListMessages(dialog_id=dialog.id),
        )
        for command in commands:
            nursery.start_soon(ask, command)
        await trio.testing.wait_all_tasks_blocked()
        assert shown == {}
        core.journal.sync()
    assert shown["GetDialog"].unread_count == 1
    assert shown["ListDialogs"].dialogs[0].unread_count == 1
    assert len(shown["ListEvents"].events) == 2
    assert len(shown["ListMessages"].messages) == 1


async def test_what_is_not_durable_is_not_shown_beside_what_is_stored(
    core: Core,
) -> None:
    # Given a dialog whose beginning is in the store alone, with more to come,
    dialog_id, ids = await talk(core)
    await core.flusher.flush()
    core.auto = False
    core.service.send_message(core.context(1), text(dialog_id))
    # when it is read from the beginning or towards the end,
    shown: list[Any] = []

    async def ask(command: Any) -> None:
        shown.append(await core.do(2, command))

    commands = (
        ListEvents(dialog_id=dialog_id, limit=1_000),
        ListMessages(dialog_id=dialog_id, limit=100),
        ListMessages(dialog_id=dialog_id, after=UUID(ids[0]), limit=100),
    )
    async with trio.open_nursery() as nursery:
        for command in commands:
            nursery.start_soon(ask, command)
        await trio.testing.wait_all_tasks_blocked()
        # then nothing is told before all of it is durable.
        assert shown == []
        core.journal.sync()
    assert len(shown) == len(commands)


async def test_a_loaded_dialog_is_not_shown_before_it_is_durable(core: Core) -> None:
    dialog = await core.do(1, group_of(range(2, 120)))
    await core.flusher.flush()
    again = await core.restart()
    again.auto = False
    async with loading(again), trio.open_nursery() as nursery:
        # Given that the cursor of 1 has been loaded and has moved, not that of 2,
        sent = again.service.send_message(again.context(1), text(dialog.id))
        await sent
        shown: list[Any] = []

        async def ask(command: Any) -> None:
            shown.append(await again.do(2, command))

        for command in (GetDialog(dialog.id), ListEvents(dialog_id=dialog.id, after=1)):
            nursery.start_soon(ask, command)
        await trio.testing.wait_all_tasks_blocked()
        assert shown == []
        again.journal.sync()


async def test_a_list_waits_for_the_latest_of_its_dialogs(core: Core) -> None:
    one, two = await core.do(1, with_user(2)), await core.do(1, with_user(3))
    core.auto = False
    core.service.send_message(core.context(1), text(one.id))
    core.service.send_message(core.context(1), text(two.id))
    shown: list[Any] = []

    async def ask() -> None:
        shown.append(await core.do(1, ListDialogs()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        core.journal.sync(core.journal.next_position - 2)
        await trio.testing.wait_all_tasks_blocked()
        assert shown == []
        core.journal.sync()
    assert [dialog.last_seq for dialog in shown[0].dialogs] == [2, 2]


async def test_a_large_dialog_is_listed_with_a_cursor_that_had_to_be_loaded(
    core: Core,
) -> None:
    dialog = await core.do(1, group_of(range(2, 120)))
    sent = [await core.do(1, text(dialog.id)) for _ in range(3)]
    await core.do(2, ReadMessages(UUID(sent[1].id)))
    await core.flusher.flush()
    again = await core.restart()
    async with loading(again):
        await again.do(1, text(dialog.id))
        listed = await again.do(2, ListDialogs())
        assert [(d.id, d.unread_count) for d in listed.dialogs] == [(dialog.id, 2)]


async def test_a_list_whose_cursors_never_come_is_refused(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialog = await core.do(1, group_of(range(2, 120)))
    await core.flusher.flush()
    again = await core.restart()
    asked: list[Any] = []

    async def load(**wants: Any) -> bool:
        asked.append(wants)
        return True

    async with loading(again):
        await again.do(1, text(dialog.id))
        monkeypatch.setattr(again.applier, "load", load)
        with pytest.raises(Unavailable):
            await again.do(2, ListDialogs())
    assert len(asked) == ATTEMPTS_MAX


async def test_a_read_of_what_is_durable_needs_no_task(core: Core) -> None:
    dialog = await core.do(1, with_user(2))
    answer = core.service.list_events(core.context(1), ListEvents(dialog_id=dialog.id))
    assert not isinstance(answer, Deferred)
    assert answer.last_seq == 1


@pytest.mark.parametrize("seed", range(8))
async def test_dialogs_page_by_activity_however_much_is_flushed(seed: int) -> None:
    choose = random.Random(seed)
    core = Core(seed=seed)
    order: list[str] = []
    async with loading(core):
        for number in range(12):
            command = group_of([2]) if number % 3 else with_user(number + 10)
            dialog = await core.do(1, command)
            order.insert(0, dialog.id)
            if choose.random() < 0.3:
                await core.flusher.flush()
        for _ in range(20):
            dialog_id = choose.choice(order)
            await core.do(1, text(dialog_id))
            order.remove(dialog_id)
            order.insert(0, dialog_id)
            if choose.random() < 0.15:
                await core.flusher.flush()
            limit = choose.randrange(1, 8)
            await check_pages(core, order, limit)


async def check_pages(core: Core, order: list[str], limit: int) -> None:
    by_cursor: list[str] = []
    cursor: Any = UNSET
    for offset in range(0, len(order), limit):
        page = await core.do(1, ListDialogs(limit=limit, offset=offset))
        assert [dialog.id for dialog in page.dialogs] == order[offset : offset + limit]
        assert (page.total, page.has_more) == (12, offset + limit < 12)
        page = await core.do(1, ListDialogs(limit=limit, cursor=cursor))
        by_cursor += [dialog.id for dialog in page.dialogs]
        cursor = page.next_cursor
    assert by_cursor == order
    assert cursor is UNSET
    groups = await core.do(1, ListDialogs(type="group", limit=100))
    assert (len(groups.dialogs), groups.total) == (8, 8)
    assert (await core.do(1, ListDialogs(type="channel"))).dialogs == []
    assert (await core.do(1, ListDialogs(offset=500))).dialogs == []


@pytest.mark.parametrize("cursor", ["x", "d1.", "d1.x", "d1.²", "d1." + "9" * 30])
async def test_a_foreign_cursor_is_refused(core: Core, cursor: str) -> None:
    with pytest.raises(DomainError):
        await core.do(1, ListDialogs(cursor=cursor))


def test_a_page_of_rows_has_one_at_least() -> None:
    rows = [EventRow(1, n, 2, n, 0, 0, 1, b"", "x" * 10) for n in range(1, 5)]
    assert within_bytes(rows, 5) == rows[:1]
    assert within_bytes(rows, 20) == rows[:2]
    assert within_bytes(rows, 40) == rows
    assert within_bytes([], 40) == []


async def test_a_list_lacks_nothing_that_has_been_left_but_not_durably(
    core: Core,
) -> None:
    """Found by the simulation: a crash undid the leaving, and the device knew it."""
    dialog = await core.do(1, group_of([2, 3]))
    core.auto = False
    leave = RemoveMember(dialog_id=dialog.id, user_id=user_id(2))
    lists: list[Any] = []

    async def look() -> None:
        lists.append(await core.do(2, ListDialogs()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(core.do, 2, leave)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(look)
        await trio.testing.wait_all_tasks_blocked()
        assert lists == []
        core.journal.sync()
    assert [page.dialogs for page in lists] == [[]]


# Who may not see the members


def named(value: Any) -> set[int]:
    """Whom it names, but for senders and oneself (3)."""
    text = msgspec.json.encode(value).decode()
    return {user for user in (1, 2, 4, 5, 6) if str(user_id(user)) in text}


@pytest.mark.parametrize("is_stored", [False, True])
@pytest.mark.parametrize("type", ["group", "channel"])
async def test_who_may_not_see_the_members_learns_of_no_other(
    core: Core, type: str, is_stored: bool
) -> None:
    """3 is a guest of a group, or a member of a channel, which 1 and 4 run."""
    dialog = await core.do(1, channel_of(2, type=type))
    await core.do(1, add(dialog, 3, role="guest" if type == "group" else "member"))
    cursor = (await core.do(3, Sync())).cursor
    core.hub.told.clear()
    await core.do(1, add(dialog, 4, role="admin"))
    await core.do(1, add(dialog, 5))
    last = await core.do(1, text(dialog.id))
    for reader in (2, 3, 5):
        await core.do(reader, ReadMessages(UUID(last.id)))
    await core.do(5, remove(dialog, 5))
    if is_stored:
        await core.flusher.flush()
        core = await core.restart(users=200)
    async with loading(core):
        live = [event for who, event, _ in core.hub.told if 3 in who]
        log = await core.do(3, ListEvents(dialog_id=dialog.id))
        missed = await core.do(3, Sync(cursor=cursor))
        seqs = [event.seq for event in log.events]
        assert seqs == list(range(1, log.last_seq + 1))
        for events in (live, log.events, missed.events):
            assert named([e for e in events if type_of(e) != "message.new"]) <= {1, 4}
        view = await core.do(3, GetDialog(dialog.id))
        assert (view.participants, view.member_count) == ((), 4)
        for shown in (
            view,
            await core.do(3, ListDialogs()),
            await core.do(3, ListMessages(dialog_id=dialog.id)),
            await core.do(3, GetMessage(UUID(last.id))),
            await core.do(3, Sync()),
        ):
            assert named(shown) == {1}  # who has sent the message
            assert '"read_by":[{' not in msgspec.json.encode(shown).decode()
        seen = await core.do(4, GetDialog(dialog.id))
        assert len(seen.participants) == 4
        assert {reader.user_id for reader in seen.last_message.read_by} == {
            *map(str, map(user_id, (2, 3)))
        }
        log = await core.do(4, ListEvents(dialog_id=dialog.id))
        assert 5 in named(log.events)


def type_of(event: Any) -> str:
    return str(event.__struct_config__.tag)


async def test_in_a_large_channel_nobody_is_named_live(core: Core) -> None:
    dialog = await core.do(1, channel_of(*range(2, 150)))
    core.hub.told.clear()
    await core.do(1, add(dialog, 160))
    await core.do(2, remove(dialog, 2))
    await core.do(1, change(dialog, 3, "admin"))
    told = [(who, e) for who, e, _ in core.hub.told if hasattr(e, "by")]
    assert [named(event) for who, event in told if 6 in who] == [set(), set(), {1}]
    assert [named(event) for who, event in told if 2 in who][-1] == {2}
    log = await core.do(1, ListEvents(dialog_id=dialog.id))
    assert named(log.events[1:]) >= {1, 2}
