"""What search may show: to whom, as it is now, also of what only memory knows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from tchatd.domains.messaging.access import DialogAccess
from tchatd.domains.messaging.content import PollContent, TextContent
from tchatd.domains.messaging.errors import DialogNotFound
from tchatd.domains.messaging.finding import Finding, texts_of
from tchatd.domains.messaging.member_models import RemoveMember
from tchatd.domains.messaging.message_commands import (
    ClearDialog,
    DeleteMessage,
    EditMessage,
)
from tchatd.domains.messaging.models import CreateDialog
from tchatd.domains.messaging.settings import DialogSettings
from tchatd.domains.messaging.state import StateLimits
from tchatd.stores.memory.finding import MemoryFindingStore
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


def finding_of(core: Core) -> Finding:
    assert isinstance(core.store, MemoryDialogStore)
    access = DialogAccess(core.state, core.applier)
    return Finding(core.state, core.applier, access, MemoryFindingStore(core.store))


@pytest.fixture(params=["in memory", "in the store", "evicted"])
async def core(request: pytest.FixtureRequest) -> AsyncIterator[Core]:
    """`flushes`: what is done is in the store at once, and maybe not in memory."""
    is_evicted = request.param == "evicted"
    limits = StateLimits(dialogs_max=1, tail_max=1) if is_evicted else None
    core = Core(limits=limits)
    do = core.do

    async def flushed(user: int, command: Any, **around: Any) -> Any:
        answer = await do(user, command, **around)
        if request.param != "in memory":
            await core.flusher.flush()
        return answer

    core.do = flushed  # type: ignore[method-assign]
    async with loading(core):
        yield core


def key_of(dialog_number: int, message: Any) -> tuple[int, int]:
    return dialog_number, message.seq


async def test_a_message_is_seen_by_members(core: Core) -> None:
    dialog = await core.do(1, with_user(2))
    message = await core.do(1, text(dialog.id, "hello"))
    finding = finding_of(core)
    number = await finding.number_of(1, UUID(dialog.id))
    await core.do(3, with_user(4))
    key = key_of(number, message)
    seen = await finding.messages(2, [key, (number, 99), (99, 1)])
    assert list(seen) == [key]
    assert shape(seen[key].message) == shape(message)
    assert seen[key].texts == (("text", "hello"),)
    assert (seen[key].text, seen[key].dialog_id) == ("hello", dialog.id)
    assert await finding.messages(3, [key]) == {}
    assert await finding.messages(2, [(number, 1)]) == {}  # no message


async def test_it_is_as_it_is_now(core: Core) -> None:
    dialog = await core.do(1, with_user(2))
    edited = await core.do(1, text(dialog.id, "hello"))
    gone = await core.do(1, text(dialog.id, "hello"))
    hidden = await core.do(1, text(dialog.id, "hello"))
    finding = finding_of(core)
    number = await finding.number_of(1, UUID(dialog.id))
    await core.do(
        1, EditMessage(message_id=UUID(edited.id), content={"text": "goodbye"})
    )
    await core.do(1, DeleteMessage(message_id=UUID(gone.id)))
    await core.do(2, DeleteMessage(message_id=UUID(hidden.id), for_="me"))
    await core.do(3, with_user(4))
    keys = [key_of(number, message) for message in (edited, gone, hidden)]
    mine, theirs = await finding.messages(1, keys), await finding.messages(2, keys)
    assert list(mine) == [keys[0], keys[2]]
    assert list(theirs) == [keys[0]]
    assert theirs[keys[0]].text == "goodbye"
    await core.do(1, ClearDialog(dialog.id))
    await core.do(3, with_user(4))
    assert await finding.messages(1, keys) == {}
    assert list(await finding.messages(2, keys)) == [keys[0]]


async def test_who_left_sees_nothing_and_is_nowhere(core: Core) -> None:
    dialog = await core.do(1, group_of([2, 3]))
    message = await core.do(1, text(dialog.id, "hello"))
    pair = await core.do(2, with_user(5))
    finding = finding_of(core)
    number = await finding.number_of(2, UUID(dialog.id))
    other = await finding.number_of(2, UUID(pair.id))
    assert await finding.memberships(2) == sorted([number, other])
    await core.do(2, RemoveMember(dialog_id=dialog.id, user_id=user_id(2)))
    assert await finding.memberships(2) == [other]
    assert await finding.messages(2, [key_of(number, message)]) == {}
    with pytest.raises(DialogNotFound):
        await finding.number_of(2, UUID(dialog.id))
    shown = await finding.dialogs(2, [number, other])
    assert [dialog.id for dialog in shown] == [pair.id]
    assert await finding.memberships(99) == []


async def test_whom_one_talks_to_alone(core: Core) -> None:
    pair = await core.do(2, with_user(5))
    await core.do(2, group_of([6]))
    await core.flusher.flush()
    finding = finding_of(core)
    number = await finding.number_of(2, UUID(pair.id))
    assert await finding.acquaintances(2) == {5: number}
    assert await finding.acquaintances(5) == {2: number}
    assert await finding.acquaintances(6) == {}


async def test_public_channels_for_who_is_not_in_them(core: Core) -> None:
    settings = DialogSettings(description="All of it", public_name="daily_news")
    made = CreateDialog(type="channel", name="News", participants=[user_id(2)])
    public = await core.do(1, made)
    private = await core.do(1, made)
    finding = finding_of(core)
    numbers = [
        await finding.number_of(1, UUID(dialog.id)) for dialog in (public, private)
    ]
    dialog = core.state.find_number(numbers[0])
    if dialog is None:
        return  # evicted: its settings are set in memory here
    dialog.set_settings(settings)
    found = await finding.channels(3, [*numbers, 999])
    assert [channel["public_name"] for channel in found] == ["daily_news"]
    assert found[0]["member_count"] == 2
    assert found[0]["description"] == "All of it"
    assert await finding.channels(2, numbers) == []


async def test_no_such_dialog(core: Core) -> None:
    with pytest.raises(DialogNotFound):
        await finding_of(core).number_of(1, uuid4())
    assert await finding_of(core).dialogs(1, [77]) == []
    assert await finding_of(core).messages(1, []) == {}


def test_all_that_a_message_says_in_words() -> None:
    assert texts_of({}) == ()
    assert texts_of({"text": "a", "other": "b"}) == (("text", "a"),)
    assert texts_of({"name": "a.pdf", "size_bytes": 5}) == (("name", "a.pdf"),)
    assert texts_of({"caption": "a", "file_url": "https://x"}) == (("caption", "a"),)
    assert texts_of({"title": "Cafe", "latitude": 1.0}) == (("title", "Cafe"),)
    assert texts_of({"description": "rent", "amount": 5}) == (("description", "rent"),)
    assert texts_of(TextContent(text="a")) == (("text", "a"),)
    poll = PollContent(question="Q", options=["a", "b"])
    assert texts_of(poll) == (("question", "Q"), ("options/0", "a"), ("options/1", "b"))
