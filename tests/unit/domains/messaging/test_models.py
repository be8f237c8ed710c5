"""What is on the wire: names, limits, and one shape in both encodings."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tchatd.domains.messaging import models as m

URL = "https://f.example/a"
MESSAGE = m.Message("i", "d", 2, "s", "text", m.TextContent("x"), "t")


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
        m.MessageNew("d", 2, MESSAGE),
        m.MessageRead("d", "u", "i", 2, "t", 3),
        m.MessageRead("d", "u", "i", 2, "t"),
        m.TypingStarted("d", "u"),
        m.TypingStopped("d", "u"),
    ],
)
def test_events_have_the_same_shape_in_json_and_messagepack(event: Any) -> None:
    json = msgspec.json.decode(msgspec.json.encode(event))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(event)) == json
    assert json["op"] in ("message.new", "message.read", "typing.start", "typing.stop")
    assert ("seq" in json) == (getattr(event, "seq", msgspec.UNSET) != msgspec.UNSET)


@pytest.mark.parametrize(
    "url", ["ftp://x", "https://", "https://a b", "https://a\n", "https://a\0", "//a"]
)
def test_only_web_addresses_are_taken(url: str) -> None:
    content = {"file_url": url, "width": 1, "height": 1}
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(content, m.ImageContent)
    assert msgspec.convert(content | {"file_url": URL}, m.ImageContent).file_url == URL


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
        type.__name__ for type in m.CONTENT_TYPES.values()
    }


def test_every_command_can_be_decoded_from_both() -> None:
    id = "019a0000-0000-7000-8000-000000000001"
    raw = {"dialog_id": id, "type": "text", "content": {"text": "x"}, "client_id": id}
    json = msgspec.json.decode(msgspec.json.encode(raw), type=m.SendMessage)
    pack = msgspec.msgpack.decode(msgspec.msgpack.encode(raw), type=m.SendMessage)
    assert json == pack
