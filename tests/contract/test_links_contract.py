"""Link previews of a real daemon, through both doors; the page is on loopback."""

from __future__ import annotations

import pytest

from tests.contract.test_auth_contract import People, refused
from tests.support.receiver import Answer, receiver

pytestmark = [pytest.mark.service, pytest.mark.slow]
PAGE = b"<title>A page</title><meta name=description content='About it'>"
HTML = {"content-type": "text/html"}


async def test_a_page_is_previewed_and_kept(people: People) -> None:
    person = await people()
    async with receiver() as received:
        received.answers = [Answer(200, HTML, PAGE)]
        for _ in range(2):
            preview = await person.ok(
                "GET", "/link-preview", params={"url": received.url}
            )
            assert preview == {
                "url": received.url,
                "title": "A page",
                "description": "About it",
            }
        assert len(received.requests) == 1


async def test_what_has_no_preview_and_what_is_no_link(people: People) -> None:
    person = await people()
    async with receiver() as received:
        received.answers = [Answer(404)]
        answer = await person.http.get("/link-preview", params={"url": received.url})
        assert refused(answer, 404)["type"].endswith(":no-preview")
    for url in ("", "ftp://a.example", "a.example", "http://" + "x" * 2_048):
        refused(await person.http.get("/link-preview", params={"url": url}), 400)
    refused(await person.http.get("/link-preview"), 400)
