"""What a row says is what the event said."""

from __future__ import annotations

from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from tchatd.domains.messaging import content as c
from tchatd.domains.messaging import events as e
from tchatd.domains.messaging import models as m
from tchatd.domains.messaging import rows
from tchatd.domains.messaging.identifiers import message_id, uuid_text
from tchatd.domains.messaging.store import (
    DIALOG_CREATED,
    MESSAGE_NEW,
    MESSAGE_READ,
    EventRow,
)
from tchatd.kernel.clock import rfc3339

AT_MS, NUMBER, SEQ = 1_800_000_000_123, 12, 5
ACTOR = bytes(range(16))
DIALOG = uuid_text(bytes(16))
CONTENTS = [
    ("text", {"text": 'a "quoted" \0 line\nสวัสดี 🙂'}),
    ("location", {"latitude": 13.7563309, "longitude": -0.1, "title": "x"}),
    ("voice", {"file_url": "https://a", "duration_ms": 1, "waveform": [0, 255]}),
]

words = some.text(some.characters(exclude_categories=["Cs"]), max_size=30)
names = words.filter(bool)
ids = some.uuids().map(str)
seqs = some.integers(1, (1 << 31) - 1)
numbers = some.integers(1, (1 << 43) - 1)
times = some.integers(0, 253_402_300_799_999)  # the last millisecond of year 9999


def row_of(kind: int, event: e.Event) -> EventRow:
    body = rows.body_of(event)
    return EventRow(NUMBER, SEQ, kind, 77, AT_MS, 3, 9, ACTOR, body, None)


@pytest.mark.parametrize(("type", "content"), CONTENTS)
def test_a_message_comes_back_as_it_was(type: str, content: dict[str, object]) -> None:
    id = message_id(AT_MS, NUMBER, SEQ)
    typed = msgspec.convert(content, c.CONTENT_TYPES[type])
    message = m.Message(
        id,
        DIALOG,
        SEQ,
        uuid_text(ACTOR),
        type,
        typed,
        rfc3339(AT_MS),
        "reply",
        ("one", "two"),
    )
    event = e.MessageNew(DIALOG, SEQ, message)
    back = rows.event_of(row_of(MESSAGE_NEW, event), DIALOG)
    assert msgspec.json.encode(back) == msgspec.json.encode(event)


def test_a_read_comes_back_as_it_was() -> None:
    event = e.MessageRead(DIALOG, uuid_text(ACTOR), "m", 3, rfc3339(AT_MS), SEQ)
    assert rows.event_of(row_of(MESSAGE_READ, event), DIALOG) == event


def test_a_new_dialog_comes_back_as_it_was() -> None:
    dialog = m.Dialog(
        id=DIALOG,
        type="group",
        name="Lunch",
        participants=("a", "b"),
        member_count=2,
        last_seq=1,
        unread_count=0,
        created_at="t",
        updated_at="t",
    )
    event = e.DialogCreated(DIALOG, SEQ, dialog)
    assert rows.event_of(row_of(DIALOG_CREATED, event), DIALOG) == event


def test_a_body_does_not_repeat_what_columns_know() -> None:
    message = m.Message("i", DIALOG, 1, "s", "text", c.TextContent("x"), "t")
    body = rows.body_of(e.MessageNew(DIALOG, 1, message))
    assert body == '{"type":"text","content":{"text":"x"}}'


@given(numbers, seqs, times, ids, words, some.none() | ids, some.lists(ids))
def test_any_message_comes_back_as_it_was(
    number: int,
    seq: int,
    at_ms: int,
    sender: str,
    said: str,
    reply_to: str | None,
    mentions: list[str],
) -> None:
    event = e.MessageNew(
        DIALOG,
        seq,
        m.Message(
            message_id(at_ms, number, seq),
            DIALOG,
            seq,
            sender,
            "text",
            {"text": said},
            rfc3339(at_ms),
            msgspec.UNSET if reply_to is None else reply_to,
            tuple(mentions),
        ),
    )
    body = rows.body_of(event, tuple(range(len(mentions))))
    actor = UUID(sender).bytes
    row = EventRow(number, seq, MESSAGE_NEW, 77, at_ms, 3, 9, actor, body, None)
    assert rows.event_of(row, DIALOG) == event
    assert rows.message_of(row, DIALOG) == event.message


@given(seqs, times, ids, ids, seqs)
def test_any_read_comes_back_as_it_was(
    seq: int, at_ms: int, reader: str, message: str, read_seq: int
) -> None:
    event = e.MessageRead(DIALOG, reader, message, read_seq, rfc3339(at_ms), seq)
    actor, body = UUID(reader).bytes, rows.body_of(event)
    row = EventRow(NUMBER, seq, MESSAGE_READ, 77, at_ms, 3, 9, actor, body, None)
    assert rows.event_of(row, DIALOG) == event


@given(
    some.builds(
        m.Dialog,
        id=some.just(DIALOG),
        type=some.sampled_from(["user", "group"]),
        name=some.just(msgspec.UNSET) | names,
        avatar=some.just(msgspec.UNSET) | names,
        participants=some.lists(ids).map(tuple),
        member_count=seqs,
        last_seq=some.just(1),
        unread_count=some.just(0),
        created_at=times.map(rfc3339),
        updated_at=times.map(rfc3339),
    )
)
def test_any_new_dialog_comes_back_as_it_was(dialog: m.Dialog) -> None:
    event = e.DialogCreated(DIALOG, 1, dialog)
    row = EventRow(
        *(NUMBER, 1, DIALOG_CREATED, 77, AT_MS, 0, 0, ACTOR),
        rows.body_of(event),
        None,
    )
    assert rows.event_of(row, DIALOG) == event
