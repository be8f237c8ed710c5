"""What a member keeps for themselves: told to their own devices, and kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from msgspec import UNSET

from tchatd.domains.messaging import errors
from tchatd.domains.messaging.events import OwnState
from tchatd.domains.messaging.member_models import ChangeOwn, DropDialog, SaveDraft
from tchatd.domains.messaging.models import GetDialog, ReadMessages
from tchatd.domains.messaging.state import StateLimits
from tests.support.members import (
    add,
    forget,
    remove,
    small_core,
)
from tests.support.messaging import Core, group_of, loading, text, with_user

SOON = datetime.fromtimestamp(1_800_000_060, UTC)
SOON_TEXT = "2027-01-15T08:01:00.000Z"


async def test_settings_are_told_to_ones_other_devices_only(core: Core) -> None:
    dialog = await core.do(1, group_of([2]))
    core.hub.told.clear()
    command = ChangeOwn(dialog_id=dialog.id, is_pinned=True, muted_until=SOON)
    answer = await core.do(2, command, connection=8)
    assert isinstance(answer, OwnState)
    assert (answer.is_pinned, answer.is_archived) == (True, False)
    assert answer.muted_until == SOON_TEXT
    assert core.hub.told == [([2], answer, 8)]
    mine, theirs = [await core.do(n, GetDialog(dialog.id)) for n in (2, 1)]
    assert (mine.is_pinned, mine.muted_until) == (True, SOON_TEXT)
    assert (theirs.is_pinned, theirs.muted_until) == (False, UNSET)
    assert mine.last_seq == 1


async def test_what_is_absent_stays_and_what_is_so_is_not_journaled(
    core: Core,
) -> None:
    dialog = await core.do(1, with_user(2))
    await core.do(1, ChangeOwn(dialog_id=dialog.id, is_archived=True, is_pinned=True))
    answer = await core.do(1, ChangeOwn(dialog_id=dialog.id, is_pinned=False))
    assert (answer.is_pinned, answer.is_archived) == (False, True)
    at = core.journal.next_position
    for command in (
        ChangeOwn(dialog_id=dialog.id),
        ChangeOwn(dialog_id=dialog.id, is_archived=True, muted_until=None),
        ChangeOwn(dialog_id=dialog.id, muted_until=SOON - timedelta(minutes=2)),
    ):
        assert await core.do(1, command) == answer
    assert core.journal.next_position == at
    await core.do(1, ChangeOwn(dialog_id=dialog.id, muted_until=SOON))
    answer = await core.do(1, ChangeOwn(dialog_id=dialog.id, muted_until=None))
    assert answer.muted_until is UNSET


async def test_a_draft_is_saved_replaced_and_deleted(core: Core) -> None:
    dialog = await core.do(1, with_user(2))
    message = await core.do(2, text(dialog.id))
    command = SaveDraft(dialog_id=dialog.id, text="wel", reply_to_id=UUID(message.id))
    answer = await core.do(1, command)
    assert (answer.draft.text, answer.draft.reply_to_id) == ("wel", message.id)
    at = core.journal.next_position
    core.clock.advance(5_000)
    assert await core.do(1, command) == answer
    assert core.journal.next_position == at
    later = await core.do(1, SaveDraft(dialog_id=dialog.id, text="wel"))
    assert later.draft.reply_to_id is UNSET
    assert later.draft.saved_at > answer.draft.saved_at
    assert (await core.do(2, GetDialog(dialog.id))).draft is UNSET
    gone = await core.do(1, SaveDraft(dialog_id=dialog.id, text=""))
    assert gone.draft is UNSET
    at = core.journal.next_position
    await core.do(1, SaveDraft(dialog_id=dialog.id, text=""))
    assert core.journal.next_position == at


async def test_a_draft_replies_to_a_message_of_its_dialog(core: Core) -> None:
    dialog = await core.do(1, with_user(2))
    other = await core.do(1, group_of([2]))
    foreign = await core.do(1, text(other.id))
    for id, error in (
        (foreign.id, errors.ForeignReply),
        (dialog.id, errors.MessageNotFound),
    ):
        command = SaveDraft(dialog_id=dialog.id, text="x", reply_to_id=UUID(id))
        with pytest.raises(error):
            await core.do(1, command)


async def test_ones_own_survives_eviction_and_a_restart() -> None:
    async with small_core() as core:
        dialog = await core.do(1, group_of(range(2, 120)))
        await forget(core)
        await core.do(90, ChangeOwn(dialog_id=dialog.id, is_pinned=True))
        await forget(core)
        await core.do(90, SaveDraft(dialog_id=dialog.id, text="hm"))
        await forget(core)
        again = await core.restart(limits=StateLimits(dialogs_max=1, tail_max=2))
        async with loading(again):
            view = await again.do(90, GetDialog(dialog.id))
            assert (view.is_pinned, view.draft.text) == (True, "hm")


async def test_who_is_not_in_it_keeps_nothing_there(core: Core) -> None:
    dialog = await core.do(1, group_of([2]))
    commands: list[Any] = [
        ChangeOwn(dialog_id=dialog.id, is_pinned=True),
        SaveDraft(dialog_id=dialog.id, text="x"),
    ]
    for command in commands:
        with pytest.raises(errors.DialogNotFound):
            await core.do(3, command)
    for command in commands:
        await core.do(2, command)
    await core.do(2, remove(dialog, 2))
    await core.do(1, add(dialog, 2))
    view = await core.do(2, GetDialog(dialog.id))
    assert (view.is_pinned, view.draft) == (False, UNSET)


async def test_clearing_hides_the_past_from_oneself_and_reads_it(core: Core) -> None:
    dialog = await core.do(1, with_user(2))
    for words in ("one", "two"):
        last = await core.do(2, text(dialog.id, words))
    core.hub.told.clear()
    await core.do(1, DropDialog(dialog.id))
    kinds = [(members, type(event).__name__) for members, event, _ in core.hub.told]
    assert kinds == [([1, 2], "MessageRead"), ([1], "OwnState")]
    own = core.hub.told[-1][1]
    assert (own.cleared_seq, own.unread_count) == (4, 0)
    at = core.journal.next_position
    await core.do(1, DropDialog(dialog.id))
    assert core.journal.next_position == at
    await core.do(1, ReadMessages(UUID(last.id)))
    await core.do(2, text(dialog.id, "three"))
    assert (await core.do(1, GetDialog(dialog.id))).unread_count == 1
