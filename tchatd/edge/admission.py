"""Owns what a request brings to be let in: its token, the subprotocols it offers."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from urllib.parse import parse_qsl

import msgspec

from tchatd.edge.commands import QUERY_FIELDS_MAX
from tchatd.edge.ports import Authenticator, HttpRequest, Identity
from tchatd.kernel.errors import Invalid

JSON = "tchat.json.v1"
MSGPACK = "tchat.msgpack.v1"
SUBPROTOCOLS = (JSON, MSGPACK)


class Admission(msgspec.Struct, frozen=True):
    """How to answer an upgrade. subprotocol: None if the client named none.

    identity: None if no token came; it has to come by `hello`.
    """

    subprotocol: str | None
    is_msgpack: bool
    identity: Identity | Awaitable[Identity] | None


def admit(
    request: HttpRequest, offered: Sequence[str], authenticator: Authenticator
) -> Admission:
    """Check an upgrade: of the subprotocols offered the first that is ours is taken.

    Raises:
        Unauthorized: there is a token, and it does not hold.
        Invalid: none of the subprotocols offered is ours.
    """
    subprotocol = next((name for name in offered if name in SUBPROTOCOLS), None)
    if offered and subprotocol is None:
        raise Invalid(f"Offer one of {', '.join(SUBPROTOCOLS)}.")
    token = bearer_token(request.header(b"authorization"))
    if token is None and request.query:
        token = query_token(request.query)
    return Admission(
        subprotocol,
        subprotocol == MSGPACK,
        None if token is None else authenticator.authenticate(token),
    )


def bearer_token(authorization: bytes | None) -> str | None:
    """The token of `Authorization: Bearer …` (RFC 6750), the scheme in any case."""
    if authorization is None or authorization[:7].lower() != b"bearer ":
        return None
    try:
        return authorization[7:].strip().decode("ascii")
    except UnicodeDecodeError:
        return None


def query_token(query: str) -> str | None:
    """The token of `?token=…`, for browsers, which send no headers of ours."""
    try:
        pairs = parse_qsl(query, max_num_fields=QUERY_FIELDS_MAX)
    except ValueError:
        return None
    return dict(pairs).get("token")
