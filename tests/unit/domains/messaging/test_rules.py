"""What may be said, and between whom."""

from __future__ import annotations

import math
from typing import Any
from uuid import UUID, uuid4

import pytest
from msgspec import UNSET, to_builtins

from tchatd.domains.messaging import errors, rules
from tchatd.domains.messaging.content import PaymentContent
from tchatd.domains.messaging.dialog import DialogState
from tchatd.domains.messaging.models import SEQ_MAX, CreateDialog
from tchatd.domains.messaging.settings import DialogSettings
from tchatd.domains.messaging.store import DialogRow
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.errors import DomainError, Invalid

URL = "https://f.example/a"
ME = uuid4()
GOOD: list[tuple[str, dict[str, Any]]] = [
    ("text", {"text": "x" * 4096}),
    ("image", {"file_url": URL, "width": 1, "height": 2, "caption": "c" * 1024}),
    ("video", {"file_url": URL, "duration_ms": 0, "width": 1, "height": 1}),
    ("voice", {"file_url": URL, "duration_ms": 300_000}),
    (
        "file",
        {"file_url": URL, "name": "a", "size_bytes": 0, "mime_type": "text/plain"},
    ),
    ("location", {"latitude": -90.0, "longitude": 180.0}),
]
BAD: list[tuple[str, dict[str, Any], str]] = [
    ("text", {}, "content.text"),
    ("text", {"text": ""}, "content.text"),
    ("text", {"text": "x" * 4097}, "content.text"),
    ("text", {"text": 5}, "content.text"),
    ("image", {"file_url": "x", "width": 1, "height": 2}, "content.file_url"),
    ("image", {"file_url": URL, "width": 0, "height": 2}, "content.width"),
    ("voice", {"file_url": URL, "duration_ms": 300_001}, "content.duration_ms"),
    ("voice", {"file_url": URL, "duration_ms": 1, "waveform": [256]}, "content.wavef"),
    (
        "file",
        {"file_url": URL, "name": "a", "size_bytes": 1, "mime_type": "no"},
        "content.mime_type",
    ),
    ("location", {"latitude": 90.1, "longitude": 0}, "content.latitude"),
    ("location", {"latitude": math.nan, "longitude": 0.0}, "content"),
]


@pytest.mark.parametrize(("type", "content"), GOOD)
def test_good_content_is_taken_as_it_is(type: str, content: dict[str, Any]) -> None:
    assert to_builtins(rules.content_of(type, content)) == content


def test_unknown_members_of_content_are_dropped() -> None:
    content = rules.content_of("text", {"text": "x", "colour": "red"})
    assert to_builtins(content) == {"text": "x"}


@pytest.mark.parametrize(("type", "content", "field"), BAD)
def test_bad_content_is_refused_with_its_field(
    type: str, content: dict[str, Any], field: str
) -> None:
    with pytest.raises(errors.InvalidContent) as refused:
        rules.content_of(type, content)
    assert any(name.startswith(field) for name in refused.value.fields)
    assert "regex" not in str(refused.value.fields)


@pytest.mark.parametrize("type", ["payment", "system"])
def test_some_messages_are_the_servers_alone(type: str) -> None:
    with pytest.raises(errors.ServerMade):
        rules.content_of(type, {"amount": 1, "currency": "THB"})


def test_what_the_server_made_is_taken_as_it_is() -> None:
    content = PaymentContent(5, "THB", "019a0000-0000-7000-8000-000000000001")
    assert rules.content_of("payment", content) is content


def test_a_client_id_is_of_version_7() -> None:
    id = UUID(int=1 << 80 | 7 << 76 | 2 << 62 | 5)
    assert rules.client_id_bytes(id) == id.bytes
    for other in (uuid4(), UUID(int=0), UUID(int=7 << 76)):
        with pytest.raises(Invalid):
            rules.client_id_bytes(other)


def new(type: str, people: list[UUID], name: Any = UNSET) -> CreateDialog:
    return CreateDialog(type=type, participants=people, name=name)  # type: ignore[arg-type]


def test_participants_are_counted_once_and_include_the_caller() -> None:
    other = uuid4()
    assert rules.participants_of(new("user", [other, ME, other]), ME) == [ME, other]
    assert rules.participants_of(new("group", [], "x"), ME) == [ME]


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (new("user", []), errors.InvalidParticipants),
        (new("user", [ME]), errors.InvalidParticipants),
        (new("user", [uuid4(), uuid4()]), errors.InvalidParticipants),
        (new("group", [uuid4()]), Invalid),
        (new("group", [uuid4()], " "), Invalid),
        (
            new("group", [uuid4() for _ in range(5_000)], "x"),
            errors.InvalidParticipants,
        ),
        (new("channel", [uuid4()]), Invalid),
        (new("channel", [uuid4()], ""), Invalid),
        (
            new("business", [uuid4() for _ in range(100)]),
            errors.InvalidParticipants,
        ),
    ],
)
def test_a_dialog_that_cannot_be_is_refused(
    command: CreateDialog, error: type[DomainError]
) -> None:
    with pytest.raises(error):
        rules.participants_of(command, ME)


def test_everybody_has_to_exist() -> None:
    rules.check_known([ME], {ME: 1})
    with pytest.raises(errors.InvalidParticipants):
        rules.check_known([ME, uuid4()], {ME: 1})


def test_a_dialog_has_room_up_to_the_last_seq() -> None:
    dialog = DialogState(
        DialogRow(
            number=1,
            id=bytes(16),
            type=0,
            name=None,
            avatar=None,
            creator=1,
            created_ms=0,
            members=BitMap([1, 2]).serialize(),
            participants=b"",
            last_seq=SEQ_MAX - 1,
            message_count=1,
            active_position=1,
            active_ms=0,
            last_position=1,
        )
    )
    rules.check_room(dialog)
    dialog.last_seq += 1
    with pytest.raises(errors.DialogFull):
        rules.check_room(dialog)


@pytest.mark.parametrize("type", ["user", "group"])
def test_messages_vanish_after_an_hour_at_least_or_never(type: str) -> None:
    for after_s in (0, 3_600, 31_536_000):
        rules.check_settings(type, {"vanish_after_s": after_s}, DialogSettings())
    for after_s in (1, 3_599):
        with pytest.raises(Invalid):
            rules.check_settings(type, {"vanish_after_s": after_s}, DialogSettings())
