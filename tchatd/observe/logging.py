"""Owns what tchatd writes on stderr: one line an event, without personal data.

Refuses to decide where lines go: that is the business of systemd or of a container.
A line is written at once by the caller's thread. It is neither queued nor dropped, so
that the last words before a crash are there; a reader that stops reading stderr stops
the daemon, as it would stop any other.

Formats: `json` (one object a line: ts, level, logger, event, then what was given),
`console` (for a person), `auto` (console on a terminal, else json). Under systemd's
journal each line begins with its priority, `<3>` for an error (sd-daemon(3)).
"""

from __future__ import annotations

import logging as stdlib_logging
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO, cast

import msgspec
import structlog
from structlog.typing import EventDict, FilteringBoundLogger

from tchatd.kernel.clock import SystemClock, rfc3339

Logger = FilteringBoundLogger

LEVELS: dict[str, int] = {
    "debug": 10,
    "info": 20,
    "warning": 30,
    "error": 40,
    "critical": 50,
}
FORMATS = ("auto", "console", "json")
STRING_CHARS_MAX = 8_192  # of one value; the rest of it is cut
DEPTH_MAX = 6  # of nested values; what is below is written by its type's name
ITEMS_MAX = 64  # of one list or mapping

_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
_COLOURS = {"debug": 90, "info": 32, "warning": 33, "error": 31, "critical": 35}

# Names under which personal data or secrets travel; their values are never written.
_MASKED_NAMES = frozenset(
    {
        *("phone", "email", "identifier", "address_line", "document_number"),
        *("token", "access_token", "refresh_token", "authorization", "cookie"),
        *("password", "secret", "key", "private_key", "dsn", "card_number"),
    }
)
_EMAIL = re.compile(r"[\w.+%-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_PHONE = re.compile(r"(?<![\w+])\+[1-9](?:[ ().-]{0,2}\d){7,14}(?!\d)")
_TOKEN = re.compile(r"\beyJ[\w-]{8,}\.[\w-]{2,}(?:\.[\w-]*)?|(?i:\bbearer\s+\S+)")
_QUERY_TOKEN = re.compile(r"(?i)((?:token|secret|password|api_?key)=)[^&\s\"']+")
_URL_PASSWORD = re.compile(r"(\b[a-z][a-z0-9+.-]{0,20}://[^\s:/@]*:)[^\s@]+@")
_DIGITS = re.compile(r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-])")


def luhn(digits: str) -> bool:
    """Whether the check digit of a card number (ISO/IEC 7812-1) is right."""
    total = 0
    for index, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + index % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def masked(value: object, depth: int = 0) -> object:
    """The value with phones, emails, tokens and card numbers replaced by `[…]`."""
    if isinstance(value, str):
        return _masked_text(value)
    if isinstance(value, bool | float) or value is None:
        return value
    if isinstance(value, int):
        return "[card]" if _is_card(str(value)) else value
    if depth >= DEPTH_MAX:
        return f"<{type(value).__name__}>"
    if isinstance(value, Mapping):
        return {
            str(name): _masked_named(str(name), item, depth + 1)
            for name, item in list(value.items())[:ITEMS_MAX]
        }
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, Sequence | set | frozenset):
        return [masked(item, depth + 1) for item in list(value)[:ITEMS_MAX]]
    return _masked_text(str(value))


def _masked_named(name: str, value: object, depth: int) -> object:
    if name.lower() in _MASKED_NAMES and value is not None:
        return "[masked]"
    return masked(value, depth)


def _masked_text(text: str) -> str:
    if len(text) > STRING_CHARS_MAX:
        text = text[:STRING_CHARS_MAX] + "[cut]"
    if "@" in text:
        text = _URL_PASSWORD.sub(r"\1[password]@", text)
        text = _EMAIL.sub("[email]", text)
    if "+" in text:
        text = _PHONE.sub("[phone]", text)
    text = _TOKEN.sub("[token]", text)
    if "=" in text:
        text = _QUERY_TOKEN.sub(r"\1[masked]", text)
    return _DIGITS.sub(lambda found: "[card]" if _is_card(found[0]) else found[0], text)


def _is_card(text: str) -> bool:
    digits = text.replace(" ", "").replace("-", "")
    if not 13 <= len(digits) <= 19 or not digits.isdigit():
        return False
    if len(digits) == 13 and digits[0] == "1":
        return False  # a time in milliseconds; no issuer's number begins so
    return luhn(digits)


class _Output:
    """Where lines go, how they look, and from which level on."""

    def __init__(self) -> None:
        self.stream: TextIO | None = None  # None: sys.stderr of the moment
        self.threshold = LEVELS["info"]
        self.format = "auto"
        self.clock: Callable[[], int] = SystemClock().now_ms

    def write(self, event: EventDict) -> None:
        stream = self.stream or sys.stderr
        level = event["level"]
        prefix = f"<{_PRIORITIES[level]}>" if under_journal(stream) else ""
        if self.format == "json" or (self.format == "auto" and not stream.isatty()):
            text = prefix + msgspec.json.encode(event, enc_hook=str).decode()
        else:
            text = prefix + _console_line(event, colour=stream.isatty())
        try:
            stream.write(text + "\n")
            stream.flush()
        except (OSError, ValueError):
            return  # nobody reads any more; there is no other place to say so


