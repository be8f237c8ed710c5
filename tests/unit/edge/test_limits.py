"""What counts as one address."""

from __future__ import annotations

import pytest

from tchatd.edge.limits import address_key


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix:peer", "unix:peer"),
        ("", ""),
    ],
)
def test_one_address_is_an_ipv4_one_or_the_64_of_an_ipv6_one(
    address: str, key: str
) -> None:
    assert address_key(address) == key
