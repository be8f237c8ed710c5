"""The declared operations, run through their handlers."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, cast

from tchatd.domains.people.routes import routes
from tchatd.kernel.routing import Access, Context
from tests.support.people import World, caller, id_of

EXPECTED = {
    "users.get": ("GET", "/users/{id}"),
    "users.privacy.get": ("GET", "/users/privacy"),
    "users.privacy.put": ("PUT", "/users/privacy"),
    "users.preferences.get": ("GET", "/users/preferences"),
    "users.preferences.put": ("PUT", "/users/preferences"),
    "users.contacts.list": ("GET", "/users/contacts"),
    "users.contacts.add": ("POST", "/users/contacts"),
    "users.contacts.remove": ("DELETE", "/users/contacts"),
    "users.blocks.list": ("GET", "/users/blocks"),
    "users.blocks.add": ("POST", "/users/blocks"),
    "users.blocks.remove": ("DELETE", "/users/blocks"),
}
FIELDS: dict[str, dict[str, Any]] = {
    "users.get": {"id": id_of(2)},
    "users.preferences.put": {"preferences": {}},
    "users.contacts.add": {"user_ids": [id_of(2)]},
    "users.contacts.remove": {"user_ids": [id_of(2)]},
    "users.blocks.add": {"user_ids": [id_of(2)]},
    "users.blocks.remove": {"user_ids": [id_of(2)]},
}


async def test_each_is_declared_once_and_for_people_who_signed_in() -> None:
    operations = routes(World().service)
    declared = {op.name: (op.verb, op.path) for op in operations}
    assert declared == EXPECTED
    assert len(operations) == len(EXPECTED)
    assert all(op.access is Access.USER for op in operations)


async def test_each_answers_as_it_says() -> None:
    for operation in routes(World().service):
        context = Context("r1", "192.0.2.7", caller(1))
        command = operation.command(**FIELDS.get(operation.name, {}))
        result = operation.handler(context, command)
        assert isinstance(await cast("Awaitable[Any]", result), operation.result)
