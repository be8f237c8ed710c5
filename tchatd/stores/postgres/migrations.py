"""Owns the schema's history: ordered SQL files, applied once each, never edited.

A file is `migrations/NNNN_name.sql`, packaged with this module. Each runs in its own
transaction together with its row in `schema_migrations`, so it happened or it did not.
An advisory lock lets several processes start at once: one migrates, the others wait
and then find nothing to do.

Refuses (`MigrationRefused`, which names the file) when an applied file has changed, is
missing or has another name; when a new file comes before one that is applied; and when
the database has been migrated by a newer program. Down-migrations do not exist.

A file must not end its own transaction, and can't hold what refuses to run inside one
(CREATE INDEX CONCURRENTLY). It is sent as it is: `%` means nothing special.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from importlib.resources.abc import Traversable

import msgspec
import psycopg
import trio

from tchatd.kernel.errors import Conflict
from tchatd.stores.postgres.connection import Connection
from tchatd.stores.postgres.errors import (
    ConnectionLost,
    ConstraintViolation,
    QueryRefused,
    ValueRefused,
)

FILE_NAME = re.compile(r"(?P<version>\d{4})_(?P<name>[a-z0-9_]+)\.sql")
LOCK_ID = 0x7463686174640001
"""Key of the advisory lock: "tchatd" in ASCII, then 1."""
LOCK_WAIT_S = 120.0
"""Longest wait for another process that is migrating."""


class MigrationRefused(Conflict):
    """The files and the database do not fit together. file: the one that does not."""

    code, title = "migration-refused", "The database does not fit this program"

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.file = file


class Migration(msgspec.Struct, frozen=True):
    """checksum: SHA-256 of the file's bytes, in hexadecimal."""

    version: int
    name: str
    sql: str
    checksum: str

    @property
    def file(self) -> str:
        return f"{self.version:04}_{self.name}.sql"


class Applied(msgspec.Struct, frozen=True):
    """A row of `schema_migrations`."""

    version: int
    name: str
    checksum: str

    @property
    def file(self) -> str:
        return f"{self.version:04}_{self.name}.sql"


def load(folder: Traversable | None = None) -> list[Migration]:
    """The files of a folder, by default the packaged ones, in order.

    Raises:
        MigrationRefused: a name is not `NNNN_name.sql`, or a number is taken twice.
    """
    if folder is None:
        folder = resources.files("tchatd.stores.postgres") / "migrations"
    found: dict[int, Migration] = {}
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if not entry.name.endswith(".sql"):
            continue
        match = FILE_NAME.fullmatch(entry.name)
        if match is None:
            raise MigrationRefused(entry.name, "the name is not NNNN_name.sql")
        content = entry.read_bytes()
        migration = Migration(
            version=int(match["version"]),
            name=match["name"],
            sql=content.decode(),
            checksum=hashlib.sha256(content).hexdigest(),
        )
        if other := found.get(migration.version):
            raise MigrationRefused(entry.name, f"its number is {other.file}'s too")
        found[migration.version] = migration
    return list(found.values())


def check(files: Sequence[Migration], applied: Sequence[Applied]) -> list[Migration]:
    """Compare the files with what was applied; returns what is still to do, in order.

    Raises:
        MigrationRefused: they do not fit together.
    """
    by_version = {migration.version: migration for migration in files}
    newest_file = max(by_version, default=0)
    for row in applied:
        migration = by_version.get(row.version)
        if migration is None and row.version > newest_file:
            raise MigrationRefused(
                row.file,
                "applied to the database, but unknown here: the database is newer than"
                f" this program, which knows up to {newest_file:04}",
            )
        if migration is None:
            raise MigrationRefused(row.file, "applied to the database, but missing")
        if migration.name != row.name:
            raise MigrationRefused(migration.file, f"was applied as {row.file}")
        if migration.checksum != row.checksum:
            raise MigrationRefused(migration.file, "changed after it was applied")
    done = {row.version for row in applied}
    newest_done = max(done, default=0)
    todo = [migration for migration in files if migration.version not in done]
    for migration in todo:
        if migration.version < newest_done:
            raise MigrationRefused(
                migration.file,
                f"out of order: {newest_done:04} is applied already; give it a number"
                " after that",
            )
    return todo


async def pending(
    dsn: str, files: Sequence[Migration] | None = None
) -> list[Migration]:
    """What `apply` would do. Changes nothing, waits for nobody.

    Raises:
        MigrationRefused: the files and the database do not fit together.
        Unavailable: the database is not reachable.
    """
    files = load() if files is None else files
    async with _connection(dsn) as connection:
        exists = await connection.fetch_value("SELECT to_regclass('schema_migrations')")
        return check(files, await _applied(connection) if exists else [])


async def apply(dsn: str, files: Sequence[Migration] | None = None) -> list[Migration]:
    """Bring the database up to date; returns what was applied now.

    A cancelled call leaves the migrations before the current one applied.

    Raises:
        MigrationRefused: the files and the database do not fit together, or a file's
            SQL failed (nothing of that file is left).
        Unavailable: the database is not reachable, or another process held the lock
            for more than `LOCK_WAIT_S`.
    """
    files = load() if files is None else files
    async with _connection(dsn) as connection:
        await _lock(connection)
        await connection.execute(_SCHEMA_MIGRATIONS)
        todo = check(files, await _applied(connection))
        for migration in todo:
            await _apply_one(connection, migration)
        return todo


_SCHEMA_MIGRATIONS = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version    integer     PRIMARY KEY,
    name       text        NOT NULL,
    checksum   text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    took_ms    integer     NOT NULL
)
"""


@asynccontextmanager
async def _connection(dsn: str) -> AsyncIterator[Connection]:
    connection = await Connection.connect(
        dsn,
        application_name="tchatd migrate",
        statement_timeout_s=0,
        idle_in_transaction_s=0,
    )
    try:
        yield connection
    finally:
        connection.close()  # Which also gives the advisory lock back.


async def _lock(connection: Connection) -> None:
    with trio.move_on_after(LOCK_WAIT_S):
        await connection.execute("SELECT pg_advisory_lock(%s::bigint)", (LOCK_ID,))
        return
    raise ConnectionLost(f"Another process has been migrating for {LOCK_WAIT_S:g} s")


async def _applied(connection: Connection) -> list[Applied]:
    rows = await connection.fetch(
        "SELECT version, name, checksum FROM schema_migrations ORDER BY version"
    )
    return [Applied(*row) for row in rows]


async def _apply_one(connection: Connection, migration: Migration) -> None:
    begun_s = time.perf_counter()
    try:
        async with connection.transaction():
            # Without a result format psycopg takes the simple protocol, which alone
            # takes several statements.
            await connection.execute(migration.sql, binary=False)
            if connection.idle:
                raise MigrationRefused(migration.file, "ends its own transaction")
            await connection.execute(
                "INSERT INTO schema_migrations (version, name, checksum, took_ms)"
                " VALUES (%s, %s, %s, %s)",
                (
                    migration.version,
                    migration.name,
                    migration.checksum,
                    round((time.perf_counter() - begun_s) * 1000),
                ),
            )
    except (QueryRefused, ConstraintViolation, ValueRefused) as error:
        raise MigrationRefused(migration.file, _reason(error)) from error


def _reason(error: Exception) -> str:
    """What the server said; our own error leaves it out, for it may hold values."""
    said = error.__context__
    primary = said.diag.message_primary if isinstance(said, psycopg.Error) else None
    return primary or str(error)
