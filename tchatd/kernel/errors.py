"""Owns the kinds of failure a caller can act on; refuses to know HTTP statuses.

A domain names one class for each thing that a caller can act on, and gives it a
kind. The edge alone maps kinds to statuses (`tchatd.edge.problems`).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import ClassVar


class ErrorKind(enum.Enum):
    """What a caller may do about it; the value is the contract's short code."""

    INVALID = "invalid_request"
    UNAUTHORIZED = "unauthorized"
    LIMIT_EXCEEDED = "limit_exceeded"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    TOO_LARGE = "too_large"
    UNPROCESSABLE = "unprocessable"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"


class DomainError(Exception):
    """A refusal that the caller is told.

    detail: one sentence for a person, without personal data.
    fields: what is wrong with each field, by its name on the wire.
    retry_after_s: whole seconds until the same call may succeed, at least 1.
    """

    code: ClassVar[str] = "domain-error"
    kind: ClassVar[ErrorKind] = ErrorKind.INVALID
    title: ClassVar[str] = "Refused"

    def __init__(
        self,
        detail: str = "",
        *,
        fields: Mapping[str, str] | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        assert retry_after_s is None or retry_after_s >= 1
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.fields = dict(fields or {})
        self.retry_after_s = retry_after_s


class Invalid(DomainError):
    code, kind, title = "invalid", ErrorKind.INVALID, "The request is not valid"


class Unauthorized(DomainError):
    code, kind, title = "unauthorized", ErrorKind.UNAUTHORIZED, "Sign in first"


class Banned(DomainError):
    """By the operator, from the whole server: of sign-in and of moderation alike.

    fields: `scope` ("account"); `banned_until`, unless it is for good.
    """

    code, kind, title = "banned", ErrorKind.FORBIDDEN, "This account is banned"


class NotForBots(DomainError):
    """A limit for each user would be as many limits as somebody makes bots."""

    code, kind = "not-for-bots", ErrorKind.FORBIDDEN
    title = "This is for people, not for bots"


class NotFound(DomainError):
    code, kind, title = "not-found", ErrorKind.NOT_FOUND, "Not found"


class Conflict(DomainError):
    code, kind, title = "conflict", ErrorKind.CONFLICT, "In conflict with what is"


class RateLimited(DomainError):
    code, kind, title = "rate-limited", ErrorKind.RATE_LIMITED, "Too many requests"


class Unavailable(DomainError):
    """Nothing was done, or it is not known: the same call may be repeated."""

    code, kind, title = "unavailable", ErrorKind.UNAVAILABLE, "Try again later"

    def __init__(self, detail: str = "", *, retry_after_s: int = 1) -> None:
        super().__init__(detail, retry_after_s=retry_after_s)
