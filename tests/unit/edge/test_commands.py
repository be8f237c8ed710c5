"""From what a client sent to the command, or to what is wrong with each field."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET, Meta, UnsetType

from tchatd.edge.commands import CommandDecoder, check_json
from tchatd.edge.problems import TooLarge, UnsupportedMediaType
from tchatd.kernel.errors import DomainError, Invalid
from tchatd.kernel.routing import Operation

JSON = b"application/json"
ID = "0b0e2c3a-6a5f-4b1c-9d59-2f8f3a6f0a11"


class Text(msgspec.Struct, frozen=True):
    text: Annotated[str, Meta(min_length=1, max_length=10)]


class Send(msgspec.Struct, frozen=True, rename={"kind": "type"}):
    dialog_id: UUID
    content: Text
    kind: Literal["text", "image"] = "text"
    mentions: Annotated[list[UUID], Meta(max_length=2)] = []
    reply_to_id: UUID | UnsetType = UNSET


class Find(msgspec.Struct, frozen=True):
    q: str
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    ids: Annotated[list[UUID], Meta(max_length=3)] | None = None
    exact: bool = False


class Checked(msgspec.Struct, frozen=True):
    id: int
    low: int
    high: int

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("low is above high")


def decoder(
    command: type[msgspec.Struct], verb: str, path: str, body_bytes_max: int = 1000
) -> CommandDecoder:
    return CommandDecoder(
        Operation(
            name="a.b",
            summary="",
            tag="t",
            command=command,
            result=None,
            handler=lambda context, command: None,
            verb=verb,
            path=path,
            body_bytes_max=body_bytes_max,
        )
    )


SEND = decoder(Send, "POST", "/dialogs/{dialog_id}/messages")
FIND = decoder(Find, "GET", "/find")
CHECKED = decoder(Checked, "PUT", "/checked/{id}")


def send(body: bytes, content_type: bytes | None = JSON) -> Any:
    return SEND.decode((ID,), "", content_type, body)


def test_path_and_body_become_one_command() -> None:
    command = send(b'{"content":{"text":"hi"},"type":"image","newer":[1]}')

    assert command == Send(UUID(ID), Text("hi"), "image")


def test_the_path_wins_over_a_member_of_the_body_with_its_name() -> None:
    command = send(b'{"content":{"text":"hi"},"dialog_id":"another"}')

    assert command.dialog_id == UUID(ID)


def test_the_query_is_read_by_type_and_unknown_names_are_ignored() -> None:
    command = FIND.decode(
        (), f"q=a%20b+c&limit=5&ids={ID},{ID}&exact=true&x=1", None, b""
    )

    assert command == Find("a b c", 5, [UUID(ID), UUID(ID)], True)


def test_a_list_may_be_given_by_repeating_its_name() -> None:
    command = FIND.decode((), f"q=a&ids={ID}&ids={ID}", None, b"")

    assert command == Find("a", ids=[UUID(ID), UUID(ID)])


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("", {"q": "is required"}),
        ("q=a&limit=0", {"limit": "Expected `int` >= 1"}),
        ("q=a&q=b", {"q": "is given twice"}),
        (
            "limit=x&ids=1",
            {
                "q": "is required",
                "limit": "Expected `int`, got `str`",
                "ids[0]": "Invalid UUID",
            },
        ),
    ],
)
def test_every_wrong_field_of_a_query_is_named(
    query: str, fields: dict[str, str]
) -> None:
    with pytest.raises(Invalid) as refused:
        FIND.decode((), query, None, b"")

    assert refused.value.fields == fields


@pytest.mark.parametrize("query", ["q=%ff", "&".join(["a=1"] * 500)])
def test_a_query_that_cannot_be_read_is_invalid(query: str) -> None:
    with pytest.raises(Invalid):
        FIND.decode((), query, None, b"")


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"{}", {"content": "is required"}),
        (b'{"content":{}}', {"content.text": "is required"}),
        (
            b'{"content":{"text":""},"type":"song","mentions":["x"]}',
            {
                "content.text": "Expected `str` of length >= 1",
                "type": "must be one of image, text",
                "mentions[0]": "Invalid UUID",
            },
        ),
        (b"[]", {}),
    ],
)
def test_every_wrong_field_of_a_body_is_named(
    body: bytes, fields: dict[str, str]
) -> None:
    with pytest.raises(Invalid) as refused:
        send(body)

    assert refused.value.fields == fields


def test_a_wrong_parameter_of_the_path_is_named() -> None:
    with pytest.raises(Invalid) as refused:
        SEND.decode(("7",), "", JSON, b'{"content":{"text":"hi"}}')

    assert refused.value.fields == {"dialog_id": "Invalid UUID"}


def test_a_rule_of_the_command_itself_is_told() -> None:
    with pytest.raises(Invalid, match="low is above high"):
        CHECKED.decode(("1",), "", JSON, b'{"low":2,"high":1}')


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"nothing", b"\xff\xfe", b'{"content":"\xff"}', b"[" * 900, b"{} {}"],
)
def test_what_is_not_json_is_invalid(body: bytes) -> None:
    with pytest.raises(Invalid):
        send(body)


def test_a_body_may_be_left_out_if_nothing_in_it_is_required() -> None:
    logout = decoder(type("Nothing", (msgspec.Struct,), {}), "POST", "/logout")

    logout.decode((), "", None, b"")


def test_a_body_over_the_limit_is_too_large() -> None:
    with pytest.raises(TooLarge):
        send(b'{"content":{"text":"hi"}}' + b" " * 1000)


@pytest.mark.parametrize(
    "content_type",
    [
        JSON,
        b"application/json; charset=utf-8",
        b'Application/JSON;charset="UTF-8"',
        b"application/json ;",
    ],
)
def test_json_in_utf8_is_accepted(content_type: bytes) -> None:
    check_json(content_type)


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        b"",
        b"text/plain",
        b"application/jsonp",
        b"application/json; charset=latin-1",
    ],
)
def test_another_content_type_is_refused(content_type: bytes | None) -> None:
    with pytest.raises(UnsupportedMediaType):
        send(b"{}", content_type)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_command_or_a_refusal(body: bytes) -> None:
    with suppress(DomainError):
        assert isinstance(send(body), Send)


@settings(deadline=None)
@given(st.text(max_size=100))
def test_any_query_is_a_command_or_a_refusal(query: str) -> None:
    with suppress(DomainError):
        assert isinstance(FIND.decode((), query, None, b""), Find)
