"""Owns an independent reading of what an HTTP/1.1 message may look like.

Written from RFC 9112 and 9110 with regular expressions, not from `http1`: whatever
the C reader accepts this one must accept with the same meaning, and the reverse.
"""

from __future__ import annotations

import re

Facts = tuple[bytes, bytes, int, int, bool, bool, bool, bool, bool]

FIELDS_MAX = 100
METHOD_MAX = 16
EXTRA_MAX = 8192

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_REQUEST_LINE = re.compile(
    rb"(?P<method>" + _TOKEN + rb"{1,16}) "
    rb"(?P<target>[A-Za-z0-9!$%&'()*+,\-./:;=?@_~\[\]|{}^`]+) "
    rb"HTTP/(?P<major>[0-9])\.(?P<minor>[0-9])"
)
_FIELD = re.compile(
    rb"(?P<name>" + _TOKEN + rb"+):[ \t]*(?P<value>[\t\x20-\x7e\x80-\xff]*)"
)
_HOST = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]{2,}\]|[A-Za-z0-9!$%&'()*+,;=\-._~]+)(?::[0-9]{0,5})?"
)
_METHODS = {
    *(b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE")
}
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})((?:;[\t\x20-\x7e\x80-\xff]*)?)")


class _Refused(Exception):
    def __init__(self, status: int, why: str) -> None:
        super().__init__(status, why)
        self.status = status
        self.why = why


def parse_head(data: bytes, *, uri_bytes_max: int = 8192) -> tuple[int, Facts | str]:
    """Judge a whole head: (0, facts) or (status, why)."""
    try:
        return 0, _parse(data, uri_bytes_max)
    except _Refused as refused:
        return refused.status, refused.why


def _parse(data: bytes, uri_bytes_max: int) -> Facts:
    if not data.endswith(b"\r\n\r\n") or data.index(b"\r\n\r\n") != len(data) - 4:
        raise _Refused(400, "not one head")
    lines = data[:-4].split(b"\r\n")
    if any(b"\r" in line or b"\n" in line for line in lines):
        raise _Refused(400, "bare CR or LF")
    method, target, minor = _request_line(lines[0], uri_bytes_max)
    if len(lines) - 1 > FIELDS_MAX:
        raise _Refused(431, "too many fields")
    fields: dict[bytes, list[bytes]] = {}
    for line in lines[1:]:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise _Refused(400, "field line")
        fields.setdefault(match["name"].lower(), []).append(
            match["value"].rstrip(b" \t")
        )
    length, chunked = _framing(fields, minor)
    _check_host(fields.get(b"host", []), minor)
    expects = [value.lower() for value in fields.get(b"expect", [])]
    if expects and expects != [b"100-continue"]:
        raise _Refused(417, "expectation")
    options = _tokens(fields.get(b"connection", []))
    upgrades = _tokens(fields.get(b"upgrade", []))
    upgrade = b"upgrade" in options and b"websocket" in upgrades and minor == 1
    return (
        method,
        target,
        minor,
        length,
        chunked,
        b"close" in options,
        b"keep-alive" in options,
        upgrade,
        bool(expects) and minor == 1,
    )


def _request_line(line: bytes, uri_bytes_max: int) -> tuple[bytes, bytes, int]:
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise _Refused(400, "request line")
    if len(match["target"]) > uri_bytes_max:
        raise _Refused(414, "target")
    if match["major"] != b"1" or match["minor"] not in (b"0", b"1"):
        raise _Refused(505, "version")
    if match["method"] not in _METHODS:
        raise _Refused(501, "method")
    star = match["target"] == b"*" and match["method"] == b"OPTIONS"
    if not match["target"].startswith(b"/") and not star:
        raise _Refused(400, "target form")
    return match["method"], match["target"], int(match["minor"])


def _framing(fields: dict[bytes, list[bytes]], minor: int) -> tuple[int, bool]:
    lengths = fields.get(b"content-length", [])
    codings = fields.get(b"transfer-encoding", [])
    if len(lengths) > 1 or len(codings) > 1:
        raise _Refused(400, "framing is repeated")
    if lengths and not re.fullmatch(rb"[0-9]{1,18}", lengths[0]):
        raise _Refused(400, "content-length")
    if codings and codings[0].lower() != b"chunked":
        raise _Refused(501, "transfer coding")
    if codings and (lengths or minor == 0):
        raise _Refused(400, "framing is ambiguous")
    return int(lengths[0]) if lengths else -1, bool(codings)


def _check_host(hosts: list[bytes], minor: int) -> None:
    if len(hosts) > 1 or (not hosts and minor == 1):
        raise _Refused(400, "one Host is needed")
    if hosts and (len(hosts[0]) > 262 or not _HOST.fullmatch(hosts[0])):
        raise _Refused(400, "Host")


def _tokens(values: list[bytes]) -> set[bytes]:
    return {
        token.strip(b" \t").lower() for value in values for token in value.split(b",")
    }


def parse_chunked(data: bytes) -> tuple[int, bytes, int]:
    """Judge a chunked body: (0, body, used), (-1, …) not whole, (status, …)."""
    body = b""
    extra = 0
    at = 0
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            return -1, body, at
        match = _CHUNK_LINE.fullmatch(data, at, end)
        if match is None:
            return 400, body, at
        # The CR after an extension is counted, as is that of every trailer line.
        extra += len(match[2]) if match[2] else 0
        if extra > EXTRA_MAX:
            return 431, body, at
        at = end + 2
        size = int(match[1], 16)
        if size == 0:
            break
        body += data[at : at + size]
        at += size
        if len(data) < at + 2:
            return (-1 if b"\r\n".startswith(data[at:]) else 400), body, at
        if data[at : at + 2] != b"\r\n":
            return 400, body, at
        at += 2
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            return -1, body, at
        if end == at:
            extra += 1
            return (0 if extra <= EXTRA_MAX else 431), body, end + 2
        if _FIELD.fullmatch(data, at, end) is None:
            return 400, body, at
        extra += end - at + 1
        if extra > EXTRA_MAX:
            return 431, body, at
        at = end + 2
