"""Owns the cases of timers, limits and floods over real sockets."""

from __future__ import annotations

import os
import resource
import socket
import time

from tchatd_ext.frame_py import encode
from tchatd_ext.gateway import REQUEST, Frame
from tests.support.edge import MASK, Edge

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def lifetime_s(edge: Edge) -> float:
    started = time.monotonic()
    edge.until(lambda: edge.gateway.connections == 0)
    return time.monotonic() - started


def connect(edge: Edge, count: int, data: bytes = b"") -> None:
    for _ in range(count):
        client = edge.client()
        if data:
            client.send(data)
    edge.until(lambda: edge.gateway.connections >= count)


# --- timers ---------------------------------------------------------------------------


def test_a_connection_that_says_nothing_is_dropped() -> None:
    with Edge(handshake_s=0.1) as edge:
        client = edge.client()
        edge.until(lambda: edge.gateway.connections == 1)
        assert 0.05 < lifetime_s(edge) < 2
        assert client.receive_end() == b""
        assert edge.events == []


def test_a_head_that_trickles_is_told_408() -> None:
    with Edge(handshake_s=0.2) as edge:
        client = edge.client()
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        started = time.monotonic()
        for byte in GET[:20]:
            client.send(bytes((byte,)))
            edge.turns(0.02)
            if edge.gateway.statistics()["timeouts"]:
                break
        assert client.receive_end().startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - started < 2
        assert edge.events == []


def test_a_body_that_does_not_come_is_told_408() -> None:
    with Edge(request_s=0.1) as edge:
        client = edge.client().send(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc"
        )
        assert client.receive_end().startswith(b"HTTP/1.1 408 ")
        assert edge.events == []


def test_an_idle_keep_alive_connection_is_closed_quietly() -> None:
    with Edge(idle_s=0.1) as edge:
        client = edge.client().send(GET)
        edge.gateway.respond(edge.request().connection, 200, b"", b"ok")
        assert client.receive_end().endswith(b"\r\n\r\nok")
        assert edge.events == []


def test_a_request_outstanding_has_no_deadline_here() -> None:
    with Edge(idle_s=0.05, handshake_s=0.05, request_s=0.05) as edge:
        client = edge.client().send(GET)
        request = edge.request()
        edge.turns(0.2)
        assert edge.gateway.respond(request.connection, 200, b"", b"late")
        assert client.receive_end().endswith(b"late")


def test_an_answer_nobody_reads_is_given_up() -> None:
    with Edge(write_s=0.1) as edge:
        edge.client(receive_bytes=4096).send(GET)
        edge.gateway.respond(edge.request().connection, 200, b"", bytes(16 << 20))
        assert lifetime_s(edge) < 2


def test_an_unauthenticated_websocket_is_closed_with_1008() -> None:
    with Edge(handshake_s=0.1, close_s=0.1) as edge:
        client, _ = edge.websocket(authenticated=False)
        assert edge.closed() == (1008, "authentication timeout")
        assert client.receive_end()[2:4] == (1008).to_bytes(2, "big")


def test_a_quiet_websocket_is_pinged_and_lives_while_it_pongs() -> None:
    with Edge(ping_interval_s=0.1, pong_timeout_s=0.1) as edge:
        client, _ = edge.websocket()
        for _ in range(4):
            assert client.receive_size(2)[:2] == encode(9, b"")
            client.frame(10)
        assert edge.events == []
        assert edge.gateway.statistics()["pings"] == 4


def test_a_websocket_that_does_not_pong_is_dropped() -> None:
    with Edge(ping_interval_s=0.1, pong_timeout_s=0.1) as edge:
        client, _ = edge.websocket()
        assert client.receive_size(2) == encode(9, b"")
        assert edge.closed() == (1006, "ping timeout")
        assert client.receive_end() == b""


def test_a_busy_websocket_is_not_pinged() -> None:
    with Edge(ping_interval_s=0.2, pong_timeout_s=0.1) as edge:
        client, _ = edge.websocket()
        for _ in range(12):
            client.frame(1, b"x")
            edge.turns(0.04)
        assert edge.gateway.statistics()["pings"] == 0


def test_a_paused_websocket_is_not_dropped_for_pongs_nobody_reads() -> None:
    with Edge(ping_interval_s=0.05, pong_timeout_s=0.05) as edge:
        client, number = edge.websocket()
        edge.gateway.pause(number)
        edge.turns(0.4)
        assert edge.gateway.describe(number) is not None
        client.frame(10).frame(1, b"back")
        edge.gateway.resume(number)
        assert edge.message() == (b"back", True)


def test_nothing_ticks_without_connections() -> None:
    with Edge(handshake_s=0.05) as edge:
        edge.client()
        edge.until(lambda: edge.gateway.connections == 1)
        edge.until(lambda: edge.gateway.connections == 0)
        edge.turns(0.05)
        turns = 0
        deadline = time.monotonic() + 0.1
        while time.monotonic() < deadline:
            edge.turn(0.1)
            turns += 1
        assert turns <= 2


