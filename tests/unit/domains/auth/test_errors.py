"""Refusals tell nothing that helps to guess, and have the contract's kinds."""

from __future__ import annotations

import inspect
from typing import cast

from tchatd.domains.auth import errors
from tchatd.kernel.errors import DomainError, ErrorKind

KINDS = {
    "IdentifierRefused": ErrorKind.INVALID,
    "ProfileRefused": ErrorKind.INVALID,
    "CodeLimited": ErrorKind.RATE_LIMITED,
    "CodeRefused": ErrorKind.UNAUTHORIZED,
    "TokenRefused": ErrorKind.UNAUTHORIZED,
    "TokenExpired": ErrorKind.UNAUTHORIZED,
    "SessionRevoked": ErrorKind.UNAUTHORIZED,
    "RefreshRefused": ErrorKind.UNAUTHORIZED,
    "SessionUnknown": ErrorKind.NOT_FOUND,
}


def test_every_refusal_has_its_kind_and_a_code_of_its_own() -> None:
    found = {
        name: cast("type[DomainError]", thing)
        for name, thing in inspect.getmembers(errors, inspect.isclass)
        if thing.__module__ == errors.__name__
    }
    assert {name: thing.kind for name, thing in found.items()} == KINDS
    assert len({thing.code for thing in found.values()}) == len(found)
