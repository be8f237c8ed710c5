"""The C gateway served by its one task, on real loopback sockets."""

from __future__ import annotations

import json
from contextlib import suppress

import httpx
import msgspec
import pytest
import trio
import trio.lowlevel
import trio_websocket

from tchatd.edge.admission import JSON, MSGPACK
from tchatd.edge.gateway import GatewayTask
from tchatd.edge.hub import Hub
from tchatd.edge.session_models import SessionSettings
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.routing import Access, Context, Operation
from tchatd.observe.metrics import Metrics
from tchatd_ext.gateway import CLOSED, MESSAGE, REQUEST
from tests.support.edge_fakes import caller, user_id
from tests.support.served import Nothing, Said, Served


class Event(msgspec.Struct, tag="event", tag_field="op"):
    seq: int


AUTHORIZED = {"Authorization": "Bearer u7"}
NEWCOMER = 8


def client(served: Served) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{served.port}", timeout=5)


async def test_requests_are_answered_inline_and_later_in_order() -> None:
    async with Served().running() as served, client(served) as http:
        first = await http.post("/later", json={"text": "a"}, headers=AUTHORIZED)
        second = await http.get("/v1/who", headers=AUTHORIZED)
        third = await http.get("/echo/%E0%B8%81?times=3")

    assert (first.status_code, first.json()) == (200, {"text": "a"})
    assert second.json() == {"text": str(user_id(7))}
    assert third.json() == {"text": "กกก"}
    assert third.headers["content-type"] == "application/json"


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with Served().running() as served:
        stream = await trio.open_tcp_stream("127.0.0.1", served.port)
        body = b'{"text":"slow"}'
        await stream.send_all(
            b"POST /later HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer u7\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
            b"GET /echo/fast HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            % (len(body), body)
        )
        with trio.fail_after(5):
            answer = b"".join([part async for part in stream])

    assert answer.index(b'{"text":"slow"}') < answer.index(b'{"text":"fast"}')


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("PATCH", "/who", 405),
        ("GET", "/who", 401),
        ("GET", "/websocket", 426),
        ("OPTIONS", "/who", 204),
        ("HEAD", "/echo/x", 200),
        ("GET", "/docs", 200),
    ],
)
async def test_every_kind_of_answer(method: str, path: str, status: int) -> None:
    async with Served().running() as served, client(served) as http:
        answer = await http.request(method, path)

    assert answer.status_code == status
    if status >= 400:
        assert answer.json()["status"] == status
    assert answer.headers["x-request-id"]
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_websocket_commands_in_json() -> None:
    async with Served().running() as served, served.websocket() as socket:
        assert await socket.ask("say", 1, text="hi") == {
            "op": "reply",
            "id": 1,
            "result": {"text": "hi"},
        }
        assert (await socket.ask("later", 2, text="a"))["result"] == {"text": "a"}
        assert (await socket.ask("ping", 3))["op"] == "reply"


@pytest.mark.parametrize("path", ["/websocket", "/v1/websocket"])
async def test_websocket_commands_in_messagepack(path: str) -> None:
    async with (
        Served().running() as served,
        served.websocket(subprotocols=[MSGPACK], path=path) as socket,
    ):
        assert socket.connection.subprotocol == MSGPACK
        await socket.connection.send_message(
            msgspec.msgpack.encode({"op": "say", "id": 1, "text": "hi"})
        )
        message = await socket.connection.get_message()

    assert isinstance(message, bytes)
    assert msgspec.msgpack.decode(message)["result"] == {"text": "hi"}


async def test_a_token_may_come_in_the_query_or_by_hello() -> None:
    async with Served().running() as served:
        async with served.websocket(None, path="/websocket?token=u7") as socket:
            assert (await socket.ask("say", 1, text="hi"))["op"] == "reply"
        async with served.websocket(None) as socket:
            assert (await socket.ask("say", 1, text="hi"))["op"] == "error"
            welcome = await socket.ask("hello", 2, token="u8")
            assert welcome["result"]["user_id"] == str(user_id(8))
            assert (await socket.ask("say", 3, text="hi"))["op"] == "reply"


async def test_a_user_who_is_looked_up_is_accepted_later() -> None:
    async with Served().running() as served:
        gate = served.edge.authenticator.slow[7] = trio.Event()
        async with trio.open_nursery() as nursery:

            async def connect() -> None:
                async with served.websocket() as socket:
                    assert (await socket.ask("say", 1, text="hi"))["op"] == "reply"

            nursery.start_soon(connect)
            await trio.sleep(0.05)
            gate.set()


