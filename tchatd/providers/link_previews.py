"""Owns fetching pages for previews: public addresses, few bytes, little time.

Only the head of a page is looked at, with patterns that are linear in its length: no
tree is built and no script is run. Redirects are followed here, one by one, and of each
is read where it leads and nothing else. Everything that a page says is text from a
stranger; it is cut to size and stripped of what does not show.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Mapping
from itertools import islice
from typing import Final
from urllib.parse import urljoin, urlsplit

import httpx
import trio
from msgspec import UNSET, UnsetType

from tchatd import __version__
from tchatd.domains.links.models import (
    DESCRIPTION_CHARS_MAX,
    TITLE_CHARS_MAX,
    URL_CHARS_MAX,
    LinkPreview,
    LinkSettings,
)
from tchatd.kernel.errors import Unavailable
from tchatd.providers.cookies import NoCookies
from tchatd.providers.guard import (
    GuardedBackend,
    GuardedTransport,
    NotPublic,
    Resolver,
    SystemResolver,
)

PORTS: Final = frozenset((80, 443))
"""Pages are on these, but where private addresses are allowed."""
PAGE_TYPES: Final = ("text/html", "application/xhtml+xml")
METAS_MAX: Final = 200
"""Of a page that are looked at."""
_END: Final = re.compile(r"</head\b|<body\b", re.IGNORECASE)
_META: Final = re.compile(r"<meta\b([^<>]{0,4000})", re.IGNORECASE)
_ATTRIBUTE: Final = re.compile(
    r"""(?<![a-z:-])([a-z:-]{1,40}+)\s{0,8}=\s{0,8}(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""",
    re.IGNORECASE,
)
_TITLE: Final = re.compile(r"<title\b[^<>]{0,400}>([^<]{0,4000})", re.IGNORECASE)
_CHARSET: Final = re.compile(rb"charset\s{0,8}=\s{0,8}[\"']?([a-zA-Z0-9_-]{1,40})")
CHARSETS: Final = frozenset(
    {
        *("utf-8", "utf8", "us-ascii", "ascii", "latin1", "macintosh", "utf-16"),
        *("utf-16le", "utf-16be", "iso-8859-1", "iso-8859-2", "iso-8859-3"),
        *("iso-8859-4", "iso-8859-5", "iso-8859-6", "iso-8859-7", "iso-8859-8"),
        *("iso-8859-9", "iso-8859-10", "iso-8859-11", "iso-8859-13", "iso-8859-14"),
        *("iso-8859-15", "iso-8859-16", "windows-1250", "windows-1251", "windows-1252"),
        *("windows-1253", "windows-1254", "windows-1255", "windows-1256"),
        *("windows-1257", "windows-1258", "cp1251", "cp1252", "cp874", "tis-620"),
        *("koi8-r", "koi8-u", "ibm866", "big5", "big5-hkscs", "gb2312", "gbk"),
        *("gb18030", "euc-jp", "shift_jis", "iso-2022-jp", "euc-kr", "ks_c_5601-1987"),
    }
)
"""Of pages. Python knows others, among them some that are quadratic (punycode)."""
_WANTED: Final = frozenset(
    {
        *("og:title", "og:description", "og:image", "og:site_name"),
        *("twitter:title", "twitter:description", "twitter:image", "description"),
    }
)
_SPACES: Final = re.compile(r"\s+")


class HttpLinkPreviews:
    """A `Previewer`. Close it with `aclose`."""

    def __init__(
        self,
        settings: LinkSettings,
        *,
        resolver: Resolver | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._settings = settings
        self._running = trio.CapacityLimiter(settings.concurrency_max)
        backend = GuardedBackend(
            resolver or SystemResolver(),
            allow_private=settings.allow_private,
            ports=frozenset() if settings.allow_private else PORTS,
        )
        self._client = httpx.AsyncClient(
            transport=transport
            or GuardedTransport(backend, connections_max=settings.concurrency_max),
            timeout=settings.timeout_s,
            cookies=NoCookies(),
            follow_redirects=False,
            trust_env=False,
            headers={
                "user-agent": f"tchatd/{__version__} (link preview)",
                "accept": "text/html, application/xhtml+xml",
                "accept-encoding": "identity",  # what is read is what is counted
            },
        )

    async def preview(self, url: str) -> LinkPreview | None:
        try:
            self._running.acquire_on_behalf_of_nowait(token := object())
        except trio.WouldBlock:
            raise Unavailable("Many previews are being made.") from None
        try:
            with trio.fail_after(self._settings.timeout_s):
                page, at = await self._fetch(url)
        except (httpx.HTTPError, httpx.InvalidURL, NotPublic, ValueError):
            return None
        except trio.TooSlowError:
            return None
        finally:
            self._running.release_on_behalf_of(token)
        return None if page is None else preview_of(page, url, at)

    async def _fetch(self, url: str) -> tuple[str | None, str]:
        """The begin of the page, and where it was in the end."""
        request = self._client.build_request("GET", url)
        for _ in range(self._settings.redirects_max + 1):
            answer = await self._client.send(request, stream=True)
            try:
                if answer.next_request is None:
                    return await self._read(answer)
                request = answer.next_request
            finally:
                await answer.aclose()
        return None, url

    async def _read(self, answer: httpx.Response) -> tuple[str | None, str]:
        kind, url = answer.headers.get("content-type", ""), str(answer.url)
        page_type = kind.partition(";")[0].strip().lower()
        if not answer.is_success or page_type not in PAGE_TYPES:
            return None, url
        body, most = b"", self._settings.page_bytes_max
        async for part in answer.aiter_raw():
            body += part
            if len(body) >= most:
                break
        return decoded(body[:most], kind), url

    async def aclose(self) -> None:
        # A client's close does nothing to a transport that was never used.
        await self._client.aclose()


def decoded(body: bytes, content_type: str) -> str:
    """By the header, else by the page, else as UTF-8; never fails."""
    found = _CHARSET.search(content_type.encode("latin-1", "replace"))
    found = found or _CHARSET.search(body[:1_024])
    charset = found[1].decode().lower() if found else ""
    return body.decode(charset if charset in CHARSETS else "utf-8", "replace")


def preview_of(page: str, url: str, at: str) -> LinkPreview | None:
    """None if the page has no title. at: where it was found, after redirects."""
    head = _head(page)
    said = _metas(head)
    title = _first(said, TITLE_CHARS_MAX, "og:title", "twitter:title")
    if title is UNSET:
        found = _TITLE.search(head)
        title = _text(found[1], TITLE_CHARS_MAX) if found else UNSET
    if title is UNSET:
        return None
    return LinkPreview(
        url=url,
        title=title,
        description=_first(
            said,
            DESCRIPTION_CHARS_MAX,
            *("og:description", "twitter:description", "description"),
        ),
        image_url=_image(said, at),
        site_name=_first(said, TITLE_CHARS_MAX, "og:site_name"),
    )


def _head(page: str) -> str:
    end = _END.search(page)
    return page if end is None else page[: end.start()]


def _metas(head: str) -> dict[str, str]:
    """What it says, by name; the first of each counts."""
    said: dict[str, str] = {}
    for tag in islice(_META.finditer(head), METAS_MAX):
        attributes = {
            name.lower(): double or single or bare
            for name, double, single, bare in _ATTRIBUTE.findall(tag[1])
        }
        name = (attributes.get("property") or attributes.get("name") or "").lower()
        if name in _WANTED and attributes.get("content"):
            said.setdefault(name, attributes["content"])
    return said


def _first(said: Mapping[str, str], chars_max: int, *names: str) -> str | UnsetType:
    for name in names:
        if name in said:
            text = _text(said[name], chars_max)
            if text is not UNSET:
                return text
    return UNSET


def _text(raw: str, chars_max: int) -> str | UnsetType:
    """As a person reads it: no entities, controls or line breaks; cut to size."""
    text = html.unescape(raw[: 4 * chars_max])
    shown = "".join(
        " " if char.isspace() else char
        for char in text
        if char.isspace() or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co")
    )
    return _SPACES.sub(" ", shown).strip()[:chars_max] or UNSET


def _image(said: Mapping[str, str], at: str) -> str | UnsetType:
    raw = said.get("og:image") or said.get("twitter:image")
    if raw is None:
        return UNSET
    try:
        url = urljoin(at, html.unescape(raw).strip())
        is_fine = urlsplit(url).scheme in ("http", "https")
    except ValueError:
        return UNSET
    if not is_fine or len(url) > URL_CHARS_MAX or not url.isprintable() or " " in url:
        return UNSET
    return url
