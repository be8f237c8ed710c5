"""One call: whether it can have happened, whatever becomes of it."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path

import pytest
import trio

from tchatd.domains.payment.providers import (
    Declined,
    DeclineReason,
    DoubtReason,
    InDoubt,
    NotProcessed,
    NotProcessedReason,
)
from tchatd.observe.metrics import Metrics
from tchatd.providers.breaker import BreakerSettings
from tchatd.providers.payments.calls import (
    Answer,
    CallMetrics,
    CallSettings,
    ProviderCalls,
    Reached,
    read,
    refuse_by_status,
    retry_after_s,
)
from tests.support import provider_faults as faults
from tests.support.certificates import make_certificate
from tests.support.payment_server import (
    Fault,
    PaymentServer,
    Served,
    ServedRequest,
    serving,
)
from tests.support.payments import NEVER_OPENS, PATIENT


class Echo(PaymentServer):
    def process(self, request: ServedRequest) -> Served:
        return Served(200, b'{"amount":5}')

    def rate_limited(self) -> Served:
        return Served(429, b"{}")


def judge(answer: Answer) -> None:
    refuse_by_status("echo", answer)
    if answer.status >= 400:
        raise Declined("echo", DeclineReason.OTHER)


def calls(
    origin: str,
    settings: CallSettings = PATIENT,
    metrics: Metrics | None = None,
    now: list[float] | None = None,
) -> ProviderCalls:
    clock = now if now is not None else [0.0]
    return ProviderCalls(
        "echo",
        origin,
        {},
        settings,
        CallMetrics(metrics or Metrics(process=False)),
        judge,
        now=lambda: clock[0],
    )


async def test_connections_are_kept_and_no_cookie_is() -> None:
    async with serving(Echo()) as server:
        server.answers.append(Served(200, b"{}", {"set-cookie": "a=b; Path=/"}))
        made = calls(server.origin)
        for _ in range(3):
            assert (await made.call("x", "GET", "/")).status == 200
        await made.aclose()
    assert not [r for r in server.requests if "cookie" in r.headers]
    assert server.requests[0].headers["accept-encoding"] == "identity"


async def test_a_name_that_is_not_known_has_not_been_asked() -> None:
    made = calls("http://no-such-host.invalid")
    with pytest.raises(NotProcessed) as failed:
        await made.call("x", "POST", "/", form={})
    assert faults.is_not_processed(failed.value, NotProcessedReason.UNREACHABLE)
    await made.aclose()


async def test_a_certificate_that_is_not_good_has_not_been_asked(
    tmp_path: Path,
) -> None:
    certificate, key = make_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    requests = 0

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal requests
        tls = trio.SSLStream(stream, context, server_side=True)
        try:
            await tls.receive_some(1)
            requests += 1
        except trio.BrokenResourceError:
            return

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, serve, listeners)
        made = calls(f"https://127.0.0.1:{port}")
        with pytest.raises(NotProcessed) as failed:
            await made.call("x", "POST", "/", form={})
        await made.aclose()
        nursery.cancel_scope.cancel()
    assert faults.is_not_processed(failed.value, NotProcessedReason.UNREACHABLE)
    assert requests == 0


async def test_somebody_who_says_nothing_in_the_handshake_has_not_been_asked() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    hasty = CallSettings(connect_s=60, read_s=60, total_s=0.1, breaker=NEVER_OPENS)
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, serve, listeners)
        made = calls(f"https://127.0.0.1:{port}", hasty)
        with pytest.raises(NotProcessed) as failed:
            await made.call("x", "POST", "/", form={})
        await made.aclose()
        nursery.cancel_scope.cancel()
    assert faults.is_not_processed(failed.value, NotProcessedReason.UNREACHABLE)


async def test_an_answer_that_drips_ends_with_the_whole_time() -> None:
    """Each part comes in time, the whole does not."""
    head = b"HTTP/1.1 200 x\r\ncontent-length: 1000000\r\n\r\n"

    async def serve(stream: trio.SocketStream) -> None:
        try:
            await stream.receive_some(65_536)
            await stream.send_all(head)
            while True:
                await stream.send_all(b"x")
                await trio.sleep(0.01)
        except trio.BrokenResourceError:
            return

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    settings = CallSettings(connect_s=60, read_s=60, total_s=0.2, breaker=NEVER_OPENS)
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, serve, listeners)
        made = calls(f"http://127.0.0.1:{port}", settings)
        with pytest.raises(InDoubt) as failed:
            await made.call("x", "POST", "/", form={})
        await made.aclose()
        nursery.cancel_scope.cancel()
    assert failed.value.reason is DoubtReason.TIMEOUT


async def test_who_finds_no_free_connection_has_not_asked() -> None:
    settings = CallSettings(
        connect_s=0.05, read_s=60, total_s=120, connections_max=1, breaker=NEVER_OPENS
    )
    async with serving(Echo()) as server:
        server.faults.append(Fault.HANG_BEFORE)
        made = calls(server.origin, settings)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.call, "x", "GET", "/")
            while not server.requests:
                await trio.sleep(0.001)
            with pytest.raises(NotProcessed) as failed:
                await made.call("x", "POST", "/", form={})
            nursery.cancel_scope.cancel()
        await made.aclose()
    assert faults.is_not_processed(failed.value, NotProcessedReason.BUSY)


async def test_the_breaker_opens_refuses_at_once_and_closes_again() -> None:
    now, metrics = [0.0], Metrics(process=False)
    breaker = BreakerSettings(
        window_s=60, calls_min=4, failure_percent=50, open_s=30, trials_max=1
    )
    settings = CallSettings(connect_s=60, read_s=60, total_s=120, breaker=breaker)
    async with serving(Echo()) as server:
        made = calls(server.origin, settings, metrics, now)
        server.faults.extend([Fault.ERROR_500_AFTER] * 4)
        for _ in range(4):
            with pytest.raises(InDoubt):
                await made.call("pay", "POST", "/", form={})
        assert made.health().breaker == "open"
        with pytest.raises(NotProcessed) as refused:
            await made.call("pay", "POST", "/", form={})
        assert faults.is_not_processed(refused.value, NotProcessedReason.BREAKER_OPEN)
        assert refused.value.retry_after_s == 30
        assert len(server.requests) == 4

        now[0] = 30.0
        assert made.health().breaker == "half_open"
        await made.call("pay", "POST", "/", form={})
        assert made.health().breaker == "closed"
        await made.aclose()
    text = metrics.render().decode()
    name = "tchatd_payment_provider_calls_total"
    for outcome, count in (("server_error", 4), ("breaker_open", 1), ("ok", 1)):
        labels = f'call="pay",outcome="{outcome}",provider="echo"'
        assert f"{name}{{{labels}}} {count}.0" in text
    assert 'tchatd_payment_provider_breaker{provider="echo"} 0.0' in text


async def test_refusals_open_no_breaker() -> None:
    settings = CallSettings(breaker=BreakerSettings(calls_min=1))
    async with serving(Echo()) as server:
        made = calls(server.origin, settings)
        server.answers.extend([Served(402, b"{}")] * 5)
        for _ in range(5):
            with pytest.raises(Declined):
                await made.call("x", "POST", "/", form={})
        assert made.health().breaker == "closed"
        await made.aclose()


async def test_a_cancelled_call_says_nothing_of_the_provider() -> None:
    settings = CallSettings(
        connect_s=60,
        read_s=60,
        total_s=120,
        breaker=BreakerSettings(calls_min=1, trials_max=1),
    )
    async with serving(Echo()) as server:
        made = calls(server.origin, settings)
        server.faults.append(Fault.HANG_AFTER)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.call, "x", "GET", "/")
            await server.until_processed(1)
            nursery.cancel_scope.cancel()
        assert made.health().breaker == "closed"
        assert (await made.call("x", "GET", "/")).status == 200
        await made.aclose()


async def test_a_transport_that_traces_nothing_leaves_it_in_doubt() -> None:
    reached = Reached()
    assert reached.can_be_done
    await reached.trace("connection.connect_tcp.started", {})
    assert not reached.can_be_done
    await reached.trace("http11.send_request_headers.started", {})
    await reached.trace("connection.connect_tcp.failed", {})
    await reached.trace("connection.close.started", {})
    assert reached.can_be_done


@pytest.mark.parametrize("status", [100, 204, 301, 400, 404, 409, 422])
def test_statuses_that_a_provider_has_to_explain(status: int) -> None:
    answer = Answer(status, {}, b"")
    if status in (100, 301):
        with pytest.raises(InDoubt):
            refuse_by_status("echo", answer)
    else:
        refuse_by_status("echo", answer)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 1),
        ({"retry-after": "17"}, 17),
        ({"retry-after": "0"}, 1),
        ({"retry-after": "99999"}, 300),
        ({"retry-after": "-5"}, 1),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, 1),
        ({"retry-after": "9" * 5_000}, 1),
    ],
)
def test_how_long_to_wait_is_bounded(headers: Mapping[str, str], seconds: int) -> None:
    assert retry_after_s(headers) == seconds


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"a":' * 100_000])
def test_what_cannot_be_read_is_in_doubt(body: bytes) -> None:
    with pytest.raises(InDoubt):
        read("echo", Answer(200, {}, body), Answer)
