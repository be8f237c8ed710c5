"""Owns how records change what messages are: edits, deletions, reactions, pins, polls.

Every function is one record's effect on a loaded dialog; what it needs is there
(`needs`). It makes new states and never touches old ones, which entries hold on to.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import UNSET, structs

from tchatd.domains.messaging.content import Buttons
from tchatd.domains.messaging.dialog import DialogState
from tchatd.domains.messaging.entry import Changes, Entry
from tchatd.domains.messaging.events import (
    MessageDeleted,
    MessageEdited,
    MessagePinned,
    MessageUnpinned,
    PollVoted,
    ReactionAdded,
    ReactionRemoved,
)
from tchatd.domains.messaging.identifiers import uuid_text
from tchatd.domains.messaging.message_state import (
    HISTORY_MAX,
    MessageBody,
    MessageChanges,
    MessageState,
    Past,
    PollState,
    Reactors,
    ShownReaction,
    ThreadState,
    poll_results,
)
from tchatd.domains.messaging.models import (
    REACTIONS_SHOWN_MAX,
    THREAD_PEOPLE_SHOWN_MAX,
    Done,
    Message,
)
from tchatd.domains.messaging.records import (
    DeleteRecord,
    EditRecord,
    PinRecord,
    ReactRecord,
    VoteRecord,
)
from tchatd.domains.messaging.store import (
    MESSAGE_DELETED,
    MESSAGE_EDITED,
    MESSAGE_PINNED,
    MESSAGE_UNPINNED,
    POLL_VOTED,
    REACTION_ADDED,
    REACTION_REMOVED,
    MemberRow,
)
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.clock import rfc3339

_NOBODY = BitMap().serialize()


def edit(dialog: DialogState, record: EditRecord, position: int) -> Entry:
    state = _state(dialog, record.seq)
    before = state.changes
    past = Past(record.at_ms, state.body.content)
    history = (*before.history, past)
    if len(history) > HISTORY_MAX:  # what was said at first stays
        history = (history[0], *history[2:])
    body = structs.replace(
        state.body,
        content=record.content,
        mentions=record.mentions,
        mentioned=record.mention_numbers,
        buttons=UNSET
        if record.buttons is None
        else msgspec.convert(record.buttons, Buttons),
    )
    changes = structs.replace(
        before,
        edited_ms=record.at_ms,
        history=history,
    )
    new = structs.replace(state, body=body, changes=changes, position=position)
    rows = mention(dialog, record.seq, record.mention_numbers, position)
    rows += _unmention(dialog, record.seq, record.unmentioned, position)
    seq = dialog.next_event(position)
    dialog.set_message(new)
    message = dialog.message_of(new)
    event = MessageEdited(dialog.id, seq, message)
    answer = _answer(dialog, record, new)
    changed = Changes(messages=(new,), members=tuple(rows))
    return _entry(dialog, record, position, MESSAGE_EDITED, event, answer, changed)


def delete(dialog: DialogState, record: DeleteRecord, position: int) -> Entry:
    """In a dropped dialog it is no event: that was the last one."""
    state = _state(dialog, record.seq)
    body = MessageBody(
        type=state.body.type,
        content={},
        reply_to_id=state.body.reply_to_id,
        thread_id=state.body.thread_id,
    )
    changes = MessageChanges(
        deleted_ms=record.at_ms,
        deleted_by=record.actor,
        reason=record.reason,
        thread=state.changes.thread,
    )
    new = structs.replace(
        state, body=body, changes=changes, expires_ms=0, position=position
    )
    states = [new]
    seq = dialog.last_seq if dialog.is_dropped else dialog.next_event(position)
    dialog.deleted = BitMap(dialog.deleted or ())
    dialog.deleted.add(record.seq)
    dialog.pins = tuple(id for id in dialog.pins if id != new.id)
    dialog.set_message(new)
    if record.thread_seq:
        root = _state(dialog, record.thread_seq)
        thread = root.changes.thread
        assert thread is not None
        thread = structs.replace(thread, count=thread.count - 1, counted_seq=seq)
        root = _with_thread(root, thread)
        states.append(structs.replace(root, position=position))
        dialog.set_message(states[-1])
    event = MessageDeleted(
        dialog.id,
        seq,
        new.id,
        new.seq,
        rfc3339(record.at_ms),
        uuid_text(record.actor_id) if record.actor else UNSET,
        UNSET if record.reason is None else record.reason,
        new.body.thread_id,
    )
    changed = Changes(profile=dialog.profile(), messages=tuple(states))
    entry = _entry(dialog, record, position, MESSAGE_DELETED, event, Done(), changed)
    return structs.replace(entry, seq=0, event=None) if dialog.is_dropped else entry


def react(dialog: DialogState, record: ReactRecord, position: int) -> Entry:
    state = _state(dialog, record.seq)
    before = state.changes
    by_emoji = {reactors.emoji: reactors for reactors in before.reactions}
    same = by_emoji.get(record.emoji)
    users = BitMap() if same is None else BitMap.deserialize(same.users)
    if record.is_added:
        users.add(record.actor)
    else:
        users.discard(record.actor)
    by_emoji[record.emoji] = Reactors(record.emoji, users.serialize(), len(users))
    reactions = tuple(r for r in by_emoji.values() if r.count)
    shown = before.shown
    if not record.is_added:
        mine = (record.emoji, record.actor)
        shown = tuple(r for r in shown if (r.emoji, r.user) != mine)
    elif len(shown) < REACTIONS_SHOWN_MAX:
        one = (record.emoji, record.actor, record.actor_id, record.at_ms)
        shown = (*shown, ShownReaction(*one))
    changes = structs.replace(before, reactions=reactions, shown=shown)
    new = structs.replace(state, changes=changes, position=position)
    seq = dialog.next_event(position)
    dialog.set_message(new)
    event = (ReactionAdded if record.is_added else ReactionRemoved)(
        dialog.id,
        seq,
        new.id,
        new.seq,
        record.emoji,
        uuid_text(record.actor_id),
        rfc3339(record.at_ms),
        len(users),
    )
    kind = REACTION_ADDED if record.is_added else REACTION_REMOVED
    answer = _answer(dialog, record, new)
    changed = Changes(messages=(new,))
    return _entry(dialog, record, position, kind, event, answer, changed)


def pin(dialog: DialogState, record: PinRecord, position: int) -> Entry:
    state = structs.replace(_state(dialog, record.seq), position=position)
    seq = dialog.next_event(position)
    others = tuple(id for id in dialog.pins if id != state.id)
    dialog.pins = (*others, state.id) if record.is_pinned else others
    dialog.set_message(state)
    event = (MessagePinned if record.is_pinned else MessageUnpinned)(
        dialog.id,
        seq,
        state.id,
        state.seq,
        uuid_text(record.actor_id),
        rfc3339(record.at_ms),
    )
    kind = MESSAGE_PINNED if record.is_pinned else MESSAGE_UNPINNED
    answer = _answer(dialog, record, state)
    changed = Changes(profile=dialog.profile(), messages=(state,))
    return _entry(dialog, record, position, kind, event, answer, changed)


def vote(dialog: DialogState, record: VoteRecord, position: int) -> Entry:
    state = _state(dialog, record.seq)
    content = msgspec.to_builtins(state.body.content)
    count = len(content["options"])
    poll = state.changes.poll or PollState((_NOBODY,) * count)
    if record.closes:
        poll = structs.replace(poll, closed_ms=record.at_ms)
    else:
        votes = []
        for option, users in enumerate(poll.votes):
            voters = BitMap.deserialize(users)
            voters.discard(record.actor)
            if option in record.options:
                voters.add(record.actor)
            votes.append(voters.serialize())
        poll = structs.replace(poll, votes=tuple(votes))
    changes = structs.replace(state.changes, poll=poll)
    new = structs.replace(state, changes=changes, position=position)
    seq = dialog.next_event(position)
    dialog.set_message(new)
    results = poll_results(new)
    assert results is not UNSET
    is_named = not content.get("is_anonymous") and not record.closes
    event = PollVoted(
        dialog.id,
        seq,
        new.id,
        new.seq,
        rfc3339(record.at_ms),
        results,
        uuid_text(record.actor_id) if is_named else UNSET,
        record.options if is_named else UNSET,
    )
    answer = _answer(dialog, record, new)
    changed = Changes(messages=(new,))
    return _entry(dialog, record, position, POLL_VOTED, event, answer, changed)


def in_thread(
    dialog: DialogState, root_seq: int, reply: MessageState, position: int
) -> MessageState:
    """The root of a thread after one more message in it."""
    root = _state(dialog, root_seq)
    thread = root.changes.thread or ThreadState(0, 0, 0, ())
    people = thread.people
    if reply.sender_id not in people and len(people) < THREAD_PEOPLE_SHOWN_MAX:
        people = (*people, reply.sender_id)
    after = ThreadState(thread.count + 1, reply.seq, reply.at_ms, people, reply.seq)
    root = structs.replace(_with_thread(root, after), position=position)
    dialog.set_message(root)
    return root


def mention(
    dialog: DialogState, seq: int, numbers: Iterable[int], position: int
) -> list[MemberRow]:
    """The message with this seq mentions them; rows of those for whom it is unread.

    Who has left since they were mentioned first has nothing unread, and no new row.
    """
    rows = []
    for number in numbers:
        if number not in dialog.members:
            continue
        member = dialog.member(number)
        assert member is not None
        if seq > member.read_seq and (
            member.mentions is None or seq not in member.mentions
        ):
            member.mentions = BitMap(member.mentions or ())
            member.mentions.add(seq)
            member.changed_position = position
            rows.append(member.row(dialog.number, number))
    return rows


def _unmention(
    dialog: DialogState, seq: int, numbers: Iterable[int], position: int
) -> list[MemberRow]:
    rows = []
    for number in numbers:
        if number not in dialog.members:
            continue
        member = dialog.member(number)
        assert member is not None
        if member.mentions is not None and seq in member.mentions:
            member.mentions = member.mentions - BitMap((seq,)) or None
            member.changed_position = position
            rows.append(member.row(dialog.number, number))
    return rows


def _state(dialog: DialogState, seq: int) -> MessageState:
    state = dialog.message_state(seq)
    assert state is not None, "needs() names it, and whoever submits has it loaded"
    return state


def _answer(
    dialog: DialogState,
    record: EditRecord | ReactRecord | PinRecord | VoteRecord,
    state: MessageState,
) -> Message:
    """As who did it sees it."""
    member = dialog.by_number.get(record.actor)
    return dialog.with_readers(dialog.message_of(state), member)


def _with_thread(state: MessageState, thread: ThreadState) -> MessageState:
    changes = structs.replace(state.changes, thread=thread)
    return structs.replace(state, changes=changes)


def _entry(
    dialog: DialogState,
    record: EditRecord | DeleteRecord | ReactRecord | PinRecord | VoteRecord,
    position: int,
    kind: int,
    event: Any,
    answer: Any,
    changes: Changes,
) -> Entry:
    return Entry(
        position=position,
        dialog_number=dialog.number,
        kind=kind,
        seq=dialog.last_seq,
        ordinal=0,
        count=dialog.message_count,
        at_ms=record.at_ms,
        actor=record.actor,
        actor_id=record.actor_id,
        read_seq=0,
        client_ms=-1,
        client_id=None,
        event=event,
        members=dialog.members,
        answer=answer,
        changes=changes,
    )
