"""What a request brings to be let in."""

from __future__ import annotations

from typing import Any

import pytest

from tchatd.edge import admission
from tchatd.edge.admission import JSON, MSGPACK, bearer_token, query_token
from tchatd.kernel.clock import ManualClock
from tchatd.kernel.errors import Invalid, Unauthorized
from tests.support.edge_fakes import FakeAuthenticator, FakeRequest, caller


def admit(query: str = "", *offered: str, **headers: str) -> Any:
    request = FakeRequest("GET", f"/websocket{query}", headers=headers)
    return admission.admit(request, offered, FakeAuthenticator(ManualClock()))


def test_a_token_comes_by_header_or_query() -> None:
    assert admit(Authorization="Bearer u7").identity.caller == caller(7)
    assert admit("?a=1&token=u7").identity.caller == caller(7)
    assert admit("?token=u8", Authorization="Bearer u7").identity.caller == caller(7)
    assert admit("?a=1").identity is None
    assert admit().identity is None


def test_a_bad_token_is_refused_before_the_upgrade() -> None:
    with pytest.raises(Unauthorized):
        admit("?token=nonsense")


def test_the_first_subprotocol_that_is_ours_is_taken() -> None:
    assert (admit().subprotocol, admit().is_msgpack) == (None, False)
    assert admit("", "other", MSGPACK, JSON).subprotocol == MSGPACK
    assert admit("", "other", MSGPACK, JSON).is_msgpack
    assert not admit("", JSON).is_msgpack
    with pytest.raises(Invalid):
        admit("", "other")


@pytest.mark.parametrize(
    ("header", "token"),
    [
        (b"Bearer abc", "abc"),
        (b"bearer  abc ", "abc"),
        (b"Bearerabc", None),
        (b"Basic abc", None),
        (b"", None),
        (None, None),
    ],
)
def test_the_bearer_token_is_found(header: bytes | None, token: str | None) -> None:
    assert bearer_token(header) == token


def test_a_query_that_is_too_long_has_no_token() -> None:
    assert query_token("a=1&token=t&token=u") == "u"
    assert query_token("&".join(["token=t"] * 1_000)) is None
