"""Owns what tchatd tells systemd (sd_notify(3)) and takes from it (sd_listen_fds(3)).

Without NOTIFY_SOCKET nothing is sent. A datagram that cannot be sent is dropped: the
daemon serves people also when its supervisor is gone.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

import trio

LISTEN_FDS_START = 3
LISTEN_FDS_MAX = 16


class Notifier:
    """The socket in NOTIFY_SOCKET: a path, or an abstract one that begins with @."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if address:
            kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            self._socket = socket.socket(socket.AF_UNIX, kind)
        self.watchdog_s = _watchdog_s(environment)

    def ready(self, status: str) -> None:
        self._send(f"READY=1\nSTATUS={status}\nMAINPID={os.getpid()}")

    def reloading(self) -> None:
        """`ready` must follow; systemd tells reloads apart by this clock."""
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={now_us}")

    def stopping(self, status: str = "Draining") -> None:
        self._send(f"STOPPING=1\nSTATUS={status}")

    def status(self, text: str) -> None:
        self._send(f"STATUS={text}")

    def extend_start(self, seconds: float) -> None:
        """Ask for more time before the start is given up (a long replay)."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    async def run_watchdog(self) -> None:
        """Say "alive" at half of the asked interval, from the event loop itself.

        A loop that is stuck does not say it, and systemd restarts the daemon.
        """
        if self.watchdog_s is None or self._socket is None:
            return
        while True:
            self._send("WATCHDOG=1")
            await trio.sleep(self.watchdog_s / 2)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, text: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(text.encode(), self._address)
        except OSError:
            return


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    """WATCHDOG_USEC, unless it is meant for another process (WATCHDOG_PID)."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        interval_us = int(environment.get("WATCHDOG_USEC", "0"))
    except ValueError:
        return None
    return interval_us / 1e6 if interval_us > 0 else None


def listen_sockets(environment: Mapping[str, str]) -> list[socket.socket]:
    """Listening stream sockets that systemd opened for us (a .socket unit); owned."""
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return []
    try:
        count = int(environment.get("LISTEN_FDS", "0"))
    except ValueError:
        return []
    assert count <= LISTEN_FDS_MAX
    sockets = []
    for descriptor in range(LISTEN_FDS_START, LISTEN_FDS_START + count):
        os.set_inheritable(descriptor, False)
        sockets.append(socket.socket(fileno=descriptor))
    return sockets
