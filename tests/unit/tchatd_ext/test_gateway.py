"""Owns the gateway's cases over real loopback sockets: HTTP/1.1 and WebSocket."""

from __future__ import annotations

import json
import os
import random
import socket
import time
from collections.abc import Iterator

import msgspec
import pytest

from tchatd.edge.problems import HeadTooLarge, TooLarge, UriTooLong, problem_of
from tchatd_ext import http1_py
from tchatd_ext.frame_py import compress, encode
from tchatd_ext.gateway import CLOSED, MESSAGE, REQUEST, Frame, Gateway, Request
from tchatd_ext.handshake import accept_key
from tests.support.edge import GAP_JSON, GAP_MSGPACK, KEY, MASK, UPGRADE, Edge

FUZZ_S = float(os.environ.get("TCHATD_FUZZ_SECONDS", "10")) / 5
GET = b"GET /a?b=1 HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def edge() -> Iterator[Edge]:
    with Edge() as edge:
        yield edge


def answer(edge: Edge, body: bytes = b"ok", status: int = 200) -> Request:
    request = edge.request()
    headers = b"content-type: text/plain\r\n"
    assert edge.gateway.respond(request.connection, status, headers, body)
    return request


def problem(response: bytes) -> tuple[int, dict[str, object]]:
    head, _, body = response.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head
    status = int(head.split(b" ")[1])
    told = json.loads(body)
    assert told["status"] == status
    assert told.keys() >= {"type", "title", "detail", "error", "message"}
    request_id = str(told["instance"]).removeprefix("urn:tchatd:request:")
    assert f"x-request-id: {request_id}\r\n" in head.decode() + "\r\n"
    return status, told


# --- HTTP/1.1 -------------------------------------------------------------------------


def test_a_request_is_handed_over_whole_and_answered(edge: Edge) -> None:
    client = edge.client().send(
        b"POST /a%20b?c=d HTTP/1.1\r\nHost: x\r\nX-Two: 1\r\nx-two:  2 \t\r\n"
        b"Content-Length: 3\r\n\r\nabc"
    )
    request = answer(edge, b"hello", 201)
    assert (request.method, request.target) == ("POST", b"/a%20b?c=d")
    assert (request.path, request.query) == ("/a%20b", "c=d")
    assert request.headers == [
        (b"host", b"x"),
        (b"x-two", b"1"),
        (b"x-two", b"2"),
        (b"content-length", b"3"),
    ]
    assert request.header(b"x-two") == b"1"
    assert request.header(b"x-none") is None
    assert (request.body, request.address) == (b"abc", "127.0.0.1")
    assert (request.keep_alive, request.upgrade) == (True, False)
    response = client.receive(lambda data: data.endswith(b"hello"))
    assert response.startswith(b"HTTP/1.1 201 Created\r\nserver: tchatd\r\ndate: ")
    assert b"\r\ncontent-length: 5\r\n" in response
    assert b"\r\ncontent-type: text/plain\r\n" in response
    assert b"connection:" not in response


def test_a_request_cut_at_every_byte_is_the_same_request(edge: Edge) -> None:
    data = (
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3;e=f\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\nT: u\r\n\r\n"
    )
    client = edge.client()
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in data:
        assert edge.events == []
        client.send(bytes((byte,)))
        edge.turn(0.01)
    assert answer(edge).body == b"abc0123456789abcdef"


def test_keep_alive_serves_one_after_another(edge: Edge) -> None:
    client = edge.client()
    for count in range(5):
        client.send(GET)
        answer(edge, b"%d" % count)
        response = client.receive(lambda data: b"\r\n\r\n" in data)
        assert response.endswith(b"\r\n\r\n%d" % count)
    assert edge.gateway.connections == 1


def test_pipelined_requests_are_answered_in_order_one_at_a_time(edge: Edge) -> None:
    paths = [b"/%d" % at for at in range(20)]
    client = edge.client().send(
        b"\r\n".join(b"GET %b HTTP/1.1\r\nHost: x\r\n" % path for path in paths)
        + b"\r\n"
    )
    for path in paths:
        request = edge.request()
        edge.turn()
        assert edge.events == []
        assert request.target == path
        assert edge.gateway.respond(request.connection, 200, b"", path)
        assert not edge.gateway.respond(request.connection, 200, b"", b"twice")
    read = client.receive(lambda data: data.endswith(b"/19"))
    bodies = [part.split(b"HTTP/1.1")[0] for part in read.split(b"\r\n\r\n")[1:]]
    assert bodies == paths


