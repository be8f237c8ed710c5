"""A jar that stays empty, whatever it is given."""

from __future__ import annotations

import httpx

from tchatd.providers.cookies import NoCookies


def test_no_cookie_is_taken_and_none_is_given() -> None:
    cookies = httpx.Cookies(NoCookies())
    request = httpx.Request("GET", "https://a.example/")
    answer = httpx.Response(200, headers={"set-cookie": "a=b"}, request=request)
    cookies.extract_cookies(answer)
    cookies.set_cookie_header(request)
    assert len(cookies.jar) == 0
    assert "cookie" not in request.headers
