"""Whose address a request counts for."""

from __future__ import annotations

import pytest

from tchatd.edge.addresses import ClientAddresses
from tests.support.edge_fakes import FakeRequest


def test_all_headers_of_that_name_are_one_list() -> None:
    """As a proxy that adds a header, where the client had sent one, makes it."""
    headers = [("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", "198.51.100.9")]
    request = FakeRequest(address="10.0.0.1", headers=headers)

    assert ClientAddresses(["10.0.0.0/8"]).of(request) == "198.51.100.9"


def address_of(peer: str, forwarded: str | None, *trusted: str) -> str:
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    return ClientAddresses(trusted).of(FakeRequest(address=peer, headers=headers))


@pytest.mark.parametrize("forwarded", [None, "198.51.100.9", "x"])
def test_without_proxies_of_ours_the_peer_is_the_client(forwarded: str | None) -> None:
    assert address_of("192.0.2.1", forwarded) == "192.0.2.1"
    assert address_of("192.0.2.1", forwarded, "10.0.0.0/8") == "192.0.2.1"


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ("198.51.100.9", "198.51.100.9"),
        ("6.6.6.6, 198.51.100.9", "198.51.100.9"),
        ("6.6.6.6, 198.51.100.9, 10.0.0.2", "198.51.100.9"),
        ("nonsense, 198.51.100.9,10.1.1.1", "198.51.100.9"),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("::ffff:198.51.100.9", "198.51.100.9"),
        ("nonsense", "10.0.0.1"),
        ("6.6.6.6, nonsense", "10.0.0.1"),
        ("", "10.0.0.1"),
        (None, "10.0.0.1"),
        ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
        (",".join(["10.0.0.2"] * 1_000), "10.0.0.2"),
    ],
)
def test_the_last_address_that_is_not_ours_is_the_clients(
    forwarded: str | None, client: str
) -> None:
    assert address_of("10.0.0.1", forwarded, "10.0.0.0/8", "::1") == client
