"""One delivery over real HTTP on loopback: what counts as taken."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tchatd.providers.courier import HttpCourier, NotDelivered
from tchatd.providers.guard import GuardedBackend, GuardedTransport, SystemResolver
from tests.support.daemon import free_port
from tests.support.receiver import Answer, receiver


@asynccontextmanager
async def courier(
    *, timeout_s: float = 10.0, allow_private: bool = True
) -> AsyncIterator[HttpCourier]:
    backend = GuardedBackend(SystemResolver(), allow_private=allow_private)
    made = HttpCourier(
        GuardedTransport(backend, connections_max=4), timeout_s=timeout_s
    )
    yield made
    await made.aclose()


async def test_what_is_delivered_is_what_was_given() -> None:
    async with receiver() as received, courier() as sender:
        await sender.deliver(received.url, b'{"a":1}', {"X-Tchat-Event": "e"})
        [request] = received.requests
    assert (request.method, request.path) == ("POST", "/hook")
    assert request.body == b'{"a":1}'
    assert request.headers["content-type"] == "application/json"
    assert request.headers["x-tchat-event"] == "e"
    assert request.headers["user-agent"].startswith("tchatd/")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Answer(500), "answered 500"),
        (Answer(404), "answered 404"),
        (Answer(302, {"location": "http://127.0.0.1/"}), "answered 302"),
    ],
)
async def test_only_2xx_has_taken_it_and_no_redirect_is_followed(
    answer: Answer, why: str
) -> None:
    async with receiver() as received, courier() as sender:
        received.answers = [answer]
        with pytest.raises(NotDelivered) as refused:
            await sender.deliver(received.url, b"{}", {})
        assert refused.value.why == why
        assert len(received.requests) == 1


async def test_an_answer_without_end_is_not_read_to_it() -> None:
    async with receiver() as received, courier() as sender:
        received.answers = [Answer(204), Answer(200, body=b"x" * (1 << 20))]
        await sender.deliver(received.url, b"{}", {})
        await sender.deliver(received.url, b"{}", {})


async def test_who_does_not_answer_is_given_up() -> None:
    async with receiver() as received, courier(timeout_s=0.05) as sender:
        received.hangs = True
        with pytest.raises(NotDelivered, match=r"no answer in 0.05 s"):
            await sender.deliver(received.url, b"{}", {})


async def test_nobody_there_a_private_address_and_a_url_that_is_none() -> None:
    async with courier() as sender:
        with pytest.raises(NotDelivered, match="not reached"):
            await sender.deliver(f"http://127.0.0.1:{free_port()}/", b"{}", {})
        with pytest.raises(NotDelivered, match="not reached"):
            await sender.deliver("http://[::1/", b"{}", {})
    async with receiver() as received, courier(allow_private=False) as sender:
        with pytest.raises(NotDelivered, match="not public"):
            await sender.deliver(received.url, b"{}", {})
        assert received.requests == []


async def test_no_cookie_is_kept_or_sent_on() -> None:
    cookie = {"set-cookie": "whose=another-bots; Path=/"}
    async with receiver() as received, courier() as sender:
        received.answers = [Answer(200, cookie)]
        for _ in range(2):
            await sender.deliver(received.url, b"{}", {})
    assert [request.headers.get("cookie") for request in received.requests] == [
        *(None, None)
    ]
