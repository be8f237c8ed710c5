"""What other domains see of messages: what a member sees, and nothing else."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from tchatd.app.conversations import Conversations
from tchatd.domains.messaging.errors import MessageNotFound
from tchatd.domains.messaging.state import StateLimits
from tests.support.messaging import Core, group_of, loading, text, user_id, with_user


async def test_a_member_sees_a_message_and_whose_it_is() -> None:
    core = Core()
    conversations = Conversations(core.state, core.applier)
    async with loading(core):
        dialog = await core.do(1, with_user(2))
        sent = await core.do(1, text(dialog.id, "hello"))
        seen = await conversations.message(2, UUID(sent.id))
    assert (seen.id, seen.dialog_id, seen.sender) == (sent.id, dialog.id, 1)
    assert seen.sender_id == user_id(1)
    assert seen.message.content.text == "hello"


async def test_a_message_that_was_forgotten_is_read_from_the_store() -> None:
    core = Core(limits=StateLimits(dialogs_max=1, tail_max=1))
    conversations = Conversations(core.state, core.applier)
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
    conversations = Conversations(core.state, core.applier)
    async with loading(core):
        dialog = await core.do(1, with_user(2))
        sent = UUID((await core.do(1, text(dialog.id))).id)
        created = UUID(int=sent.int - 1)  # the address of the creation, which is none
        later = UUID(int=sent.int + 1)
        for user, id in ((3, sent), (1, created), (1, later), (1, uuid4())):
            with pytest.raises(MessageNotFound):
                await conversations.message(user, id)
