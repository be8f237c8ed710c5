"""A message as it is now: stored, read back, and shown."""

from __future__ import annotations

import msgspec
import pytest

from tchatd.domains.messaging.content import Button, Forward
from tchatd.domains.messaging.message_state import (
    UNCHANGED,
    MessageBody,
    MessageChanges,
    MessageState,
    Past,
    PollState,
    Reactors,
    ShownReaction,
    ThreadState,
    body_text,
    changes_bytes,
    message_of_state,
    poll_results,
    state_of_row,
)
from tchatd.domains.messaging.models import PollResults
from tchatd.domains.messaging.store import MESSAGE_NEW, EventRow
from tchatd.kernel.bitmaps import BitMap
from tests.support.messaging import shape, user_id

ID = bytes(range(16))
USERS = BitMap((1, 2)).serialize()
FULL = MessageChanges(
    edited_ms=1,
    history=(Past(2, {"text": "x"}),),
    deleted_ms=3,
    deleted_by=4,
    reason="spam",
    reactions=(Reactors("a", b"users", 2),),
    shown=(ShownReaction("a", 5, ID, 6),),
    thread=ThreadState(7, 8, 9, (ID,), 11),
    poll=PollState((b"one", b"two"), 10),
)
# Written on the day of the first version; has to be read for ever.
GOLDEN: list[tuple[MessageChanges, str]] = [
    (
        MessageChanges(edited_ms=1, history=(Past(2, {"text": "x"}),)),
        "990191920281a474657874a1780000c09090c0c0",
    ),
    (
        MessageChanges(thread=ThreadState(1, 2, 3, (), 4)),
        "9900900000c09090950102039004c0",
    ),
    (
        FULL,
        "990191920281a474657874a1780304a47370616d9193a161c4057573657273029194a1"
        "6105c410000102030405060708090a0b0c0d0e0f069507080991c41000010203040506"
        "0708090a0b0c0d0e0f0b9292c4036f6e65c40374776f0a",
    ),
]
BODIES: list[tuple[MessageBody, str]] = [
    (MessageBody("text", {"text": "x"}), '{"type":"text","content":{"text":"x"}}'),
    (
        MessageBody(
            "text",
            {"text": "x"},
            "r",
            ("m",),
            (7,),
            "t",
            Forward("s", "at", "d", "i"),
            ((Button("ok", data="1"),), (Button("go", url="https://a"),)),
        ),
        '{"type":"text","content":{"text":"x"},"reply_to_id":"r","mentions":["m"],'
        '"mentioned":[7],"thread_id":"t","forward":{"sender_id":"s","sent_at":"at",'
        '"dialog_id":"d","message_id":"i"},"buttons":[[{"text":"ok","data":"1"}],'
        '[{"text":"go","url":"https://a"}]]}',
    ),
]


def row_of(body: str, changed: bytes | None = None) -> EventRow:
    return EventRow(
        *(12, 5, MESSAGE_NEW, 77, 1_800_000_000_000, 3, 9, ID),
        body,
        None,
        changed,
        thread_seq=2,
        expires_ms=1_800_000_009_000,
    )


def state_of(body: MessageBody, changes: MessageChanges = UNCHANGED) -> MessageState:
    return state_of_row(row_of(body_text(body), changes_bytes(changes)))


@pytest.mark.parametrize(("changes", "written"), GOLDEN)
def test_changes_that_were_written_first_are_read(
    changes: MessageChanges, written: str
) -> None:
    body = body_text(BODIES[0][0])
    stored = bytes.fromhex(written)
    assert state_of_row(row_of(body, stored)).changes == changes
    first = msgspec.msgpack.decode(stored)
    now = msgspec.msgpack.decode(changes_bytes(changes) or b"")
    assert now[: len(first)] == first


def test_changes_of_a_later_version_are_read_without_what_is_new() -> None:
    fields = msgspec.msgpack.decode(changes_bytes(FULL) or b"")
    later = msgspec.msgpack.encode([*fields, "new"])
    assert state_of_row(row_of(body_text(BODIES[0][0]), later)).changes == FULL
    assert changes_bytes(UNCHANGED) is None


@pytest.mark.parametrize(("body", "written"), BODIES)
def test_bodies_that_were_written_first_are_read(
    body: MessageBody, written: str
) -> None:
    assert state_of_row(row_of(written)).body == body
    assert body_text(body) == written
    later = written.replace("{", '{"new":1,', 1)
    assert state_of_row(row_of(later)).body == body


def test_a_state_comes_back_as_it_was_stored() -> None:
    state = state_of(BODIES[1][0], FULL)
    assert (state.dialog_number, state.seq, state.ordinal) == (12, 5, 3)
    assert (state.sender, state.sender_id, state.position) == (9, ID, 0)
    assert (state.thread_seq, state.expires_ms) == (2, 1_800_000_009_000)
    assert state.is_deleted
    assert not state_of(BODIES[0][0]).is_deleted


def test_everything_of_a_message_is_shown() -> None:
    users = BitMap(range(1, 301)).serialize()
    changes = MessageChanges(
        edited_ms=1_800_000_001_000,
        reactions=(Reactors("a", users, 300),),
        shown=(ShownReaction("a", 1, user_id(1).bytes, 1_800_000_002_000),),
        thread=ThreadState(2, 8, 1_800_000_003_000, (ID,)),
    )
    state = state_of(BODIES[1][0], changes)
    message = shape(message_of_state(state, "d", is_pinned=True))
    assert (message["id"], message["is_edited"], message["is_pinned"]) == (
        *(state.id, True),
        True,
    )
    assert message["reaction_counts"] == [{"emoji": "a", "count": 300}]
    assert message["reactions"][0]["user_id"] == str(user_id(1))
    assert (message["thread"]["count"], message["thread_id"]) == (2, "t")
    assert (message["forward"]["sender_id"], message["mentions"]) == ("s", ["m"])
    assert message["buttons"][0] == [{"text": "ok", "data": "1"}]
    assert "expires_at" in message
    assert "poll" not in message


def test_a_deleted_message_shows_nothing_whatever_its_row_has() -> None:
    message = shape(message_of_state(state_of(*_deleted()), "d", is_pinned=False))
    assert (message["content"], message["mentions"]) == ({}, [])
    assert not {"buttons", "poll"} & set(message)
    assert message["deleted_at"]


def _deleted() -> tuple[MessageBody, MessageChanges]:
    return BODIES[1][0], MessageChanges(deleted_ms=1_800_000_001_000)


def test_results_of_a_poll_count_people_once() -> None:
    body = MessageBody("poll", {"question": "?", "options": ["a", "b"]})
    assert poll_results(state_of(body)) == PollResults((0, 0), 0)
    votes = (USERS, BitMap((2, 3)).serialize())
    changes = MessageChanges(poll=PollState(votes, 5))
    assert poll_results(state_of(body, changes)) == PollResults((2, 2), 3, True)
