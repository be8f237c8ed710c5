"""Owns the refusals of search."""

from __future__ import annotations

from tchatd.kernel.errors import DomainError, ErrorKind


class IndexUnavailable(DomainError):
    """The index is being built, or too many ask at once."""

    code, kind = "search-unavailable", ErrorKind.UNAVAILABLE
    title = "Search is not available now"

    def __init__(self, detail: str = "", *, retry_after_s: int = 5) -> None:
        super().__init__(detail, retry_after_s=retry_after_s)


class IndexBroken(Exception):
    """The index cannot be read: it has to be built again. Never told to clients."""


class IndexStuck(Exception):
    """Nothing can be written now (the disk is full): what is committed stays. Never
    told to clients."""
