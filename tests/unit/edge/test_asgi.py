"""The same routes and sessions over TLS, HTTP/2 and ASGI."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import trio
import trio_websocket

from tchatd.edge.admission import MSGPACK
from tchatd.edge.asgi import (
    AsgiRequest,
    _Link,
    _link,
)
from tchatd.kernel.bitmaps import BitMap
from tests.support.certificates import make_certificate
from tests.support.edge_fakes import caller, user_id
from tests.support.served import Served


class Event(msgspec.Struct, tag="event", tag_field="op"):
    text: str


AUTHORIZED = {"Authorization": "Bearer u7"}


def client(served: Served, *, http2: bool = True) -> httpx.AsyncClient:
    assert served.trust is not None
    return httpx.AsyncClient(
        base_url=f"https://127.0.0.1:{served.tls_port}",
        verify=served.trust,
        http1=not http2,
        http2=http2,
        timeout=5,
    )


@pytest.mark.parametrize("http2", [False, True])
async def test_the_same_routes_are_served(tmp_path: Path, http2: bool) -> None:
    async with (
        Served().running(tmp_path) as served,
        client(served, http2=http2) as http,
    ):
        inline = await http.get("/who", headers=AUTHORIZED)
        later = await http.post("/v1/later", json={"text": "a"}, headers=AUTHORIZED)
        path = await http.get("/echo/%E0%B8%81%2F?times=2")
        head = await http.head("/echo/x")
        missing = await http.get("/nothing")
        page = await http.get("/docs")
        socket = await http.get("/websocket")

    assert inline.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
    assert inline.json() == {"text": str(user_id(7))}
    assert later.json() == {"text": "a"}
    assert path.json() == {"text": "ก/ก/"}
    assert (head.content, head.headers["content-length"]) == (b"", "12")
    assert missing.json()["error"] == "not_found"
    assert page.headers["content-type"].startswith("text/html")
    assert socket.status_code == 426
    for answer in (inline, missing, page):
        assert "max-age" in answer.headers["strict-transport-security"]
        assert answer.headers["x-request-id"]


async def test_a_body_over_the_limit_is_too_large(tmp_path: Path) -> None:
    async with (
        Served().running(tmp_path, body_bytes_max=1_000) as served,
        client(served) as http,
    ):
        answer = await http.post("/say", content=b"x" * 2_000, headers=AUTHORIZED)

    assert answer.status_code == 413
    assert answer.json()["detail"] == "The body may have 1000 bytes."


@pytest.mark.parametrize("http2", [False, True])
async def test_a_head_over_the_limit_is_too_large(tmp_path: Path, http2: bool) -> None:
    async with (
        Served().running(tmp_path, head_bytes_max=4_000) as served,
        client(served, http2=http2) as http,
    ):
        answer = await http.get("/echo/x", headers={"x": "y" * 5_000})

    assert answer.status_code == 431


async def test_a_mistake_of_the_server_ends_one_connection_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        Served().running(tmp_path) as served,
        served.websocket("u1", tls=True) as other,
    ):

        async def broken(*_: Any) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                raise KeyError(1)

        monkeypatch.setattr("tchatd.edge.asgi._TlsServer", broken)
        with pytest.raises(httpx.TransportError):
            async with client(served) as http:
                await http.get("/echo/x")
        monkeypatch.undo()

        assert (await other.ask("say", 1, text="hi"))["op"] == "reply"
        async with client(served) as http:
            assert (await http.get("/echo/x")).status_code == 200


async def test_a_body_that_never_ends_costs_one_connection(tmp_path: Path) -> None:
    async with Served().running(tmp_path, body_bytes_max=1_000) as served:

        async def endless() -> AsyncIterator[bytes]:
            for _ in range(400):
                yield bytes(65_536)

        with suppress(httpx.TransportError):
            async with client(served) as http:
                answer = await http.post("/say", content=endless(), headers=AUTHORIZED)
                assert answer.status_code == 413
        async with client(served) as http:
            assert (await http.get("/echo/x")).status_code == 200


async def test_only_so_many_connections_are_served(tmp_path: Path) -> None:
    async with (
        Served().running(tmp_path, connections_max=2) as served,
        served.websocket("u1", tls=True) as one,
        served.websocket("u2", tls=True),
    ):
        with pytest.raises(httpx.TransportError):
            async with client(served) as http:
                await http.get("/echo/x")
        assert (await one.ask("say", 1, text="hi"))["op"] == "reply"


async def raw_client(
    served: Served, address: str = "127.0.0.1", from_port: int = 0
) -> trio.SSLStream[trio.SocketStream]:
    assert served.trust is not None
    socket = trio.socket.socket()
    socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_REUSEADDR, 1)
    await socket.bind(("127.0.0.1", from_port))
    await socket.connect((address, served.tls_port))
    return trio.SSLStream(
        trio.SocketStream(socket), served.trust, server_hostname="127.0.0.1"
    )


async def test_one_port_of_a_client_may_have_two_connections(tmp_path: Path) -> None:
    async with Served().running(tmp_path, tls_address="0.0.0.0") as served:
        one = await raw_client(served)
        port = one.transport_stream.socket.getsockname()[1]
        await one.do_handshake()
        two = await raw_client(served, "127.0.0.2", port)
        await two.do_handshake()
        for stream in (one, two):
            await trio.aclose_forcefully(stream)
        assert served.tls is not None
        with trio.fail_after(5):
            while served.tls.connections:
                await trio.sleep(0.01)

        async with client(served) as http:
            assert (await http.get("/echo/x")).status_code == 200


async def test_half_a_request_is_not_run(tmp_path: Path) -> None:
    async with Served().running(tmp_path) as served:
        stream = await raw_client(served)
        await stream.send_all(
            b"POST /say HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer u7\r\n"
            b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n"
            b'{"text":"half"}'
        )
        await trio.aclose_forcefully(stream)
        assert served.tls is not None
        with trio.fail_after(5):
            while served.tls.connections:
                await trio.sleep(0.01)

        assert b'commands_total{command="say"' not in served.edge.metrics.render()


@pytest.mark.parametrize(
    ("request_head", "settings"),
    [
        (b"POST /say HTTP/1.1\r\nHost: x\r\nContent-Length: 9", {"request_s": 0.2}),
        (b"GET /echo/x?times=30000000 HTTP/1.1\r\nHost: x", {"write_s": 0.2}),
    ],
)
async def test_who_neither_sends_nor_takes_is_dropped(
    tmp_path: Path, request_head: bytes, settings: Any
) -> None:
    async with Served().running(tmp_path, **settings) as served:
        stream = await raw_client(served)
        await stream.send_all(request_head + b"\r\n\r\n")
        assert served.tls is not None
        assert served.tls.connections == 1

        with trio.fail_after(5):
            while served.tls.connections:
                await trio.sleep(0.02)
        await trio.aclose_forcefully(stream)


async def test_all_bodies_together_are_bounded(tmp_path: Path) -> None:
    async with (
        Served().running(tmp_path, bodies_bytes_max=1_000) as served,
        client(served) as http,
    ):
        for _ in range(2):
            answer = await http.post("/say", content=b"x" * 2_000, headers=AUTHORIZED)
            assert answer.status_code == 503
            answer = await http.post("/say", json={"text": "a"}, headers=AUTHORIZED)
            assert answer.status_code == 200


async def test_a_session_that_ends_during_the_upgrade_is_closed(tmp_path: Path) -> None:
    async with Served().running(tmp_path) as served:
        assert served.tls is not None
        sent: list[Any] = []

        async def receive() -> Any:
            if sent:
                await trio.sleep_forever()
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            if not sent:
                me = caller(7)
                served.edge.sessions.ended(me.session_id, me.user_number)
            sent.append(message)

        scope = {
            "type": "websocket",
            "path": "/websocket",
            "query_string": b"token=u7",
            "headers": [],
        }
        stream: Any = None
        _link.set(_Link(stream))
        with trio.fail_after(5):
            await served.tls(scope, receive, send)

    assert [message["type"] for message in sent] == [
        "websocket.accept",
        "websocket.send",
        "websocket.close",
    ]
    assert sent[-1]["code"] == 4002


async def test_a_client_that_leaves_is_forgotten_at_once(tmp_path: Path) -> None:
    async with Served().running(tmp_path) as served:
        async with client(served, http2=False) as http:
            await http.get("/echo/x")
        async with client(served) as http:
            await http.get("/echo/x")
        assert served.tls is not None

        with trio.fail_after(5):
            while served.tls.connections:
                await trio.sleep(0.01)


async def test_a_large_reply_and_the_one_behind_it_reach_who_reads(
    tmp_path: Path,
) -> None:
    async with (
        Served().running(tmp_path) as served,
        served.websocket("u1", tls=True) as socket,
    ):
        await socket.send({"op": "later", "id": 1, "text": "x" * 100_000})
        await socket.send({"op": "ping", "id": 2})

        replies = [await socket.receive() for _ in range(2)]

    assert [(reply["op"], reply.get("id")) for reply in replies] == [
        ("reply", 1),
        ("reply", 2),
    ]


UPGRADE = (
    b"GET /websocket?token=u1 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def stuck_reader(served: Served) -> trio.SSLStream[trio.SocketStream]:
    """A WebSocket of user 1 that never reads, with much on its way to it."""
    assert served.trust is not None
    stream = await trio.open_ssl_over_tcp_stream(
        "127.0.0.1", served.tls_port, ssl_context=served.trust
    )
    await stream.send_all(UPGRADE)
    assert b" 101 " in await stream.receive_some(1024)
    for _ in range(200):
        served.edge.hub.deliver(BitMap([1]), Event("x" * 50_000))
        await trio.sleep(0.002)
    return stream


async def test_a_reader_that_is_stuck_is_dropped(tmp_path: Path) -> None:
    async with Served().running(tmp_path, write_s=0.2) as served:
        stream = await stuck_reader(served)

        with trio.fail_after(5):
            while 1 in served.edge.hub.online:
                await trio.sleep(0.02)
        await trio.aclose_forcefully(stream)


async def test_a_reader_that_is_stuck_does_not_hold_up_the_end(tmp_path: Path) -> None:
    async with Served().running(tmp_path, drain_s=0.2) as served:
        stream = await stuck_reader(served)
        assert served.tls is not None

        served.tls.close()

        with trio.fail_after(5):
            while 1 in served.edge.hub.online:
                await trio.sleep(0.02)
        await trio.aclose_forcefully(stream)


@pytest.mark.parametrize(("least", "offered"), [("1.2", "1.1"), ("1.3", "1.2")])
async def test_older_versions_of_tls_are_refused(
    tmp_path: Path, least: str, offered: str
) -> None:
    async with Served().running(tmp_path, version_min=least) as served:
        context = ssl.create_default_context(cafile=str(tmp_path / "tls.crt"))
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = {
            "1.1": ssl.TLSVersion.TLSv1_1,
            "1.2": ssl.TLSVersion.TLSv1_2,
        }[offered]
        stream = await trio.open_ssl_over_tcp_stream(
            "127.0.0.1", served.tls_port, ssl_context=context
        )
        with pytest.raises((trio.BrokenResourceError, ssl.SSLError)):
            await stream.do_handshake()


async def test_sessions_over_tls_and_plain_meet(tmp_path: Path) -> None:
    async with (
        Served().running(tmp_path) as served,
        served.websocket("u1", tls=True) as secure,
        served.websocket("u2", [MSGPACK], tls=True) as packed,
        served.websocket("u3") as plain,
    ):
        assert (await secure.ask("later", 1, text="a"))["result"] == {"text": "a"}

        served.edge.hub.deliver(BitMap([1, 2, 3]), Event("all"))
        served.edge.hub.flush()

        for socket in (secure, packed, plain):
            assert await socket.receive() == {"op": "event", "text": "all"}


async def test_an_upgrade_is_refused_with_a_problem(tmp_path: Path) -> None:
    async with Served().running(tmp_path) as served:
        with pytest.raises(trio_websocket.ConnectionRejected) as rejected:
            async with served.websocket("expired", tls=True):
                pass

    assert rejected.value.status_code == 401
    assert json.loads(rejected.value.body or b"")["error"] == "unauthorized"


async def test_closes_of_ours_reach_the_client(tmp_path: Path) -> None:
    async with (
        Served().running(tmp_path) as served,
        served.websocket("u1", tls=True) as socket,
    ):
        await served.edge.sessions.close_all()
        code, reason = await socket.closed()

    assert code == 1001
    assert "reconnect_ms" in json.loads(reason)


async def test_a_client_that_goes_is_offline(tmp_path: Path) -> None:
    async with Served().running(tmp_path) as served:
        async with served.websocket("u1", tls=True):
            assert 1 in served.edge.hub.online
        with trio.fail_after(5):
            while 1 in served.edge.hub.online:
                await trio.sleep(0.005)
    assert served.tls is not None
    assert served.tls.transport.connections == {}


async def test_a_websocket_that_breaks_off_leaves_no_connection(tmp_path: Path) -> None:
    async with Served().running(tmp_path) as served:
        assert served.tls is not None
        assert served.trust is not None
        stream = await trio.open_ssl_over_tcp_stream(
            "127.0.0.1", served.tls_port, ssl_context=served.trust
        )
        await stream.send_all(UPGRADE)
        assert b" 101 " in await stream.receive_some(1024)

        stream.transport_stream.socket.close()

        with trio.fail_after(5):  # the next ping would be sent after 25 s
            while served.tls.connections:
                await trio.sleep(0.01)


async def test_close_ends_the_server(tmp_path: Path) -> None:
    served = Served()
    async with served.running(tmp_path):
        async with client(served) as http:
            assert (await http.get("/echo/x")).status_code == 200
        assert served.tls is not None
        served.tls.close()
        await trio.sleep(0.05)
        async with client(served) as http:
            with pytest.raises(httpx.TransportError):
                await http.get("/echo/x", timeout=0.2)


async def test_an_upgrade_under_way_when_the_server_stops_is_refused(
    tmp_path: Path,
) -> None:
    async with Served().running(tmp_path) as served, trio.open_nursery() as nursery:
        gate = served.edge.authenticator.slow[7] = trio.Event()
        statuses = []

        async def connect() -> None:
            with pytest.raises(trio_websocket.ConnectionRejected) as rejected:
                async with served.websocket(tls=True):
                    pass
            statuses.append(rejected.value.status_code)

        nursery.start_soon(connect)
        await trio.sleep(0.1)
        assert served.tls is not None
        served.tls.close()
        gate.set()
        with trio.fail_after(5):
            while served.tls.connections:
                await trio.sleep(0.01)

    assert statuses == [503]


async def test_a_new_certificate_is_used_without_a_restart(tmp_path: Path) -> None:
    async with Served().running(tmp_path) as served:
        old = served.trust
        (tmp_path / "tls.key").write_text("nonsense")
        assert served.tls is not None
        with pytest.raises(ssl.SSLError):
            served.tls.reload_certificate()
        async with client(served) as http:
            assert (await http.get("/echo/x")).status_code == 200

        certificate, _ = make_certificate(tmp_path)
        served.tls.reload_certificate()

        served.trust = ssl.create_default_context(cafile=str(certificate))
        async with client(served) as http:
            assert (await http.get("/echo/x")).status_code == 200
        served.trust = old
        with pytest.raises(httpx.ConnectError):
            async with client(served) as http:
                await http.get("/echo/x")


def test_a_request_has_the_raw_path_and_the_first_of_each_header() -> None:
    request = AsgiRequest(
        {
            "method": "GET",
            "path": "/a/b",
            "raw_path": b"/a%2Fb?x=1",
            "query_string": b"x=1",
            "client": ("192.0.2.1", 5),
            "headers": [(b"X-A", b"1"), (b"x-a", b"2")],
        },
        b"",
    )

    assert (request.path, request.query) == ("/a%2Fb", "x=1")
    assert request.header(b"x-a") == b"1"
    assert request.header(b"x-b") is None
    assert request.address == "192.0.2.1"
