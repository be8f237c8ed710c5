"""Owns the fixtures for a real PostgreSQL, for tests that ask for them."""

from __future__ import annotations

import os
import queue
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import trio
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tchatd.app.embedded_postgres import EmbeddedPostgres
from tchatd.app.postgres_install import PostgresRefused
from tchatd.stores.postgres import migrations
from tchatd.stores.postgres.pool import Pool
from tests.support.postgres import open_folder

START_S_MAX = 120.0
SERVER_OPTIONS = {
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum": "off",
}
"""The session's server holds nothing that outlives the session."""


class _ServerThread:
    """Runs an EmbeddedPostgres beside the tests, each of which is a Trio run."""

    def __init__(self, folder: Path) -> None:
        self._server = EmbeddedPostgres(
            folder, max_connections=200, options=SERVER_OPTIONS
        )
        self._answers: queue.Queue[str | BaseException] = queue.Queue()
        self._token: trio.lowlevel.TrioToken | None = None
        self._thread = threading.Thread(target=self._run, name="postgres", daemon=True)

    def start(self) -> str:
        self._thread.start()
        answer = self._answers.get(timeout=START_S_MAX)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def stop(self) -> None:
        if self._token is not None and self._thread.is_alive():
            self._token.run_sync_soon(self._server.close)
            self._thread.join(START_S_MAX)

    def _run(self) -> None:
        try:
            trio.run(self._main)
        except (PostgresRefused, OSError, BaseExceptionGroup) as error:
            self._answers.put(error)

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        try:
            async with trio.open_nursery() as nursery:
                self._answers.put(await nursery.start(self._server.run))
        except* PostgresRefused as group:
            raise group.exceptions[0] from None


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    """A server where the role may create databases, for the whole session.

    $TCHATD_TEST_POSTGRES_DSN names one; else a private one is started.
    """
    if given := os.environ.get("TCHATD_TEST_POSTGRES_DSN"):
        yield given
        return
    with open_folder() as folder:
        server = _ServerThread(folder / "postgres")
        try:
            try:
                dsn = server.start()
            except PostgresRefused as refused:
                if os.environ.get("CI") == "true":
                    raise
                pytest.skip(f"no PostgreSQL: {refused}")
            yield dsn
        finally:
            server.stop()


class _Databases:
    """Makes databases, and drops each one when the next is made.

    Not at once: dropping waits for 100 ms when a session on it is still going away.
    """

    def __init__(self, server_dsn: str) -> None:
        self._server_dsn = server_dsn
        self._unused: list[str] = []

    @contextmanager
    def new(self, template: str = "template0") -> Iterator[tuple[str, str]]:
        """Yields its name and its DSN."""
        self.drop_unused()
        name = f"test_{uuid.uuid4().hex}"
        self._run("CREATE DATABASE {} TEMPLATE {} STRATEGY wal_log", name, template)
        try:
            yield name, make_conninfo(self._server_dsn, dbname=name)
        finally:
            self._unused.append(name)

    def drop_unused(self) -> None:
        while self._unused:
            self._run("DROP DATABASE {} WITH (FORCE)", self._unused.pop())

    def _run(self, command: str, *names: str) -> None:
        query = sql.SQL(command).format(*(sql.Identifier(name) for name in names))
        with psycopg.connect(self._server_dsn, autocommit=True) as connection:
            connection.execute(query)


@pytest.fixture(scope="session")
def postgres_databases(postgres_dsn: str) -> Iterator[_Databases]:
    databases = _Databases(postgres_dsn)
    yield databases
    databases.drop_unused()


@pytest.fixture(scope="session")
def migrated_template(postgres_databases: _Databases) -> Iterator[str]:
    """The name of a migrated database that others are cloned from."""
    with postgres_databases.new() as (name, dsn):
        trio.run(migrations.apply, dsn)
        yield name


@pytest.fixture
def database(postgres_databases: _Databases, migrated_template: str) -> Iterator[str]:
    """The DSN of a fresh, migrated database; dropped afterwards."""
    with postgres_databases.new(migrated_template) as (_, dsn):
        yield dsn


@pytest.fixture
def empty_database(postgres_databases: _Databases) -> Iterator[str]:
    """The DSN of a database with nothing in it; dropped afterwards."""
    with postgres_databases.new() as (_, dsn):
        yield dsn


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    """A pool of four connections on `database`."""
    pool = Pool(database, size=4)
    yield pool
    await pool.aclose()
