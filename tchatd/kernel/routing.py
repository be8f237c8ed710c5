"""Owns how an operation is declared, once, for HTTP, HTTP/2 and WebSocket alike.

A domain's `routes.py` returns a list of `Operation`; the edge serves it, checks it,
and writes `/openapi.json` from it. No transport is known here.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import msgspec

from tchatd.kernel.deferred import Deferred
from tchatd.kernel.errors import DomainError

PATH_PARAMETER = re.compile(r"\{([a-z_]+)\}")


class Access(enum.Enum):
    PUBLIC = "public"
    USER = "user"


class Caller(msgspec.Struct, frozen=True):
    """Who asks. user_number: dense, at least 1, never shown outside."""

    user_id: UUID
    user_number: int
    session_id: UUID


class RequestKey(msgspec.Struct, frozen=True):
    """What makes a request the same as an earlier one: its Idempotency-Key.

    digest: 32 bytes, of who asks, for which operation, with which key. fingerprint:
    32 bytes, of what was asked. encode: the answer as it is kept, sealed, from the
    result or the refusal; it is made before the answer is durable, and never later.
    """

    digest: bytes
    fingerprint: bytes
    encode: Callable[[Any], bytes]


class KeptReply(msgspec.Struct, frozen=True):
    """Result of a handler that kept an answer for this key: as `RequestKey.encode`
    made it then."""

    answer: bytes


class Context:
    """What surrounds one command, whichever transport carried it.

    idempotency_id: a version 7 UUID that stays the same when a request with the
        same Idempotency-Key is run again, also after a crash; None without a key.
    key: of an operation that keeps keys itself; None without a key.
    connection: the gateway's number of the WebSocket that asked; None over HTTP.
    """

    __slots__ = (
        "address",
        "caller",
        "connection",
        "idempotency_id",
        "key",
        "request_id",
    )

    def __init__(
        self,
        request_id: str,
        address: str,
        caller: Caller | None = None,
        connection: int | None = None,
        idempotency_id: UUID | None = None,
    ) -> None:
        self.request_id = request_id
        self.address = address
        self.caller = caller
        self.connection = connection
        self.idempotency_id = idempotency_id
        self.key: RequestKey | None = None

    @property
    def user(self) -> Caller:
        """The caller of an operation with `Access.USER`: the edge has checked it."""
        assert self.caller is not None
        return self.caller


class Reply(msgspec.Struct, frozen=True):
    """A result with a status other than the operation's own (200 for an old one)."""

    body: Any
    status: int


class Limit(msgspec.Struct, frozen=True):
    """A token bucket: `burst` at once, refilled at `per_minute`.

    by: "address" (the /64 of an IPv6 one) or "user".
    """

    by: str
    per_minute: float
    burst: int


Handler = Callable[[Context, Any], Any | Awaitable[Any] | Deferred[Any]]


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One thing a client can ask for.

    name: `noun.verb`, unique; also the operationId in OpenAPI.
    command: msgspec Struct of all input: path parameters, then, for GET and DELETE,
        the query, for POST and PUT the members of the JSON body.
    result: the type of a successful answer's body, for OpenAPI; None for no body.
    handler: called as handler(context, command). A plain function answers inline:
        it returns the result, a `Deferred`, or an awaitable where it has to wait
        (the edge then runs it in a task). It never blocks.
    other_statuses: what a `Reply` of the handler may say instead of `status`.
    path: without the `/v1` alias, which the edge adds.
    websocket: the `op` under which it is also a WebSocket command.
    cache_s: seconds that anyone may keep a GET's answer; 0 (no-store) for most.
    keeps_keys: of a POST: the handler stores `Context.key` and its answer in the same
        commit as the effect, and answers a repeat with a `KeptReply`. A command may
        then name its key itself, in `idempotency_key` or `client_id`, where no header
        does: over WebSocket.
    """

    name: str
    summary: str
    tag: str
    command: type[msgspec.Struct]
    result: Any
    handler: Handler
    verb: str | None = None
    path: str | None = None
    status: int = 200
    other_statuses: tuple[int, ...] = ()
    access: Access = Access.USER
    limits: tuple[Limit, ...] = ()
    errors: tuple[type[DomainError], ...] = ()
    websocket: str | None = None
    body_bytes_max: int = 1 << 20
    cache_s: int = 0
    keeps_keys: bool = False

    def __post_init__(self) -> None:
        assert self.verb in (None, "GET", "POST", "PUT", "DELETE")
        assert (self.verb is None) == (self.path is None)
        assert self.verb is not None or self.websocket is not None
        assert set(self.path_parameters) <= set(self.command.__struct_fields__)
        assert not self.keeps_keys or self.verb in (None, "POST")

    @property
    def path_parameters(self) -> tuple[str, ...]:
        return tuple(PATH_PARAMETER.findall(self.path or ""))
