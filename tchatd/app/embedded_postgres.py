"""Owns a private PostgreSQL server in the data folder, as a child of this process.

FOLDER/data       PostgreSQL's own (PGDATA)
FOLDER/socket     the unix socket, the only way in (a short folder elsewhere if the path
                  of a socket, 107 bytes, would not hold it)
FOLDER/server.log what the server says; cut when it grows over `LOG_BYTES_MAX`
FOLDER/pg_hba.conf, pg_ident.conf   who may connect: root or whoever runs tchatd, and
                  the account of the server; written at each start
FOLDER/owner      locked (flock) by the process that runs the server

The server runs in the foreground as our child, in a session of its own (so that Ctrl-C
in a terminal is ours to handle), with a parent-death signal where `setpriv` is there:
when this process is killed, the server shuts down by itself. When it did not (no
setpriv, or not yet), it is found at the next start, by the folder it works in, and shut
down before a new one starts. PostgreSQL recovers its data by itself; fsync,
synchronous_commit and full_page_writes are on.

Refuses TCP, and data of another major version (`PostgresRefused` says what to do).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import trio
from psycopg.conninfo import make_conninfo

from tchatd.app.postgres_folder import (
    PORT,
    ROLE,
    environment,
    initialise,
    quoted,
    socket_folder,
    write_access_files,
)
from tchatd.app.postgres_install import (
    Account,
    Binaries,
    PostgresRefused,
    choose_account,
    find_binaries,
    require_way,
)
from tchatd.app.postgres_process import (
    PostgresProcess,
    opened,
    postmaster_of,
    processes_in,
)
from tchatd.kernel.errors import DomainError, Unavailable
from tchatd.observe.logging import Logger, get_logger
from tchatd.stores.postgres.connection import Connection
from tchatd.stores.postgres.errors import QueryRefused, StartingUp

DATABASE = "tchatd"
LOG_BYTES_MAX = 16 << 20
LOG_TAIL_BYTES = 64 << 10
QUIT_S = 5.0
"""Longest wait after SIGQUIT, before SIGKILL. PostgreSQL takes 5 s by itself."""
LINGER_S = 15.0
"""Longest wait for processes of a server whose first process was killed."""
BACKOFF_S = (0.1, 10.0)
"""Wait before a restart; doubled, up to the second, while it does not become ready."""
HEALTH_FAILURES_MAX = 3
"""So many checks in a row without an answer, and the server is stopped hard."""


class EmbeddedPostgresStatistics(msgspec.Struct, frozen=True):
    """pid: None while it does not run. restarts: since our start."""

    pid: int | None
    restarts: int
    healthy: bool


class EmbeddedPostgres:
    """Made, then `run`; `dsn` is right from the start of `run` on.

    folder: made if it is not there. The caller has locked what is above it.
    user: whom root hands the server to; see `choose_account`.
    binaries: a folder with `postgres` and `initdb`; see `find_binaries`.
    options: further settings of the server, over the ones chosen here.
    start_s: longest wait for the server to say anything; recovery takes what it takes.
    restarts_max: more deaths than that within `restart_window_s`, and `run` raises.
    """

    def __init__(
        self,
        folder: Path,
        *,
        user: str = "",
        binaries: Path | None = None,
        max_connections: int = 100,
        shared_buffers_mib: int = 128,
        max_wal_mib: int = 1024,
        options: Mapping[str, str] | None = None,
        start_s: float = 60.0,
        stop_s: float = 30.0,
        health_interval_s: float = 10.0,
        health_timeout_s: float = 10.0,
        restarts_max: int = 10,
        restart_window_s: float = 600.0,
        log: Logger | None = None,
    ) -> None:
        self._folder = folder.resolve()
        self._data = self._folder / "data"
        self._user = user
        self._binaries_setting = binaries
        self._settings = {
            "listen_addresses": "",
            "port": str(PORT),
            "unix_socket_permissions": "0700",
            "hba_file": str(self._folder / "pg_hba.conf"),
            "ident_file": str(self._folder / "pg_ident.conf"),
            "cluster_name": "tchatd",
            "max_connections": str(max_connections),
            "shared_buffers": f"{shared_buffers_mib}MB",
            "max_wal_size": f"{max_wal_mib}MB",
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "jit": "off",
            "logging_collector": "off",
            "log_destination": "stderr",
            "log_line_prefix": "%m [%p] ",
            "log_error_verbosity": "terse",  # neither rows' values
            "log_min_error_statement": "panic",  # nor statements
            **(options or {}),
        }
        self._start_s, self._stop_s = start_s, stop_s
        self._health_interval_s = health_interval_s
        self._health_timeout_s = health_timeout_s
        self._restarts_max, self._restart_window_s = restarts_max, restart_window_s
        self._log = log or get_logger("postgres")
        self._closing = trio.Event()
        self._account: Account | None = None
        self._binaries: Binaries | None = None
        self._socket_folder: Path | None = None
        self._setpriv: str | None = None
        self._process: PostgresProcess | None = None
        self._restarts = 0
        self._healthy = False

    @property
    def dsn(self) -> str:
        """For the database of tchatd."""
        return self._dsn_of(DATABASE)

    @property
    def binaries(self) -> Path:
        """Where `pg_dump` and `psql` of the running version are."""
        assert self._binaries is not None, "run() has not begun"
        return self._binaries.folder

    def statistics(self) -> EmbeddedPostgresStatistics:
        process = self._process
        return EmbeddedPostgresStatistics(
            pid=None if process is None else process.pid,
            restarts=self._restarts,
            healthy=self._healthy,
        )

    def close(self) -> None:
        """Let `run` shut the server down and return."""
        self._closing.set()

    async def run(
        self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run the server until `close` or cancelled; `started` is given the DSN.

        Either way the server is shut down, cleanly if it manages within `stop_s`.

        Raises:
            PostgresRefused: it can't run like this, or does not stay up.
        """
        with self._owned():
            await self._prepare()
            deaths: deque[float] = deque()
            announced, failures = False, 0
            while True:
                await self._stop_others()
                with closing(self._spawn()) as process:
                    self._process = process
                    hung = False
                    try:
                        failures += 1
                        if await self._becomes_ready(process):
                            failures = 0
                            if not announced:
                                await self._ensure_database()
                                task_status.started(self.dsn)
                                announced = True
                            hung = await self._watch(process)
                    finally:
                        self._healthy = False
                        await self._stop(process, at_once=hung)
                        self._process = None
                if not self._closing.is_set():
                    await self._account_for_death(process, deaths, failures)
                if self._closing.is_set():
                    return

    async def check(self) -> None:
        """Ask the server for a sign of life, over a connection of its own.

        Raises:
            Unavailable: none came.
        """
        await self._check(DATABASE)

    # Preparing

    @contextmanager
    def _owned(self) -> Iterator[None]:
        """Hold the folder's lock: at most one process may run a server in it."""
        if not self._folder.exists():
            self._folder.mkdir(parents=True)
            self._folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
        descriptor = os.open(
            self._folder / "owner", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise PostgresRefused(
                f"another process runs the server in {self._folder}"
            ) from None
        try:
            yield
        finally:
            os.close(descriptor)

    async def _prepare(self) -> None:
        account = choose_account(self._user, self._data)
        require_way(self._folder, account)
        self._account = account
        self._binaries = await trio.to_thread.run_sync(
            find_binaries, self._binaries_setting, self._folder, account
        )
        self._setpriv = await self._find_setpriv()
        self._socket_folder = socket_folder(self._folder, account)
        write_access_files(self._folder, account)
        if not (self._data / "PG_VERSION").exists():
            await initialise(self._folder, account, self._binaries)
            self._log.info("database made", version=self._binaries.version)

    async def _find_setpriv(self) -> str | None:
        path = shutil.which("setpriv", path="/usr/bin:/bin")
        if path is None:
            return None
        command = [path, "--pdeathsig", "INT", "--", "true"]
        try:  # Not every implementation of setpriv knows that option.
            await trio.run_process(command, capture_stderr=True, capture_stdout=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return path

    # Starting and watching

    def _spawn(self) -> PostgresProcess:
        """Start the server, in this thread: the parent-death signal is the thread's."""
        assert self._account is not None
        assert self._binaries is not None
        assert self._socket_folder is not None
        settings = {
            **self._settings,
            "unix_socket_directories": quoted(self._socket_folder),
        }
        command: list[str | Path] = [
            self._binaries.folder / "postgres",
            "-D",
            self._data,
        ]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        if self._setpriv is not None:
            command = [self._setpriv, "--pdeathsig", "INT", "--", *command]
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        output = os.open(self._folder / "server.log", flags, 0o600)
        try:
            child = subprocess.Popen(  # noqa: S603  # paths that were probed
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env=environment(self._folder),
                umask=0o077,
                start_new_session=True,
                **self._account.process_arguments(),
            )
        finally:
            os.close(output)
        return PostgresProcess(child.pid, child)

    async def _becomes_ready(self, process: PostgresProcess) -> bool:
        """Wait until the server takes connections; False when it died instead.

        However long recovery takes, it is not cut short: it would only begin again.
        """
        wait_s, recovering = 0.01, False
        with trio.move_on_after(self._start_s) as patience:
            while process.status is None:
                try:
                    await self._check("postgres")
                except StartingUp:
                    if not recovering:
                        self._log.info("server is recovering", pid=process.pid)
                    recovering = True
                    patience.deadline = trio.current_time() + self._start_s
                except Unavailable:
                    pass  # It has no socket yet.
                except QueryRefused as error:
                    raise PostgresRefused(f"PostgreSQL refuses us: {error}") from error
                else:
                    self._healthy = True
                    self._log.info("server up", pid=process.pid)
                    return True
                await trio.sleep(wait_s)
                wait_s = min(wait_s * 1.5, 0.5)
            return False
        raise PostgresRefused(
            f"PostgreSQL was not there within {self._start_s:g} s: {self._last_words()}"
        )

    async def _ensure_database(self) -> None:
        with closing(await Connection.connect(self._dsn_of("postgres"))) as connection:
            query = "SELECT 1 FROM pg_database WHERE datname = %s"
            if await connection.fetch_one(query, (DATABASE,)) is None:
                await connection.execute(f"CREATE DATABASE {DATABASE}")

    async def _watch(self, process: PostgresProcess) -> bool:
        """Return when the server has died, is to be shut down, or (True) is hung."""
        hung = False
        async with trio.open_nursery() as nursery:

            async def died() -> None:
                await process.exited()
                nursery.cancel_scope.cancel()

            async def stopped_answering() -> None:
                nonlocal hung
                await self._check_until_hung()
                hung = True
                nursery.cancel_scope.cancel()

            nursery.start_soon(died)
            nursery.start_soon(stopped_answering)
            await self._closing.wait()
            nursery.cancel_scope.cancel()
        return hung

    async def _check_until_hung(self) -> None:
        """Check the server regularly; return when too many checks had no answer."""
        failures = 0
        while failures < HEALTH_FAILURES_MAX:
            await trio.sleep(self._health_interval_s)
            self._cut_log()
            answered = False
            with trio.move_on_after(self._health_timeout_s):
                try:
                    await self._check(DATABASE)
                    answered = True
                except (DomainError, QueryRefused) as error:
                    self._log.warning("server refuses", reason=str(error))
            self._healthy = answered
            failures = 0 if answered else failures + 1
        self._log.error("server does not answer, stopping it", checks=failures)

    async def _check(self, database: str) -> None:
        with closing(
            await Connection.connect(
                self._dsn_of(database), application_name="tchatd health"
            )
        ) as connection:
            await connection.check()

    async def _account_for_death(
        self, process: PostgresProcess, deaths: deque[float], failures: int
    ) -> None:
        """Wait before the next start, or give up."""
        now_s = trio.current_time()
        while deaths and now_s - deaths[0] > self._restart_window_s:
            deaths.popleft()
        deaths.append(now_s)
        said = self._last_words()
        if len(deaths) > self._restarts_max:
            raise PostgresRefused(
                f"PostgreSQL died {len(deaths)} times within"
                f" {self._restart_window_s:g} s: {said}"
            )
        wait_s = min(BACKOFF_S[0] * 2**failures, BACKOFF_S[1])
        self._restarts += 1
        self._log.error(
            "server died, restarting it",
            status=process.status,
            wait_s=wait_s,
            said=said,
        )
        with trio.move_on_after(wait_s):
            await self._closing.wait()

    # Stopping

    async def _stop(self, process: PostgresProcess, *, at_once: bool = False) -> None:
        """Shut a server down, in a scope of its own: cancelled or not, it has to go.

        SIGINT rolls back, writes a checkpoint and exits; SIGQUIT exits, and the next
        start recovers. at_once: begin with that.
        """
        steps = [(signal.SIGINT, self._stop_s), (signal.SIGQUIT, QUIT_S)]
        with trio.CancelScope(shield=True):
            for number, wait_s in steps[1:] if at_once else steps:
                process.signal(number)
                with trio.move_on_after(wait_s):
                    await process.exited()
                    return
                self._log.error("server does not stop", signal=number.name)
            process.signal(signal.SIGKILL)
            await process.exited()

    async def _stop_others(self) -> None:
        """Make sure that no process of an earlier server is left on the data.

        Found by the folder they work in, which no stale file can get wrong. We hold
        the folder's lock, so they are nobody's.
        """
        if processes := processes_in(self._data):
            postmaster = postmaster_of(processes)
            if postmaster is not None:
                self._log.warning("stopping a server left behind", pid=postmaster)
                with opened(postmaster) as process:
                    if process is not None:
                        await self._stop(process)
            with trio.move_on_after(LINGER_S):  # Its children follow by themselves.
                for pid in processes_in(self._data):
                    with opened(pid) as process:
                        if process is not None:
                            await process.exited()
            for pid in processes_in(self._data):
                with opened(pid) as process:
                    if process is not None:
                        self._log.warning("killing a process left behind", pid=pid)
                        process.signal(signal.SIGKILL)
                        await process.exited()
        self._remove_lock_files()

    def _remove_lock_files(self) -> None:
        """PostgreSQL takes the file of a dead server for a living one's as long as the
        process is not reaped, and again when its number is some other process's.
        """
        assert self._socket_folder is not None
        socket = self._socket_folder / f".s.PGSQL.{PORT}"
        for path in (
            self._data / "postmaster.pid",
            socket.with_name(socket.name + ".lock"),
            socket,
        ):
            path.unlink(missing_ok=True)

    # The log

    def _last_words(self) -> str:
        """The last lines of the server's log."""
        try:
            with (self._folder / "server.log").open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - 1000))
                return " | ".join(
                    file.read().decode(errors="replace").splitlines()[-5:]
                )
        except OSError as error:
            return f"no log ({error.strerror})"

    def _cut_log(self) -> None:
        """Keep the tail of a log that has grown too large in `server.log.1`.

        The server appends, so it goes on at the start of the emptied file.
        """
        path = self._folder / "server.log"
        if not path.exists() or path.stat().st_size <= LOG_BYTES_MAX:
            return
        with path.open("r+b") as file:
            file.seek(-LOG_TAIL_BYTES, os.SEEK_END)
            (self._folder / "server.log.1").write_bytes(file.read(LOG_TAIL_BYTES))
            file.truncate(0)

    def _dsn_of(self, database: str) -> str:
        assert self._socket_folder is not None, "run() has not begun"
        return make_conninfo(
            host=str(self._socket_folder), port=PORT, user=ROLE, dbname=database
        )
