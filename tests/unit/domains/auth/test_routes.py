"""The declared operations, run through their handlers."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from tchatd.domains.auth import models
from tchatd.domains.auth.errors import RefreshRefused, SessionUnknown
from tchatd.domains.auth.routes import routes
from tchatd.kernel.errors import Banned
from tchatd.kernel.routing import Access, Context, Operation
from tests.support.auth import ADDRESS, PHONE, World

EXPECTED = {
    "auth.otp.send": ("POST", "/auth/otp/send", Access.PUBLIC),
    "auth.otp.verify": ("POST", "/auth/otp/verify", Access.PUBLIC),
    "auth.token.refresh": ("POST", "/auth/token/refresh", Access.PUBLIC),
    "auth.jwks": ("GET", "/.well-known/jwks.json", Access.PUBLIC),
    "auth.logout": ("POST", "/auth/logout", Access.USER),
    "auth.sessions.list": ("GET", "/auth/sessions", Access.USER),
    "auth.sessions.delete": ("DELETE", "/auth/sessions/{id}", Access.USER),
    "auth.sessions.delete_others": ("DELETE", "/auth/sessions", Access.USER),
    "users.profile.get": ("GET", "/users/profile", Access.USER),
    "users.profile.put": ("PUT", "/users/profile", Access.USER),
}


class Client:
    """Calls handlers as the edge does."""

    def __init__(self) -> None:
        self.world = World()
        self.operations: dict[str, Operation] = {
            operation.name: operation for operation in routes(self.world.service)
        }

    async def call(self, name: str, token: str | None = None, /, **fields: Any) -> Any:
        operation = self.operations[name]
        caller = None if token is None else self.world.caller(token)
        context = Context("r1", ADDRESS, caller)
        result = operation.handler(context, operation.command(**fields))
        if hasattr(result, "__await__"):
            result = await cast("Awaitable[Any]", result)
        assert isinstance(result, operation.result)
        return result


def test_every_route_of_the_contract_is_declared() -> None:
    operations = Client().operations
    declared = {
        name: (operation.verb, operation.path, operation.access)
        for name, operation in operations.items()
    }
    assert declared == EXPECTED
    assert all(o.status == 200 for o in operations.values())
    for name, operation in operations.items():
        if name not in ("auth.jwks", "users.profile.get"):
            [limit] = operation.limits
            by = "address" if operation.access is Access.PUBLIC else "user"
            assert limit.by == by
    assert operations["auth.jwks"].cache_s > 0
    for name in ("auth.otp.verify", "auth.token.refresh"):
        assert Banned in operations[name].errors


async def test_the_whole_way_from_a_code_to_the_last_logout() -> None:
    client = Client()
    sent = await client.call("auth.otp.send", identifier=PHONE, type="phone")
    signed = await client.call(
        "auth.otp.verify",
        session_id=UUID(sent.session_id),
        code=client.world.outbox.last.code,
    )
    token = signed.access_token
    assert await client.call("users.profile.get", token) == signed.user
    changed = await client.call("users.profile.put", token, name="Somchai")
    assert changed.name == "Somchai"
    listed = await client.call("auth.sessions.list", token)
    assert [session.is_current for session in listed.sessions] == [True]
    with pytest.raises(SessionUnknown):
        await client.call("auth.sessions.delete", token, id=uuid4())
    others = await client.call("auth.sessions.delete_others", token)
    assert (others.success, others.ended) == (True, 0)
    refreshed = await client.call(
        "auth.token.refresh", refresh_token=signed.refresh_token
    )
    assert (await client.call("auth.logout", refreshed.access_token)).success
    with pytest.raises(RefreshRefused):
        await client.call("auth.token.refresh", refresh_token=refreshed.refresh_token)


async def test_a_session_is_ended_by_its_id() -> None:
    client = Client()
    first = await client.world.sign_in()
    second = await client.world.sign_in()
    session_id = client.world.caller(first.access_token).session_id
    done = await client.call("auth.sessions.delete", second.access_token, id=session_id)
    assert done == models.Done()
    assert client.world.ended.ids == [session_id]


async def test_a_cached_profile_is_answered_without_an_awaitable() -> None:
    client = Client()
    signed = await client.world.sign_in()
    operation = client.operations["users.profile.get"]
    context = Context("r1", ADDRESS, client.world.caller(signed.access_token))
    assert operation.handler(context, operation.command()) is signed.user


async def test_the_public_keys_are_those_of_the_tokens() -> None:
    keys = await Client().call("auth.jwks")
    [key] = keys.keys
    assert (key.kty, key.crv, key.alg, key.use) == ("OKP", "Ed25519", "EdDSA", "sig")
