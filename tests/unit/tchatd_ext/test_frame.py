"""Owns the codec's suite: every case runs against `frame` and its twin `frame_py`."""

from __future__ import annotations

import itertools
import os
import random
import time
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tchatd_ext import frame, frame_py

MASK = b"\x37\xfa\x21\x3d"
TEXT, BINARY, CLOSE, PING, PONG, FAILED = 1, 2, 8, 9, 10, 255
FUZZ_S = float(os.environ.get("TCHATD_FUZZ_SECONDS", "10")) / 5

Event = tuple[int, bytes, int]


Codec = Any
"""A module: `frame` or its twin."""

C: Codec = frame
PYTHON: Codec = frame_py


@pytest.fixture(params=[C, PYTHON], ids=["c", "python"])
def codec(request: pytest.FixtureRequest) -> Codec:
    return request.param


def masked(opcode: int, payload: bytes = b"", **options: Any) -> bytes:
    return frame_py.encode(opcode, payload, mask=MASK, **options)


def decode(
    codec: Codec, data: bytes, *, size_max: int = 1 << 16, deflate: bool = False
) -> list[Event]:
    decoder = codec.FrameDecoder(message_bytes_max=size_max, deflate=deflate)
    events: list[Event] = decoder.feed(data)
    return events


def decode_bytewise(
    codec: Codec, data: bytes, *, size_max: int = 1 << 16, deflate: bool = False
) -> list[Event]:
    decoder = codec.FrameDecoder(message_bytes_max=size_max, deflate=deflate)
    return [event for byte in data for event in decoder.feed(bytes((byte,)))]


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 125, 126, 127, 65535, 65536, 70001])
def test_a_message_of_any_length_form_arrives(codec: Codec, size: int) -> None:
    payload = bytes(at % 251 for at in range(size))
    data = codec.encode(BINARY, payload, mask=MASK)
    assert decode(codec, data, size_max=1 << 17) == [(BINARY, payload, 0)]
    assert data == frame_py.encode(BINARY, payload, mask=MASK)


def test_a_masked_hello_is_the_rfcs_example(codec: Codec) -> None:
    data = bytes.fromhex("818537fa213d7f9f4d5158")
    assert codec.encode(TEXT, b"Hello", mask=MASK) == data
    assert decode(codec, data) == [(TEXT, b"Hello", 0)]


def test_messages_cut_at_every_byte_arrive_whole(codec: Codec) -> None:
    data = (
        masked(TEXT, "chào ไทย 😀".encode())
        + masked(TEXT, b"one ", fin=False)
        + masked(PING, b"between")
        + masked(0, b"", fin=False)
        + masked(0, b"two")
        + masked(BINARY, bytes(300))
        + masked(CLOSE, b"\x03\xe8bye")
    )
    expected = [
        (TEXT, "chào ไทย 😀".encode(), 0),
        (PING, b"between", 0),
        (TEXT, b"one two", 0),
        (BINARY, bytes(300), 0),
        (CLOSE, b"bye", 1000),
    ]
    assert decode(codec, data) == expected
    assert decode_bytewise(codec, data) == expected


