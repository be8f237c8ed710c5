"""Many sockets, slow ones, and ones that never finish: the others notice nothing."""

from __future__ import annotations

import json
import socket

import httpx
import pytest
import trio

from tests.support.client import sign_in
from tests.support.daemon import Daemon
from tests.support.raw import RawSocket, serve_all
from tests.support.settings import ROOMY

pytestmark = [pytest.mark.service, pytest.mark.slow]

IDLE = 10_000
HALF_OPEN = 1_000
PING_S = 4


async def test_ten_thousand_idle_sockets_stay_up_through_ping_cycles() -> None:
    daemon = Daemon(
        ROOMY
        | {
            "GATEWAY_PING_INTERVAL_S": str(PING_S),
            "GATEWAY_PONG_TIMEOUT_S": str(PING_S),
        }
    )
    sockets: list[RawSocket] = []
    try:
        daemon.start()
        async with sign_in(daemon, "+66811111111") as person:
            token = person.access_token
            for _ in range(IDLE):
                sockets.append(RawSocket(daemon.port).upgrade(token))
                if len(sockets) % 1_000 == 0:
                    serve_all(sockets, 0.01)
            serve_all(sockets, 3.5 * PING_S)
            assert not any(raw.closed for raw in sockets)
            assert min(raw.pings for raw in sockets) >= 2
            assert daemon.console("status")["connections"] >= IDLE
            assert (await person.http.get("/users/profile")).status_code == 200
    finally:
        for raw in sockets:
            raw.close()
        daemon.remove()


async def test_handshakes_that_never_finish_do_not_stop_new_ones() -> None:
    daemon = Daemon(ROOMY)
    sockets: list[socket.socket] = []
    try:
        daemon.start()
        async with sign_in(daemon, "+66811111111") as person:
            for number in range(HALF_OPEN):
                half = socket.create_connection(("127.0.0.1", daemon.port))
                half.sendall(b"GET /websocket HTTP/1.1\r\nHost: x\r\n"[: number % 30])
                sockets.append(half)
            async with person.socket() as live:
                await live.command("ping")
            async with httpx.AsyncClient(base_url=daemon.url) as web:
                assert (await web.get("/health")).status_code == 200
    finally:
        for half in sockets:
            half.close()
        daemon.remove()


async def test_a_slow_reader_does_not_delay_a_fast_one() -> None:
    daemon = Daemon(ROOMY)
    try:
        daemon.start()
        async with (
            sign_in(daemon, "+66811111111") as a,
            sign_in(daemon, "+66811111112") as b,
            sign_in(daemon, "+66811111113") as c,
        ):
            group = await a.ok(
                "POST",
                "/dialogs",
                {"type": "group", "name": "Three", "participants": [b.id, c.id]},
            )
            slow = RawSocket(daemon.port, receive_bytes=4096).upgrade(b.access_token)
            async with a.socket() as sender, c.socket() as fast:
                for number in range(2_000):
                    sent = await sender.command(
                        "message.send",
                        dialog_id=group["id"],
                        type="text",
                        content={"text": f"{number} " + "x" * 4_000},
                    )
                    with trio.fail_after(2):
                        heard = await fast.event("message.new")
                    assert heard["message"]["id"] == sent["id"]
            ops = [json.loads(payload)["op"] for payload in read_rest(slow)]
            assert "gap" in ops
            slow.close()
    finally:
        daemon.remove()


def read_rest(raw: RawSocket) -> list[bytes]:
    """Everything that still comes within a second of silence."""
    raw.socket.settimeout(1)
    texts: list[bytes] = []
    for _ in range(100_000):
        try:
            texts += [payload for opcode, payload in raw.serve() if opcode == 1]
        except TimeoutError:
            break
        if raw.closed:
            break
    return texts
