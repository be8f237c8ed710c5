"""Owns what counts as one address."""

from __future__ import annotations

import functools
import ipaddress


@functools.lru_cache(maxsize=16_384)
def address_key(address: str) -> str:
    """What counts as one address: an IPv4 one, the /64 of an IPv6 one.

    One household or server has a whole /64 (RFC 6177); an IPv4 address written as
    IPv6 is the IPv4 one. Anything else, such as a unix socket, is its own key.
    """
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return f"{ipaddress.IPv6Address(int(parsed) >> 64 << 64)}/64"
