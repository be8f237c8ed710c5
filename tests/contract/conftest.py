"""The same contract over the C gateway and over TLS with HTTP/2.

`web` opens an HTTP client on one of the two; every contract test runs over both.
"""

from __future__ import annotations

import itertools
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack

import httpx
import pytest

from tests.support.certificates import make_certificate
from tests.support.client import ANSWER_S, Person, sign_in
from tests.support.daemon import Daemon, free_port, open_folder
from tests.support.settings import ROOMY

_numbers = itertools.count(1)


class Site:
    """A daemon and one of its two doors."""

    def __init__(self, daemon: Daemon, url: str, authority: ssl.SSLContext) -> None:
        self.daemon = daemon
        self.url = url
        self.authority = authority

    @property
    def http2(self) -> bool:
        return self.url.startswith("https")

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self.url,
            http1=not self.http2,
            http2=self.http2,
            verify=self.authority,
            timeout=ANSWER_S,
        )


@pytest.fixture(scope="session")
def tls_daemon() -> Iterator[tuple[Daemon, str, ssl.SSLContext]]:
    folder = open_folder()
    certificate, key = make_certificate(folder)
    address = f"127.0.0.1:{free_port()}"
    started = Daemon(
        ROOMY
        | {
            "TLS_BIND": address,
            "TLS_CERTIFICATE_FILE": str(certificate),
            "TLS_KEY_FILE": str(key),
        },
        folder=folder,
    )
    try:
        started.start()
        authority = ssl.create_default_context(cafile=str(certificate))
        yield started, f"https://{address}", authority
    finally:
        started.remove()


@pytest.fixture(params=["gateway", "tls-http2"])
def site(
    request: pytest.FixtureRequest, tls_daemon: tuple[Daemon, str, ssl.SSLContext]
) -> Site:
    daemon, secure, authority = tls_daemon
    url = daemon.url if request.param == "gateway" else secure
    return Site(daemon, url, authority)


@pytest.fixture
async def web(site: Site) -> AsyncIterator[httpx.AsyncClient]:
    async with site.client() as client:
        yield client


@pytest.fixture
def new_phone() -> Callable[[], str]:
    return lambda: f"+6681{next(_numbers):07d}"


@pytest.fixture
async def people(
    site: Site, new_phone: Callable[[], str]
) -> AsyncIterator[Callable[[], Awaitable[Person]]]:
    """Makes people who are signed in through this door."""
    async with AsyncExitStack() as stack:

        async def make() -> Person:
            return await stack.enter_async_context(
                sign_in(site.daemon, new_phone(), client=site.client())
            )

        yield make
