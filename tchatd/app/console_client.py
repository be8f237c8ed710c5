"""Owns the operator's side of the console: one command, or a conversation.

Speaks to the unix socket of a running daemon (`tchatd.edge.console`) with plain
blocking sockets: there is nothing else to do while an answer is awaited.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from tchatd.edge.console import reachable

CONNECT_S = 5.0
ANSWER_S = 60.0
LINE_BYTES_MAX = 1 << 24
HISTORY_LINES_MAX = 1_000
CELL_CHARS_MAX = 60
TEXT_CHARS_MAX = 1_000
PROMPT = "tchatd> "


class NoDaemon(Exception):
    """Nobody serves the socket; the text says what to do."""


class Refused(Exception):
    """The daemon answered with an error. code: `usage`, `not-found`, …"""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ConsoleClient:
    """One connection. Usable as a context manager."""

    def __init__(self, path: Path) -> None:
        """Raises: NoDaemon."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(CONNECT_S)
        self._id = 0
        try:
            with reachable(path) as name:
                self._socket.connect(name)
        except OSError as error:
            self._socket.close()
            raise NoDaemon(_why_not(path, error)) from None
        self._socket.settimeout(ANSWER_S)
        self._reader = self._socket.makefile("rb")

    def __enter__(self) -> ConsoleClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()
        self._socket.close()

    def ask(self, command: str, arguments: Sequence[str] = ()) -> Any:
        """The result of one command.

        Raises:
            Refused: the daemon said no.
            NoDaemon: the daemon went away before it answered.
        """
        self._id += 1
        asked = {"id": self._id, "command": command, "arguments": list(arguments)}
        try:
            self._socket.sendall(json.dumps(asked).encode() + b"\n")
            line = self._reader.readline(LINE_BYTES_MAX)
        except TimeoutError:
            raise NoDaemon(f"no answer within {ANSWER_S:.0f} seconds") from None
        except OSError as error:
            raise NoDaemon(f"the daemon went away: {error.strerror}") from None
        if not line.endswith(b"\n"):
            raise NoDaemon("the daemon went away before it answered")
        answer = json.loads(line)
        if "error" in answer:
            raise Refused(answer["error"]["code"], answer["error"]["message"])
        return answer["result"]


def _why_not(path: Path, error: OSError) -> str:
    if isinstance(error, PermissionError):
        return f"{path}: only root and the daemon's own user may use the console"
    if isinstance(error, FileNotFoundError | ConnectionRefusedError):
        return (
            f"no daemon serves {path}; start it with `tchatd run`, "
            "or name its folder with --data"
        )
    return f"{path}: {error.strerror or error}"


def run_once(path: Path, words: Sequence[str], *, as_json: bool) -> None:
    """Run one command and print its result.

    Raises:
        NoDaemon, Refused: nothing was printed.
    """
    with ConsoleClient(path) as client:
        result = client.ask(words[0], words[1:])
    _print(result, as_json=as_json)


def converse(path: Path, *, as_json: bool, history: Path | None = None) -> None:
    """Read commands until `exit` or the end of input.

    Raises:
        NoDaemon: when there is none at the start, or it goes away.
    """
    with ConsoleClient(path) as client:
        names = [row["command"].split()[0] for row in client.ask("help")["rows"]]
        with _line_editing(names, history or history_path()):
            for line in _lines():
                try:
                    words = shlex.split(line)
                except ValueError as error:
                    print(f"error: {error}", file=sys.stderr)
                    continue
                if not words:
                    continue
                if words[0] in ("exit", "quit"):
                    return
                try:
                    _print(client.ask(words[0], words[1:]), as_json=as_json)
                except Refused as refused:
                    print(f"error: {refused}", file=sys.stderr)


def _lines() -> Iterator[str]:
    while True:
        try:
            yield input(PROMPT if sys.stdin.isatty() else "")
        except EOFError:
            if sys.stdin.isatty():
                print()
            return
        except KeyboardInterrupt:
            print()


def history_path() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "tchatd" / "console_history"


@contextmanager
def _line_editing(names: Sequence[str], history: Path) -> Iterator[None]:
    """History (0600, bounded) and completion, where Python has readline."""
    try:
        import readline
    except ImportError:
        yield
        return
    readline.set_completer_delims(" ")
    readline.set_completer(Completer([*names, "exit"]))
    readline.parse_and_bind("tab: complete")
    readline.set_history_length(HISTORY_LINES_MAX)
    with suppress(OSError):
        readline.read_history_file(history)
    try:
        yield
    finally:
        readline.set_completer(None)
        with suppress(OSError):  # a home that cannot be written to is no failure
            history.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(history, os.O_WRONLY | os.O_CREAT, 0o600))
            history.chmod(0o600)
            readline.write_history_file(history)


class Completer:
    """readline's completer: commands, also after `help`; levels after `log-level`."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def __call__(self, text: str, state: int) -> str | None:
        import readline

        before = readline.get_line_buffer()[: readline.get_begidx()].split()
        found = self.candidates(before, text)
        return found[state] if state < len(found) else None

    def candidates(self, before: Sequence[str], text: str) -> list[str]:
        if not before:
            words: Sequence[str] = self._names
        elif before == ["help"]:
            words = self._names
        elif before == ["log-level"]:
            words = ("debug", "info", "warning", "error", "critical")
        else:
            words = ()
        return [f"{word} " for word in words if word.startswith(text)]


def _print(result: Any, *, as_json: bool, stream: TextIO | None = None) -> None:
    text = (
        json.dumps(result, ensure_ascii=False, indent=2) if as_json else shown(result)
    )
    print(text, file=stream or sys.stdout)


def shown(result: Any) -> str:
    """A result as a person reads it: a table, aligned pairs, or the text itself."""
    if isinstance(result, str):
        return result.rstrip("\n")
    if isinstance(result, Mapping) and set(result) == {"rows", "total"}:
        return _table(result["rows"], result["total"])
    if isinstance(result, Mapping):
        return "\n".join(_pairs(result))
    return json.dumps(result, ensure_ascii=False)


def _pairs(values: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    width = max((len(name) for name in values), default=0)
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield f"{indent}{name}"
            yield from _pairs(value, indent + "  ")
        else:
            yield f"{indent}{name:<{width}}  {_cell(value, TEXT_CHARS_MAX)}"


def _table(rows: Sequence[Mapping[str, Any]], total: int) -> str:
    if not rows:
        return "none" if total == 0 else f"0 of {total} shown"
    names = list(rows[0])
    # What is last is in no other's way: the terminal wraps it.
    most = [CELL_CHARS_MAX] * (len(names) - 1) + [TEXT_CHARS_MAX]
    cells = [
        [_cell(row.get(name), chars) for name, chars in zip(names, most, strict=True)]
        for row in rows
    ]
    widths = [
        max(len(name), *(len(line[index]) for line in cells))
        for index, name in enumerate(names)
    ]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in [names, *cells]
    ]
    if total > len(rows):
        lines.append(f"{len(rows)} of {total} shown")
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: Any, chars_max: int) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = "".join(char if char.isprintable() else "\ufffd" for char in text)
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"
