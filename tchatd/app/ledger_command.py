"""Owns `tchatd ledger verify`: recomputes the ledger beside whoever serves it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import msgspec
import trio

from tchatd.app import commands, exits, secrets
from tchatd.app.data import DataFolder, DataInUse
from tchatd.app.embedded_postgres import DATABASE
from tchatd.app.failures import EXPECTED, explain
from tchatd.app.postgres_folder import ROLE
from tchatd.app.settings import Settings
from tchatd.kernel.errors import Unavailable
from tchatd.observe import logging
from tchatd.stores.postgres.connection import Connection
from tchatd.stores.postgres.ledger_verify import DIFFERENCES_MAX, Report, verify

Say = Callable[[str], None]


def verify_ledger(settings: Settings, complain: Say, *, as_json: bool) -> int:
    """Print what was found; 0 if nothing is wrong, `exits.DATAERR` if something is."""
    logging.configure(settings.log.level, settings.log.format)
    try:
        report = trio.run(_verify, settings, strict_exception_groups=True)
    except EXPECTED as error:
        return explain(error, complain)
    if as_json:
        print(msgspec.json.encode(report).decode())
    else:
        print(text_of(report), end="")
    return exits.DATAERR if report.differences else exits.OK


def text_of(report: Report) -> str:
    """A line for each difference, then one for each currency, then the counts."""
    count = f"{len(report.differences)}{'+' if report.more else ''}"
    lines = [f"{d.check}: {d.what}: {d.how}" for d in report.differences]
    lines += [
        f"{name}: more than {DIFFERENCES_MAX} differences" for name in report.more
    ]
    lines += [f"{code}: {total} minor units" for code, total in report.totals.items()]
    lines.append(
        f"{report.accounts} accounts, {report.postings} postings,"
        f" {report.pending_holds} pending holds:"
        f" {count if report.differences else 'no'} differences"
    )
    return "\n".join(lines) + "\n"


async def _verify(settings: Settings) -> Report:
    async with _database(settings) as dsn:
        opened = await Connection.connect(
            dsn,
            application_name="tchatd verify",
            statement_timeout_s=0,
            idle_in_transaction_s=0,
        )
        with closing(opened) as connection:
            return await verify(connection)


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[str]:
    """The server that is configured; the private one of a daemon that runs; or, if
    none does, that one started for us."""
    if dsn := secrets.dsn(settings):
        yield dsn
        return
    try:
        with DataFolder(settings.data_folder):
            async with commands.database(settings) as dsn:
                yield dsn
    except DataInUse:
        yield running_dsn(settings.data_folder / "postgres" / "data")


def running_dsn(folder: Path) -> str:
    """Of the private server that runs in a folder.

    The lines of postmaster.pid are: pid, data folder, start, port, socket's folder
    (PostgreSQL's src/include/utils/pidfile.h).

    Raises:
        Unavailable: none does.
    """
    try:
        lines = (folder / "postmaster.pid").read_text().splitlines()
        port, socket = int(lines[3]), lines[4]
    except (OSError, IndexError, ValueError):
        raise Unavailable("The private PostgreSQL does not run") from None
    return f"host='{socket}' port={port} user={ROLE} dbname={DATABASE}"
