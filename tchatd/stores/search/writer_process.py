"""Owns the process that writes an index (`writer.py`), as the daemon sees it.

It is killed when it is not wanted any more: what it did not commit is put again by
whoever feeds it. It ends by itself when the daemon does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trio

from tchatd.domains.search.errors import IndexStuck
from tchatd.domains.search.store import Doc
from tchatd.stores.search.frames import (
    LENGTH_BYTES,
    Commit,
    Puts,
    decode_reply,
    encode_frame,
    length_of,
)

Put = tuple[bool, Doc | int]
_MODULE = "tchatd.stores.search.writer"


class WriterProcess:
    """One task uses it. After a call that was cancelled, only `close` is of use."""

    def __init__(self, process: trio.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._sink: trio.abc.SendStream = process.stdin
        self._source: trio.abc.ReceiveStream = process.stdout
        self._read = bytearray()

    @classmethod
    async def start(cls, folder: Path, writer_bytes: int) -> WriterProcess:
        """Raises: IndexStuck: it cannot be started, or not write this index."""
        command = [sys.executable, "-m", _MODULE, str(folder), str(writer_bytes)]
        try:
            process = await trio.lowlevel.open_process(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=_environment(),
            )
        except OSError as error:
            raise IndexStuck(f"its writer: {error}") from error
        writer = cls(process)
        try:
            await writer._reply()
        except BaseException:  # also when cancelled: no process is left behind
            await writer.close()
            raise
        return writer

    @property
    def pid(self) -> int:
        return self._process.pid

    async def put(self, puts: Sequence[Put]) -> None:
        """Raises: IndexStuck."""
        await self._send(Puts(list(puts)))

    async def commit(self, position: int, people_ms: int) -> None:
        """Raises: IndexStuck."""
        await self._send(Commit(position, people_ms))
        await self._reply()

    async def _send(self, frame: Puts | Commit) -> None:
        try:
            await self._sink.send_all(encode_frame(frame))
        except trio.BrokenResourceError:
            await self._reply()
            raise IndexStuck("its writer ended") from None

    async def _reply(self) -> None:
        head = await self._receive(LENGTH_BYTES)
        why = decode_reply(await self._receive(length_of(head)))
        if why is not None:
            raise IndexStuck(why)

    async def _receive(self, count: int) -> bytes:
        while len(self._read) < count:
            more = await self._source.receive_some()
            if not more:
                raise IndexStuck("its writer ended")
            self._read += more
        wanted = bytes(self._read[:count])
        del self._read[:count]
        return wanted

    async def close(self) -> None:
        """It does not run any more then."""
        with trio.CancelScope(shield=True):
            self._process.kill()
            await self._process.wait()
            await self._sink.aclose()
            await self._source.aclose()


def _environment() -> dict[str, Any]:
    """Without our settings, of which some are secret."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("TCHATD_")
    }