def test_pipelined_input_is_bounded_by_not_reading(edge: Edge) -> None:
    client = edge.client().send(GET)
    request = edge.request()
    client.socket.setblocking(False)
    sent = 0
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        edge.turn()
        try:
            sent += client.socket.send(GET * 1000)
        except BlockingIOError:
            break
    described = edge.gateway.describe(request.connection)
    assert described is not None
    assert 0 < int(str(described["input_bytes"])) <= 2 * 65536
    assert edge.events == []


def test_a_close_is_answered_with_a_close(edge: Edge) -> None:
    client = edge.client().send(
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" + GET
    )
    assert answer(edge).keep_alive is False
    response = client.receive_end()
    assert b"\r\nconnection: close\r\n" in response
    assert response.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    ("option", "kept"), [(b"", False), (b"Connection: keep-alive\r\n", True)]
)
def test_http_1_0_keeps_alive_only_when_asked(
    edge: Edge, option: bytes, kept: bool
) -> None:
    client = edge.client().send(b"GET / HTTP/1.0\r\n" + option + b"\r\n")
    assert answer(edge).keep_alive is kept
    head = client.receive_head() if kept else client.receive_end()
    expected = b"connection: keep-alive" if kept else b"connection: close"
    assert expected in head


def test_head_gets_the_length_and_no_body(edge: Edge) -> None:
    client = edge.client().send(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
    answer(edge, b"hello")
    answer(edge, b"!")
    read = client.receive(lambda data: data.endswith(b"!"))
    first, second, third = read.split(b"\r\n\r\n")
    assert b"content-length: 5" in first
    assert second.startswith(b"HTTP/1.1 200")
    assert third == b"!"


def test_no_content_has_neither_length_nor_body(edge: Edge) -> None:
    client = edge.client().send(GET)
    answer(edge, b"ignored", 204)
    head = client.receive_head()
    assert b"content-length" not in head
    assert head.endswith(b"\r\n\r\n")


def test_expect_is_answered_before_the_body(edge: Edge) -> None:
    head = (
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
        b"Expect: 100-continue\r\n\r\n"
    )
    client = edge.client().send(head)
    assert client.receive_head() == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(b"hello")
    assert answer(edge).body == b"hello"
    assert client.receive_head().startswith(b"HTTP/1.1 200")
    client.send(head + b"hello")  # who does not wait is not told to go on
    answer(edge)
    assert client.receive_head().startswith(b"HTTP/1.1 200")


def test_expect_of_too_much_is_refused_before_the_body() -> None:
    with Edge(body_bytes_max=100) as edge:
        client = edge.client().send(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 101\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        assert problem(client.receive_end())[0] == 413


SMUGGLED = {
    "two lengths": (b"Content-Length: 4\r\nContent-Length: 5\r\n", 400),
    "both framings": (b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", 400),
    "odd coding": (b"Transfer-Encoding: xchunked\r\n", 501),
    "space before colon": (b"Content-Length : 4\r\n", 400),
    "bare CR": (b"X: a\rContent-Length: 4\r\n", 400),
    "bare LF": (b"X: a\nContent-Length: 4\r\n", 400),
    "folding": (b"X: a\r\n Content-Length: 4\r\n", 400),
    "NUL": (b"X: a\0\r\n", 400),
    "two hosts": (b"Host: y\r\n", 400),
    "expectation": (b"Expect: more\r\n", 417),
    "tab after chunked": (b"Transfer-Encoding: chunked\t\r\n", 400),
}


@pytest.mark.parametrize("name", SMUGGLED)
def test_a_smuggled_request_is_refused_and_nothing_behind_it_is_read(
    edge: Edge, name: str
) -> None:
    fields, status = SMUGGLED[name]
    client = edge.client().send(
        b"POST / HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n0\r\n\r\n" + GET
    )
    assert problem(client.receive_end())[0] == status
    assert edge.events == []
    assert edge.gateway.statistics()["refusals"] == 1


BAD_START = {
    "TLS": b"\x16\x03\x01\x02\x00\x01",
    "binary": b"\x00\x00\x00",
    "bare LF": b"GET / HTTP/1.1\n",
    "lower case": b"get",
}


@pytest.mark.parametrize("name", BAD_START)
def test_what_cannot_become_a_request_is_refused_at_once(edge: Edge, name: str) -> None:
    client = edge.client().send(BAD_START[name])
    assert problem(client.receive_end())[0] == 400


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /" + b"a" * 8300, 414),
        (b"GET /" + b"a" * 8300 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: abcdefgh\r\n" * 1300, 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 17000, 431),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n", 413),
    ],
)
def test_what_is_too_long_or_unknown_has_its_status(
    edge: Edge, data: bytes, status: int
) -> None:
    got, told = problem(edge.client().send(data).receive_end())
    assert got == status
    of = {error.status: error for error in (UriTooLong, HeadTooLarge)}.get(status)
    if of is not None:
        assert told["type"] == f"urn:tchatd:problem:{of.code}"
        assert (told["title"], told["error"]) == (of.title, of.short_code)


def test_a_body_over_the_limit_is_the_problem_it_is_behind_a_route() -> None:
    with Edge(body_bytes_max=1000) as edge:
        client = edge.client().send(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n"
        )
        _, told = problem(client.receive_end())
    wanted = problem_of(TooLarge("The body may have 1000 bytes."), "refusal-1")
    assert told == msgspec.to_builtins(wanted)


def test_a_chunked_body_over_the_limit_is_refused() -> None:
    with Edge(body_bytes_max=1000) as edge:
        client = edge.client().send(
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3e8\r\n" + bytes(1000) + b"\r\n1\r\nx\r\n"
        )
        assert problem(client.receive_end())[0] == 413


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"5\nhello\r\n0\r\n\r\n", 400),
        (b"5\r\nhello0\r\n\r\n", 400),
        (b"5;" + b"e" * 9000 + b"\r\nhello\r\n0\r\n\r\n", 431),
    ],
)
def test_a_malformed_chunked_body_is_refused(
    edge: Edge, body: bytes, status: int
) -> None:
    client = edge.client().send(
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + body + GET
    )
    assert problem(client.receive_end())[0] == status
    assert edge.events == []


