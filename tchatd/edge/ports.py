"""Owns what the edge asks of others, as Protocols; implements none of it."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Literal, Protocol
from uuid import UUID

import msgspec

from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.routing import Caller


class Identity(Protocol):
    """A caller whose token was checked. expires_at_ms: when the token ends."""

    @property
    def caller(self) -> Caller: ...

    @property
    def expires_at_ms(self) -> int: ...


class Authenticator(Protocol):
    def authenticate(self, token: str) -> Identity | Awaitable[Identity]:
        """Who holds the token; awaitable only if the user was not seen since start.

        Raises:
            Unauthorized: the token is not ours, has ended, or its session has.
        """
        ...


class Directory(Protocol):
    """Dense user numbers and public ids of users, cached."""

    def cached_id(self, number: int) -> UUID | None: ...

    async def numbers_of(self, ids: Sequence[UUID]) -> Mapping[UUID, int]: ...

    async def ids_of(self, numbers: Sequence[int]) -> Mapping[int, UUID]: ...


class Visibility(Protocol):
    """Who may see when somebody is here."""

    async def load(self, numbers: Sequence[int]) -> None:
        """Have what these people decided in memory. Raises: Unavailable."""
        ...

    def sight(self, viewer: int, target: int) -> Literal["exact", "coarse", "nothing"]:
        """How well `viewer` sees it; nothing, too, if either is not in memory."""
        ...


class Members(Protocol):
    """Who is in a dialog."""

    async def members_of(self, user_number: int, dialog_id: str) -> tuple[BitMap, bool]:
        """The numbers of its members, and whether this one of them may know who they
        are.

        Raises:
            DomainError: there is no such dialog, or it is not the user's to see.
        """
        ...


class LastSeenStore(Protocol):
    """When users were last here, in milliseconds since 1970; by their number."""

    async def last_seen(self, numbers: Sequence[int]) -> Mapping[int, int]:
        """Of those who are known to have been here."""
        ...

    async def keep_last_seen(self, seen: Mapping[int, int]) -> None:
        """A later time that is there stays."""
        ...


class HttpRequest(Protocol):
    """One complete request. path, query: raw, not decoded, without the `?`."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def query(self) -> str: ...
    @property
    def body(self) -> bytes: ...
    @property
    def address(self) -> str: ...
    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """All of them in order, the names in lower case."""
        ...

    def header(self, name: bytes, /) -> bytes | None:
        """The first of that name."""
        ...


class Transport(Protocol):
    """Carries WebSocket messages of many connections; the C gateway is one.

    A connection is a number that is never used again soon; a call with a dead number
    does nothing and answers False. Numbers of two transports never meet.
    """

    def queue(self, connection: int, frame: Any, /) -> bool:
        """Put one message behind what waits already; it leaves at `flush`."""
        ...

    def fan_out(self, connections: Sequence[int], frame: Any, /) -> int:
        """`queue` to many; how many took it."""
        ...

    def flush(self) -> object: ...

    def close(self, connection: int, code: int, reason: str = "", /) -> bool:
        """Begin the close handshake, behind what is queued."""
        ...

    def pause(self, connection: int, /) -> object: ...

    def resume(self, connection: int, /) -> object: ...

    def authenticated(self, connection: int, /) -> object:
        """Stop the timer of half-open connections."""
        ...


class Response(msgspec.Struct, frozen=True, gc=False):
    """headers: whole lines, each ending in CRLF, the content type among them; length,
    date and connection are the transport's. body: also of HEAD, then not sent."""

    status: int
    headers: bytes
    body: bytes
