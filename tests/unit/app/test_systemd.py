"""What systemd is told, over a real datagram socket."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from tchatd.app.systemd import Notifier, listen_sockets

Received = Callable[[], dict[str, str]]


@pytest.fixture(params=["path", "abstract"])
def supervisor(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[str, Received]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(5)
        if request.param == "path":
            address = str(tmp_path / "notify")
            receiver.bind(address)
        else:
            address = f"@tchatd-test-{os.getpid()}"
            receiver.bind("\0" + address[1:])

        def received() -> dict[str, str]:
            lines = receiver.recv(4096).decode().splitlines()
            return dict(line.split("=", 1) for line in lines)

        yield address, received


def test_the_life_of_a_daemon_is_told(supervisor: tuple[str, Received]) -> None:
    address, received = supervisor
    notifier = Notifier({"NOTIFY_SOCKET": address})
    notifier.ready("Serving")
    assert received() == {
        "READY": "1",
        "STATUS": "Serving",
        "MAINPID": str(os.getpid()),
    }
    before_us = time.monotonic_ns() // 1000
    notifier.reloading()
    reloading = received()
    assert reloading["RELOADING"] == "1"
    assert before_us <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    notifier.status("Replaying")
    assert received() == {"STATUS": "Replaying"}
    notifier.extend_start(2.5)
    assert received() == {"EXTEND_TIMEOUT_USEC": "2500000"}
    notifier.stopping()
    assert received() == {"STOPPING": "1", "STATUS": "Draining"}
    notifier.close()


async def test_the_watchdog_is_fed_at_half_its_interval(
    supervisor: tuple[str, Received], autojump_clock: trio.testing.MockClock
) -> None:
    address, received = supervisor
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "10000000"})
    with trio.move_on_after(12):
        await notifier.run_watchdog()
    assert [received() for _ in range(3)] == [{"WATCHDOG": "1"}] * 3
    notifier.close()


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"},
    ],
)
async def test_no_watchdog_is_fed_that_is_not_ours(environment: dict[str, str]) -> None:
    notifier = Notifier(environment)
    assert notifier.watchdog_s is None
    await notifier.run_watchdog()


def test_without_a_supervisor_nothing_happens(tmp_path: Path) -> None:
    Notifier({}).ready("Serving")
    gone = Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    gone.ready("Serving")
    gone.close()
    gone.stopping()


def test_sockets_for_another_process_are_left_alone() -> None:
    assert listen_sockets({}) == []
    assert listen_sockets({"LISTEN_PID": "1", "LISTEN_FDS": "1"}) == []
    assert listen_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "x"}) == []
