"""Owns where we connect on behalf of others: public addresses, and nothing else.

Whoever gives us a URL must not reach what only we can reach (our database, a cloud's
metadata, the neighbours). Names are looked up here, every address of the answer is
checked, and the connection is made to the very address that was checked, so that a
name that means something else a moment later gains nothing. Redirects and connections
that are used again go through the same door, for it is below HTTP.

HTTP/1.1 is all that is spoken: of an answer that breaks the rules of HTTP/2 httpcore
lets h2's own exceptions through, and frames are a surface that one POST does not need.
"""

from __future__ import annotations

import math
import socket
import ssl
from collections.abc import Iterable
from functools import partial
from ipaddress import (
    IPv4Address,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Any, Final, Protocol

import httpcore
import httpx
import trio

ADDRESSES_MAX: Final = 8
"""Of one name that are tried; all of them are checked."""
LOOKUPS_MAX: Final = 64
"""Of names, at once, of webhooks and of previews each."""
_NOT_OURS_TO_CALL: Final = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "100.64.0.0/10",
        "168.63.129.16/32",  # a cloud's own services, on a public address
        "192.0.0.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "240.0.0.0/4",
    )
)
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_NAT64: Final = IPv6Network("64:ff9b::/96")
_SIX_TO_FOUR: Final = IPv6Network("2002::/16")
_TEREDO: Final = IPv6Network("2001::/32")
_COMPATIBLE: Final = IPv6Network("::/96")
_LOCAL_NAT64: Final = IPv6Network("64:ff9b:1::/48")


class NotPublic(Exception):
    """The name or address is not one that we call for others."""


def is_public(address: str) -> bool:
    """Whether anybody on the internet could call it. address: as the system wrote it;
    anything that is no address is not public."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address):
        return _is_public_6(parsed)
    return _is_public_4(parsed)


def _is_public_4(address: IPv4Address) -> bool:
    if not address.is_global or address.is_multicast:
        return False
    return not any(address in network for network in _NOT_OURS_TO_CALL)


def _is_public_6(address: IPv6Address) -> bool:
    """An IPv4 address in one of its disguises is judged as what it is."""
    if address.ipv4_mapped is not None:
        return _is_public_4(address.ipv4_mapped)
    if address in _TEREDO or address in _COMPATIBLE or address in _LOCAL_NAT64:
        return False
    if address in _NAT64:
        return _is_public_4(IPv4Address(int(address) & 0xFFFF_FFFF))
    if address in _SIX_TO_FOUR:
        return _is_public_4(IPv4Address(int(address) >> 80 & 0xFFFF_FFFF))
    return address in _GLOBAL_UNICAST and address.is_global


class Resolver(Protocol):
    async def addresses(self, host: str, port: int) -> list[str]:
        """Raises OSError."""
        ...


class SystemResolver:
    """Asks the system, in threads of its own: a name whose servers do not answer keeps
    one for as long as the system waits, also after who asked has given up.

    lookups_max: at once; more fail, as if the name were not known.
    """

    def __init__(self, lookups_max: int = LOOKUPS_MAX) -> None:
        self._threads = trio.CapacityLimiter(lookups_max)

    async def addresses(self, host: str, port: int) -> list[str]:
        if self._threads.available_tokens < 1:
            raise OSError("too many names are being looked up")
        look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await trio.to_thread.run_sync(
            look_up, abandon_on_cancel=True, limiter=self._threads
        )
        return list(dict.fromkeys(str(where[0]) for *_, where in found))


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects to public addresses. ports: to these only; empty for all of them."""

    def __init__(
        self,
        resolver: Resolver,
        *,
        allow_private: bool,
        ports: frozenset[int] = frozenset(),
        inner: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        self._resolver = resolver
        self._allow_private = allow_private
        self._ports = ports
        self._inner = inner or httpcore.TrioBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raises: NotPublic; httpcore.ConnectError, httpcore.ConnectTimeout."""
        if self._ports and port not in self._ports:
            raise NotPublic(f"port {port}")
        with trio.move_on_after(math.inf if timeout is None else timeout) as scope:
            addresses = await self._checked(host, port)
            failure: Exception = httpcore.ConnectError("no address")
            for address in addresses[:ADDRESSES_MAX]:
                try:
                    return await self._inner.connect_tcp(
                        address, port, timeout, local_address, socket_options
                    )
                except httpcore.ConnectError as error:
                    failure = error
            raise failure
        assert scope.cancelled_caught
        raise httpcore.ConnectTimeout("looking up and connecting took too long")

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's signature
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise NotPublic("a unix socket")

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)

    async def _checked(self, host: str, port: int) -> list[str]:
        try:
            addresses = await self._resolver.addresses(host, port)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError("the name is not known") from error
        if not self._allow_private:
            for address in addresses:
                if not is_public(address):
                    raise NotPublic(address)
        return addresses


class GuardedTransport(httpx.AsyncHTTPTransport):
    """An httpx transport through a `GuardedBackend`."""

    def __init__(
        self,
        backend: httpcore.AsyncNetworkBackend,
        *,
        connections_max: int,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls or ssl.create_default_context(),
            max_connections=connections_max,
            max_keepalive_connections=connections_max,
            keepalive_expiry=30.0,
            http1=True,
            http2=False,
            network_backend=backend,
        )
