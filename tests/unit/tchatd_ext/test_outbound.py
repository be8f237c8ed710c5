"""Owns the cases of shared frames and of consumers that are too slow."""

from __future__ import annotations

import gc
import itertools
import threading

import pytest

from tchatd_ext.frame_py import FrameDecoder, encode
from tchatd_ext.gateway import Frame
from tests.support.edge import Client, Edge

GAP = b'{"op":"gap"}'


def server_frames(data: bytes) -> list[tuple[int, bytes]]:
    """Split what a server sent; raises when a frame is cut or malformed."""
    frames = []
    while data:
        size = data[1]
        at = 2
        if size == 126:
            size, at = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, at = int.from_bytes(data[2:10], "big"), 10
        assert len(data) >= at + size, "a frame is cut"
        frames.append((data[0] & 15, data[at : at + size]))
        data = data[at + size :]
    return frames


def fill(edge: Edge, number: int, count: int, size: int = 5000) -> None:
    for at in range(count):
        edge.gateway.queue(number, Frame(b"%06d" % at + bytes(size - 6)))
        edge.gateway.flush()


def read_all(edge: Edge, client: Client, last: bytes) -> list[tuple[int, bytes]]:
    return server_frames(client.receive(lambda data: data.endswith(last)))


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_a_frame_is_encoded_as_its_length_asks(size: int) -> None:
    frame = Frame(bytes(size), binary=True)
    assert frame.size == size
    with Edge(queue_bytes_max=1 << 20) as edge:
        client, number = edge.websocket()
        edge.gateway.queue(number, frame)
        edge.gateway.flush()
        expected = encode(2, bytes(size))
        assert client.receive_size(len(expected)) == expected


def test_a_frame_may_die_while_it_is_queued_and_in_another_thread() -> None:
    with Edge() as edge:
        pairs = [edge.websocket() for _ in range(20)]
        numbers = [number for _, number in pairs]
        frames = [Frame(b"x" * 1000)]
        edge.gateway.fan_out(numbers, frames[0])
        thread = threading.Thread(target=frames.clear)
        thread.start()
        thread.join()
        gc.collect()
        edge.gateway.flush()
        for client, _ in pairs:
            assert client.receive_size(1004) == encode(1, b"x" * 1000)


def test_queued_messages_leave_in_one_call_each_connection() -> None:
    with Edge() as edge:
        pairs = [edge.websocket() for _ in range(10)]
        numbers = [number for _, number in pairs]
        before = edge.gateway.statistics()["sends"]
        for at in range(16):
            edge.gateway.fan_out(numbers, Frame(b"%02d" % at))
        edge.gateway.flush()
        assert edge.gateway.statistics()["sends"] - before == 10
        expected = b"".join(encode(1, b"%02d" % at) for at in range(16))
        for client, _ in pairs:
            assert client.receive_size(len(expected)) == expected


def test_a_slow_consumers_queue_becomes_one_gap_and_no_frame_is_cut() -> None:
    with Edge() as edge:
        client, number = edge.websocket(receive_bytes=65536)
        fill(edge, number, 2000)
        assert edge.gateway.statistics()["gaps"] > 0
        described = edge.gateway.describe(number)
        assert described is not None
        assert int(str(described["queue_bytes"])) <= 65536 + 5004
        edge.gateway.queue(number, Frame(b"end"))
        frames = read_all(edge, client, b"end")
        payloads = [payload for _, payload in frames]
        assert GAP in payloads
        assert payloads[-1] == b"end"
        numbers = [int(one[:6]) for one in payloads if one not in (GAP, b"end")]
        assert numbers == sorted(numbers)
        for before, after in itertools.pairwise(payloads):
            if GAP not in (before, after) and after != b"end":
                assert int(after[:6]) == int(before[:6]) + 1, "a hole without a gap"


def test_a_message_pack_consumer_gets_the_gap_in_its_own_tongue() -> None:
    with Edge() as edge:
        client, number = edge.websocket(receive_bytes=65536, msgpack=True)
        fill(edge, number, 2000)
        edge.gateway.queue(number, Frame(b"end"))
        frames = read_all(edge, client, b"end")
        assert (2, b"\x81\xa2op\xa3gap") in frames
        assert GAP not in [payload for _, payload in frames]


def test_a_slow_consumer_is_closed_with_4008_when_the_setting_says_so() -> None:
    with Edge(slow_consumer="close") as edge:
        client, number = edge.websocket(receive_bytes=65536)
        fill(edge, number, 2000)
        assert edge.closed() == (4008, "slow consumer")
        assert not edge.gateway.queue(number, Frame(b"x"))
        frames = server_frames(client.receive(lambda data: b"slow consumer" in data))
        assert frames[-1] == (8, b"\x0f\xa8slow consumer")
        client.frame(8, b"\x0f\xa8")
        client.receive_end()
        assert edge.events == []


def test_a_slow_consumer_that_never_reads_is_dropped() -> None:
    with Edge(slow_consumer="close", close_s=0.1) as edge:
        _, number = edge.websocket(receive_bytes=65536)
        fill(edge, number, 2000)
        assert edge.closed() == (4008, "slow consumer")
        edge.until(lambda: edge.gateway.connections == 0)
        assert edge.events == []


def test_many_small_frames_queued_before_a_flush_are_sent_not_dropped() -> None:
    with Edge() as edge:
        client, number = edge.websocket()
        payload = b"y" * 500
        for _ in range(400):
            edge.gateway.queue(number, Frame(payload))
        edge.gateway.flush()
        assert edge.gateway.statistics()["gaps"] == 0
        read = client.receive_size(400 * 504)
        assert server_frames(read) == [(1, payload)] * 400


def test_pings_of_a_peer_that_does_not_read_are_not_hoarded() -> None:
    with Edge() as edge:
        client, number = edge.websocket(receive_bytes=65536)
        fill(edge, number, 2000)
        client.socket.setblocking(False)
        for _ in range(2000):
            try:
                client.frame(9, bytes(125))
            except BlockingIOError:
                break
            edge.turn()
        described = edge.gateway.describe(number)
        assert described is not None
        assert int(str(described["queue_bytes"])) < 65536 + 5004 + 127


def test_a_partial_ping_is_no_message() -> None:
    decoder = FrameDecoder(message_bytes_max=125)
    assert decoder.feed(encode(9, b"abc", mask=b"1234")[:-1]) == []
