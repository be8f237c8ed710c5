"""Owns whose address a request counts for: the peer's, or what trusted proxies say."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

from tchatd.edge.ports import HttpRequest

HOPS_MAX = 16
_FORWARDED = b"x-forwarded-for"


class ClientAddresses:
    """trusted: addresses and networks of our own proxies; none by default.

    Each proxy adds who asked it at the end of `X-Forwarded-For`, some as one more
    header of that name: all of them together are the list (RFC 9110, 5.3). From the
    end, what was added by a trusted one is believed; the first address that is not
    one of ours is the client's. Whatever a client writes there itself is before that.
    """

    def __init__(self, trusted: Sequence[str] = ()) -> None:
        networks = tuple(ipaddress.ip_network(text, strict=False) for text in trusted)

        @lru_cache(maxsize=4_096)
        def is_trusted(address: str) -> bool:
            parsed = parse_address(address)
            return parsed is not None and any(parsed in network for network in networks)

        self._is_trusted = is_trusted
        self._has_proxies = bool(networks)

    def of(self, request: HttpRequest) -> str:
        peer = request.address
        if not self._has_proxies or not self._is_trusted(peer):
            return peer
        given = [value for name, value in request.headers if name == _FORWARDED]
        hops = b",".join(given).decode("latin-1").rsplit(",", HOPS_MAX)
        address = peer
        for hop in reversed(hops):
            parsed = parse_address(hop.strip())
            if parsed is None:
                break
            address = str(parsed)
            if not self._is_trusted(address):
                break
        return address


def parse_address(
    text: str,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """None for what is no address; an IPv4 one written as IPv6 is the IPv4 one."""
    try:
        parsed = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped
    return parsed