@pytest.mark.parametrize(
    ("token", "subprotocols", "status"),
    [("expired", [], 401), ("nonsense", [JSON], 401), ("u7", ["chat"], 400)],
)
async def test_an_upgrade_is_refused_with_a_problem(
    token: str, subprotocols: list[str], status: int
) -> None:
    async with Served().running() as served:
        with pytest.raises(trio_websocket.ConnectionRejected) as rejected:
            async with served.websocket(token, subprotocols):
                pass

    assert rejected.value.status_code == status
    assert json.loads(rejected.value.body or b"")["status"] == status


async def test_refused_upgrades_count_for_the_address_and_others_do_not() -> None:
    async with Served(address_burst=2, address_per_minute=1).running() as served:
        for _ in range(4):
            async with served.websocket("u7"):
                pass
        statuses = []
        for _ in range(3):
            with pytest.raises(trio_websocket.ConnectionRejected) as rejected:
                async with served.websocket("nobody"):
                    pass
            statuses.append(rejected.value.status_code)

    assert statuses == [401, 401, 429]


async def test_pages_of_other_origins_may_not_connect() -> None:
    served = Served(allowed_origins=frozenset({"https://a.example"}))
    async with served.running():
        for origin, status in (("https://a.example", 101), ("https://b.example", 403)):
            stream = await trio.open_tcp_stream("127.0.0.1", served.port)
            await stream.send_all(
                b"GET /websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
                b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                b"Origin: " + origin.encode() + b"\r\n\r\n"
            )
            with trio.fail_after(5):
                head = await stream.receive_some(4096)
            assert head.startswith(b"HTTP/1.1 %d " % status)
            await stream.aclose()


async def test_events_reach_the_members_who_are_online() -> None:
    async with (
        Served().running() as served,
        served.websocket("u1") as one,
        served.websocket("u2", [MSGPACK]) as two,
        served.websocket("u3") as three,
    ):
        hub = served.edge.hub
        hub.deliver(BitMap([1, 2]), Event(1))
        hub.deliver(BitMap([1, 2, 3, 4]), Event(2))
        hub.flush()

        assert [await one.receive(), await one.receive()] == [
            {"op": "event", "seq": 1},
            {"op": "event", "seq": 2},
        ]
        assert (await two.receive())["seq"] == 1
        assert (await three.receive())["seq"] == 2


async def test_a_connection_that_goes_is_offline() -> None:
    async with Served().running() as served:
        async with served.websocket("u1"):
            assert 1 in served.edge.hub.online
        with trio.fail_after(5):
            while 1 in served.edge.hub.online:
                await trio.sleep(0.005)


async def test_a_revoked_session_is_told_and_closed() -> None:
    async with Served().running() as served, served.websocket("u7s3") as socket:
        served.edge.sessions.ended(caller(7, 3).session_id, 7)

        assert (await socket.receive())["op"] == "session.revoked"
        assert await socket.closed() == (4002, "session revoked")


async def test_a_wrong_type_of_message_closes_with_1003() -> None:
    async with Served().running() as served, served.websocket() as socket:
        await socket.connection.send_message(b"\x80")

        assert (await socket.closed())[0] == 1003


async def test_a_crash_of_ours_ends_one_connection_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with (
        Served().running() as served,
        served.websocket("u1") as one,
        served.websocket("u2") as two,
    ):
        take = served.edge.sessions.turn

        def crash(connection: int, message: bytes, is_text: bool) -> None:
            if b"crash" in message:
                raise RuntimeError
            take(connection, message, is_text)

        monkeypatch.setattr(served.edge.sessions, "turn", crash)
        await one.send({"op": "say", "id": 1, "text": "crash"})

        assert (await one.closed())[0] == 1006
        assert (await two.ask("say", 1, text="hi"))["op"] == "reply"


async def test_draining_sends_clients_away_and_answers_what_began() -> None:
    served = Served(session_settings=SessionSettings(reconnect_spread_s=10))
    async with served.running(), client(served) as http, trio.open_nursery() as nursery:
        answers: list[httpx.Response] = []

        async def ask() -> None:
            answers.append(
                await http.post("/later", json={"text": "a"}, headers=AUTHORIZED)
            )

        async with served.websocket() as socket:
            nursery.start_soon(ask)
            await trio.sleep(0.005)
            served.task.close()
            code, reason = await socket.closed()

    assert (code, json.loads(reason)) == (1001, {"reconnect_ms": 5000})
    assert [answer.status_code for answer in answers] == [200]


