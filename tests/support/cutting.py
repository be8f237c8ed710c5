"""Owns a proxy before PostgreSQL that cuts a connection at a chosen moment.

Every piece of data that goes through, either way, is an event, numbered from 0. At the
event `at` the connection is cut: before the piece is passed on, or after (then the
other side has it, and no answer comes back). Later connections go through.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from psycopg.conninfo import conninfo_to_dict, make_conninfo

PORT = 5432
_PIECE_BYTES = 1 << 20


class CuttingProxy:
    """at: None lets everything through. events: how many there were."""

    def __init__(self, server: str, at: int | None, *, passes: bool) -> None:
        self._server = server
        self._at = at
        self._passes = passes
        self.events = 0
        self.was_cut = False

    async def serve(self, client: trio.SocketStream) -> None:
        server = await trio.open_unix_socket(self._server)
        async with client, server, trio.open_nursery() as nursery:
            for source, target in ((client, server), (server, client)):
                nursery.start_soon(self._pump, source, target, nursery.cancel_scope)

    async def _pump(
        self,
        source: trio.SocketStream,
        target: trio.SocketStream,
        scope: trio.CancelScope,
    ) -> None:
        try:
            while piece := await source.receive_some(_PIECE_BYTES):
                is_cut = self.events == self._at
                self.events += 1
                if not is_cut or self._passes:
                    await target.send_all(piece)
                if is_cut:
                    self.was_cut = True
                    break
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        scope.cancel()


@asynccontextmanager
async def cutting(
    dsn: str, at: int | None, *, passes: bool
) -> AsyncIterator[tuple[CuttingProxy, str]]:
    """The proxy, and the DSN that goes through it."""
    parts = conninfo_to_dict(dsn)
    server = f"{parts['host']}/.s.PGSQL.{parts.get('port', PORT)}"
    proxy = CuttingProxy(server, at, passes=passes)
    with tempfile.TemporaryDirectory(prefix="tchatd-cut-", dir="/tmp") as folder:
        listening = trio.socket.socket(trio.socket.AF_UNIX)
        await listening.bind(str(Path(folder) / f".s.PGSQL.{PORT}"))
        listening.listen(16)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                trio.serve_listeners, proxy.serve, [trio.SocketListener(listening)]
            )
            yield proxy, make_conninfo(dsn, host=folder, port=PORT)
            nursery.cancel_scope.cancel()
