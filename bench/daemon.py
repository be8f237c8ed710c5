"""Owns the daemon under measurement: the real one, its PostgreSQL and what they use.

It is started as anybody would start it, in a folder of its own, with fsync on, and
with those limits widened that a crowd on one address would hit; they are in the
results. The database is every process below the daemon that is called postgres.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import psycopg

from bench import processes
from bench.generator import Costs, Failed
from tests.support.daemon import Daemon

STATISTICS_S = 11.0
MESSAGE_ROWS = "select count(*) from events where kind = 2"
# The environment's names of tchatd's settings, without TCHATD_.
WIDE: dict[str, str] = {
    "LIMITS_ADDRESS_PER_MINUTE": "1e9",
    "LIMITS_ADDRESS_BURST": "1000000000",
    "LIMITS_USER_PER_MINUTE": "1e9",
    "LIMITS_USER_BURST": "1000000000",
    "LIMITS_COMMANDS_PER_SECOND": "1e9",
    "LIMITS_COMMANDS_BURST": "1000000000",
    "MESSAGING_USER_MESSAGES_PER_MINUTE": "0",
    "MESSAGING_DIALOG_MESSAGES_PER_MINUTE": "0",
    "LOG_LEVEL": "warning",
    "LOG_FORMAT": "json",
}


class MeasuredDaemon(Daemon):
    """A context manager: started and ready within, stopped and removed after."""

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(WIDE | dict(settings or {}))

    def __enter__(self) -> MeasuredDaemon:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    @property
    def pid(self) -> int:
        if self.process is None:
            raise Failed("the daemon does not run")
        return self.process.pid

    def database_pids(self) -> list[int]:
        found = []
        for pid in processes.descendants(self.pid):
            try:
                if processes.name_of(pid).startswith("postgres"):
                    found.append(pid)
            except OSError:
                continue
        return found

    def costs(self) -> Costs:
        """CPU seconds so far of the daemon (with what it started) and the database."""
        database = set(self.database_pids())
        own = [pid for pid in processes.descendants(self.pid) if pid not in database]
        return {
            "daemon": processes.cpu_s(own),
            "database": processes.cpu_s(database, with_ended_children=True),
        }

    def memory(self) -> dict[str, int]:
        """rss and pss of the daemon alone."""
        return processes.memory_bytes(self.pid)

    def database_dsn(self) -> str:
        """Of the private server, through its unix socket. The lines of postmaster.pid
        are: pid, data folder, start, port, socket's folder."""
        path = next((self.data / "postgres").rglob("postmaster.pid"))
        lines = path.read_text().splitlines()
        return f"host={lines[4]} port={lines[3]} user=tchatd dbname=tchatd"

    def _query(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database_dsn(), autocommit=True) as connection:
            return connection.execute(query).fetchall()

    def message_rows(self) -> int:
        """Messages in PostgreSQL: what has been flushed."""
        return int(self._query(MESSAGE_ROWS)[0][0])

    def queries(self) -> dict[str, int]:
        """Counted by PostgreSQL since its start: transactions of the database, and
        scans of the table of users. A backend tells its counts when it has been idle
        for 10 s, so wait `STATISTICS_S` before."""
        time.sleep(STATISTICS_S)
        (scans,) = self._query(
            "select coalesce(sum(seq_scan + idx_scan), 0) from pg_stat_user_tables"
            " where relname = 'users'"
        )[0]
        return {"transactions": self.transactions(), "user_scans": int(scans)}

    def transactions(self) -> int:
        """Told until now: at most as many as there were."""
        (transactions,) = self._query(
            "select xact_commit + xact_rollback from pg_stat_database"
            " where datname = current_database()"
        )[0]
        return int(transactions)
