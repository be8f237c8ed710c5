"""Owns what operators see of the running daemon: console answers and gauges."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec

from tchatd.app.search import Search
from tchatd.app.wiring import Core, Edge
from tchatd.domains.auth.models import UserRecord
from tchatd.edge.console import Command, ConsoleError, ConsolePorts, Row, Rows
from tchatd.kernel.clock import rfc3339


def ports(
    core: Core,
    edge: Edge,
    *,
    state: Callable[[], Mapping[str, object]],
    drain: Callable[[], None],
) -> ConsolePorts:
    """The console's commands over the real parts. state: the daemon's own facts."""

    async def user_of(text: str) -> UserRecord:
        record = await core.auth.find_user(text)
        if record is None:
            raise ConsoleError("not-found", "there is no such user")
        return record

    def status() -> Row:
        return {**state(), **_traffic(core, edge)}

    async def sessions(text: str, limit: int) -> Rows:
        record = await user_of(text)
        views = await core.auth.sessions_of(record.number)
        online = {
            str(session.caller.session_id)
            for session in core.hub.sessions_of(record.number)
            if session.caller is not None
        }
        rows = [msgspec.to_builtins(view) for view in views[:limit]]
        for row in rows:
            row.pop("is_current", None)
            row["online"] = row["id"] in online
        return Rows(rows, len(views))

    async def kick(text: str) -> Row:
        record = await user_of(text)
        connections = len(core.hub.sessions_of(record.number))
        ended = await core.auth.kick(record.number)
        return {"sessions_ended": ended, "connections_closed": connections}

    def otp(identifier: str) -> str | None:
        if core.senders.sandbox is None:
            raise ConsoleError("not-sandbox", "codes are sent out, not kept")
        return core.senders.sandbox.code_of(identifier)

    return ConsolePorts(
        status=status,
        connections=lambda limit: _connections(core, edge, limit),
        sessions=sessions,
        kick=kick,
        otp=otp,
        journal=lambda: _journal(core),
        drain=drain,
        metrics=lambda: core.metrics.render().decode(),
    )


def search_command(search: Search) -> Command:
    def run(arguments: Sequence[str]) -> Row:
        if not arguments:
            return search.status()
        if arguments[0] != "rebuild":
            raise ConsoleError("usage", "usage: search [rebuild]")
        if not search.indexer.rebuild():
            raise ConsoleError("busy", "it is being built already")
        return {"rebuilding": True}

    return Command("search", "[rebuild]", "The search index; build it anew.", run)


def _traffic(core: Core, edge: Edge) -> dict[str, Any]:
    tls = 0 if edge.tls is None else len(edge.tls.transport.connections)
    pool, journal, applier = core.pool.statistics(), core.journal, core.applier
    kept = journal.statistics()
    return {
        "connections": edge.gateway.connections + tls,
        "sessions": len(core.hub.sessions),
        "users_online": len(core.hub.online),
        "requests_waiting": edge.endpoint.outstanding,
        "journal": {
            "durable_position": journal.durable_position,
            "flushed_position": applier.flushed_position,
            "backlog_bytes": kept.backlog_bytes,
            "no_space": kept.no_space,
        },
        "postgres": {
            "connections": pool.in_use + pool.idle,
            "in_use": pool.in_use,
            "waiting": pool.waiting,
        },
    }


def _connections(core: Core, edge: Edge, limit: int) -> Rows:
    """WebSocket sessions, the oldest first."""
    rows = []
    for session in islice(core.hub.sessions.values(), limit):
        caller = session.caller
        assert caller is not None
        described = edge.gateway.describe(session.connection) or {}
        rows.append(
            {
                "connection": session.connection,
                "user": str(caller.user_id),
                "session": str(caller.session_id),
                "address": session.address,
                "protocol": "msgpack" if session.lane.is_msgpack else "json",
                "transport": "tls" if session.connection < 0 else "plain",
                "token_until": rfc3339(session.expires_at_ms),
                "queued_bytes": described.get("queued_bytes"),
            }
        )
    return Rows(rows, len(core.hub.sessions))


def _journal(core: Core) -> Row:
    statistics: dict[str, Any] = msgspec.to_builtins(core.journal.statistics())
    statistics["flushed_position"] = core.applier.flushed_position
    statistics["unflushed_records"] = len(core.applier.unflushed)
    statistics["store_is_away"] = core.flusher.is_failing
    last_ms = statistics.pop("last_sync_at_ms")
    statistics["last_sync_at"] = rfc3339(last_ms) if last_ms else None
    for name in ("batch_records", "sync_s"):
        pairs = statistics.pop(name)
        statistics[name] = {f"<={bound}": int(count) for bound, count in pairs if count}
    return statistics


def declare_metrics(core: Core, edge: Edge) -> None:
    """Numbers that parts keep by themselves, read when somebody looks."""
    metrics = core.metrics
    for name in edge.gateway.statistics():
        read = _reader(edge.gateway.statistics, name)
        metrics.gauge(f"gateway_{name}", f"Gateway: {name.replace('_', ' ')}", read)
    for name in ("size", "in_use", "idle", "waiting"):
        read = _attribute(core.pool.statistics, name)
        metrics.gauge(
            f"pool_{name}", f"PostgreSQL pool: {name.replace('_', ' ')}", read
        )
    for name in ("waits", "refused", "opened", "open_errors", "broken", "aged"):
        read = _attribute(core.pool.statistics, name)
        metrics.counter(
            f"pool_{name}", f"PostgreSQL pool: {name.replace('_', ' ')}", read=read
        )
    metrics.gauge("dialogs_loaded", "Dialogs in memory", lambda: len(core.state))
    metrics.gauge(
        "answers_undurable",
        "Answers that wait for the disk",
        lambda: core.applier.undurable,
    )
    for name in core.auth.statistics():
        read = _reader(core.auth.statistics, name)
        metrics.gauge(f"auth_{name}", f"Sign-in: {name.replace('_', ' ')}", read)
    metrics.gauge(
        "requests_waiting", "Requests that wait", lambda: edge.endpoint.outstanding
    )


def _reader(
    statistics: Callable[[], Mapping[str, int]], name: str
) -> Callable[[], float]:
    return lambda: statistics()[name]


def _attribute(statistics: Callable[[], object], name: str) -> Callable[[], float]:
    return lambda: float(getattr(statistics(), name))