def test_a_large_body_arrives_in_parts(edge: Edge) -> None:
    body = random.Random(1).randbytes(1 << 20)
    client = edge.client()
    client.socket.setblocking(False)
    rest = b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1048576\r\n\r\n" + body
    deadline = time.monotonic() + 5
    while rest and time.monotonic() < deadline:
        try:
            rest = rest[client.socket.send(rest) :]
        except BlockingIOError:
            edge.turn(0.01)
    assert answer(edge).body == body


def test_a_large_answer_waits_for_a_slow_reader(edge: Edge) -> None:
    body = random.Random(1).randbytes(8 << 20)
    client = edge.client(receive_bytes=65536).send(GET + GET)
    answer(edge, body)
    edge.turn()
    assert edge.events == []
    read = client.receive(lambda data: data.endswith(body[-1000:]))
    assert read.endswith(body)
    answer(edge)


def test_empty_lines_before_a_request_are_ignored(edge: Edge) -> None:
    edge.client().send(b"\r\n\r\n" + GET)
    answer(edge)


def test_a_half_closed_client_still_gets_its_answers(edge: Edge) -> None:
    client = edge.client().send(GET + GET)
    client.socket.shutdown(socket.SHUT_WR)
    request = edge.request()
    edge.turns(0.05)
    edge.gateway.respond(request.connection, 200, b"", b"one")
    answer(edge, b"two")
    read = client.receive_end()
    assert b"one" in read
    assert read.endswith(b"two")
    assert edge.gateway.connections == 0


def test_a_reset_client_with_a_request_outstanding_is_reported(edge: Edge) -> None:
    client = edge.client().send(GET)
    request = edge.request()
    client.socket.setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0" + bytes(4)
    )
    client.close()
    assert edge.next(CLOSED)[1:3] == (request.connection, 1006)
    assert not edge.gateway.respond(request.connection, 200, b"", b"")
    assert edge.gateway.connections == 0


def test_answers_are_checked(edge: Edge) -> None:
    edge.client().send(GET)
    number = edge.request().connection
    for status, headers in ((199, b""), (600, b""), (200, b"a: b"), (200, b"\r\n\r\n")):
        with pytest.raises(ValueError, match="must be"):
            edge.gateway.respond(number, status, headers, b"")
    assert edge.gateway.respond(number, 200, b"a: b\r\n", b"")


