"""Envelopes of WebSocket messages in both subprotocols."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta

from tchatd.edge.dispatcher import Dispatcher
from tchatd.edge.envelopes import (
    BadEnvelope,
    EnvelopeDecoder,
    ErrorEnvelope,
    Hello,
    Malformed,
    Ping,
    ReplyEnvelope,
    UnknownCommand,
)
from tchatd.edge.problems import problem_of
from tchatd.kernel.errors import Invalid, NotFound
from tchatd.kernel.routing import Operation
from tchatd.observe.metrics import Metrics

ID = f"must be an integer within ±{2**53 - 1}"


class Say(msgspec.Struct, frozen=True):
    text: Annotated[str, Meta(max_length=5)]
    loud: bool = False


class Tagged(msgspec.Struct, frozen=True, tag="was.tagged", tag_field="type"):
    text: str = ""


def declared(name: str, command: type[msgspec.Struct]) -> Operation:
    return Operation(
        name=name,
        summary="",
        tag="t",
        command=command,
        result=None,
        handler=lambda context, command: None,
        websocket=name,
    )


OPERATIONS = [declared("say", Say), declared("tagged", Tagged)]
ENTRIES = Dispatcher(OPERATIONS, Metrics(process=False)).entries
DECODERS = {
    module: EnvelopeDecoder(ENTRIES.values(), is_msgpack=module is msgspec.msgpack)
    for module in (msgspec.json, msgspec.msgpack)
}


@pytest.fixture(params=list(DECODERS), ids=["json", "msgpack"])
def module(request: pytest.FixtureRequest) -> Any:
    return request.param


def decode(module: Any, envelope: Any) -> Any:
    return DECODERS[module].decode(module.encode(envelope))


def refused(module: Any, envelope: Any) -> BadEnvelope:
    with pytest.raises(BadEnvelope) as bad:
        decode(module, envelope)
    return bad.value


def test_an_envelope_is_the_command_with_an_id(module: Any) -> None:
    envelope = decode(module, {"op": "say", "id": 7, "text": "hi", "new": 1})

    assert isinstance(envelope, Say)
    assert (envelope.text, envelope.id) == ("hi", 7)  # type: ignore[attr-defined]
    assert DECODERS[module].entries[type(envelope)] is ENTRIES["say"]
    assert isinstance(decode(module, {"op": "tagged", "id": 7}), Tagged)


def test_hello_and_ping_are_envelopes(module: Any) -> None:
    assert decode(module, {"op": "hello", "token": "t"}) == Hello("t")
    assert decode(module, {"op": "hello", "token": "t", "id": 1}) == Hello("t", 1)
    assert decode(module, {"op": "ping", "id": 2}) == Ping(2)


def test_an_invalid_command_keeps_its_id_and_names_its_fields(module: Any) -> None:
    bad = refused(module, {"op": "say", "id": 7, "text": "too long", "loud": 1})

    assert bad.id == 7
    assert type(bad.reason) is Invalid
    assert set(bad.reason.fields) == {"text", "loud"}


def test_an_unknown_command_keeps_its_id(module: Any) -> None:
    bad = refused(module, {"op": "sing", "id": 7})

    assert bad.id == 7
    assert isinstance(bad.reason, UnknownCommand)


@pytest.mark.parametrize(
    ("envelope", "id", "wrong"),
    [
        ({}, None, {"op": "is required"}),
        ({"id": 7}, 7, {"op": "is required"}),
        ({"op": 3, "id": 7}, 7, {"op": "must be a string"}),
        ({"op": "say", "id": "7", "text": "hi"}, None, {"id": ID}),
        ({"op": "say", "id": 2**60, "text": "hi"}, None, {"id": ID}),
        ({"id": "7"}, None, {"op": "is required", "id": ID}),
    ],
)
def test_what_is_wrong_with_an_envelope_is_told_with_its_id(
    module: Any, envelope: Any, id: int | None, wrong: dict[str, str]
) -> None:
    bad = refused(module, envelope)

    assert bad.id == id
    assert isinstance(bad.reason, Malformed)
    assert bad.reason.fields == wrong


@pytest.mark.parametrize("envelope", [[], 7, None, "say"])
def test_what_is_no_envelope_has_no_id(module: Any, envelope: Any) -> None:
    bad = refused(module, envelope)

    assert bad.id is None
    assert isinstance(bad.reason, Malformed)
    assert bad.reason.detail == "An envelope is an object."


def test_a_command_without_an_id_is_told_so(module: Any) -> None:
    bad = refused(module, {"op": "say", "text": "hi"})

    assert bad.id is None
    assert bad.reason.fields == {"id": "is required"}


@pytest.mark.parametrize(
    "message", [b"", b"{", b"\xff", b"[" * 10_000, b"\xc1", b"\x91" * 9999]
)
def test_broken_bytes_are_malformed(module: Any, message: bytes) -> None:
    with pytest.raises(BadEnvelope) as bad:
        DECODERS[module].decode(message)

    assert bad.value.id is None
    assert bad.value.reason.detail.startswith(("The message is ", "An envelope is "))


@settings(deadline=None)
@given(st.binary(max_size=100))
def test_any_bytes_are_an_envelope_or_bad(message: bytes) -> None:
    for decoder in DECODERS.values():
        try:
            decoder.decode(message)
        except BadEnvelope as bad:
            problem_of(bad.reason, "r")


def test_replies_and_errors_have_the_same_shape_in_both(module: Any) -> None:
    reply = ReplyEnvelope(7, Say("hi"))
    error = ErrorEnvelope(None, problem_of(NotFound(), "r"))

    assert module.decode(module.encode(reply)) == {
        "op": "reply",
        "id": 7,
        "result": {"text": "hi", "loud": False},
    }
    decoded = module.decode(module.encode(error))
    assert decoded["op"] == "error"
    assert decoded["id"] is None
    assert decoded["problem"]["status"] == 404


def test_a_command_must_leave_id_to_the_envelope() -> None:
    class WithId(msgspec.Struct):
        id: int

    entries = Dispatcher([declared("a", WithId)], Metrics(process=False)).entries

    with pytest.raises(AssertionError, match="envelope"):
        EnvelopeDecoder(entries.values(), is_msgpack=False)