VIOLATIONS = {
    "unmasked": (b"\x81\x02hi", 1002),
    "rsv1 without deflate": (masked(TEXT, compressed=True), 1002),
    "rsv2": (b"\xa1\x80" + MASK, 1002),
    "rsv3": (b"\x91\x80" + MASK, 1002),
    "opcode 3": (masked(3), 1002),
    "opcode 7": (masked(7), 1002),
    "opcode 11": (masked(11), 1002),
    "opcode 15": (masked(15), 1002),
    "fragmented ping": (masked(PING, fin=False), 1002),
    "long ping": (masked(PING, bytes(126)), 1002),
    "continuation of nothing": (masked(0, b"x"), 1002),
    "message in a message": (masked(TEXT, fin=False) + masked(TEXT), 1002),
    "length 125 in 16 bits": (b"\x82\xfe\x00\x7d" + MASK, 1002),
    "length 65535 in 64 bits": (b"\x82\xff" + (65535).to_bytes(8, "big") + MASK, 1002),
    "negative length": (b"\x82\xff\x80" + bytes(7) + MASK, 1002),
    "too big": (b"\x82\xff" + (1 << 40).to_bytes(8, "big") + MASK, 1009),
    "too big in sum": (
        masked(BINARY, bytes(60000), fin=False) + masked(0, bytes(5537)),
        1009,
    ),
    "close of one byte": (masked(CLOSE, b"\x03"), 1002),
    "close reason not UTF-8": (masked(CLOSE, b"\x03\xe8\xff"), 1007),
    "text not UTF-8": (masked(TEXT, b"ok\xc0\xaf"), 1007),
    "surrogate": (masked(TEXT, b"\xed\xa0\x80"), 1007),
    "above U+10FFFF": (masked(TEXT, b"\xf4\x90\x80\x80"), 1007),
    "text cut in a code point": (masked(TEXT, b"\xe0\xb8"), 1007),
    "fragments cut in a code point": (
        masked(TEXT, b"\xe0", fin=False) + masked(0, b"\xb8"),
        1007,
    ),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_violation_fails_the_connection(codec: Codec, name: str) -> None:
    data, code = VIOLATIONS[name]
    for events in (decode(codec, data), decode_bytewise(codec, data)):
        assert [event[0] for event in events] == [FAILED]
        assert events[0][2] == code
        assert events[0][1]


def test_both_twins_judge_every_first_byte_alike() -> None:
    for first, second in itertools.product(range(256), (0, 0x80, 0xFD, 0xFE, 0xFF)):
        data = bytes((first, second)) + MASK + bytes(140)
        for deflate in (False, True):
            c = decode(C, data, deflate=deflate)
            assert c == decode(PYTHON, data, deflate=deflate)


def test_close_codes_are_those_that_may_be_sent(codec: Codec) -> None:
    allowed = {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}
    for code in range(65536):
        (event,) = decode(codec, masked(CLOSE, code.to_bytes(2, "big")))
        expected = (CLOSE, code) if code in allowed else (FAILED, 1002)
        assert (event[0], event[2]) == expected


def test_a_close_without_a_code_is_1005(codec: Codec) -> None:
    assert decode(codec, masked(CLOSE)) == [(CLOSE, b"", 1005)]


def test_bad_utf8_is_seen_at_its_first_byte(codec: Codec) -> None:
    data = codec.encode(TEXT, "κόσμε".encode() + b"\xed\xa0" + bytes(50), mask=MASK)
    decoder = codec.FrameDecoder(message_bytes_max=1000)
    seen = [at for at in range(len(data)) if decoder.feed(data[at : at + 1])]
    assert seen == [6 + len("κόσμε".encode()) + 1]


def test_nothing_is_read_after_a_failure(codec: Codec) -> None:
    decoder = codec.FrameDecoder(message_bytes_max=1000)
    assert decoder.feed(masked(3))[0][0] == FAILED
    assert decoder.feed(masked(TEXT, b"hi")) == []


def test_events_before_a_violation_are_kept(codec: Codec) -> None:
    kinds = [event[0] for event in decode(codec, masked(TEXT, b"hi") + masked(4))]
    assert kinds == [TEXT, FAILED]


# --- permessage-deflate ---------------------------------------------------------------


@pytest.mark.parametrize("bits", range(9, 16))
def test_a_compressed_message_comes_back(codec: Codec, bits: int) -> None:
    payload = "xin chào, สวัสดี ".encode() * 100
    data = codec.compress(payload, bits)
    assert data is not None
    assert len(data) < len(payload)
    sent = masked(TEXT, data, compressed=True)
    assert decode(codec, sent, deflate=True) == [(TEXT, payload, 0)]
    assert decode_bytewise(codec, sent, deflate=True) == [(TEXT, payload, 0)]


def test_what_does_not_shrink_is_not_compressed(codec: Codec) -> None:
    assert codec.compress(random.Random(1).randbytes(500)) is None
    assert codec.compress(b"") is None


RFC7692 = {
    "7.2.3.1": "f248cdc9c90700",
    "7.2.3.3 no compression": "000500faff48656c6c6f00",
    "7.2.3.4 BFINAL": "f348cdc9c9070000",
    "7.2.3.5 two blocks": "f248050000 00ffffcac9c90700".replace(" ", ""),
}


@pytest.mark.parametrize("name", RFC7692)
def test_the_rfcs_examples_inflate(codec: Codec, name: str) -> None:
    sent = masked(TEXT, bytes.fromhex(RFC7692[name]), compressed=True)
    assert decode(codec, sent, deflate=True) == [(TEXT, b"Hello", 0)]


def test_fragments_of_a_compressed_message_are_inflated_together(codec: Codec) -> None:
    payload = b"a" * 10000
    data = frame_py.compress(payload)
    assert data is not None
    sent = (
        masked(BINARY, data[:3], compressed=True, fin=False)
        + masked(PING)
        + masked(0, data[3:])
        + masked(BINARY, b"plain")
    )
    events = [(PING, b"", 0), (BINARY, payload, 0), (BINARY, b"plain", 0)]
    assert decode(codec, sent, deflate=True) == events


def test_a_bomb_is_too_big(codec: Codec) -> None:
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = stream.compress(bytes(50 << 20)) + stream.flush(zlib.Z_SYNC_FLUSH)
    assert len(data) < 1 << 16
    (event,) = decode(codec, masked(BINARY, data[:-4], compressed=True), deflate=True)
    assert (event[0], event[2]) == (FAILED, 1009)


@pytest.mark.parametrize("size", [65536, 65537])
def test_the_limit_counts_what_is_inflated(codec: Codec, size: int) -> None:
    data = frame_py.compress(bytes(size))
    assert data is not None
    (event,) = decode(codec, masked(BINARY, data, compressed=True), deflate=True)
    assert event[2] == (0 if size == 65536 else 1009)


BROKEN = {
    "noise": b"\xff\xfe\xfd",
    "cut in a block": bytes.fromhex("f248cdc9"),
    "stored block cut short": bytes.fromhex("000500faff4865"),
    "seventeen streams": b"\x03\x00" * 17,
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_compression_is_1007(codec: Codec, name: str) -> None:
    sent = masked(BINARY, BROKEN[name], compressed=True)
    (event,) = decode(codec, sent, deflate=True)
    assert (event[0], event[2]) == (FAILED, 1007)


def test_compressed_text_must_be_utf8(codec: Codec) -> None:
    data = frame_py.compress(b"\xff" * 100)
    assert data is not None
    (event,) = decode(codec, masked(TEXT, data, compressed=True), deflate=True)
    assert (event[0], event[2]) == (FAILED, 1007)


def test_a_continuation_must_not_have_rsv1(codec: Codec) -> None:
    sent = masked(TEXT, b"x", fin=False) + masked(0, b"y", compressed=True)
    (event,) = decode(codec, sent, deflate=True)
    assert (event[0], event[2]) == (FAILED, 1002)


# --- encoding -------------------------------------------------------------------------


def test_a_close_reason_is_cut_at_a_code_point(codec: Codec) -> None:
    data = codec.encode_close(4001, "ก" * 60)
    assert len(data) == 2 + 2 + 123
    assert data[4:].decode() == "ก" * 41
    with pytest.raises(ValueError, match="1005"):
        codec.encode_close(1005)


def test_arguments_out_of_range_are_refused(codec: Codec) -> None:
    with pytest.raises(ValueError, match="opcode"):
        codec.encode(16, b"")
    with pytest.raises(ValueError, match="mask"):
        codec.encode(1, b"", mask=b"abc")
    with pytest.raises(ValueError, match="window_bits"):
        codec.compress(b"", 8)
    with pytest.raises(ValueError, match="message_bytes_max"):
        codec.FrameDecoder(message_bytes_max=124)


# --- properties -----------------------------------------------------------------------

piece = st.tuples(
    st.sampled_from([TEXT, BINARY, PING, PONG]), st.text(max_size=40), st.booleans()
)


@settings(max_examples=200, deadline=None)
@given(st.lists(piece, max_size=8), st.lists(st.integers(1, 30), min_size=1))
def test_any_cut_of_good_frames_gives_the_same_events(
    pieces: list[tuple[int, str, bool]], cuts: list[int]
) -> None:
    data = b""
    expected = []
    for opcode, text, split in pieces:
        payload = text.encode()[: 125 if opcode > 2 else None]
        half = len(payload) // 2 if split and opcode <= 2 else None
        if half is None:
            data += masked(opcode, payload)
        else:
            data += masked(opcode, payload[:half], fin=False)
            data += masked(0, payload[half:])
        expected.append((opcode, payload, 0))
    for module in (frame, frame_py):
        decoder = module.FrameDecoder(message_bytes_max=1000)
        events: list[Event] = []
        at = turn = 0
        while at < len(data):
            cut = cuts[turn % len(cuts)]
            events += decoder.feed(data[at : at + cut])
            at, turn = at + cut, turn + 1
        assert events == expected


def random_stream(source: random.Random) -> bytes:
    """Mostly frames, some of them bent, so that deep states are reached."""
    data = bytearray()
    for _ in range(source.randrange(1, 8)):
        payload = source.choice(
            [
                source.randbytes(source.randrange(0, 200)),
                ("ทดสอบ😀" * source.randrange(0, 9)).encode(),
                frame_py.compress(b"abc" * source.randrange(1, 90)) or b"\x00",
            ]
        )
        opcode = source.choice([0, 0, 1, 1, 2, 2, 8, 9, 10, source.randrange(16)])
        data += frame_py.encode(
            opcode,
            payload[:125] if opcode >= 8 and source.random() < 0.9 else payload,
            fin=source.random() < 0.6,
            compressed=source.random() < 0.3,
            mask=source.randbytes(4) if source.random() < 0.98 else None,
        )
    for _ in range(source.choice([0, 0, 0, 1, 2, 5])):
        data[source.randrange(len(data))] = source.randrange(256)
    return bytes(data)


def test_fuzzed_streams_are_judged_alike_by_both_twins() -> None:
    source = random.Random(20261124)
    until = time.monotonic() + FUZZ_S
    runs = 0
    while time.monotonic() < until:
        data = random_stream(source)
        deflate = source.random() < 0.7
        size_max = source.choice([125, 300, 1 << 16])
        c = frame.FrameDecoder(message_bytes_max=size_max, deflate=deflate)
        python = frame_py.FrameDecoder(message_bytes_max=size_max, deflate=deflate)
        cut = source.randrange(len(data) + 1)
        for part in (data[:cut], data[cut:]):
            assert c.feed(part) == python.feed(part), (runs, data.hex(), cut)
        runs += 1
    assert runs > 100
