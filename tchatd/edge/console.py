"""Owns the operator's console: a unix socket, one JSON object a line each way.

Only root and the daemon's own user may talk (SO_PEERCRED), whatever the file's mode.

    {"id":1,"command":"kick","arguments":["USER"]}
    {"id":1,"result":…}  or  {"id":1,"error":{"code":"usage","message":"…"}}

Commands are rows of a table (`Command`); what they need comes in as `ConsolePorts`.
A path longer than a socket's 107 bytes is reached through /proc/self/fd.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import msgspec
import trio

from tchatd.kernel.errors import DomainError
from tchatd.observe import logging
from tchatd.observe.logging import get_logger

PATH_BYTES_MAX = 107
ARGUMENTS_MAX = 32
PEER: ContextVar[int] = ContextVar("console peer")
"""The user id of who runs the command that runs now."""
_log = get_logger("console")
Row = Mapping[str, Any]


class Rows(msgspec.Struct, frozen=True):
    """A list that may be cut. total: how many there are."""

    rows: Sequence[Row]
    total: int


class Command(msgspec.Struct, frozen=True):
    """usage: the arguments, as `USER [CODE]`; as many as its words, `[…]` optional;
    any number with options, as `--reason WHY [--for 7d]`."""

    name: str
    usage: str
    help: str
    run: Callable[[Sequence[str]], Any | Awaitable[Any]]
    options: str = ""

    @property
    def synopsis(self) -> str:
        return " ".join(part for part in (self.name, self.usage, self.options) if part)

    def takes(self, count: int) -> bool:
        words = self.usage.split()
        needed = sum(not word.startswith("[") for word in words)
        return needed <= count <= (ARGUMENTS_MAX if self.options else len(words))


class ConsolePorts(msgspec.Struct, frozen=True, kw_only=True):
    """What the standard commands ask for. A user is given by id, phone or email.

    connections, sessions: at most so many rows, and the total.
    otp: the last code sent in sandbox mode; None when there is none.
    kick: ends every session of the user; how many connections were closed.
    """

    status: Callable[[], Row]
    connections: Callable[[int], Rows]
    sessions: Callable[[str, int], Awaitable[Rows]]
    kick: Callable[[str], Awaitable[Row]]
    otp: Callable[[str], str | Awaitable[str | None] | None]
    journal: Callable[[], Row]
    drain: Callable[[], None]
    metrics: Callable[[], str]


class ConsoleError(Exception):
    """Refused; code is `usage`, `unknown-command`, `not-found`, … for the client."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def standard_commands(ports: ConsolePorts, rows_max: int) -> list[Command]:
    async def otp(arguments: Sequence[str]) -> Row:
        found = ports.otp(arguments[0])
        code = found if isinstance(found, str) or found is None else await found
        if code is None:
            raise ConsoleError("not-found", "no code was sent there, or it has ended")
        return {"code": code}

    def drain(_: Sequence[str]) -> Row:
        ports.drain()
        return {"draining": True}

    def level(arguments: Sequence[str]) -> Row:
        if arguments:
            if arguments[0] not in logging.LEVELS:
                known = ", ".join(logging.LEVELS)
                raise ConsoleError("usage", f"the level is one of {known}")
            logging.set_level(arguments[0])
            _log.warning("log level changed", to=arguments[0])
        return {"level": logging.level()}

    return [
        Command("status", "", "What the daemon is doing.", lambda _: ports.status()),
        Command(
            "connections",
            "[COUNT]",
            "Open connections.",
            lambda a: ports.connections(_count(a, rows_max)),
        ),
        Command(
            "sessions",
            "USER",
            "Devices of a user (id, phone or email).",
            lambda a: ports.sessions(a[0], rows_max),
        ),
        Command(
            "kick", "USER", "Sign a user out everywhere.", lambda a: ports.kick(a[0])
        ),
        Command("otp", "IDENTIFIER", "The last one-time code (sandbox only).", otp),
        Command("journal", "", "Journal and flush.", lambda _: ports.journal()),
        Command("drain", "", "Stop accepting, finish, and end.", drain),
        Command("log-level", "[LEVEL]", "Show or set what is logged.", level),
        Command("metrics", "", "As /metrics.", lambda _: ports.metrics()),
    ]


def _count(arguments: Sequence[str], most: int) -> int:
    if not arguments:
        return most
    if not arguments[0].isdecimal() or int(arguments[0]) < 1:
        raise ConsoleError("usage", "COUNT is a number from 1")
    return min(int(arguments[0]), most)


class _Request(msgspec.Struct, forbid_unknown_fields=True):
    command: str
    id: int = 0
    arguments: list[str] = []


