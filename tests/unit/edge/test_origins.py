"""What pages of other origins may do."""

from __future__ import annotations

import pytest

from tchatd.edge.origins import Origins
from tests.support.edge_fakes import FakeRequest

OURS = Origins(frozenset({"https://a.example"}))
ALL = Origins(frozenset({"*"}))
NONE = Origins(frozenset())


def request(origin: str | None, *, preflight: bool = False) -> FakeRequest:
    headers = {} if origin is None else {"Origin": origin}
    if preflight:
        headers["Access-Control-Request-Method"] = "POST"
    return FakeRequest("OPTIONS", headers=headers)


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        (OURS, "https://a.example", True),
        (OURS, "https://b.example", False),
        (OURS, "https://a.example.evil", False),
        (OURS, "null", False),
        (OURS, None, False),
        (ALL, "https://b.example", True),
        (NONE, "https://a.example", False),
    ],
)
def test_a_browser_is_told_only_what_its_origin_may(
    origins: Origins, origin: str | None, allowed: bool
) -> None:
    lines = origins.lines(request(origin)).decode()
    preflight = origins.preflight(request(origin, preflight=True), "GET, POST")

    assert (f"access-control-allow-origin: {origin}\r\n" in lines) == allowed
    assert (b"access-control-allow-methods: GET, POST\r\n" in preflight) == allowed
    assert "credentials" not in lines
    assert not origins.preflight(request(origin), "GET, POST")


def test_answers_to_others_depend_on_the_origin_too() -> None:
    """So that no cache gives one's answer to the other."""
    assert OURS.lines(request("https://b.example")) == b"vary: origin\r\n"


def test_a_websocket_may_come_from_anywhere_unless_origins_are_listed() -> None:
    assert NONE.may_connect(request("https://b.example"))
    assert OURS.may_connect(request(None))
    assert OURS.may_connect(request("https://a.example"))
    assert not OURS.may_connect(request("https://b.example"))
