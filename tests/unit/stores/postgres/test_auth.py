"""The store in PostgreSQL keeps the contract of stores, and what only it can."""

from __future__ import annotations

import pytest
import trio

from tchatd.domains.auth.errors import CodeRefused
from tchatd.domains.auth.models import ChangeProfile, SignedIn, User, UserRecord
from tchatd.stores.postgres.auth import PostgresAuthStore
from tchatd.stores.postgres.pool import Pool
from tests.support.auth import World
from tests.support.auth_store import NOW, AuthStoreContract, new_user

pytestmark = pytest.mark.service


@pytest.fixture
def store(pool: Pool) -> PostgresAuthStore:
    return PostgresAuthStore(pool)


class TestPostgresAuthStore(AuthStoreContract):
    @pytest.fixture
    def store(self, pool: Pool) -> PostgresAuthStore:
        return PostgresAuthStore(pool)


async def test_an_erased_user_is_in_no_answer(
    store: PostgresAuthStore, pool: Pool
) -> None:
    new = new_user()
    user = await store.create_user(new)
    await pool.execute(
        "UPDATE users SET deleted_ms = %s, phone_hash = NULL, phone_sealed = NULL,"
        " data_key = NULL, data_key_id = NULL WHERE number = %s",
        (NOW, user.number),
    )
    assert await store.users_by_id([user.id]) == []
    assert await store.users_by_number([user.number]) == []
    assert await store.user_by_identifier("phone", new.identifier_hash) is None
    again = await store.create_user(new_user())
    assert again.number != user.number


async def test_many_users_come_by_one_query(store: PostgresAuthStore) -> None:
    made: list[UserRecord] = []

    async def create(name: str) -> None:
        made.append(await store.create_user(new_user(name)))

    async with trio.open_nursery() as nursery:
        for i in range(50):
            nursery.start_soon(create, str(i))
    found = await store.users_by_id([user.id for user in made])
    assert sorted(user.number for user in found) == sorted(u.number for u in made)
    found = await store.users_by_number([user.number for user in made])
    assert {user.id for user in found} == {user.id for user in made}


async def test_a_hundred_guesses_with_the_right_code_sign_in_once(
    store: PostgresAuthStore,
) -> None:
    world = World(store=store)
    nodes = [world, world.another()]
    sent = await world.send()
    code = world.outbox.last.code
    signed: list[SignedIn] = []
    refused = 0

    async def guess(node: World) -> None:
        nonlocal refused
        try:
            signed.append(await node.verify(sent, code))
        except CodeRefused:
            refused += 1

    async with trio.open_nursery() as nursery:
        for i in range(100):
            nursery.start_soon(guess, nodes[i % 2])
    assert (len(signed), refused) == (1, 99)


async def test_new_people_sign_in_on_two_nodes_and_stay_who_they_are(
    store: PostgresAuthStore,
) -> None:
    world = World(store=store)
    nodes = [world, world.another()]
    signed: dict[str, list[SignedIn]] = {}

    async def sign_in(node: World, person: int) -> None:
        email = f"person{person}@example.com"
        sent = await node.send(email)
        [code] = [m.code for m in node.outbox.messages if m.to == email]
        signed.setdefault(email, []).append(await node.verify(sent, code))

    for i in range(2):
        async with trio.open_nursery() as nursery:
            for person in range(10):
                nursery.start_soon(sign_in, nodes[(person + i) % 2], person)
        world.clock.advance(60_000)
    assert len(signed) == 10
    for email, both in signed.items():
        assert len({s.user.id for s in both}) == 1
        assert {s.user.email for s in both} == {email}
    caller = world.caller(signed["person1@example.com"][0].access_token)
    changed = await world.service.change_profile(
        caller, ChangeProfile(name="Ánh", avatar="https://a.example/b")
    )
    fresh = world.another().service.profiles.get(caller.user_number)
    assert not isinstance(fresh, User)
    assert await fresh == changed
    assert len(await world.service.sessions(caller)) == 2


async def test_the_queries_by_key_use_their_indexes(pool: Pool) -> None:
    plans = [
        ("users_pkey", "SELECT * FROM users WHERE id = ANY('{}'::uuid[])"),
        ("users_phone", "SELECT * FROM users WHERE phone_hash = '\\x00'"),
        (
            "code_sends_scope",
            "SELECT sent_ms FROM code_sends WHERE scope_hash = '\\x00'"
            " AND sent_ms > 1 ORDER BY sent_ms DESC LIMIT 5",
        ),
        (
            "sessions_live",
            "SELECT * FROM sessions WHERE user_number = 1 AND revoked_ms IS NULL",
        ),
        ("sessions_revoked", "SELECT id FROM sessions WHERE revoked_ms > 5"),
        (
            "sessions_over",
            "SELECT id FROM sessions WHERE coalesce(revoked_ms, expires_ms) < 5",
        ),
    ]
    async with pool.transaction() as connection:
        # The tables are empty: without this a scan would rightly be cheaper.
        await connection.execute("SET LOCAL enable_seqscan = off")
        for index, query in plans:
            rows = await connection.fetch(f"EXPLAIN {query}")
            assert any(index in row[0] for row in rows), rows
