"""Queues of WebSocket connections over ASGI: bounds, gaps, closes."""

from __future__ import annotations

from typing import Any

import pytest

from tchatd.edge.asgi_transport import AsgiConnection, AsgiTransport


def transport(**settings: Any) -> AsgiTransport:
    bounds: dict[str, Any] = {
        "queue_bytes_max": 65_536,
        "queue_messages_max": 1_024,
        "slow_consumer": "gap",
    }
    return AsgiTransport(**bounds | settings)


@pytest.mark.parametrize(
    "limit", [{"queue_bytes_max": 100}, {"queue_messages_max": 10}]
)
def test_a_slow_consumer_gets_one_gap_for_what_it_lost(limit: Any) -> None:
    slow = transport(**limit)
    state = AsgiConnection(is_msgpack=False)
    number = slow.opened(state)

    taken = [slow.queue(number, b"x" * 10) for _ in range(15)]

    assert taken == [True] * 10 + [False] + [True] * 4
    assert list(state.frames) == [b'{"op":"gap"}'] + [b"x" * 10] * 4
    assert state.size == 12 + 40


def test_or_a_slow_consumer_is_closed() -> None:
    slow = transport(queue_bytes_max=100, slow_consumer="close")
    state = AsgiConnection(is_msgpack=False)
    number = slow.opened(state)

    for _ in range(15):
        slow.queue(number, b"x" * 10)

    assert state.closing == (4008, "slow consumer")
    assert not state.frames


def test_dead_numbers_do_nothing_and_live_ones_are_negative() -> None:
    one = transport()
    number = one.opened(AsgiConnection(is_msgpack=False))
    assert number < 0

    assert one.fan_out([number, -99, 5], b"x") == 1
    assert not one.close(-99, 1001)
    assert one.close(number, 1001)
    assert not one.close(number, 1001)
    assert not one.queue(number, b"x")
    one.pause(-99)
    one.resume(-99)
