"""The life of the daemon in this process: start, reload, drain, and what ends it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio

from tchatd.app import exits, secrets
from tchatd.app.configuration import ConfigurationError, load
from tchatd.app.data import DataFolder
from tchatd.app.failures import NotAvailable
from tchatd.app.main import DESCRIPTORS_SPARE, Daemon, run, within
from tchatd.app.settings import Settings
from tchatd.app.systemd import Notifier
from tchatd.observe import logging
from tests.support.daemon import open_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    path = open_folder()
    yield path
    shutil.rmtree(path)


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """What `run` sets is for its whole process, which is ours."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


def settings(folder: Path, dsn: str, **environment: str) -> Settings:
    prefixed = {f"TCHATD_{name}": value for name, value in environment.items()}
    base = {
        "TCHATD_DATA": str(folder / "data"),
        "TCHATD_LISTEN_BIND": "127.0.0.1:0",
        "TCHATD_POSTGRES_DSN": dsn,
        "TCHATD_JOURNAL_SEGMENT_BYTES": str(1 << 20),
    }
    return load(None, base | prefixed)


class Supervisor:
    """Runs a daemon in this process and hears what it tells systemd."""

    def __init__(self, notify: trio.socket.SocketType) -> None:
        self._notify = notify
        self.ended = trio.Event()

    async def hear(self, wanted: str) -> dict[str, str]:
        """The next notification that has this variable."""
        with trio.fail_after(30):
            while True:
                lines = (await self._notify.recv(4096)).decode().splitlines()
                told = dict(line.split("=", 1) for line in lines)
                if wanted in told:
                    return told

    async def run(self, daemon: Daemon) -> None:
        await daemon.run()
        self.ended.set()


@asynccontextmanager
async def supervised(
    of: Settings, reread: Callable[[], Settings]
) -> AsyncIterator[Supervisor]:
    path = of.data_folder.parent / "notify"
    notify = trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    await notify.bind(str(path))
    notifier = Notifier({"NOTIFY_SOCKET": str(path)})
    with notify, DataFolder(of.data_folder) as data:
        loaded = secrets.load(of, {})
        daemon = Daemon(of, loaded, data.node_id(), notifier, reread)
        supervisor = Supervisor(notify)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.run, daemon)
            yield supervisor
            with trio.fail_after(30):
                await supervisor.ended.wait()
    notifier.close()


@pytest.mark.service
async def test_it_serves_reloads_and_drains_and_says_so(
    folder: Path, database: str
) -> None:
    of = settings(folder, database)
    wanted: list[Settings | ConfigurationError] = [
        settings(folder, database, LOG_LEVEL="error"),
        ConfigurationError(["x: y"]),
    ]

    def reread() -> Settings:
        found = wanted.pop(0)
        if isinstance(found, ConfigurationError):
            raise found
        return found

    async with supervised(of, reread) as supervisor:
        ready = await supervisor.hear("READY")
        url = ready["STATUS"].removeprefix("Serving ")
        async with httpx.AsyncClient(base_url=url) as web:
            assert (await web.get("/ready")).status_code == 200
            for _ in range(2):  # the second time what it reads is wrong
                os.kill(os.getpid(), signal.SIGHUP)
                await supervisor.hear("RELOADING")
                await supervisor.hear("READY")
                assert logging.level() == "error"
        assert of.console_socket.exists()
        os.kill(os.getpid(), signal.SIGTERM)
        await supervisor.hear("STOPPING")
    assert not of.console_socket.exists()
    assert wanted == []


@pytest.mark.service
async def test_a_client_is_sent_away_and_may_finish_within_the_drain(
    folder: Path, database: str
) -> None:
    of = settings(folder, database)
    async with supervised(of, lambda: of) as supervisor:
        ready = await supervisor.hear("READY")
        host, _, port = ready["STATUS"].rpartition("//")[2].rpartition(":")
        stream = await trio.open_tcp_stream(host, int(port))
        await stream.send_all(
            b"GET /websocket HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\n"
            b"connection: upgrade\r\nsec-websocket-version: 13\r\n"
            b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert b"101" in await stream.receive_some()
        os.kill(os.getpid(), signal.SIGINT)
        await supervisor.hear("STOPPING")
        close = await stream.receive_some()
        assert close[0] == 0x88
        assert close[2:4] == (1001).to_bytes(2, "big")
        assert b"reconnect_ms" in close
        await stream.aclose()


async def test_a_signal_before_it_serves_ends_it_at_once(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, never answers
        dsn = f"host=127.0.0.1 port={silent.getsockname()[1]} dbname=x user=x"
        of = settings(folder, dsn)
        async with supervised(of, lambda: of) as supervisor:
            assert (await supervisor.hear("STATUS"))["STATUS"] == "Migrating the schema"
            await supervisor.hear("EXTEND_TIMEOUT_USEC")
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.service
async def test_an_address_that_is_taken_ends_the_start(
    folder: Path, database: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        of = settings(folder, database, LISTEN_BIND=address)
        with pytest.raises(ExceptionGroup) as raised:
            async with supervised(of, lambda: of):
                pass
    assert raised.group_contains(NotAvailable, match=address)


def test_a_database_that_is_away_is_said_and_is_75(folder: Path) -> None:
    said: list[str] = []
    dsn = "host=127.0.0.1 port=1 dbname=x user=x"
    of = settings(folder, dsn, POSTGRES_START_S="0.5")
    assert run(of, lambda: of, said.append) == 75
    assert said
    assert not any("Traceback" in line for line in said)


def test_there_are_never_more_connections_than_descriptors(folder: Path) -> None:
    of = settings(folder, "")
    few = within(of, DESCRIPTORS_SPARE + 500).gateway
    assert (few.connections_max, few.connections_per_address_max) == (500, 500)
    assert within(of, 1 << 20) is of


@pytest.mark.parametrize(
    ("environment", "code", "says"),
    [
        (
            {"TLS_BIND": ":0", "TLS_CERTIFICATE_FILE": "/no", "TLS_KEY_FILE": "/no"},
            exits.CONFIG,
            "tls.certificate_file: /no: No such file",
        ),
        ({"DATA": "/dev/null/data"}, exits.CONFIG, "data folder /dev/null/data: "),
    ],
)
def test_what_cannot_be_used_is_told_in_a_sentence(
    folder: Path, environment: dict[str, str], code: int, says: str
) -> None:
    of = settings(folder, "host=127.0.0.1 port=1", **environment)
    said: list[str] = []
    assert run(of, lambda: of, said.append) == code
    assert says in said[0]


@pytest.mark.service
def test_a_console_that_cannot_be_made_is_told_in_a_sentence(
    folder: Path, database: str
) -> None:
    of = settings(folder, database, CONSOLE_SOCKET="/dev/null/console.sock")
    said: list[str] = []
    assert run(of, lambda: of, said.append) == exits.TEMPFAIL
    assert said == ["console /dev/null/console.sock: Not a directory"]
