"""Threads, pins, reactions, one message: whole pages wherever their parts are."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from msgspec import UNSET

from tchatd.domains.messaging import errors
from tchatd.domains.messaging.message_commands import (
    DeleteMessage,
    EditMessage,
    GetMessage,
    ListPins,
    ListReactions,
    ListThread,
    PinMessage,
    React,
    Unreact,
)
from tchatd.domains.messaging.models import ListMessages, ReadMessages
from tchatd.kernel.errors import Invalid
from tchatd.stores.memory.messaging import MemoryDialogStore
from tests.support.messaging import Core, loading, shape, text, user_id, with_user
from tests.support.rooms import OUTSIDER, Room, id_of


async def thread_of(room: Room, count: int) -> tuple[Any, list[Any]]:
    """A message and what was said under it, among other talk."""
    root = await room.say(2, "root")
    said = []
    for number in range(count):
        said.append(await room.say(3 + number % 2, f"{number}", thread_id=id_of(root)))
        if number % 2:
            await room.say(5, "elsewhere")
    return root, said


@pytest.mark.parametrize("limit", [1, 3, 50])
async def test_a_thread_is_read_in_pages_newest_first(room: Room, limit: int) -> None:
    root, said = await thread_of(room, 8)
    found: list[str] = []
    edge: dict[str, Any] = {}
    for _ in range(10):
        page = await room.do(1, ListThread(message_id=id_of(root), limit=limit, **edge))
        found += [message.id for message in page.messages]
        if not page.has_more:
            break
        assert len(page.messages) == limit
        edge = {"before": id_of(page.messages[-1])}
    assert found == [message.id for message in reversed(said)]


async def test_a_thread_shows_what_its_messages_are_by_now(room: Room) -> None:
    root, said = await thread_of(room, 4)
    edit = EditMessage(message_id=id_of(said[0]), content={"text": "new"})
    await room.do(3, edit)
    await room.do(4, DeleteMessage(message_id=id_of(said[1])))
    page = await room.do(1, ListThread(message_id=id_of(root)))
    by_id = {message.id: message for message in page.messages}
    assert shape(by_id[said[0].id].content) == {"text": "new"}
    assert by_id[said[1].id].deleted_at is not UNSET
    await room.do(2, DeleteMessage(message_id=id_of(root)))
    page = await room.do(1, ListThread(message_id=id_of(root)))
    assert len(page.messages) == 4  # they stay under what is deleted


async def test_a_thread_is_there_for_members_and_may_be_empty(room: Room) -> None:
    root, said = await thread_of(room, 1)
    for message in (said[0], await room.say(2)):
        page = await room.do(1, ListThread(message_id=id_of(message)))
        assert (page.messages, page.has_more) == ([], False)
    for user, command in (
        (OUTSIDER, ListThread(message_id=id_of(root))),
        (1, ListThread(message_id=uuid4())),
        (1, ListThread(message_id=id_of(root), before=uuid4())),
    ):
        with pytest.raises(errors.MessageNotFound):
            await room.do(user, command)


async def test_one_message_says_who_has_read_it(room: Room) -> None:
    message = await room.say(2)
    await room.do(3, ReadMessages(id_of(message)))
    found = await room.do(2, GetMessage(id_of(message)))
    readers = [by.user_id for by in found.read_by]
    assert readers == ([] if room.place == "large" else [str(user_id(3))])


async def test_all_who_reacted_are_told_in_pages(room: Room) -> None:
    message = await room.say(2)
    wanted = []
    for emoji, users in (("👍", (1, 2, 3, 4, 5)), ("😀", (2, 4)), ("❤", (1,))):
        for user in users:
            await room.do(user, React(message_id=id_of(message), emoji=emoji))
            wanted.append((emoji, str(user_id(user))))
    for limit in (1, 2, 3, 100):
        found, cursor = [], UNSET
        for _ in range(20):
            command = ListReactions(
                message_id=id_of(message), limit=limit, cursor=cursor
            )
            page = await room.do(3, command)
            found += [(r.emoji, r.user_id) for r in page.reactions]
            assert all(r.created_at is not UNSET for r in page.reactions)
            cursor = page.next_cursor
            if cursor is UNSET:
                break
        assert sorted(found) == sorted(wanted)
        assert len(found) == len(set(found))
    only = ListReactions(message_id=id_of(message), emoji="😀")
    page = await room.do(3, only)
    assert [r.user_id for r in page.reactions] == [str(user_id(2)), str(user_id(4))]


async def test_a_page_of_reactions_goes_on_where_things_have_changed(
    room: Room,
) -> None:
    message = await room.say(2)
    for user in (1, 2, 3, 4):
        for emoji in ("👍", "😀"):
            await room.do(user, React(message_id=id_of(message), emoji=emoji))
    first = await room.do(1, ListReactions(message_id=id_of(message), limit=2))
    for user in (1, 2, 3, 4):
        gone = Unreact(message_id=id_of(message), emoji=first.reactions[-1].emoji)
        await room.do(user, gone)
    rest = ListReactions(message_id=id_of(message), cursor=first.next_cursor)
    page = await room.do(1, rest)
    other = {"👍": "😀", "😀": "👍"}[first.reactions[-1].emoji]
    after = first.reactions[-1].emoji < other
    assert [r.emoji for r in page.reactions] == ([other] * 4 if after else [])


@pytest.mark.parametrize("cursor", ["x", "r1.", "r1.x.👍", f"r1.{uuid4()}", "d1.5"])
async def test_a_cursor_of_somebody_else_is_refused(cursor: str) -> None:
    room = await Room().open()
    message = await room.say(2)
    with pytest.raises(Invalid):
        await room.do(2, ListReactions(message_id=id_of(message), cursor=cursor))
    unknown = f"r1.{uuid4()}.👍"
    with pytest.raises(Invalid):
        await room.do(2, ListReactions(message_id=id_of(message), cursor=unknown))


async def test_who_may_not_see_the_members_does_not_see_who_reacted() -> None:
    room = await Room(type="channel").open()
    message = await room.say(1)
    await room.do(3, React(message_id=id_of(message), emoji="👍"))
    assert (await room.do(1, ListReactions(message_id=id_of(message)))).reactions
    with pytest.raises(errors.NotAllowed):
        await room.do(2, ListReactions(message_id=id_of(message)))
    with pytest.raises(errors.MessageNotFound):
        await room.do(OUTSIDER, ListReactions(message_id=id_of(message)))


async def test_pages_are_as_of_now_also_when_it_changes_under_the_query() -> None:
    """A row is as old as its query; what happened since is taken from memory."""
    room = await Room("tail").open()
    said = [await room.say(2, f"{n}") for n in range(12)]
    core: Core = room.core
    await core.flusher.flush()
    store: Any = core.store
    plain = store.messages_before
    done = False

    async def slow(*around: Any) -> Any:
        nonlocal done
        rows = await plain(*around)
        if not done:
            done = True
            for message in said[:6]:
                edit = EditMessage(message_id=id_of(message), content={"text": "new"})
                await core.do(2, edit)
                await core.flusher.flush()
        return rows

    store.messages_before = slow
    async with loading(core):
        page = await core.do(3, ListMessages(dialog_id=room.id, limit=100))
    texts = [shape(message.content)["text"] for message in reversed(page.messages)]
    assert texts == ["new"] * 6 + [f"{n}" for n in range(6, 12)]


async def test_pinned_ones_show_what_they_are_by_now(room: Room) -> None:
    said = [await room.say(2) for _ in range(4)]
    for message in said:
        await room.do(1, PinMessage(id_of(message)))
    edit = EditMessage(message_id=id_of(said[1]), content={"text": "new"})
    await room.do(2, edit)
    await room.do(2, DeleteMessage(message_id=id_of(said[2])))
    pins = await room.do(3, ListPins(room.id))
    assert [m.id for m in pins.messages] == [said[n].id for n in (3, 1, 0)]
    assert shape(pins.messages[1].content) == {"text": "new"}


class NotAsked(MemoryDialogStore):
    async def messages_before(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("the store was asked")


async def test_a_page_of_a_busy_dialog_is_in_memory() -> None:
    """Also when every message was read in between, and all of it is stored."""
    core = Core(NotAsked())
    async with loading(core):
        dialog = await core.do(1, with_user(2))
        ids = []
        for number in range(300):
            message = await core.do(1, text(dialog.id, f"{number}"))
            ids.append(message.id)
            await core.do(2, ReadMessages(message_id=UUID(message.id)))
            if number % 7 == 0:
                await core.flusher.flush()
        await core.flusher.flush()
        page = await core.do(1, ListMessages(dialog_id=dialog.id, limit=50))
        assert [message.id for message in page.messages] == ids[:-51:-1]