async def test_while_draining_nothing_new_becomes_a_websocket() -> None:
    release = trio.Event()

    async def gated(context: Context, command: Nothing) -> Said:
        await release.wait()
        return Said("done")

    operation = Operation(
        name="gated",
        summary="",
        tag="test",
        command=Nothing,
        result=Said,
        handler=gated,
        verb="GET",
        path="/gated",
        access=Access.PUBLIC,
    )
    served = Served([operation])
    async with served.running():
        first = await trio.open_tcp_stream("127.0.0.1", served.port)
        second = await trio.open_tcp_stream("127.0.0.1", served.port)
        await first.send_all(b"GET /gated HTTP/1.1\r\nHost: x\r\n\r\n")
        await second.send_all(b"GET /echo/x HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 " in await second.receive_some()
        served.task.close()
        await second.send_all(
            b"GET /websocket?token=u7 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert b" 503 " in await second.receive_some()
        release.set()
        assert b"done" in await first.receive_some()


async def test_an_upgrade_under_way_is_refused_when_draining_begins() -> None:
    served = Served()
    gate = served.edge.authenticator.slow[7] = trio.Event()
    async with served.running(), trio.open_nursery() as nursery:
        statuses = []

        async def connect() -> None:
            with pytest.raises(trio_websocket.ConnectionRejected) as rejected:
                async with served.websocket():
                    pass
            statuses.append(rejected.value.status_code)

        nursery.start_soon(connect)
        await trio.sleep(0.05)
        served.task.close()
        await trio.sleep(0.05)
        assert served.gateway.connections == 1
        gate.set()
        with trio.fail_after(1):
            while served.gateway.connections:
                await trio.sleep(0.01)

    assert statuses == [503]


async def test_after_draining_nobody_is_accepted() -> None:
    served = Served()
    async with served.running():
        served.task.close()
        await trio.sleep(0.05)

        assert served.gateway.connections == 0
        with trio.move_on_after(0.2), suppress(OSError):
            stream = await trio.open_tcp_stream("127.0.0.1", served.port)
            await stream.send_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await stream.receive_some() == b""


async def test_a_message_waits_for_a_slice_of_the_requests_and_not_for_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Time passes with every request: a slice is two of them. A newcomer's message is
    behind them, and so is its end."""
    served = Served()
    seen: list[str] = []
    took_s = 0.0

    def request(connection: int, request: object) -> None:
        nonlocal took_s
        took_s += 0.0015
        seen.append(f"request {connection}")

    async def ready(descriptor: int) -> None:
        await trio.lowlevel.checkpoint()

    class Polled:
        """A gateway whose events come as the test wants them."""

        def __init__(self) -> None:
            self.polls: list[list[tuple[object, ...]]] = [
                [(REQUEST, n, None) for n in range(1, 6)],
                [
                    (MESSAGE, NEWCOMER, b"", True),
                    (MESSAGE, 9, b"", True),
                    (CLOSED, NEWCOMER),
                ],
            ]

        def fileno(self) -> int:
            return served.gateway.fileno()

        def poll(self, events_max: int) -> list[tuple[object, ...]]:
            return self.polls.pop(0) if self.polls else []

        def flush(self) -> None:
            seen.append("flush")
            if not self.polls and not task._waiting:
                scope.cancel()

    task = GatewayTask(
        served.gateway,
        served.edge.dispatcher,
        served.endpoint,
        served.edge.sessions,
        Hub(Metrics(process=False)),
        now=lambda: took_s,
    )
    monkeypatch.setattr(task, "_gateway", Polled())
    monkeypatch.setattr(task, "_request", request)
    sessions = served.edge.sessions
    behind: list[int] = []

    def offer(connection: int, *_: object) -> bool:
        if connection == NEWCOMER:
            behind.append(connection)
            return False
        seen.append("message")
        return True

    monkeypatch.setattr(sessions, "offer", offer)
    monkeypatch.setattr(sessions, "is_behind", lambda one: one in behind)
    monkeypatch.setattr(sessions, "turn", lambda *_: seen.append("newcomer"))
    monkeypatch.setattr(sessions, "closed", lambda *_: seen.append("gone"))
    monkeypatch.setattr(trio.lowlevel, "wait_readable", ready)
    with trio.CancelScope() as scope:
        await task._serve()
    first, second = seen.index("flush"), seen.index("flush", 3)
    assert seen[:first] == ["request 1", "request 2"]
    assert seen[first + 1 : second] == ["message", "request 3", "request 4"]
    rest = ["request 5", "newcomer", "gone"]
    assert [one for one in seen if one != "flush"][-3:] == rest