_output = _Output()


class _LevelledLogger(structlog.BoundLoggerBase):
    """structlog's interface, with a threshold that changes at run time."""

    def _write(self, level: str, event: str, args: tuple[Any, ...], kw: Any) -> None:
        if LEVELS[level] >= _output.threshold:
            self._proxy_to_logger(level, event % args if args else event, **kw)

    def debug(self, event: str, *args: Any, **kw: Any) -> None:
        self._write("debug", event, args, kw)

    def info(self, event: str, *args: Any, **kw: Any) -> None:
        self._write("info", event, args, kw)

    def warning(self, event: str, *args: Any, **kw: Any) -> None:
        self._write("warning", event, args, kw)

    def error(self, event: str, *args: Any, **kw: Any) -> None:
        self._write("error", event, args, kw)

    def critical(self, event: str, *args: Any, **kw: Any) -> None:
        self._write("critical", event, args, kw)

    def exception(self, event: str, *args: Any, **kw: Any) -> None:
        kw.setdefault("exc_info", True)
        self._write("error", event, args, kw)

    def is_enabled_for(self, level: int) -> bool:
        return level >= _output.threshold

    def get_effective_level(self) -> int:
        return _output.threshold


class _Sink:
    """The end of structlog's pipeline: takes the finished event of any level."""

    def _write(self, event: EventDict) -> None:
        _output.write(event)

    debug = info = warning = error = critical = _write


class _FromStandardLibrary(stdlib_logging.Handler):
    """Brings what hypercorn, quart and others say into the same lines."""

    def emit(self, record: stdlib_logging.LogRecord) -> None:
        name = record.levelname.lower()
        write = getattr(get_logger(record.name), name if name in LEVELS else "info")
        write(record.getMessage(), exc_info=record.exc_info or None)


def _finish(_logger: object, level: str, event: EventDict) -> tuple[Any, Any]:
    """Order the fields, mask them; the tuple and dict are the sink's arguments."""
    line: dict[str, object] = {
        "ts": rfc3339(_output.clock()),
        "level": level,
        "logger": event.pop("logger", ""),
        "event": masked(event.pop("event", "")),
    }
    for name, value in event.items():
        line[name] = _masked_named(name, value, 1)
    return (line,), {}


def _console_line(event: Mapping[str, object], *, colour: bool) -> str:
    level = str(event["level"])
    shown = f"{level:<8}"
    if colour:
        shown = f"\x1b[{_COLOURS[level]}m{shown}\x1b[0m"
    parts = [str(event["ts"])[11:23], shown, _printable(str(event["event"]))]
    parts += [
        f"{name}={_shown(value)}"
        for name, value in event.items()
        if name not in ("ts", "level", "event", "logger", "exception")
    ]
    if event.get("logger"):
        parts.append(f"[{event['logger']}]")
    line = " ".join(parts)
    if "exception" in event:
        indented = str(event["exception"]).replace("\n", "\n  ")
        line += f"\n  {indented}"
    return line


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return repr(text) if " " in text or not text else _printable(text)


def _printable(text: str) -> str:
    """Control characters escaped, so that nobody can forge a line or a colour."""
    return text if text.isprintable() else repr(text)[1:-1]


def under_journal(stream: TextIO | None = None) -> bool:
    """Whether stderr goes to systemd's journal (systemd.exec(5), JOURNAL_STREAM)."""
    expected = os.environ.get("JOURNAL_STREAM")
    if not expected:
        return False
    try:
        status = os.fstat((stream or sys.stderr).fileno())
    except (OSError, ValueError):
        return False
    return expected == f"{status.st_dev}:{status.st_ino}"


def configure(
    level: str = "info", format: str = "auto", stream: TextIO | None = None
) -> None:
    """Set what is written and how; may be called again at any time."""
    assert format in FORMATS
    _output.format, _output.stream = format, stream
    set_level(level)
    root = stdlib_logging.getLogger()
    if not any(isinstance(handler, _FromStandardLibrary) for handler in root.handlers):
        root.addHandler(_FromStandardLibrary())


def set_level(name: str) -> None:
    assert name in LEVELS
    _output.threshold = LEVELS[name]
    # What libraries say below a warning is of use only to who debugs them.
    stdlib_logging.getLogger().setLevel(
        LEVELS[name] if name == "debug" else max(LEVELS[name], LEVELS["warning"])
    )


def level() -> str:
    return next(name for name, rank in LEVELS.items() if rank == _output.threshold)


def get_logger(name: str, **fields: object) -> Logger:
    """name: the part of tchatd that speaks, such as `journal`; fields: in each line."""
    return cast(Logger, structlog.get_logger().bind(logger=name, **fields))


structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.format_exc_info,
        _finish,
    ],
    wrapper_class=_LevelledLogger,
    logger_factory=lambda *_: _Sink(),
)
