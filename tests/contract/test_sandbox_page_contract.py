"""The sandbox's page is behind both doors, for who looks and for who presses."""

from __future__ import annotations

import httpx
import pytest

FORM = {"content-type": "application/x-www-form-urlencoded"}
PAGE = "/sandbox/pay/sbx_never_made"


async def test_a_charge_that_was_never_made_is_404(web: httpx.AsyncClient) -> None:
    looked = await web.get(PAGE)
    pressed = await web.post(PAGE, content=b"action=pay", headers=FORM)
    assert (looked.status_code, pressed.status_code) == (404, 404)
    assert looked.text == pressed.text == "There is no such charge."
    assert "form-action 'self'" in looked.headers["content-security-policy"]


@pytest.mark.parametrize("body", [b"", b"action=steal", b"a" * 10_000])
async def test_what_is_no_button_is_400(web: httpx.AsyncClient, body: bytes) -> None:
    answer = await web.post(PAGE, content=body, headers=FORM)
    assert (answer.status_code, answer.text) == (400, "That is none of the buttons.")


@pytest.mark.parametrize("path", ["/sandbox/pay/", "/sandbox", "/sandbox/pay/a/b"])
async def test_the_rest_is_a_problem(web: httpx.AsyncClient, path: str) -> None:
    answer = await web.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


async def test_other_methods_are_told_which_there_are(web: httpx.AsyncClient) -> None:
    answer = await web.delete(PAGE)
    assert answer.status_code in (404, 405)
