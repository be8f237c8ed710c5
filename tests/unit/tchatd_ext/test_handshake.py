"""Owns the cases of the WebSocket opening handshake's headers."""

from __future__ import annotations

import time

import pytest

from tchatd_ext.handshake import (
    accept_key,
    key_valid,
    negotiate_deflate,
    subprotocols,
)

BASE = b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"


def test_the_accept_key_is_the_rfcs_example() -> None:
    accept = accept_key(b"dGhlIHNhbXBsZSBub25jZQ==")
    assert accept == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize(
    ("key", "valid"),
    [
        (b"dGhlIHNhbXBsZSBub25jZQ==", True),
        (b"dGhlIHNhbXBsZSBub25jZQ=", False),
        (b"dGhlIHNhbXBsZSBub25jZQ", False),
        (b"dGhlIHNhbXBsZSBub25j!Q==", False),
        (b"AAAAAAAAAAAAAAAAAAAAAAAA", False),
        (b"", False),
    ],
)
def test_a_key_is_sixteen_bytes_in_base64(key: bytes, valid: bool) -> None:
    assert key_valid(key) is valid


@pytest.mark.parametrize(
    ("offers", "answer"),
    [
        (b"permessage-deflate", (BASE, 15)),
        (b"permessage-deflate; client_max_window_bits", (BASE, 15)),
        (b"permessage-deflate;client_max_window_bits=10", (BASE, 15)),
        (
            b'permessage-deflate; server_max_window_bits="9"',
            (BASE + b"; server_max_window_bits=9", 9),
        ),
        (
            b"permessage-deflate; server_max_window_bits=15; "
            b"client_no_context_takeover; server_no_context_takeover",
            (BASE + b"; server_max_window_bits=15", 15),
        ),
        (b"x-webkit-deflate-frame, permessage-deflate", (BASE, 15)),
        # Declined offers fall through to the next one.
        (
            b"permessage-deflate; server_max_window_bits=8, permessage-deflate",
            (BASE, 15),
        ),
        (b"permessage-deflate; server_max_window_bits", None),
        (b"permessage-deflate; server_max_window_bits=16", None),
        (b"permessage-deflate; server_max_window_bits=09", None),
        (b"permessage-deflate; client_max_window_bits=7", None),
        (b"permessage-deflate; server_no_context_takeover=1", None),
        (b"permessage-deflate; unknown", None),
        (
            b"permessage-deflate; client_max_window_bits; client_max_window_bits",
            None,
        ),
        (b"permessage-deflate;;", None),
        (b"permessage-deflate foo", None),
        (b"permessage-bzip2", None),
        (b"", None),
    ],
)
def test_deflate_is_negotiated(offers: bytes, answer: tuple[bytes, int] | None) -> None:
    assert negotiate_deflate(offers) == answer


@pytest.mark.parametrize("noise", [b" ", b"\t", b"a;", b"a,", b";", b"a;b=c ", b"="])
def test_a_long_header_of_noise_is_declined_at_once(noise: bytes) -> None:
    started = time.perf_counter()
    assert negotiate_deflate(b"a" + noise * 16000) is None
    assert time.perf_counter() - started < 1


def test_subprotocols_keep_the_clients_order() -> None:
    assert subprotocols([b"a, b", b"c,,"]) == ("a", "b", "c")
