"""What is on the wire: names, limits, and one shape in both encodings."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tchatd.domains.messaging import content as c
from tchatd.domains.messaging import events as e
from tchatd.domains.messaging import models as m
from tchatd.domains.messaging.member_models import SettingsChange
from tchatd.domains.messaging.settings import DialogSettings

URL = "https://f.example/a"
PICTURE = {"file_url": URL, "width": 1, "height": 1}
LEAST: dict[str, dict[str, Any]] = {
    "text": {"text": "x"},
    "image": PICTURE,
    "video": PICTURE | {"duration_ms": 0},
    "voice": {"file_url": URL, "duration_ms": 0},
    "file": {"file_url": URL, "name": "x", "size_bytes": 0, "mime_type": "a/b"},
    "location": {"latitude": 0.0, "longitude": 0.0},
    "poll": {"question": "x", "options": ["a", "b"]},
}
LONG_URL = URL + "x" * (2_048 - len(URL))
LONG_MIME = "a/" + "b" * 125
PICTURE_EDGES: list[tuple[str, Any, Any]] = [
    ("file_url", LONG_URL, LONG_URL + "x"),
    ("thumbnail_url", LONG_URL, LONG_URL + "x"),
    ("width", 1, 0),
    ("width", 100_000, 100_001),
    ("height", 1, 0),
    ("height", 100_000, 100_001),
    ("caption", "x" * 1_024, "x" * 1_025),
]
EDGES: list[tuple[str, str, Any, Any]] = [
    ("text", "text", "x", ""),
    ("text", "text", "\N{GRINNING FACE}" * 4_096, "x" * 4_097),
    *(("image", *edge) for edge in PICTURE_EDGES),
    *(("video", *edge) for edge in PICTURE_EDGES),
    ("video", "duration_ms", 0, -1),
    ("video", "duration_ms", 86_400_000, 86_400_001),
    ("voice", "file_url", LONG_URL, LONG_URL + "x"),
    ("voice", "duration_ms", 0, -1),
    ("voice", "duration_ms", 300_000, 300_001),
    ("voice", "waveform", [0] * 512, [0] * 513),
    ("voice", "waveform", [0, 255], [256]),
    ("voice", "waveform", [], [-1]),
    ("file", "file_url", LONG_URL, LONG_URL + "x"),
    ("file", "name", "x", ""),
    ("file", "name", "x" * 255, "x" * 256),
    ("file", "size_bytes", 0, -1),
    ("file", "size_bytes", 1 << 42, (1 << 42) + 1),
    ("file", "mime_type", LONG_MIME, LONG_MIME + "b"),
    ("location", "latitude", -90.0, -90.001),
    ("location", "latitude", 90.0, 90.001),
    ("location", "longitude", -180.0, -180.001),
    ("location", "longitude", 180.0, 180.001),
    ("location", "title", "x" * 255, "x" * 256),
]
ID = "019a0000-0000-7000-8000-000000000001"
COMMAND_EDGES: list[tuple[type, dict[str, Any], str, Any, Any]] = [
    (m.SendMessage, {"dialog_id": ID, "type": "text", "content": {}}, *edge)
    for edge in (
        ("mentions", [ID] * 50, [ID] * 51),
        ("dialog_id", ID, ID + "0"),
        ("dialog_id", ID, ID[:-1]),
        ("client_id", ID, ID[:-1]),
    )
] + [
    (m.ListDialogs, {}, "limit", 100, 101),
    (m.ListDialogs, {}, "limit", 1, 0),
    (m.ListDialogs, {}, "offset", 10_000, 10_001),
    (m.ListDialogs, {}, "offset", 0, -1),
    (m.ListMessages, {"dialog_id": ID}, "limit", 100, 101),
    (m.ListMessages, {"dialog_id": ID}, "limit", 1, 0),
    (m.ListEvents, {"dialog_id": ID}, "limit", 1_000, 1_001),
    (m.ListEvents, {"dialog_id": ID}, "limit", 1, 0),
    (m.ListEvents, {"dialog_id": ID}, "after", (1 << 31) - 1, 1 << 31),
    (m.ListEvents, {"dialog_id": ID}, "after", 0, -1),
    (m.Sync, {}, "limit", 1_000, 1_001),
    (m.Sync, {}, "limit", 1, 0),
    (m.Sync, {}, "cursor", "x" * 200, "x" * 201),
    (m.CreateDialog, {"type": "group"}, "participants", [ID] * 5_000, [ID] * 5_001),
]
MESSAGE = m.Message("i", "d", 2, "s", "text", c.TextContent("x"), "t")


def test_a_message_has_the_fields_of_the_contract() -> None:
    assert msgspec.to_builtins(MESSAGE) == {
        "id": "i",
        "dialog_id": "d",
        "seq": 2,
        "sender_id": "s",
        "type": "text",
        "content": {"text": "x"},
        "created_at": "t",
        "mentions": (),
        "is_edited": False,
        "is_pinned": False,
        "reactions": (),
        "read_by": (),
    }


@pytest.mark.parametrize(
    "event",
    [
        e.MessageNew("d", 2, MESSAGE),
        e.MessageRead("d", "u", "i", 2, "t", 3),
        e.MessageRead("d", "u", "i", 2, "t"),
        e.TypingStarted("d", "u"),
        e.TypingStopped("d", "u"),
    ],
)
def test_events_have_the_same_shape_in_json_and_messagepack(event: Any) -> None:
    json = msgspec.json.decode(msgspec.json.encode(event))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(event)) == json
    assert json["op"] in ("message.new", "message.read", "typing.start", "typing.stop")
    assert ("seq" in json) == (getattr(event, "seq", msgspec.UNSET) != msgspec.UNSET)


@pytest.mark.parametrize(("type", "field", "fits", "too_much"), EDGES)
def test_content_fits_up_to_its_limit_and_not_beyond(
    type: str, field: str, fits: Any, too_much: Any
) -> None:
    assert set(LEAST) == set(c.CONTENT_TYPES)
    content = msgspec.convert(LEAST[type] | {field: fits}, c.CONTENT_TYPES[type])
    assert getattr(content, field) == fits
    with pytest.raises(msgspec.ValidationError, match=field):
        msgspec.convert(LEAST[type] | {field: too_much}, c.CONTENT_TYPES[type])


@pytest.mark.parametrize("type", LEAST)
def test_every_member_of_the_least_content_is_needed(type: str) -> None:
    for field in LEAST[type]:
        less = {name: value for name, value in LEAST[type].items() if name != field}
        with pytest.raises(msgspec.ValidationError, match=field):
            msgspec.convert(less, c.CONTENT_TYPES[type])


@pytest.mark.parametrize(
    ("command", "others", "field", "fits", "too_much"), COMMAND_EDGES
)
def test_a_command_fits_up_to_its_limit_and_not_beyond(
    command: type, others: dict[str, Any], field: str, fits: Any, too_much: Any
) -> None:
    msgspec.convert(others | {field: fits}, command)
    with pytest.raises(msgspec.ValidationError, match=field):
        msgspec.convert(others | {field: too_much}, command)


@pytest.mark.parametrize(
    "url", ["ftp://x", "https://", "https://a b", "https://a\n", "https://a\0", "//a"]
)
def test_only_web_addresses_are_taken(url: str) -> None:
    content = {"file_url": url, "width": 1, "height": 1}
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(content, c.ImageContent)
    assert msgspec.convert(content | {"file_url": URL}, c.ImageContent).file_url == URL


@pytest.mark.parametrize("name", ["", "x" * 101, "a\0b", "a\nb", "a\n", 5])
def test_a_name_is_one_line_of_up_to_100_characters(name: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(
            {"type": "group", "participants": [], "name": name}, m.CreateDialog
        )


def test_content_is_described_for_openapi() -> None:
    schema = msgspec.json.schema(m.SendMessage)["$defs"]["SendMessage"]
    kinds = schema["properties"]["content"]["anyOf"]
    assert {kind["title"] for kind in kinds} == {
        type.__name__ for type in c.CONTENT_TYPES.values()
    }


def test_what_only_the_server_sets_is_described_so() -> None:
    def described(of: type[msgspec.Struct]) -> Any:
        return msgspec.json.schema(of)["$defs"][of.__name__]["properties"]

    assert described(m.SendMessage)["type"]["not"] == {"enum": ["payment"]}
    assert {"payment", "system"} < set(described(m.Message)["type"]["enum"])
    for of in (DialogSettings, SettingsChange):
        shown = {name for name, is_ in described(of).items() if "readOnly" in is_}
        assert shown == {"public_name", "assignee_id", "is_closed"}


def test_every_command_can_be_decoded_from_both() -> None:
    raw = {"dialog_id": ID, "type": "text", "content": {"text": "x"}, "client_id": ID}
    json = msgspec.json.decode(msgspec.json.encode(raw), type=m.SendMessage)
    pack = msgspec.msgpack.decode(msgspec.msgpack.encode(raw), type=m.SendMessage)
    assert json == pack