def test_an_unknown_number_is_harmless(edge: Edge) -> None:
    gateway = edge.gateway
    for number in (0, 1, 5 << 24, (1 << 56) - 1, (1 << 64) - 1):
        assert gateway.respond(number, 200, b"", b"") is False
        assert (
            gateway.accept_websocket(number, subprotocol=None, msgpack=False) is False
        )
        assert gateway.authenticated(number) is False
        assert gateway.queue(number, GAP_JSON) is False
        assert gateway.fan_out([number], GAP_JSON) == 0
        assert gateway.close(number, 1000) is False
        assert gateway.abort(number) is False
        assert gateway.pause(number) is False
        assert gateway.resume(number) is False
        assert gateway.describe(number) is None


def test_a_number_is_not_used_again(edge: Edge) -> None:
    seen = set()
    for _ in range(5):
        client = edge.client().send(GET)
        seen.add(answer(edge).connection)
        client.close()
        edge.until(lambda: edge.gateway.connections == 0)
    assert len(seen) == 5


# --- upgrades -------------------------------------------------------------------------


def upgrade(*, drop: bytes = b"", add: bytes = b"", line: bytes = b"") -> bytes:
    lines = UPGRADE.split(b"\r\n")[:-1]
    kept = [one for one in lines if not drop or not one.startswith(drop)]
    if line:
        kept[0] = line
    return b"\r\n".join(kept) + b"\r\n" + add + b"\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (upgrade(drop=b"Sec-WebSocket-Key"), 400),
        (upgrade(add=b"Sec-WebSocket-Key: %b\r\n" % KEY), 400),
        (upgrade(drop=b"Sec-WebSocket-Key", add=b"Sec-WebSocket-Key: x\r\n"), 400),
        (upgrade(drop=b"Sec-WebSocket-Version"), 426),
        (
            upgrade(drop=b"Sec-WebSocket-Version", add=b"Sec-WebSocket-Version: 8\r\n"),
            426,
        ),
        (upgrade(line=b"POST /websocket HTTP/1.1"), 400),
        (upgrade(add=b"Content-Length: 1\r\n") + b"x", 400),
    ],
)
def test_a_malformed_upgrade_is_answered_by_the_gateway(
    edge: Edge, data: bytes, status: int
) -> None:
    response = edge.client().send(data).receive_end()
    assert problem(response)[0] == status
    assert (b"sec-websocket-version: 13" in response) == (status == 426)
    assert edge.events == []


@pytest.mark.parametrize(
    "data", [upgrade(drop=b"Connection"), upgrade(line=b"GET / HTTP/1.0")]
)
def test_half_an_upgrade_is_a_plain_request(edge: Edge, data: bytes) -> None:
    edge.client().send(data)
    assert answer(edge).upgrade is False


def test_an_upgrade_to_something_else_is_a_plain_request(edge: Edge) -> None:
    client = edge.client().send(
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n" + GET
    )
    assert answer(edge).upgrade is False
    answer(edge)
    assert client.receive_head().startswith(b"HTTP/1.1 200")


def test_an_upgrade_names_its_subprotocol(edge: Edge) -> None:
    client = edge.client().send(
        upgrade(add=b"Sec-WebSocket-Protocol: a, b\r\nSec-WebSocket-Protocol: c\r\n")
    )
    request = edge.request()
    assert request.upgrade
    assert request.subprotocols == ("a", "b", "c")
    with pytest.raises(ValueError, match="not offered"):
        edge.gateway.accept_websocket(
            request.connection, subprotocol="d", msgpack=False
        )
    assert edge.gateway.accept_websocket(
        request.connection, subprotocol="b", msgpack=False, headers=b"x-id: 7\r\n"
    )
    head = client.receive_head()
    assert b"\r\nsec-websocket-accept: %b\r\n" % accept_key(KEY) in head
    assert b"\r\nsec-websocket-protocol: b\r\n" in head
    assert b"\r\nx-id: 7\r\n" in head
    assert b"sec-websocket-extensions" not in head


def test_a_refused_upgrade_goes_on_as_http(edge: Edge) -> None:
    client = edge.client().send(UPGRADE + b"\r\n")
    assert answer(edge, b"no", 401).upgrade
    assert client.receive_head().startswith(b"HTTP/1.1 401")
    client.send(GET)
    answer(edge)