class Console:
    """Serves `commands` on the socket at `path` until `close`.

    connections_max: the next one is told so and closed. line_bytes_max: of a request
    (a longer one ends the connection) and of an answer (a longer one is refused).
    command_s: the longest time of one command.
    """

    def __init__(
        self,
        path: Path,
        commands: Iterable[Command],
        *,
        connections_max: int = 8,
        line_bytes_max: int = 1 << 20,
        command_s: float = 30.0,
    ) -> None:
        self._path = path
        self._commands = {command.name: command for command in commands}
        self._commands["help"] = Command(
            "help", "[COMMAND]", "All commands, or one.", self._help
        )
        self._connections_max = connections_max
        self._line_bytes_max = line_bytes_max
        self._command_s = command_s
        self._open = 0
        self._closing = trio.Event()

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until `close`; a command that runs is then cancelled.

        Raises:
            OSError: the socket cannot be made.
        """
        with _listening(self._path) as listener:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._accept, listener, nursery)
                task_status.started()
                await self._closing.wait()
                nursery.cancel_scope.cancel()

    def close(self) -> None:
        self._closing.set()

    async def _accept(
        self, listener: trio.socket.SocketType, connections: trio.Nursery
    ) -> None:
        while True:
            try:
                accepted, _ = await listener.accept()
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ECONNABORTED):
                    raise
                await trio.sleep(0.1)  # out of descriptors: others may close some
                continue
            connections.start_soon(self._serve, trio.SocketStream(accepted))

    async def _serve(self, stream: trio.SocketStream) -> None:
        self._open += 1
        try:
            async with stream:
                peer = _peer_of(stream)
                PEER.set(peer)
                if peer not in (0, os.geteuid()):
                    _log.warning("refused: neither root nor our own user")
                elif self._open > self._connections_max:
                    await stream.send_all(
                        _failure(0, "busy", "too many consoles are open")
                    )
                else:
                    await self._converse(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
        except Exception:  # noqa: BLE001  # around one connection (STYLE 5)
            _log.exception("a console connection failed")
        finally:
            self._open -= 1

    async def _converse(self, stream: trio.SocketStream) -> None:
        buffered = bytearray()
        while True:
            line, found, rest = buffered.partition(b"\n")
            if found:
                buffered = rest
                await stream.send_all(await self._answer(bytes(line)))
                continue
            if len(buffered) > self._line_bytes_max:
                await stream.send_all(_failure(0, "usage", "the line is too long"))
                return
            received = await stream.receive_some(65_536)
            if not received:
                return
            buffered += received

    async def _answer(self, line: bytes) -> bytes:
        try:
            request = msgspec.json.decode(line, type=_Request)
        except msgspec.DecodeError:
            return _failure(0, "usage", "a line is a JSON object with command")
        try:
            with trio.fail_after(self._command_s):
                result = await self._run(request)
            encoded = _encode({"id": request.id, "result": result})
        except ConsoleError as error:
            return _failure(request.id, error.code, str(error))
        except DomainError as error:
            return _failure(request.id, error.code, error.detail)
        except trio.TooSlowError:
            return _failure(request.id, "timeout", "the command took too long")
        if len(encoded) > self._line_bytes_max:
            return _failure(request.id, "too-large", "the answer is too long")
        return encoded

    async def _run(self, request: _Request) -> Any:
        command = self._commands.get(request.command)
        if command is None:
            raise _unknown(request.command)
        if not command.takes(len(request.arguments)):
            raise ConsoleError("usage", f"usage: {command.synopsis}")
        result = command.run(request.arguments)
        return await result if isinstance(result, Awaitable) else result

    def _help(self, arguments: Sequence[str]) -> Row | Rows:
        """One with its options, or all in a line each."""
        if arguments:
            command = self._commands.get(arguments[0])
            if command is None:
                raise _unknown(arguments[0])
            return {"usage": command.synopsis, "help": command.help}
        rows = [
            {"command": f"{command.name} {command.usage}".strip(), "help": command.help}
            for command in self._commands.values()
        ]
        return Rows(rows, len(rows))


def _unknown(name: str) -> ConsoleError:
    return ConsoleError("unknown-command", f"no command {name!r}; try help")


def _encode(answer: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(answer, enc_hook=str) + b"\n"


def _failure(id: int, code: str, message: str) -> bytes:
    return _encode({"id": id, "error": {"code": code, "message": message}})


def _peer_of(stream: trio.SocketStream) -> int:
    credentials = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    assert isinstance(credentials, bytes)
    user_id: int = struct.unpack("3i", credentials)[1]
    return user_id


@contextmanager
def reachable(path: Path) -> Iterator[str]:
    """A name of the path that fits into a socket address, valid inside the `with`."""
    if len(os.fsencode(path)) <= PATH_BYTES_MAX:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


@contextmanager
def _listening(path: Path) -> Iterator[trio.socket.SocketType]:
    """The socket, for its owner only from the moment that anybody can connect.

    A socket file that is left from a crash is replaced: whoever serves holds the lock
    of the data folder.
    """
    if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
        path.unlink()
    plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener = trio.socket.from_stdlib_socket(plain)
    try:
        with reachable(path) as name:
            plain.bind(name)
        path.chmod(0o600)
        plain.listen(8)
        yield listener
    finally:
        listener.close()
        path.unlink(missing_ok=True)
