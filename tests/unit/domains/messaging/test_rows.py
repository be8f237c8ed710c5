"""What a row says is what the event said."""

from __future__ import annotations

import msgspec
import pytest

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


def row_of(kind: int, event: m.Event) -> EventRow:
    body = rows.body_of(event)
    return EventRow(NUMBER, SEQ, kind, 77, AT_MS, 3, 9, ACTOR, body, None)


@pytest.mark.parametrize(("type", "content"), CONTENTS)
def test_a_message_comes_back_as_it_was(type: str, content: dict[str, object]) -> None:
    id = message_id(AT_MS, NUMBER, SEQ)
    typed = msgspec.convert(content, m.CONTENT_TYPES[type])
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
    event = m.MessageNew(DIALOG, SEQ, message)
    back = rows.event_of(row_of(MESSAGE_NEW, event), DIALOG)
    assert msgspec.json.encode(back) == msgspec.json.encode(event)


def test_a_read_comes_back_as_it_was() -> None:
    event = m.MessageRead(DIALOG, uuid_text(ACTOR), "m", 3, rfc3339(AT_MS), SEQ)
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
    event = m.DialogCreated(DIALOG, SEQ, dialog)
    assert rows.event_of(row_of(DIALOG_CREATED, event), DIALOG) == event


def test_a_body_does_not_repeat_what_columns_know() -> None:
    message = m.Message("i", DIALOG, 1, "s", "text", m.TextContent("x"), "t")
    body = rows.body_of(m.MessageNew(DIALOG, 1, message))
    assert body == '{"type":"text","content":{"text":"x"}}'