def test_frames_sent_with_the_upgrade_are_read_after_it(edge: Edge) -> None:
    client = edge.client().send(UPGRADE + b"\r\n" + encode(1, b"early", mask=MASK))
    number = edge.request().connection
    edge.turns(0.02)
    assert edge.events == []
    edge.gateway.accept_websocket(number, subprotocol=None, msgpack=False)
    assert edge.message() == (b"early", True)
    client.frame(2, b"later")
    assert edge.message() == (b"later", False)


# --- WebSocket ------------------------------------------------------------------------


def test_messages_and_pings_pass_both_ways(edge: Edge) -> None:
    client, number = edge.websocket()
    client.frame(1, "xin chào".encode()).frame(9, b"ping!").frame(10, b"unasked")
    assert edge.message() == ("xin chào".encode(), True)
    assert client.receive_size(7) == encode(10, b"ping!")
    assert edge.gateway.queue(number, Frame(b"one"))
    assert edge.gateway.queue(number, Frame(b"two", binary=True))
    edge.gateway.flush()
    assert client.receive_size(10) == encode(1, b"one") + encode(2, b"two")
    assert edge.events == []


def test_the_peers_close_is_echoed_and_reported(edge: Edge) -> None:
    client, number = edge.websocket()
    client.frame(8, b"\x0f\xa0so long")
    assert edge.closed() == (4000, "so long")
    assert client.receive_end() == encode(8, b"\x0f\xa0")
    client.close()
    edge.until(lambda: edge.gateway.connections == 0)
    assert not edge.gateway.queue(number, GAP_JSON)
    assert edge.events == []


def test_a_close_without_code_is_1005(edge: Edge) -> None:
    client, _ = edge.websocket()
    client.frame(8)
    assert edge.closed() == (1005, "")
    assert client.receive_end() == encode(8, b"")


def test_our_close_follows_what_is_queued_and_ends_with_the_peers(edge: Edge) -> None:
    client, number = edge.websocket()
    edge.gateway.queue(number, Frame(b"last"))
    assert edge.gateway.close(number, 4001, "token expired")
    assert not edge.gateway.close(number, 4001)
    assert not edge.gateway.queue(number, Frame(b"too late"))
    expected = encode(1, b"last") + encode(8, b"\x0f\xa1token expired")
    assert client.receive_size(len(expected)) == expected
    client.frame(1, b"crossing").frame(8, b"\x0f\xa1")
    assert edge.closed()[0] == 4001
    assert client.receive_end() == b""
    assert edge.events == []


def test_a_peer_that_never_closes_is_dropped() -> None:
    with Edge(close_s=0.05) as edge:
        client, number = edge.websocket()
        edge.gateway.close(number, 1001, "going away")
        assert edge.closed() == (1001, "timeout")
        assert client.receive_end()[2:4] == b"\x03\xe9"
        assert edge.gateway.connections == 0


def test_a_violation_is_closed_with_its_code(edge: Edge) -> None:
    client, _ = edge.websocket()
    client.send(b"\x81\x02hi")
    assert edge.closed() == (1002, "frame is not masked")
    assert client.receive_end() == encode(8, b"\x03\xeaframe is not masked")
    assert edge.gateway.statistics()["violations"] == 1


def test_answers_to_what_came_before_a_violation_still_leave(edge: Edge) -> None:
    client, number = edge.websocket()
    client.send(encode(1, b"hi", mask=MASK) + encode(3, b"", mask=MASK))
    assert edge.message() == (b"hi", True)
    edge.gateway.queue(number, Frame(b"hi back"))
    edge.gateway.flush()
    assert edge.closed() == (1002, "reserved opcode")
    assert client.receive_end().startswith(encode(1, b"hi back") + b"\x88")


def test_a_message_over_the_limit_is_1009() -> None:
    with Edge(message_bytes_max=1000) as edge:
        client, _ = edge.websocket()
        client.frame(2, bytes(1000))
        assert edge.message() == (bytes(1000), False)
        client.frame(2, bytes(1001))
        assert edge.closed() == (1009, "message is too big")
        client.receive_end()


def test_an_end_without_a_close_is_1006(edge: Edge) -> None:
    client, _ = edge.websocket()
    client.close()
    assert edge.closed()[0] == 1006
    edge.until(lambda: edge.gateway.connections == 0)


