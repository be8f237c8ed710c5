"""How failures look on the wire."""

from __future__ import annotations

import msgspec
import pytest

from tchatd.edge import problems
from tchatd.kernel.errors import (
    Conflict,
    DomainError,
    ErrorKind,
    Invalid,
    NotFound,
    RateLimited,
    Unauthorized,
    Unavailable,
)


def test_every_kind_has_the_status_of_the_contract() -> None:
    expected = {
        ErrorKind.INVALID: 400,
        ErrorKind.UNAUTHORIZED: 401,
        ErrorKind.LIMIT_EXCEEDED: 402,
        ErrorKind.FORBIDDEN: 403,
        ErrorKind.NOT_FOUND: 404,
        ErrorKind.CONFLICT: 409,
        ErrorKind.TOO_LARGE: 413,
        ErrorKind.UNPROCESSABLE: 422,
        ErrorKind.RATE_LIMITED: 429,
        ErrorKind.UNAVAILABLE: 503,
    }

    assert expected == problems.STATUS_OF_KIND


def test_a_problem_has_the_standard_members_and_those_of_older_clients() -> None:
    error = Invalid("No.", fields={"name": "is required"})

    body = msgspec.to_builtins(problems.problem_of(error, "r-1"))

    assert body == {
        "type": "urn:tchatd:problem:invalid",
        "title": "The request is not valid",
        "status": 400,
        "detail": "No.",
        "instance": "urn:tchatd:request:r-1",
        "error": "invalid_request",
        "message": "No.",
        "details": {"name": "is required"},
    }


def test_retry_after_is_told_in_the_body_and_in_the_header() -> None:
    error = RateLimited(retry_after_s=7)

    assert problems.problem_of(error, "r").retry_after == 7
    assert b"retry-after: 7\r\n" in problems.headers_of(error)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (Unauthorized(), b"www-authenticate: Bearer"),
        (problems.MethodNotAllowed("GET, HEAD"), b"allow: GET, HEAD\r\n"),
        (problems.UpgradeRequired(), b"upgrade: websocket\r\n"),
        (NotFound(), b"content-type: application/problem+json\r\n"),
    ],
)
def test_some_problems_have_header_lines(error: DomainError, line: bytes) -> None:
    assert line in problems.headers_of(error)


@pytest.mark.parametrize(
    ("error", "status", "short"),
    [
        (problems.MethodNotAllowed("GET"), 405, "method_not_allowed"),
        (problems.UnsupportedMediaType(), 415, "unsupported_media_type"),
        (problems.Internal(), 500, "internal"),
        (Conflict(), 409, "conflict"),
        (Unavailable(), 503, "unavailable"),
    ],
)
def test_status_and_short_code(error: DomainError, status: int, short: str) -> None:
    assert problems.status_of(error) == status
    assert problems.short_code_of(type(error)) == short
