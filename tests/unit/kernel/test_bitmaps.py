"""Bitmaps hold dense numbers and intersect."""

from __future__ import annotations

from tchatd.kernel.bitmaps import BitMap


def test_members_and_online_meet_in_order() -> None:
    members, online = BitMap([5, 1, 4_000_000_000]), BitMap([4_000_000_000, 2, 5])
    assert list(members & online) == [5, 4_000_000_000]
