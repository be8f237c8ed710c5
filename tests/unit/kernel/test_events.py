"""An event is written down whole, or its author made a mistake."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest

from tchatd.kernel.events import (
    DATA_BYTES_MAX,
    NO_METADATA,
    Event,
    EventDraft,
    EventMetadata,
)


def draft(**changes: Any) -> EventDraft:
    fields: dict[str, Any] = {
        "id": UUID(int=1),
        "aggregate_id": UUID(int=2),
        "domain": "payment",
        "type": "transaction.completed",
        "version": 1,
        "data": b"{}",
        "created_ms": 1_800_000_000_000,
    }
    return EventDraft(**fields | changes)


def test_an_event_has_what_its_draft_has_and_a_position() -> None:
    fields = set(EventDraft.__struct_fields__)
    assert set(Event.__struct_fields__) == fields | {"position"}
    assert draft().metadata is NO_METADATA


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 0},
        {"domain": ""},
        {"domain": "d" * 101},
        {"type": "completed"},
        {"type": "t." + "t" * 100},
        {"data": b"[]"},
        {"data": b""},
        {"data": b"{" + b" " * DATA_BYTES_MAX + b"}"},
    ],
)
def test_a_draft_that_no_reader_could_use_is_a_mistake(changes: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        draft(**changes)


def test_metadata_says_only_what_is_known_and_more_may_come() -> None:
    assert msgspec.json.encode(NO_METADATA) == b"{}"
    told = EventMetadata(actor=UUID(int=7), request_id="r")
    encoded = msgspec.json.encode(told)
    assert msgspec.json.decode(encoded, type=EventMetadata) == told
    later = b'{"request_id":"r","shard":3}'
    assert msgspec.json.decode(later, type=EventMetadata).request_id == "r"
