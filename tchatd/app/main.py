"""Owns the life of the daemon: what starts after what, and stops before what.

    stores > journal > jobs > ledger > relay > sagas > edge (hub, commands) > accept

Each is a nursery inside the one before it. A graceful stop goes from the inside out:
stop accepting, send clients away (1001 with a spread-out delay before they return),
finish what was begun, flush what is durable to PostgreSQL, close the journal, close
the stores. Cancelling the outermost scope means now; the next start then replays.

SIGTERM and SIGINT stop gracefully, a second one now. SIGHUP reads the configuration
again and applies what can be applied (`_reload`).
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import trio

from tchatd import __version__
from tchatd.app import (
    collector,
    dead_letters,
    moderators,
    operator,
    secrets,
    systemd,
)
from tchatd.app.certificates import certificate_end
from tchatd.app.configuration import ConfigurationError
from tchatd.app.data import DataFolder
from tchatd.app.embedded_postgres import EmbeddedPostgres
from tchatd.app.failures import EXPECTED, NotAvailable, driver_said, explain
from tchatd.app.jobs import (
    PRUNE_INTERVAL_S,
    TICK_S,
    StoreHealth,
    every,
    prune_regularly,
)
from tchatd.app.secrets import Secrets
from tchatd.app.settings import Settings, split_address
from tchatd.app.wiring import Core, Edge, make_pool
from tchatd.edge.console import Console, standard_commands
from tchatd.edge.hub import Hub
from tchatd.kernel.clock import SystemClock
from tchatd.kernel.errors import DomainError, Unavailable
from tchatd.observe import logging
from tchatd.observe.logging import get_logger
from tchatd.observe.metrics import Metrics
from tchatd.stores.postgres import migrations

EDGE_GRACE_S = 5.0
"""What the drain may take beyond drain_s, before what is left of it is cancelled."""
LAST_SEEN_S = 5.0
"""Longest time at the end for last times to reach PostgreSQL."""
RETRY_S = 1.0
"""Between two tries to reach PostgreSQL at the start."""
START_STEP_S = 30.0
"""How often systemd is told that the start goes on."""
DESCRIPTORS_SPARE = 1_024
"""Descriptors beside those of connections: stores, journal, libraries."""
_log = get_logger("main")


def run(
    settings: Settings, reread: Callable[[], Settings], complain: Callable[[str], None]
) -> int:
    """Serve until asked to stop; returns the exit code.

    reread: the settings as they are in the files now; for SIGHUP.
    """
    logging.configure(settings.log.level, settings.log.format)
    notifier = systemd.Notifier(os.environ)
    try:
        if settings.tls.bind:
            certificate_end(settings)
        wanted = settings.gateway.connections_max + DESCRIPTORS_SPARE
        settings = within(settings, _raise_descriptor_limit(wanted))
        with DataFolder(settings.data_folder) as data:
            os.umask(0o077)  # what is made from here on is for nobody else
            loaded = secrets.load(settings, os.environ)
            daemon = Daemon(settings, loaded, data.node_id(), notifier, reread)
            trio.run(daemon.run, strict_exception_groups=True)
    except EXPECTED as error:
        return explain(error, complain)
    finally:
        notifier.close()
    return 0


class Daemon:
    """One run on one data folder."""

    def __init__(
        self,
        settings: Settings,
        secrets: Secrets,
        node: str,
        notifier: systemd.Notifier,
        reread: Callable[[], Settings],
    ) -> None:
        self._settings = settings
        self._secrets = secrets
        self._node = node
        self._notifier = notifier
        self._reread = reread
        self._stopping = trio.Event()
        self._started_s = time.monotonic()
        self._state = "starting"
        self._clock = SystemClock()
        self._metrics = Metrics()
        self._addresses: list[str] = []
        self._edge_parts: Edge | None = None

    def stop(self) -> None:
        """Begin a graceful stop; again: nothing more."""
        if not self._stopping.is_set():
            self._state = "draining"
            self._notifier.stopping()
            _log.info("draining", seconds=self._settings.shutdown.drain_s)
            self._stopping.set()

    async def run(self) -> None:
        """Serve until `stop`. Raises what a part fails with, in exception groups."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._watch_signals, nursery.cancel_scope)
            nursery.start_soon(self._notifier.run_watchdog)
            nursery.start_soon(self._ask_for_time)
            async with self._stores() as dsn:
                await self._serve_on(dsn)
            nursery.cancel_scope.cancel()
        _log.info("stopped")

    async def _ask_for_time(self) -> None:
        """A recovery or a replay takes as long as it takes, as long as it goes on."""
        while self._state == "starting":
            self._notifier.extend_start(2 * START_STEP_S)
            await trio.sleep(START_STEP_S)

    # The nurseries, from the outermost in.

    @asynccontextmanager
    async def _stores(self) -> AsyncIterator[str]:
        """A PostgreSQL that answers, with its schema up to date."""
        dsn = secrets.dsn(self._settings)
        async with trio.open_nursery() as nursery:
            server: EmbeddedPostgres | None = None
            if not dsn:
                self._notifier.status("Starting PostgreSQL")
                server = EmbeddedPostgres(
                    self._settings.data_folder / "postgres",
                    start_s=self._settings.postgres.start_s,
                )
                dsn = await nursery.start(server.run)
            await self._migrate(dsn)
            yield dsn
            if server is not None:
                server.close()

    async def _migrate(self, dsn: str) -> None:
        """Raises: Unavailable, if the server did not answer for start_s."""
        self._notifier.status("Migrating the schema")
        start_s = self._settings.postgres.start_s
        last_s, last_why = trio.current_time() + start_s, ""
        while True:
            try:
                for applied in await migrations.apply(dsn):
                    _log.info("migrated", file=applied.file)
            except Unavailable as error:
                if trio.current_time() >= last_s:
                    raise
                why = driver_said(error) or error.code
                if why != last_why:
                    _log.warning("waiting for PostgreSQL", why=why, seconds=start_s)
                    last_why = why
                await trio.sleep(RETRY_S)
            else:
                return

    async def _serve_on(self, dsn: str) -> None:
        pool = make_pool(self._settings, dsn)
        async with trio.open_nursery() as nursery:
            await nursery.start(pool.run)
            core = Core(
                self._settings,
                self._secrets,
                pool,
                self._node,
                self._metrics,
                Hub(self._metrics),
                self._clock,
            )
            try:
                await core.auth.start()
                await core.bots.start()
                await core.moderation.start()
                await core.events.start()
                await core.ledger.start()
                await core.wallets.start()
                await self._journal(core)
            finally:
                await core.senders.aclose()
                await core.bots.aclose()
                await core.links.aclose()
                await core.payments.aclose()
            nursery.cancel_scope.cancel()

    async def _journal(self, core: Core) -> None:
        self._notifier.status("Replaying the journal")
        replayed = await core.applier.recover(core.flusher.flush)
        if replayed:
            _log.info("replayed", records=replayed)
        async with trio.open_nursery() as journal:
            await journal.start(core.journal.run)
            async with trio.open_nursery() as flush:
                await flush.start(core.flusher.run)
                loader = await flush.start(_run_cancellable, core.applier.loader.run)
                await self._jobs(core)
                await core.applier.durable(core.applier.applied_position)
                flush_s = self._settings.shutdown.flush_s
                flush.cancel_scope.deadline = trio.current_time() + flush_s
                core.flusher.close()
                loader.cancel()
            if core.applier.unflushed:
                _log.warning(
                    "left to the next start", records=len(core.applier.unflushed)
                )
            core.journal.close()

    async def _jobs(self, core: Core) -> None:
        health = StoreHealth("postgres", core.pool.check)
        checks = {
            "postgres": health.problem,
            "serving": lambda: None if self._state == "serving" else self._state,
        }
        edge = self._edge_parts = Edge(self._settings, core, checks)
        console = self._console(core, edge)
        operator.declare_metrics(core, edge)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(health.run)
            nursery.start_soon(every, TICK_S, edge.sessions.tick)
            nursery.start_soon(core.search.indexer.run)
            nursery.start_soon(core.bots.run)
            nursery.start_soon(every, TICK_S, core.messaging.typing.tick)
            garbage = collector.Collector(lambda: _taken(edge), time.monotonic)
            nursery.start_soon(every, collector.TICK_S, garbage.tick)
            nursery.start_soon(edge.last_seen.run)
            prunes = {
                "auth": core.auth.prune,
                "dead letters": core.bots.prune,
                "idempotency": core.idempotency.prune,
                "handled events": core.events.prune,
                "sagas": core.sagas.prune,
                **core.beside.prunes,
            }
            nursery.start_soon(prune_regularly, prunes, PRUNE_INTERVAL_S)
            nursery.start_soon(core.events.housekeeping.run)
            nursery.start_soon(core.ledger.housekeeping.run)
            for alarm in (*core.beside.alarms, core.moderation.signing_out):
                nursery.start_soon(alarm.run)
            try:
                await nursery.start(console.run)
            except OSError as error:
                raise NotAvailable(
                    f"console {self._settings.console_socket}: {error.strerror}"
                ) from error
            await self._ledger(core, edge)
            await self._keep_last_seen(edge)
            console.close()
            nursery.cancel_scope.cancel()

    async def _ledger(self, core: Core, edge: Edge) -> None:
        """What was taken by the end is answered, as nothing or as done."""
        async with trio.open_nursery() as ledger:
            await ledger.start(core.ledger.run)
            await self._relay(core, edge)
            core.ledger.close()

    async def _relay(self, core: Core, edge: Edge) -> None:
        """What is written until the end is left to the next start."""
        async with trio.open_nursery() as relay:
            await relay.start(core.events.relay.run)
            await self._sagas(core, edge)
            core.events.relay.close()

    async def _sagas(self, core: Core, edge: Edge) -> None:
        """Steps under way are finished; what follows is left to other nodes, or to the
        next start."""
        async with trio.open_nursery() as sagas:
            await sagas.start(core.sagas.run)
            await self._edge(edge)
            core.sagas.close()

    async def _edge(self, edge: Edge) -> None:
        async with trio.open_nursery() as commands:
            await commands.start(edge.dispatcher.run)
            expiry = await commands.start(_run_cancellable, edge.endpoint.run)
            async with trio.open_nursery() as accept:
                await self._accept(edge, accept)
                self._state = "serving"
                collector.settle()
                self._notifier.ready(f"Serving {', '.join(self._addresses)}")
                took_s = round(time.monotonic() - self._started_s, 2)
                _log.info(
                    "serving", at=self._addresses, version=__version__, took_s=took_s
                )
                await self._stopping.wait()
                limit_s = self._settings.shutdown.drain_s + EDGE_GRACE_S
                commands.cancel_scope.deadline = trio.current_time() + limit_s
                edge.plain.close()
                if edge.tls is not None:
                    edge.tls.close()
            edge.dispatcher.close()
            expiry.cancel()

    async def _keep_last_seen(self, edge: Edge) -> None:
        """Everybody was here until now; what does not reach the store is lost."""
        edge.presence.close()
        try:
            with trio.move_on_after(LAST_SEEN_S):
                await edge.last_seen.write()
        except DomainError as error:
            _log.warning("last times are lost", why=error.code)

    async def _accept(self, edge: Edge, nursery: trio.Nursery) -> None:
        inherited = systemd.listen_sockets(os.environ)
        plain = inherited or [_listen(self._settings, self._settings.listen.bind)]
        for listener in plain:
            listener.setblocking(False)
        await nursery.start(edge.plain.run, plain)
        self._addresses = [f"http://{_address_of(listener)}" for listener in plain]
        if edge.tls is not None:
            secure = _listen(self._settings, self._settings.tls.bind)
            await nursery.start(edge.tls.run, [secure])
            self._addresses.append(f"https://{_address_of(secure)}")

    # Operators.

    def _console(self, core: Core, edge: Edge) -> Console:
        of = self._settings.console
        ports = operator.ports(
            core, edge, state=lambda: self._status(), drain=self.stop
        )
        return Console(
            self._settings.console_socket,
            [
                *standard_commands(ports, of.rows_max),
                operator.search_command(core.search),
                core.sagas.command(of.rows_max),
                *moderators.commands(
                    core.auth, core.bots, core.moderation, core.clock, of.rows_max
                ),
                *dead_letters.commands(
                    core.events.letters,
                    core.events.relay.retry,
                    lambda: core.events.relay.settled,
                    lambda: core.events.relay.subscribers,
                    core.clock,
                    of.rows_max,
                ),
            ],
            connections_max=of.connections_max,
            line_bytes_max=of.line_bytes_max,
            command_s=of.command_s,
        )

    def _status(self) -> dict[str, object]:
        return {
            "state": self._state,
            "version": __version__,
            "pid": os.getpid(),
            "uptime_s": round(time.monotonic() - self._started_s),
            "mode": self._settings.mode,
            "listening": self._addresses,
        }

    async def _watch_signals(
        self,
        everything: trio.CancelScope,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        with trio.open_signal_receiver(
            signal.SIGTERM, signal.SIGINT, signal.SIGHUP
        ) as received:
            task_status.started()
            async for number in received:
                if number == signal.SIGHUP:
                    self._reload()
                elif self._state == "serving":
                    self.stop()
                else:  # the second one, or there is nothing to drain yet
                    _log.warning("stopping at once", signal=signal.Signals(number).name)
                    everything.cancel()

    def _reload(self) -> None:
        """Apply what can change while it runs: what is logged, how, the certificate.

        Everything else is applied at the next start. A wrong configuration is said
        and changes nothing.
        """
        self._notifier.reloading()
        try:
            settings = self._reread()
        except ConfigurationError as error:
            for problem in error.problems:
                _log.error("not reloaded", problem=problem)
        else:
            logging.configure(settings.log.level, settings.log.format)
            self._reload_certificate()
            _log.info("reloaded", level=settings.log.level)
        self._notifier.ready(f"Serving {', '.join(self._addresses)}")

    def _reload_certificate(self) -> None:
        """Of the files named at the start: renewed ones have the same names."""
        if self._edge_parts is None or self._edge_parts.tls is None:
            return
        try:
            self._edge_parts.tls.reload_certificate()
        except OSError as error:  # ssl.SSLError is one
            _log.error("certificate not reloaded", problem=error.strerror or str(error))


async def _run_cancellable(
    run: Callable[[], Awaitable[None]],
    *,
    task_status: trio.TaskStatus[trio.CancelScope] = trio.TASK_STATUS_IGNORED,
) -> None:
    with trio.CancelScope() as scope:
        task_status.started(scope)
        await run()


def _listen(settings: Settings, address: str) -> socket.socket:
    host, port = split_address(address)
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(where)
        listener.listen(settings.listen.backlog)
    except OSError as error:
        raise NotAvailable(f"{address}: {error.strerror or error}") from error
    listener.setblocking(False)
    return listener


def _address_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _taken(edge: Edge) -> float:
    """Messages and requests of clients so far, over the plain port."""
    statistics = edge.gateway.statistics()
    return statistics["messages"] + statistics["requests"]


def _raise_descriptor_limit(wanted: int) -> int:
    """As many descriptors as wanted, as far as the system lets us; how many it is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        soft = allowed
    return wanted if soft == resource.RLIM_INFINITY else soft


def within(settings: Settings, descriptors: int) -> Settings:
    """The settings with no more connections than there are descriptors for.

    So that one connection too many is refused, and no file fails to open.
    """
    of = settings.gateway
    most = max(1, descriptors - DESCRIPTORS_SPARE)
    if of.connections_max <= most:
        return settings
    _log.info(
        "fewer connections than gateway.connections_max, for want of descriptors",
        connections_max=most,
        descriptors=descriptors,
    )
    gateway = msgspec.structs.replace(
        of,
        connections_max=most,
        connections_per_address_max=min(of.connections_per_address_max, most),
    )
    return msgspec.structs.replace(settings, gateway=gateway)
