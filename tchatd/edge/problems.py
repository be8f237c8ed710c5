"""Owns how a failure looks on the wire (RFC 9457); nobody else knows HTTP statuses."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from tchatd.kernel.errors import DomainError, ErrorKind

STATUS_OF_KIND: dict[ErrorKind, int] = {
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
assert set(STATUS_OF_KIND) == set(ErrorKind)

CONTENT_TYPE = b"content-type: application/problem+json\r\n"


class TransportError(DomainError):
    """A failure that only HTTP knows, with a status outside of the kinds."""

    status: ClassVar[int] = 400
    short_code: ClassVar[str] = "invalid_request"


class MethodNotAllowed(TransportError):
    """allow: the methods of the path, as the `Allow` header lists them."""

    code, title = "method-not-allowed", "This path does not take that method"
    status, short_code = 405, "method_not_allowed"

    def __init__(self, allow: str) -> None:
        super().__init__(f"The path takes {allow}.")
        self.allow = allow


class UpgradeRequired(TransportError):
    code, title = "upgrade-required", "This path speaks WebSocket only"
    status, short_code = 426, "upgrade_required"


class UnsupportedMediaType(TransportError):
    code, title = "unsupported-media-type", "The body must be application/json"
    status, short_code = 415, "unsupported_media_type"


class HeadTooLarge(TransportError):
    """The C gateway says the same by itself."""

    code, title = "head-too-large", "The head of the request is too large"
    status, short_code = 431, "head_too_large"


class UriTooLong(TransportError):
    """Said by the C gateway, of a query with too many ids in it."""

    code, title = "uri-too-long", "The target of the request is too long"
    status, short_code = 414, "uri_too_long"


class Internal(TransportError):
    """Our own mistake. The cause is in the log under the request's id."""

    code, title = "internal", "Something went wrong on our side"
    status, short_code = 500, "internal"


class NoSuchRoute(DomainError):
    code, kind, title = "no-such-route", ErrorKind.NOT_FOUND, "No such route"


class TooLarge(DomainError):
    code, kind, title = "too-large", ErrorKind.TOO_LARGE, "The request is too large"


class OriginRefused(DomainError):
    code, kind, title = "origin-refused", ErrorKind.FORBIDDEN, "Origin not allowed"


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of every failure. `error` to `retry_after` are for older clients.

    details: what is wrong with each field, by its name on the wire.
    retry_after: whole seconds until the same request may succeed.
    """

    type: str
    title: str
    status: int
    detail: str
    instance: str
    error: str
    message: str
    details: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    retry_after: int | msgspec.UnsetType = msgspec.UNSET


def status_of(error: DomainError | type[DomainError]) -> int:
    of_class = error if isinstance(error, type) else type(error)
    if issubclass(of_class, TransportError):
        return of_class.status
    return STATUS_OF_KIND[of_class.kind]


def short_code_of(error: DomainError | type[DomainError]) -> str:
    of_class = error if isinstance(error, type) else type(error)
    if issubclass(of_class, TransportError):
        return of_class.short_code
    return of_class.kind.value


def problem_of(error: DomainError, request_id: str) -> Problem:
    return Problem(
        type=f"urn:tchatd:problem:{error.code}",
        title=error.title,
        status=status_of(error),
        detail=error.detail,
        instance=f"urn:tchatd:request:{request_id}",
        error=short_code_of(error),
        message=error.detail,
        details=error.fields,
        retry_after=(
            msgspec.UNSET if error.retry_after_s is None else error.retry_after_s
        ),
    )


def headers_of(error: DomainError) -> bytes:
    """Header lines of the problem, its content type among them."""
    lines = CONTENT_TYPE
    if error.retry_after_s is not None:
        lines += b"retry-after: %d\r\n" % error.retry_after_s
    if isinstance(error, MethodNotAllowed):
        lines += b"allow: %s\r\n" % error.allow.encode()
    if isinstance(error, UpgradeRequired):
        lines += b"upgrade: websocket\r\n"
    if status_of(error) == 401:
        lines += b'www-authenticate: Bearer realm="tchatd"\r\n'
    return lines
