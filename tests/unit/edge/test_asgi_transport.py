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


def sending(transport: AsgiTransport) -> tuple[int, AsgiConnection]:
    """A connection whose writer waits for its reader to take a first message."""
    state = AsgiConnection(is_msgpack=False)
    number = transport.opened(state)
    assert transport.queue(number, b"first")
    assert state.next() == b"first"
    return number, state


@pytest.mark.parametrize(
    "limit", [{"queue_bytes_max": 100}, {"queue_messages_max": 11}]
)
def test_a_slow_consumer_gets_one_gap_for_what_it_lost(limit: Any) -> None:
    slow = transport(**limit)
    number, state = sending(slow)

    taken = [slow.queue(number, b"x" * 10) for _ in range(16)]

    assert taken == [True] * 11 + [False] + [True] * 4
    assert list(state.frames) == [b'{"op":"gap"}'] + [b"x" * 10] * 4
    assert state.size == 12 + 40


def test_or_a_slow_consumer_is_closed() -> None:
    slow = transport(queue_bytes_max=100, slow_consumer="close")
    number, state = sending(slow)

    for _ in range(15):
        slow.queue(number, b"x" * 10)

    assert state.closing == (4008, "slow consumer")
    assert state.next() is None


def test_what_is_queued_before_the_writer_had_its_turn_is_not_too_much() -> None:
    one = transport()
    state = AsgiConnection(is_msgpack=False)
    number = one.opened(state)
    many = [b"x" * 150_000, b"x" * 22, b"x" * 150_000, *[b"x" * 1_000] * 100]

    assert all(one.queue(number, frame) for frame in many)
    assert [state.next() for _ in many] == many
    assert one.queue(number, b"behind the last")
    assert [state.next(), state.next()] == [b"behind the last", None]


def test_one_message_however_large_is_not_too_much_behind_another() -> None:
    one = transport()
    number, state = sending(one)

    assert one.queue(number, b"x" * 22)
    assert one.queue(number, b"x" * 150_000)
    assert one.queue(number, b"x" * 22)
    assert not one.queue(number, b"x" * 150_000)
    assert state.next() == b'{"op":"gap"}'


def test_a_gap_stands_for_all_that_is_not_partly_sent() -> None:
    slow = transport(queue_bytes_max=100)
    state = AsgiConnection(is_msgpack=False)
    number = slow.opened(state)
    for frame in (b"partly sent", b"whole"):
        slow.queue(number, frame)
    assert state.next() == b"partly sent"

    for _ in range(12):
        slow.queue(number, b"x" * 10)

    assert [state.next(), state.next()] == [b'{"op":"gap"}', None]


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
