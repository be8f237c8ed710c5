"""What is taken of a page, and how little a page can make us do."""

from __future__ import annotations

import time
from typing import Any

import pytest
import trio
import trio.testing
from msgspec import UNSET

from tchatd.domains.links.models import LinkPreview, LinkSettings
from tchatd.kernel.errors import Unavailable
from tchatd.providers.link_previews import (
    CHARSETS,
    HttpLinkPreviews,
    decoded,
    preview_of,
)
from tests.support.receiver import Answer, receiver

AT = "https://a.example/deep/page"
PAGE = """<!doctype html><html><head>
<title>Plain &amp; simple</title>
<meta property="og:title" content="The &quot;real&quot; title">
<meta content='About it' name=description>
<META PROPERTY=og:image CONTENT=/pictures/a.png>
<meta property="og:site_name" content="A Site"/>
</head><body><meta property="og:title" content="not this one"></body>"""
HTML = {"content-type": "text/html; charset=utf-8"}


def of(page: str) -> LinkPreview | None:
    return preview_of(page, AT, AT)


def test_a_page_says_who_it_is() -> None:
    assert of(PAGE) == LinkPreview(
        url=AT,
        title='The "real" title',
        description="About it",
        image_url="https://a.example/pictures/a.png",
        site_name="A Site",
    )


@pytest.mark.parametrize(
    ("page", "title"),
    [
        ("<title>Only this</title>", "Only this"),
        ("<title>\n  two\n lines </title>", "two lines"),
        ("<TITLE lang=th>ภาษาไทย</TITLE>", "ภาษาไทย"),
        ("<title>a\u202eb\u0000c\u200bd</title>", "abcd"),
        ("<title>" + "x" * 5_000, "x" * 300),
        ("<meta property='og:title' content='a'><title>b</title>", "a"),
        ("<meta property=og:title content=''><title>b</title>", "b"),
        ("<meta name='twitter:title' content='t'><title>b</title>", "t"),
        ("<meta x>" * 150 + "<meta property=og:title content=a><title>b</title>", "a"),
        ("<meta x>" * 999 + "<meta property=og:title content=a><title>b</title>", "b"),
    ],
)
def test_a_title_is_what_a_person_reads(page: str, title: str) -> None:
    preview = of(page)
    assert preview is not None
    assert preview.title == title


@pytest.mark.parametrize(
    "page",
    [
        *("", "hello", "<title></title>", "<title> &#8203; </title>", "<meta>", "<"),
        "<head></head><title>of no head</title>",
        "<body><svg><title>of a picture</title></svg>",
    ],
)
def test_a_page_without_a_title_has_no_preview(page: str) -> None:
    assert of(page) is None


@pytest.mark.parametrize(
    "image",
    [
        *("javascript:alert(1)", "data:image/png;base64,AA", "file:///etc/passwd"),
        *("https://a.example/" + "x" * 3_000, "https://[::1", "https://a.example/a b"),
    ],
)
def test_an_image_is_a_plain_address_or_none(image: str) -> None:
    preview = of(f'<title>t</title><meta property="og:image" content="{image}">')
    assert preview is not None
    assert preview.image_url is UNSET


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        ("สวัสดี".encode(), "text/html; charset=utf-8", "สวัสดี"),
        ("สวัสดี".encode("tis-620"), "text/html; charset=tis-620", "สวัสดี"),
        ("<meta charset=big5>中".encode("big5"), "text/html", "<meta charset=big5>中"),
        (b"caf\xe9", "text/html; charset=nonsense", "caf\ufffd"),
        (b"caf\xe9", "text/html", "caf\ufffd"),
        (b"a-bc", "text/html; charset=punycode", "a-bc"),
        (b"a\\u0041", "text/html; charset=unicode_escape", "a\\u0041"),
    ],
)
def test_a_page_is_read_in_its_own_letters(body: bytes, kind: str, text: str) -> None:
    assert decoded(body, kind) == text


def test_every_charset_that_is_taken_is_known() -> None:
    for charset in CHARSETS:
        assert decoded(b"a" * 8, f"text/html; charset={charset}")


@pytest.mark.parametrize(
    "page",
    [
        *("<meta " * 30_000, "<title" * 30_000, "<title>" * 20_000, "<" * 200_000),
        "<meta " + 'a="' * 50_000,
        "<meta a='" * 20_000,
        "<meta " + "a = " * 40_000,
        "<title>" + "&lt;" * 40_000,
        "<meta property=og:title content=x>" * 5_000,
        f"<meta {'a' * 3_990}>" * 500,
        f"<meta {'a= ' * 1_300}>" * 500,
    ],
)
def test_a_hostile_page_costs_little(page: str) -> None:
    began_s = time.process_time()
    of(page)
    assert time.process_time() - began_s < 1.0


