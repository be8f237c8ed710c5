"""Text messages by Twilio: what is asked, and that every failure is one to repeat."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from urllib.parse import parse_qs

import httpx
import pytest
import trio
import trio.testing

from tchatd.domains.auth.models import CodeMessage
from tchatd.kernel.errors import Unavailable
from tchatd.observe import logging
from tchatd.providers.sms import TwilioSms

TO = "+66812345678"
Answer = Callable[[httpx.Request], httpx.Response]


def twilio(answer: Answer, sender: str = "+15005550006") -> TwilioSms:
    return TwilioSms(
        account="AC1",
        token="secret",
        sender=sender,
        transport=httpx.MockTransport(answer),
    )


@pytest.mark.parametrize(
    ("sender", "field"),
    [("+15005550006", "From"), ("MG123", "MessagingServiceSid")],
)
async def test_a_message_is_posted_as_twilio_documents_it(
    sender: str, field: str
) -> None:
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(201, json={"sid": "SM1", "status": "queued"})

    sms = twilio(answer, sender)
    await sms.send_code(
        CodeMessage(to=TO, code="123456", subject="", text="รหัส 123456")
    )
    await sms.aclose()
    [request] = requests
    assert request.method == "POST"
    assert str(request.url) == (
        "https://api.twilio.com/2010-04-01/Accounts/AC1/Messages.json"
    )
    credentials = base64.b64encode(b"AC1:secret").decode()
    assert request.headers["authorization"] == f"Basic {credentials}"
    assert parse_qs(request.content.decode()) == {
        "To": [TO],
        "Body": ["รหัส 123456"],
        field: [sender],
    }


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(400, json={"code": 21211, "message": f"'To' {TO} is invalid"}),
        httpx.Response(401, json={"code": 20003}),
        httpx.Response(429, json={"code": 20429}),
        httpx.Response(500, text="oops"),
        httpx.Response(302, headers={"location": "https://evil.example/"}),
        httpx.Response(503, content=b"x" * 200_000),
    ],
)
async def test_a_refusal_is_unavailable_and_logged_without_the_number(
    answer: httpx.Response,
) -> None:
    written = io.StringIO()
    logging.configure(format="json", stream=written)
    try:
        with pytest.raises(Unavailable) as refusal:
            await twilio(lambda _: answer).send(TO, "123456")
    finally:
        logging.configure()
    assert refusal.value.retry_after_s == 60
    assert str(answer.status_code) in written.getvalue()
    for secret in (TO, "123456", "secret"):
        assert secret not in written.getvalue()
        assert secret not in str(refusal.value)


async def test_a_provider_that_is_away_is_unavailable() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route", request=request)

    with pytest.raises(Unavailable):
        await twilio(answer).send(TO, "123456")


async def test_a_provider_that_does_not_answer_is_given_up_on() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    sms = TwilioSms(
        account="AC1",
        token="t",
        sender="MG1",
        timeout_s=0.05,
        origin=f"http://127.0.0.1:{port}",
    )

    async def never(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, never, listeners)
        with pytest.raises(Unavailable):
            await sms.send(TO, "123456")
        await sms.aclose()
        nursery.cancel_scope.cancel()


async def test_no_cookie_is_kept_or_sent_on() -> None:
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(201, headers={"set-cookie": "a=b; Path=/"}, json={})

    sms = twilio(answer)
    for _ in range(2):
        await sms.send(TO, "text")
    await sms.aclose()
    assert len(requests) == 2
    assert not [request for request in requests if "cookie" in request.headers]