# --- limits and floods ----------------------------------------------------------------


def test_one_connection_too_many_is_told_503() -> None:
    with Edge(connections_max=2) as edge:
        connect(edge, 2)
        late = edge.client()
        edge.until(lambda: edge.gateway.statistics()["refused_total"] == 1)
        assert late.receive_end().startswith(b"HTTP/1.1 503 ")
        edge.clients[0].close()
        edge.until(lambda: edge.gateway.connections == 1)
        edge.client().send(GET)
        edge.request()


def test_one_address_cannot_take_all_connections() -> None:
    with Edge(connections_per_address_max=2) as edge:
        connect(edge, 2)
        edge.client()
        edge.until(lambda: edge.gateway.statistics()["refused_address"] == 1)
        other = socket.socket()
        other.bind(("127.0.0.2", 0))
        other.connect(edge.address)
        edge.until(lambda: edge.gateway.connections == 3)
        other.close()
        edge.until(lambda: edge.gateway.connections == 2)
        edge.clients[0].close()
        edge.until(lambda: edge.gateway.connections == 1)
        edge.client().send(GET)
        edge.request()


def test_a_thousand_half_open_connections_do_not_stop_a_new_one() -> None:
    with Edge() as edge:
        connect(edge, 1000, b"GET / HT")
        started = time.monotonic()
        client = edge.client().send(GET)
        edge.gateway.respond(edge.request().connection, 200, b"", b"ok")
        assert client.receive_head().endswith(b"ok")
        assert time.monotonic() - started < 1
        assert edge.gateway.connections == 1001


def test_running_out_of_descriptors_rests_the_listener_and_recovers() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Edge() as edge:
        steady, number = edge.websocket()
        waiting = edge.client()
        lowest_free = os.dup(0)
        os.close(lowest_free)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
            edge.until(lambda: edge.gateway.statistics()["accept_errors"] > 0)
            errors = edge.gateway.statistics()["accept_errors"]
            turns = 0
            deadline = time.monotonic() + 0.1
            while time.monotonic() < deadline:
                edge.turn(0.1)
                turns += 1
            assert turns < 20
            assert edge.gateway.statistics()["accept_errors"] <= errors + 1
            steady.frame(1, b"served meanwhile")
            assert edge.message() == (b"served meanwhile", True)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        waiting.send(GET)
        assert edge.request().path == "/"
        assert edge.gateway.queue(number, Frame(b"x"))


def test_connections_that_are_reset_leave_nothing_behind() -> None:
    with Edge() as edge:
        for _ in range(3):
            for _ in range(50):
                client = edge.client().send(GET)
                client.socket.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0" + bytes(4)
                )
                client.close()
            edge.turns(0.05)
            requests = [event for event in edge.events if event[0] == REQUEST]
            for event in requests:
                edge.gateway.respond(event[1], 200, b"", b"x")
            edge.events.clear()
            edge.until(lambda: edge.gateway.connections == 0)
        assert edge.gateway.statistics()["slot_bytes"] <= 256 * 400


def test_idle_websockets_cost_little_memory() -> None:
    with Edge() as edge:
        client, number = edge.websocket()
        client.frame(1, bytes(60_000))
        edge.message()
        edge.gateway.queue(number, Frame(bytes(1000)))
        edge.turn()
        edge.gateway.flush()
        described = edge.gateway.describe(number)
        assert described is not None
        assert (described["queue_bytes"], described["input_bytes"]) == (0, 0)
        assert edge.gateway.statistics()["slot_bytes"] // 256 < 400


def test_a_slow_reader_does_not_delay_a_fast_one() -> None:
    with Edge(queue_bytes_max=1 << 20) as edge:
        _, slow = edge.websocket(receive_bytes=4096)
        fast, number = edge.websocket()
        frame = Frame(bytes(10_000))
        for _ in range(1000):
            edge.gateway.fan_out([slow, number], frame)
            edge.gateway.flush()
            assert len(fast.receive_size(10_004)) == 10_004
        described = edge.gateway.describe(slow)
        assert described is not None
        assert described["blocked"]
        statistics = edge.gateway.statistics()
        assert statistics["blocked"] == 1
        assert statistics["queued_bytes"] == described["queue_bytes"]


def test_accepted_sockets_do_not_delay_small_frames() -> None:
    with Edge() as edge:
        before = {int(name) for name in os.listdir("/proc/self/fd")}
        client, _ = edge.websocket()
        after = {int(name) for name in os.listdir("/proc/self/fd")}
        delays = []
        for descriptor in after - before - {client.socket.fileno()}:
            try:
                accepted = socket.socket(fileno=os.dup(descriptor))
            except OSError:
                continue
            with accepted:
                option = (socket.IPPROTO_TCP, socket.TCP_NODELAY)
                delays.append(accepted.getsockopt(*option))
        assert delays == [1]
        client.send(encode(1, b"x", mask=MASK))
        assert edge.message() == (b"x", True)
