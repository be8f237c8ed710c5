"""Owns the envelopes of WebSocket messages: one frame, one envelope.

A client's envelope is `{"op": …, "id": …}` and the members of the operation's command;
the server's are `reply`, `error` and events (whose structs carry their own `op`). One
decoder for each subprotocol knows every declared operation as a tagged union, so that
an envelope is decoded and checked in one pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from tchatd.edge.commands import refusal
from tchatd.edge.dispatcher import Entry
from tchatd.edge.problems import Problem
from tchatd.kernel.errors import Invalid

_ID_MAX: Final = 2**53 - 1  # what JavaScript counts exactly
EnvelopeId = Annotated[int, Meta(ge=-_ID_MAX, le=_ID_MAX)]


class Hello(Struct, frozen=True, tag="hello", tag_field="op"):
    """Says who speaks; again with a newer token before the old one ends."""

    token: Annotated[str, Meta(min_length=1, max_length=8192)]
    id: EnvelopeId | None = None


class Ping(Struct, frozen=True, tag="ping", tag_field="op"):
    id: EnvelopeId


class Welcome(Struct, frozen=True):
    """The result of `hello`."""

    user_id: str
    session_id: str
    expires_at: str
    server_time: str


class Pong(Struct, frozen=True):
    server_time: str


class ReplyEnvelope(Struct, frozen=True, tag="reply", tag_field="op"):
    id: int | None
    result: Any


class ErrorEnvelope(Struct, frozen=True, tag="error", tag_field="op"):
    """id: null when it could not be read."""

    id: int | None
    problem: Problem


class SessionRevoked(Struct, frozen=True, tag="session.revoked", tag_field="op"):
    session_id: str


class Gap(Struct, frozen=True, tag="gap", tag_field="op"):
    """Something was dropped for this connection: ask `sync`."""


class _Head(Struct, frozen=True):
    op: str
    id: EnvelopeId | None = None


class Malformed(Invalid):
    """Not JSON or MessagePack, or without an `op` or `id` that can be read."""

    code, title = "malformed-envelope", "This is not an envelope"


class UnknownCommand(Invalid):
    code, title = "unknown-command", "No such command"


class BadEnvelope(Exception):
    """An envelope that cannot be run. id: of the envelope, if it could be read."""

    def __init__(self, id: int | None, reason: Invalid) -> None:
        super().__init__(reason.detail)
        self.id = id
        self.reason = reason


class EnvelopeDecoder:
    """Decodes what clients send, in one of the two subprotocols."""

    def __init__(self, entries: Iterable[Entry], *, is_msgpack: bool) -> None:
        self.entries: dict[type[Struct], Entry] = {}
        self._by_op: dict[str, type[Struct]] = {"hello": Hello, "ping": Ping}
        for entry in entries:
            op = entry.operation.websocket
            if op is None:
                continue
            assert op not in self._by_op, f"{op} is declared twice"
            self._by_op[op] = _envelope_of(op, entry.operation.command)
            self.entries[self._by_op[op]] = entry
        union: Any = Hello
        for of_type in list(self._by_op.values())[1:]:
            union = union | of_type
        module = msgspec.msgpack if is_msgpack else msgspec.json
        self._decode = module.Decoder(union).decode
        self._decode_head = module.Decoder(_Head).decode
        self._decode_raw = module.Decoder().decode
        self._not_read = f"The message is not {'MessagePack' if is_msgpack else 'JSON'}"

    def decode(self, message: bytes) -> Any:
        """`Hello`, `Ping` or an envelope whose type is in `entries`.

        Raises:
            BadEnvelope: with the id to answer to, if there is one.
        """
        try:
            return self._decode(message)
        except (ValueError, RecursionError) as error:
            raise self._bad(message, error) from None

    def _bad(self, message: bytes, error: Exception) -> BadEnvelope:
        try:
            head = self._decode_head(message)
        except (ValueError, RecursionError):
            return self._malformed(message)
        of_type = self._by_op.get(head.op)
        if of_type is None:
            return BadEnvelope(head.id, UnknownCommand())
        if not isinstance(error, msgspec.ValidationError):
            return BadEnvelope(head.id, Malformed())
        try:
            raw = self._decode_raw(message)
        except (ValueError, RecursionError):
            raw = None
        return BadEnvelope(head.id, refusal(error, of_type, raw))

    def _malformed(self, message: bytes) -> BadEnvelope:
        """What is wrong with the envelope itself, and its id where it can be read."""
        try:
            raw = self._decode_raw(message)
        except RecursionError:
            return BadEnvelope(None, Malformed("The message is nested too deeply."))
        except ValueError as error:
            return BadEnvelope(None, Malformed(f"{self._not_read}: {error}."))
        if not isinstance(raw, dict):
            return BadEnvelope(None, Malformed("An envelope is an object."))
        fields = {}
        if "op" not in raw:
            fields["op"] = "is required"
        elif not isinstance(raw["op"], str):
            fields["op"] = "must be a string"
        id = raw.get("id")
        try:
            msgspec.convert(id, EnvelopeId | None)
        except msgspec.ValidationError:
            fields["id"] = f"must be an integer within ±{_ID_MAX}"
            id = None
        wrong = "These are not valid: " + ", ".join(fields) + "." if fields else ""
        return BadEnvelope(id, Malformed(wrong, fields=fields))


def _envelope_of(op: str, command: type[Struct]) -> type[Struct]:
    """The command with its envelope's `op` and `id`; still an instance of it."""
    names = command.__struct_fields__
    assert "id" not in names, f"{op}: `id` is the envelope's"
    assert "op" not in names, f"{op}: `op` is the envelope's"
    return msgspec.defstruct(
        command.__name__,
        [("id", EnvelopeId)],
        bases=(command,),
        tag=op,
        tag_field="op",
        kw_only=True,
        frozen=command.__struct_config__.frozen,
    )
