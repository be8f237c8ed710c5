"""Owns what pages of other origins may do: CORS, and who may open a WebSocket."""

from __future__ import annotations

from tchatd.edge.ports import HttpRequest

_EXPOSED = (
    b"access-control-expose-headers: x-request-id, retry-after, idempotent-replayed\r\n"
)
_PREFLIGHT = (
    b"access-control-allow-headers: authorization, content-type, idempotency-key, "
    b"x-request-id\r\naccess-control-max-age: 7200\r\n"
)


class Origins:
    """allowed: origins of browsers that may call; `*` for all, empty for none.

    Nothing here allows credentials: a token is sent by the page, never by the browser.
    """

    def __init__(self, allowed: frozenset[str]) -> None:
        self._allowed = allowed

    def lines(self, request: HttpRequest) -> bytes:
        """The header lines of a response to `request`."""
        if not self._allowed:
            return b""
        origin = request.header(b"origin")
        if origin is None:
            return b""
        if not self._allows(origin):
            return b"vary: origin\r\n"
        return (
            b"access-control-allow-origin: %s\r\nvary: origin\r\n" % origin + _EXPOSED
        )

    def preflight(self, request: HttpRequest, allow: str) -> bytes:
        """What a browser is told besides, if it asks. allow: the path's methods."""
        origin = request.header(b"origin")
        if origin is None or not self._allows(origin):
            return b""
        if not request.header(b"access-control-request-method"):
            return b""
        return b"access-control-allow-methods: %s\r\n" % allow.encode() + _PREFLIGHT

    def may_connect(self, request: HttpRequest) -> bool:
        """Whether it may open a WebSocket: from any origin if no list is set, because
        a token is needed that no browser sends by itself."""
        origin = request.header(b"origin")
        return origin is None or not self._allowed or self._allows(origin)

    def _allows(self, origin: bytes) -> bool:
        return "*" in self._allowed or origin.decode("latin-1") in self._allowed