def previews(**settings: Any) -> HttpLinkPreviews:
    options = {"enabled": True, "allow_private": True} | settings
    return HttpLinkPreviews(LinkSettings(**options))


async def fetch(*answers: Answer, **settings: Any) -> tuple[LinkPreview | None, int]:
    """The preview, and how many requests there were."""
    made = previews(**settings)
    async with receiver() as received:
        received.answers = list(answers)
        preview = await made.preview(received.url)
        await made.aclose()
        return preview, len(received.requests)


async def test_a_page_is_fetched_once() -> None:
    preview, requests = await fetch(Answer(200, HTML, PAGE.encode()))
    assert preview is not None
    assert (preview.title, requests) == ('The "real" title', 1)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(404, HTML, PAGE.encode()),
        Answer(200, {"content-type": "image/png"}, PAGE.encode()),
        Answer(200, {}, PAGE.encode()),
        Answer(302, {"location": "file:///etc/passwd"}),
        Answer(302, {"location": "http://[::1"}),
    ],
)
async def test_what_is_no_page_has_no_preview(answer: Answer) -> None:
    assert await fetch(answer) == (None, 1)


async def test_redirects_are_followed_so_far() -> None:
    again = Answer(302, {"location": "/other"})
    found, requests = await fetch(again, again, Answer(200, HTML, PAGE.encode()))
    assert found is not None
    assert requests == 3
    assert await fetch(again, redirects_max=2) == (None, 3)


async def test_the_body_of_a_redirect_is_not_read() -> None:
    packed = {"location": "/other", "content-encoding": "gzip"}
    found, requests = await fetch(
        Answer(302, packed, b"what would fail to unpack"),
        Answer(200, HTML, PAGE.encode()),
    )
    assert found is not None
    assert requests == 2


async def test_no_cookie_is_kept_or_sent_on() -> None:
    made = previews()
    async with receiver() as received:
        cookie = {"set-cookie": "who=asks; Path=/"}
        received.answers = [
            Answer(302, {"location": "/other", **cookie}),
            Answer(200, HTML | cookie, PAGE.encode()),
        ]
        for _ in range(2):
            await made.preview(received.url)
    await made.aclose()
    assert len(received.requests) == 3
    assert not [r for r in received.requests if "cookie" in r.headers]


async def test_what_is_far_down_a_page_is_not_read() -> None:
    page = b"x" * 4_096 + PAGE.encode()
    assert await fetch(Answer(200, HTML, page), page_bytes_max=2_048) == (None, 1)


async def test_a_page_that_hangs_is_given_up() -> None:
    made = previews(timeout_s=0.05)
    async with receiver() as received:
        received.hangs = True
        assert await made.preview(received.url) is None
    await made.aclose()


async def test_private_addresses_and_other_ports_are_not_called() -> None:
    made = previews(allow_private=False)
    async with receiver() as received:
        for host in ("127.0.0.1", "localhost", "2130706433", "[::ffff:7f00:1]"):
            assert await made.preview(f"http://{host}:{received.port}/") is None
            assert await made.preview(f"http://{host}/") is None
        assert received.requests == []
    await made.aclose()


async def test_a_redirect_to_a_private_address_is_not_followed() -> None:
    class Resolver:
        """A public name at first, then where it redirects to."""

        async def addresses(self, host: str, port: int) -> list[str]:
            await trio.lowlevel.checkpoint()
            looked_up.append(host)
            return ["169.254.169.254"]

    looked_up: list[str] = []
    settings = LinkSettings(enabled=True)
    made = HttpLinkPreviews(settings, resolver=Resolver())
    assert await made.preview("http://metadata.example/") is None
    assert looked_up == ["metadata.example"]
    await made.aclose()


async def test_too_many_at_once_are_told_so() -> None:
    made = previews(concurrency_max=1, timeout_s=5)
    async with receiver() as received, trio.open_nursery() as nursery:
        received.hangs = True
        nursery.start_soon(made.preview, received.url)
        await received.next()
        with pytest.raises(Unavailable):
            await made.preview(received.url)
        nursery.cancel_scope.cancel()
    await made.aclose()