def test_an_abort_is_reported_once(edge: Edge) -> None:
    _, number = edge.websocket()
    assert edge.gateway.abort(number)
    assert not edge.gateway.abort(number)
    assert edge.closed() == (1006, "aborted")
    edge.turns(0.02)
    assert edge.events == []


def test_a_paused_connection_is_not_read(edge: Edge) -> None:
    client, number = edge.websocket()
    assert edge.gateway.pause(number)
    client.frame(1, b"a").frame(1, b"b")
    edge.turns(0.05)
    assert edge.events == []
    assert edge.gateway.resume(number)
    assert edge.message() == (b"a", True)
    assert edge.message() == (b"b", True)
    assert not edge.gateway.resume(number)


def test_many_messages_of_one_connection_are_shared_out_over_turns(edge: Edge) -> None:
    client, number = edge.websocket()
    client.send(b"".join(encode(1, b"%d" % at, mask=MASK) for at in range(1000)))
    edge.until(lambda: bool(edge.events))
    assert len(edge.events) <= 256
    edge.gateway.pause(number)
    edge.turns(0.05)
    seen = len(edge.events)
    assert seen <= 256
    edge.gateway.resume(number)
    edge.until(lambda: len(edge.events) == 1000)
    assert [event[2] for event in edge.events] == [b"%d" % at for at in range(1000)]


def test_a_paused_connection_can_be_closed(edge: Edge) -> None:
    client, number = edge.websocket()
    edge.gateway.pause(number)
    edge.gateway.close(number, 4002)
    assert client.receive_size(4) == encode(8, b"\x0f\xa2")
    client.frame(8, b"\x0f\xa2")
    assert edge.closed()[0] == 4002
    client.receive_end()


def test_what_was_sent_before_an_end_is_still_read(edge: Edge) -> None:
    client, _ = edge.websocket()
    client.send(b"".join(encode(1, b"%d" % at, mask=MASK) for at in range(1000)))
    client.close()
    edge.until(lambda: edge.events[-1:] != [] and edge.events[-1][0] == CLOSED)
    assert [event[2] for event in edge.events[:-1]] == [
        b"%d" % at for at in range(1000)
    ]
    assert edge.gateway.connections == 0


def test_compression_is_negotiated_and_shared(edge: Edge) -> None:
    deflate = b"Sec-WebSocket-Extensions: permessage-deflate; %b\r\n"
    clients = [
        edge.websocket(),
        edge.websocket(extra=deflate % b"client_max_window_bits"),
        edge.websocket(extra=deflate % b"server_max_window_bits=9"),
    ]
    payload = "ข้อความยาว ".encode() * 100
    frame = Frame(payload)
    assert edge.gateway.fan_out([number for _, number in clients], frame) == 3
    edge.gateway.flush()
    expected = [
        encode(1, payload),
        encode(1, compress(payload, 15) or b"", compressed=True),
        encode(1, compress(payload, 9) or b"", compressed=True),
    ]
    for (client, _), data in zip(clients, expected, strict=True):
        assert client.receive_size(len(data)) == data
    client = clients[1][0]
    client.frame(1, compress(payload) or b"", compressed=True)
    assert edge.message() == (payload, True)
    small = Frame(b"small")
    assert edge.gateway.queue(clients[1][1], small)
    edge.gateway.flush()
    assert client.receive_size(7) == encode(1, b"small")


def test_compression_can_be_switched_off() -> None:
    with Edge(deflate=False) as edge:
        client, _ = edge.websocket(
            extra=b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
        )
        client.frame(1, b"x", compressed=True)
        assert edge.closed()[0] == 1002


def test_fan_out_takes_any_sequence_and_skips_the_dead(edge: Edge) -> None:
    client, number = edge.websocket()
    frame = Frame(b"x")
    assert edge.gateway.fan_out((number, 3, number), frame) == 2
    assert edge.gateway.fan_out([], frame) == 0
    with pytest.raises(TypeError):
        edge.gateway.fan_out(["x"], frame)  # type: ignore[list-item]
    edge.turn()
    edge.gateway.flush()
    assert client.receive_size(6) == encode(1, b"x") * 2


# --- settings and life ----------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"head_bytes_max": 1},
        {"message_bytes_max": 1 << 31},
        {"slow_consumer": "pray"},
        {"idle_s": 0},
        {"connections_max": 0},
        {"uri_bytes_max": 20000},
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Gateway(gap_json=GAP_JSON, gap_msgpack=GAP_MSGPACK, **settings)  # type: ignore[arg-type]


