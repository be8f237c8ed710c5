"""Owns `tchatd migrate` and `tchatd check`: short runs that serve nobody."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import trio

from tchatd.app import payment_settings, secrets
from tchatd.app.certificates import certificate_end
from tchatd.app.configuration import ConfigurationError
from tchatd.app.data import DataFolder, DataInUse, DataUnusable
from tchatd.app.embedded_postgres import EmbeddedPostgres
from tchatd.app.failures import EXPECTED, explain, sentence
from tchatd.app.postgres_install import PostgresRefused, choose_account, require_way
from tchatd.app.settings import Settings, split_address
from tchatd.kernel.errors import DomainError
from tchatd.observe import logging
from tchatd.stores.postgres import migrations
from tchatd.stores.postgres.connection import Connection

Say = Callable[[str], None]


def migrate(settings: Settings, complain: Say) -> int:
    """Apply what is to be applied; prints each file. Starts the embedded server."""
    logging.configure(settings.log.level, settings.log.format)
    try:
        with DataFolder(settings.data_folder):
            for name in trio.run(_migrate, settings):
                print(f"applied {name}")
    except EXPECTED as error:
        return explain(error, complain)
    print("the schema is up to date")
    return 0


async def _migrate(settings: Settings) -> list[str]:
    async with database(settings) as dsn:
        return [migration.file for migration in await migrations.apply(dsn)]


@asynccontextmanager
async def database(settings: Settings) -> AsyncIterator[str]:
    """The DSN of a server that answers: the one configured, or the embedded one."""
    dsn = secrets.dsn(settings)
    if dsn:
        yield dsn
        return
    server = EmbeddedPostgres(settings.data_folder / "postgres")
    async with trio.open_nursery() as nursery:
        yield await nursery.start(server.run)
        server.close()


_FAILURES = (OSError, ValueError, DomainError, ConfigurationError, PostgresRefused)


def check(settings: Settings) -> int:
    """Print one line for each thing that a start needs; 0 when all of them are ok."""
    checks: list[tuple[str, Callable[[], str]]] = [
        ("configuration", lambda: f'mode = "{settings.mode}"'),
        ("secrets", lambda: _check_secrets(settings)),
        ("payments", lambda: _check_payments(settings)),
        ("data", lambda: _check_folder(settings.data_folder)),
        ("journal", lambda: _check_journal(settings)),
        ("listen", lambda: _check_address(settings, settings.listen.bind)),
        ("tls", lambda: _check_tls(settings)),
        ("postgres", lambda: _check_postgres(settings)),
    ]
    failed = 0
    for name, run in checks:
        try:
            detail, state = run(), "ok"
        except _FAILURES as error:
            detail, state = "; ".join(sentence(error).splitlines()), "failed"
            failed += 1
        print(f"{state:<7} {name:<14} {detail}", flush=True)
    return 1 if failed else 0


def _check_secrets(settings: Settings) -> str:
    secrets.load(settings, os.environ, keep=False)
    if settings.mode == "development":
        return "development: generated where none are given"
    return "all there"


def _check_payments(settings: Settings) -> str:
    """Their keys are among the secrets; whether they are good only a call tells."""
    names = payment_settings.enabled(settings.providers.payments)
    return ", ".join(names) or "no provider: nobody can top up or withdraw"


def _check_journal(settings: Settings) -> str:
    """An old one may fill the disk; the first file of a new one needs room."""
    folder = settings.journal_folder
    is_new = not folder.exists() or not any(folder.iterdir())
    return _check_folder(folder, settings.journal.segment_bytes if is_new else 0)


def _check_folder(folder: Path, needed_bytes: int = 0) -> str:
    existing = folder
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise NotADirectoryError(f"{existing} is no folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise PermissionError(f"{existing} cannot be written to")
    status = os.statvfs(existing)
    free_bytes = status.f_bavail * status.f_frsize
    free_mib = free_bytes >> 20
    if free_bytes < needed_bytes:
        raise OSError(f"{folder} needs {needed_bytes >> 20} MiB, {free_mib} are free")
    return f"{folder} ({free_mib} MiB free)"


def _is_served(settings: Settings) -> bool:
    """Whether a daemon holds the data folder now; makes nothing."""
    if not settings.data_folder.exists():
        return False
    try:
        with DataFolder(settings.data_folder):
            return False
    except DataInUse:
        return True
    except DataUnusable:
        return False


def _check_address(settings: Settings, address: str) -> str:
    host, port = split_address(address)
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )[0]
    except OSError as error:
        raise OSError(f"{address}: {error.strerror}") from None
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(where)
        except OSError as error:
            if _is_served(settings):
                return f"{address} (in use; a daemon runs on this data folder)"
            raise OSError(f"{address}: {error.strerror}") from None
    return address


def _check_tls(settings: Settings) -> str:
    if not settings.tls.bind:
        return "off"
    ends = certificate_end(settings)
    if ends < datetime.now(UTC):
        raise ValueError(f"{settings.tls.certificate_file}: ended on {ends:%Y-%m-%d}")
    _check_address(settings, settings.tls.bind)
    return f"{settings.tls.bind}, certificate until {ends:%Y-%m-%d}"


def _check_postgres(settings: Settings) -> str:
    dsn = secrets.dsn(settings)
    if not dsn:
        folder = settings.data_folder / "postgres"
        require_way(folder, choose_account("", folder / "data"))
        return "embedded, in the data folder"
    return trio.run(_ask_postgres, dsn, settings.postgres.connect_s)


async def _ask_postgres(dsn: str, connect_s: float) -> str:
    try:
        with trio.fail_after(connect_s):
            connection = await Connection.connect(dsn)
    except trio.TooSlowError:
        raise TimeoutError(f"no answer within {connect_s:g} seconds") from None
    try:
        version = await connection.fetch_value("SHOW server_version")
    finally:
        connection.close()
    todo = await migrations.pending(dsn)
    state = f"{len(todo)} migrations to apply" if todo else "schema up to date"
    return f"version {version}, {state}"
