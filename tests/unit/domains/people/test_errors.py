"""Each refusal has its kind and a code of its own."""

from __future__ import annotations

import inspect
from typing import cast

from tchatd.domains.people import errors
from tchatd.kernel.errors import DomainError, ErrorKind

KINDS = {
    "PersonNotFound": ErrorKind.NOT_FOUND,
    "ListFull": ErrorKind.UNPROCESSABLE,
    "NotYourself": ErrorKind.UNPROCESSABLE,
    "TooManyNumbers": ErrorKind.RATE_LIMITED,
    "PreferencesTooLarge": ErrorKind.TOO_LARGE,
}


def test_every_refusal_has_its_kind_and_a_code_of_its_own() -> None:
    found = {
        name: cast("type[DomainError]", thing)
        for name, thing in inspect.getmembers(errors, inspect.isclass)
        if thing.__module__ == errors.__name__
    }
    assert {name: thing.kind for name, thing in found.items()} == KINDS
    assert len({thing.code for thing in found.values()}) == len(found)