def test_shutdown_closes_everything_and_is_final() -> None:
    with Edge() as edge:
        client, number = edge.websocket()
        edge.gateway.shutdown()
        assert client.socket.recv(10) == b""
        assert edge.gateway.poll() == []
        assert edge.gateway.fileno() == -1
        assert not edge.gateway.queue(number, GAP_JSON)
        assert edge.gateway.connections == 0
        edge.gateway.shutdown()


def test_unlisten_leaves_connections_alone(edge: Edge) -> None:
    client, number = edge.websocket()
    edge.gateway.unlisten()
    client.frame(1, b"still here")
    assert edge.message() == (b"still here", True)
    late = edge.client().send(GET)
    edge.turns(0.05)
    assert edge.events == []
    late.close()
    assert edge.gateway.queue(number, GAP_JSON)


# --- fuzzing --------------------------------------------------------------------------


def test_random_heads_are_delivered_only_if_an_independent_reader_accepts() -> None:
    source = random.Random(20261124)
    pieces = [
        b"GET", b"POST", b" ", b"/", b"*", b"HTTP/1.1", b"HTTP/1.0", b"\r\n", b"\n",
        b"\r", b"Host: x", b"Content-Length: 3", b"Transfer-Encoding: chunked", b":",
        b"\r\n\r\n", b"abc", b"0\r\n\r\n", b"Connection: close", b"\t", b"\0", b"\x80",
        b"Upgrade: websocket", b"Connection: upgrade", b"Expect: 100-continue",
    ]  # fmt: skip
    good = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n"
    until = time.monotonic() + FUZZ_S
    delivered = runs = 0
    with Edge(request_s=0.1, handshake_s=0.1) as edge:
        while time.monotonic() < until:
            data = good
            for _ in range(source.randrange(4)):
                at = source.randrange(len(data) + 1)
                cut = at + source.choice([0, 0, 1, 5])
                data = data[:at] + source.choice(pieces) + data[cut:]
            data += b"abc\r\n\r\n"
            client = edge.client().send(data)
            client.socket.shutdown(socket.SHUT_WR)
            while data.startswith(b"\r\n"):
                data = data[2:]
            head = data[: data.find(b"\r\n\r\n") + 4]
            runs += 1
            edge.until(lambda: edge.gateway.statistics()["accepted"] == runs)  # noqa: B023
            while not edge.events and edge.gateway.connections:
                edge.turn(0.05)
            if edge.events and edge.events[0][0] == REQUEST:
                delivered += 1
                status, facts = http1_py.parse_head(head)
                assert status == 0, (data, facts)
                request = edge.events[0][2]
                assert request.method.encode() == facts[0]
                assert request.target == facts[1]
                edge.gateway.abort(request.connection)
                edge.until(lambda: edge.events[-1][0] == CLOSED)
            edge.until(lambda: edge.gateway.connections == 0)
            edge.events.clear()
            edge.clients.remove(client)
            client.close()
    assert delivered > 20


def test_random_bytes_after_an_upgrade_never_harm_the_gateway() -> None:
    source = random.Random(20261124)
    until = time.monotonic() + FUZZ_S
    with Edge(message_bytes_max=1000) as edge:
        steady, _ = edge.websocket()
        while time.monotonic() < until:
            client, _ = edge.websocket(
                extra=b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
            )
            for _ in range(source.randrange(1, 6)):
                opcode = source.choice([0, 1, 2, 8, 9, 10, source.randrange(16)])
                data = bytearray(
                    encode(
                        opcode,
                        source.randbytes(source.choice([0, 3, 130, 900])),
                        fin=source.random() < 0.7,
                        compressed=source.random() < 0.3,
                        mask=source.randbytes(4),
                    )
                )
                if source.random() < 0.3:
                    data[source.randrange(len(data))] = source.randrange(256)
                client.socket.send(data)
                edge.turn()
            client.close()
            edge.until(lambda: edge.gateway.connections == 1)
            kinds = [event[0] for event in edge.events]
            assert kinds == sorted(kinds)
            assert kinds.count(CLOSED) == 1
            edge.events.clear()
            edge.clients.remove(client)
        steady.frame(1, b"unharmed")
        assert edge.next(MESSAGE)[2] == b"unharmed"
