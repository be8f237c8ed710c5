"""An operation is declared once, and a declaration that cannot be served refuses."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from tchatd.kernel.routing import Caller, Context, Operation


class GetThing(msgspec.Struct):
    thing_id: UUID


def declare(**changes: Any) -> Operation:
    fields: dict[str, Any] = {
        "name": "thing.get",
        "summary": "A thing",
        "tag": "things",
        "command": GetThing,
        "result": None,
        "handler": lambda _context, command: command,
        "verb": "GET",
        "path": "/things/{thing_id}",
    }
    return Operation(**fields | changes)


def test_path_parameters_come_from_the_path() -> None:
    assert declare().path_parameters == ("thing_id",)


@pytest.mark.parametrize(
    "changes",
    [
        {"path": "/things/{other}"},
        {"verb": "PATCH"},
        {"verb": None},
        {"verb": None, "path": None},
    ],
)
def test_a_declaration_that_cannot_be_served_is_refused(
    changes: dict[str, Any],
) -> None:
    with pytest.raises(AssertionError):
        declare(**changes)


def test_a_user_is_asked_for_only_where_access_was_checked() -> None:
    caller = Caller(uuid4(), 1, uuid4())
    assert Context("r", "127.0.0.1", caller).user is caller
    with pytest.raises(AssertionError):
        _ = Context("r", "127.0.0.1").user
