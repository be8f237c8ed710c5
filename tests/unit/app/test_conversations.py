"""What other domains see of messages: what a member sees, and nothing else."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
import trio
import trio.testing

from tchatd.app.conversations import Conversations
from tchatd.domains.messaging.errors import DialogNotFound, MessageNotFound
from tchatd.domains.messaging.member_models import (
    ChangeDialog,
    DropDialog,
    SettingsChange,
)
from tchatd.domains.messaging.message_commands import DeleteMessage, EditMessage
from tchatd.domains.messaging.state import StateLimits
from tests.support.messaging import (
    Core,
    group_of,
    loading,
    shape,
    text,
    user_id,
    with_user,
)


async def test_a_member_sees_a_message_and_whose_it_is() -> None:
    core = Core()
    conversations = Conversations(core.state, core.applier, core.clock)
    async with loading(core):
        dialog = await core.do(1, with_user(2))
        sent = await core.do(1, text(dialog.id, "hello"))
        seen = await conversations.message(2, UUID(sent.id))
    assert (seen.id, seen.dialog_id, seen.sender) == (sent.id, dialog.id, 1)
    assert seen.sender_id == user_id(1)
    assert seen.message.content.text == "hello"


async def test_a_message_that_was_forgotten_is_read_from_the_store() -> None:
    core = Core(limits=StateLimits(dialogs_max=1, tail_max=1))
    conversations = Conversations(core.state, core.applier, core.clock)
    async with loading(core):
        dialog = await core.do(1, with_user(2))
        sent = await core.do(1, text(dialog.id, "old"))
        for number in range(5):
            await core.do(1, text(dialog.id, str(number)))
        await core.flusher.flush()
        await core.do(1, group_of([2]))
        await core.flusher.flush()
        seen = await conversations.message(2, UUID(sent.id))
    assert seen.message.content == {"text": "old"}


async def test_what_is_not_theirs_or_no_message_is_not_there() -> None:
    core = Core()
    conversations = Conversations(core.state, core.applier, core.clock)
    async with loading(core):
        dialog = await core.do(1, with_user(2))
        sent = UUID((await core.do(1, text(dialog.id))).id)
        created = UUID(int=sent.int - 1)  # the address of the creation, which is none
        later = UUID(int=sent.int + 1)
        for user, id in ((3, sent), (1, created), (1, later), (1, uuid4())):
            with pytest.raises(MessageNotFound):
                await conversations.message(user, id)


async def test_what_has_vanished_or_is_hidden_from_them_is_not_there() -> None:
    core = Core()
    conversations = Conversations(core.state, core.applier, core.clock)
    vanishing = SettingsChange(vanish_after_s=3_600)
    async with loading(core):
        dialog = await core.do(1, group_of([2]))
        hidden = UUID((await core.do(1, text(dialog.id, "hidden"))).id)
        await core.do(2, DeleteMessage(message_id=hidden, for_="me"))
        change = ChangeDialog(dialog_id=dialog.id, settings=vanishing)
        await core.do(1, change)
        vanished = UUID((await core.do(1, text(dialog.id, "vanishing"))).id)
        for look in (conversations.message, conversations.seen_message):
            assert (await look(1, hidden)).message.content.text == "hidden"
            assert (await look(2, vanished)).message.content.text == "vanishing"
            with pytest.raises(MessageNotFound):
                await look(2, hidden)
        core.clock.advance(3_600_000)
        for look in (conversations.message, conversations.seen_message):
            with pytest.raises(MessageNotFound):
                await look(2, vanished)


async def test_a_member_sees_the_dialog_and_who_made_it() -> None:
    core = Core()
    conversations = Conversations(core.state, core.applier, core.clock)
    async with loading(core):
        dialog = await core.do(1, group_of([2], "Lunch"))
        seen = await conversations.seen_dialog(2, dialog.id)
        with pytest.raises(DialogNotFound):
            await conversations.seen_dialog(3, dialog.id)
    assert (str(seen.id), seen.creator) == (dialog.id, 1)
    assert seen.summary["name"] == "Lunch"
    assert seen.summary["member_count"] == 2


async def test_a_removed_message_is_gone_for_everyone_by_nobody() -> None:
    core = Core()
    conversations = Conversations(core.state, core.applier, core.clock)
    async with loading(core):
        dialog = await core.do(1, with_user(2))
        sent = UUID((await core.do(1, text(dialog.id, "bad"))).id)
        core.auto = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(conversations.remove_message, sent, "illegal")
            await trio.testing.wait_all_tasks_blocked()
            core.journal.sync()
        members, event, left_out = core.hub.told[-1]
        assert (members, left_out) == ([1, 2], None)
        assert shape(event) == {
            "op": "message.deleted",
            "dialog_id": dialog.id,
            "seq": 3,
            "message_id": str(sent),
            "message_seq": 2,
            "at": event.at,
            "reason": "illegal",
        }
        for id in (sent, uuid4(), UUID(int=sent.int + 9)):
            with pytest.raises(MessageNotFound):
                await conversations.remove_message(id, "again")
        with pytest.raises(MessageNotFound):
            await conversations.message(1, sent)


async def test_a_stored_message_below_another_is_removed_with_its_count() -> None:
    core = Core(limits=StateLimits(dialogs_max=1, tail_max=1))
    conversations = Conversations(core.state, core.applier, core.clock)
    async with loading(core):
        dialog = await core.do(1, with_user(2))
        root = await core.do(1, text(dialog.id, "root"))
        below = await core.do(2, text(dialog.id, "below", thread_id=UUID(root.id)))
        await core.flusher.flush()
        await core.do(1, group_of([2]))
        await core.flusher.flush()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(conversations.remove_message, UUID(below.id), "why")
            await trio.testing.wait_all_tasks_blocked()
            core.journal.sync()
        seen = await conversations.message(1, UUID(root.id))
    assert seen.message.thread.count == 0


async def test_a_message_now_is_what_became_of_it_also_for_who_has_left() -> None:
    core = Core(limits=StateLimits(dialogs_max=1, tail_max=1))
    conversations = Conversations(core.state, core.applier, core.clock)
    async with loading(core):
        dialog = await core.do(1, group_of([2]))
        sent = UUID((await core.do(2, text(dialog.id, "slip"))).id)
        gone = UUID((await core.do(2, text(dialog.id, "gone"))).id)
        await core.do(2, EditMessage(message_id=sent, content={"text": "better"}))
        await core.do(2, DeleteMessage(message_id=gone))
        for _ in range(2):
            edited = await conversations.message_now(sent)
            deleted = await conversations.message_now(gone)
            assert edited is not None
            assert shape(edited)["content"] == {"text": "better"}
            assert deleted is not None
            assert (deleted.content, bool(deleted.deleted_at)) == ({}, True)
            await core.flusher.flush()
            other = await core.do(1, group_of([3]))  # the first one is forgotten
            await core.do(1, text(other.id))
            await core.flusher.flush()
        for id in (uuid4(), UUID(int=sent.int - 1), UUID(int=gone.int + 9)):
            assert await conversations.message_now(id) is None


async def test_a_message_now_is_nothing_once_its_time_is_over() -> None:
    core = Core()
    conversations = Conversations(core.state, core.applier, core.clock)
    async with loading(core):
        dialog = await core.do(1, group_of([2]))
        settings = SettingsChange(vanish_after_s=3_600)
        await core.do(1, ChangeDialog(dialog_id=dialog.id, settings=settings))
        sent = await core.do(1, text(dialog.id, "for an hour"))
        before = await conversations.message_now(UUID(sent.id))
        core.clock.advance(3_600_000)
        after = await conversations.message_now(UUID(sent.id))
    assert before is not None
    assert shape(before)["content"] == {"text": "for an hour"}
    assert after is not None
    assert after.content == {}


async def test_of_a_dialog_that_was_dropped_nobody_sees_a_message() -> None:
    core = Core()
    conversations = Conversations(core.state, core.applier, core.clock)
    async with loading(core):
        dialog = await core.do(1, group_of([2]))
        sent = await core.do(1, text(dialog.id))
        await core.do(1, DropDialog(dialog.id))
        assert await conversations.message_now(UUID(sent.id)) is None
