"""An event that many ask for is made once, and made anew when its row has changed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import structs

from tchatd.domains.messaging.message_state import MessageChanges, state_of_row
from tchatd.domains.messaging.rows import event_of
from tchatd.domains.messaging.shared_events import SharedEvents
from tchatd.domains.messaging.store import MESSAGE_EDITED, MESSAGE_NEW, EventRow
from tests.support.messaging import user_id

DIALOG = str(user_id(9))
AT_MS = 1_800_000_000_000


def message(seq: int = 2, **fields: Any) -> EventRow:
    body = '{"type":"text","content":{"text":"x"}}'
    row = EventRow(7, seq, MESSAGE_NEW, 5, AT_MS, 1, 1, user_id(1).bytes, body)
    return structs.replace(row, **fields)


def shown(shared: SharedEvents, row: EventRow, *pins: str, now_ms: int = 0) -> Any:
    return shared.of(row, DIALOG, pins, {}, now_ms)


def test_equal_rows_have_one_event() -> None:
    shared = SharedEvents()
    event = shown(shared, message())
    assert event == event_of(message(), DIALOG)
    assert shown(shared, message()) is event
    assert shown(shared, message(seq=3)) is not event


@pytest.mark.parametrize(
    "changed",
    [
        {"body": '{"type":"text","content":{"text":"y"}}'},
        {"changed": msgspec.msgpack.encode(MessageChanges(deleted_ms=AT_MS))},
        {"position": 6},
    ],
)
def test_a_row_that_has_changed_is_told_as_it_is_now(changed: dict[str, Any]) -> None:
    shared = SharedEvents()
    before = shown(shared, message())
    row = message(**changed)
    event = shown(shared, row)
    assert event is not before
    assert event == event_of(row, DIALOG)
    assert shown(shared, row) is event


def test_a_pin_is_not_forgotten() -> None:
    shared = SharedEvents()
    id = shown(shared, message()).message.id
    assert shown(shared, message(), id).message.is_pinned
    assert not shown(shared, message()).message.is_pinned


def test_what_depends_on_the_time_or_another_row_is_made_each_time() -> None:
    shared = SharedEvents()
    vanishing = message(expires_ms=AT_MS + 10)
    assert shown(shared, vanishing, now_ms=AT_MS).message.content
    assert shown(shared, vanishing, now_ms=AT_MS + 10).message.content == {}
    edit = message(kind=MESSAGE_EDITED, seq=3, body='{"message_seq":2}')
    for words in ("x", "y"):
        row = message(body=f'{{"type":"text","content":{{"text":"{words}"}}}}')
        event: Any = shared.of(edit, DIALOG, (), {2: state_of_row(row)}, 0)
        assert event.message.content == {"text": words}


def test_only_so_many_are_kept() -> None:
    shared = SharedEvents(events_max=2)
    first = shown(shared, message(seq=1))
    for seq in (2, 3):
        shown(shared, message(seq=seq))
    assert shown(shared, message(seq=1)) is not first
