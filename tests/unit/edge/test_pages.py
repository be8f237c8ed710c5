"""Pages for people, through the endpoint."""

from __future__ import annotations

import re
from importlib import resources

import pytest
import trio
from quart import Response as QuartResponse
from quart_trio import QuartTrio

from tchatd.edge.pages import PAGE_BYTES_MAX, Pages, quart_app
from tchatd.edge.problems import TooLarge
from tests.support.edge_fakes import FakeRequest


@pytest.fixture(scope="module")
def pages() -> Pages:
    return Pages(quart_app())


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/docs", "text/html; charset=utf-8"),
        ("/web/docs.js", "text/javascript; charset=utf-8"),
        ("/web/pages.css", "text/css; charset=utf-8"),
    ],
)
async def test_pages_are_served(pages: Pages, path: str, content_type: str) -> None:
    assert pages.serves("GET", path)
    assert pages.serves("HEAD", path)

    page = await pages.respond(FakeRequest("HEAD", path))

    assert page.status == 200
    assert f"content-type: {content_type}\r\n".encode() in page.headers
    assert page.body
    assert b"content-length" not in page.headers


async def test_scripts_come_from_here_only(pages: Pages) -> None:
    page = await pages.respond(FakeRequest("GET", "/docs"))

    headers = page.headers.decode().lower()
    assert "content-security-policy: default-src 'none'; script-src 'self'" in headers
    assert "unsafe" not in headers


@pytest.mark.parametrize("path", ["/other", "/web/", "/web/../docs", "/docs/"])
def test_other_paths_are_no_pages(pages: Pages, path: str) -> None:
    assert not pages.serves("GET", path)
    assert not pages.serves("POST", "/docs")


def test_every_page_works_without_the_internet() -> None:
    for file in resources.files("tchatd.web").iterdir():
        if file.name.endswith((".html", ".js", ".css")):
            text = file.read_text()
            assert not re.search(r"(?:https?:)?//[a-z]", text.replace("// ", "")), file
            assert "style=" not in text
            assert not re.search(r"<script(?! src)|\son[a-z]+=", text), file


async def test_a_page_that_is_too_large_is_not_passed_on() -> None:
    app = QuartTrio("large")

    @app.get("/large")
    async def large() -> QuartResponse:
        await trio.lowlevel.checkpoint()
        return QuartResponse(b"x" * (PAGE_BYTES_MAX + 1))

    with pytest.raises(TooLarge):
        await Pages(app).respond(FakeRequest("GET", "/large"))
