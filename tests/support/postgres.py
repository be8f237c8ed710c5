"""Owns what several tests of PostgreSQL need: a server of their own, and looking in."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import trio

from tchatd.app.embedded_postgres import EmbeddedPostgres
from tchatd.stores.postgres.connection import Connection

UNTIL_S = 20.0
MEMORY = Path("/dev/shm")
MEMORY_BYTES_MIN = 2 << 30
"""A new database takes 30 ms there, and on a busy disk ten times that."""


@contextmanager
def open_folder() -> Iterator[Path]:
    """A temporary folder that other accounts can enter (pytest's are private)."""
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_BYTES_MIN
    parent = MEMORY if roomy and os.access(MEMORY, os.W_OK) else Path("/tmp")
    folder = Path(tempfile.mkdtemp(prefix="tchatd-test-", dir=parent))
    folder.chmod(0o755)
    try:
        yield folder.resolve()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def own_server(folder: Path, **options: Any) -> AsyncIterator[EmbeddedPostgres]:
    """A server that the test may kill; it is shut down at the end."""
    options.setdefault("options", {"fsync": "off"})
    server = EmbeddedPostgres(folder, shared_buffers_mib=16, **options)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        yield server
        server.close()


async def until(connection: Connection, condition: str, *params: Any) -> None:
    """Ask again and again until an SQL condition is true."""
    with trio.fail_after(UNTIL_S):
        while not await connection.fetch_value(f"SELECT {condition}", params):
            await trio.sleep(0.005)


async def until_running(connection: Connection, text: str) -> None:
    """Until a query that contains `text` runs in another session of the database."""
    await until(connection, f"EXISTS (SELECT {_RUNNING})", f"%{text}%")


async def until_not_running(connection: Connection, text: str) -> None:
    await until(connection, f"NOT EXISTS (SELECT {_RUNNING})", f"%{text}%")


_RUNNING = """FROM pg_stat_activity WHERE datname = current_database()
    AND pid <> pg_backend_pid() AND state = 'active' AND query LIKE %s"""


def kill(pid: int | None) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
