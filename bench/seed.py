"""Owns the people of a measurement: users in the store, tokens signed for them.

Thousands of sign-ins by one-time code would measure the limits against pumping. So
users are written by tchatd's own store, sealed with the data folder's development
keys, and their access tokens are signed with its token key: what the daemon checks is
what it would check of anybody. `sign` makes no query.
"""

from __future__ import annotations

import dataclasses
import http.client
import json
import os
import random
import threading
import time
from collections.abc import Sequence
from itertools import islice
from typing import Any
from uuid import UUID, uuid4

import trio

from bench.daemon import MeasuredDaemon
from bench.generator import Failed
from tchatd.app import configuration, secrets
from tchatd.domains.auth.models import NewUser
from tchatd.domains.auth.profiles import seal_identifier
from tchatd.domains.auth.rules import AuthSettings
from tchatd.domains.auth.tokens import AccessTokens
from tchatd.kernel.crypto import Keys
from tchatd.stores.postgres.auth import PostgresAuthStore
from tchatd.stores.postgres.pool import Pool

WRITERS = 8
SENDERS = 4
REQUEST_S = 30.0


@dataclasses.dataclass(frozen=True)
class User:
    id: UUID
    token: str


def keys_of(daemon: MeasuredDaemon) -> Keys:
    """The development keys in the daemon's data folder."""
    environment = daemon.environment | {"TCHATD_DATA": str(daemon.data)}
    loaded = secrets.load(configuration.load(None, environment), environment)
    return Keys(
        master_keys=loaded.master_keys,
        lookup=loaded.lookup_key,
        otp=loaded.otp_key,
        token_keys=loaded.token_keys,
    )


def make_users(daemon: MeasuredDaemon, count: int, *, seed: int) -> list[UUID]:
    """The first `count` people of this seed; those who are there stay as they are."""
    keys = keys_of(daemon)
    hashes, dice = keys.lookup_hash("email"), random.Random(seed)
    ids = [UUID(int=dice.getrandbits(128), version=4) for _ in range(count)]
    done: dict[int, UUID] = {}
    now_ms = time.time_ns() // 1_000_000

    def user(number: int) -> NewUser:
        email = f"bench{seed}.{number}@example.com"
        key, wrapped = keys.vault.new_data_key(ids[number].bytes)
        return NewUser(
            id=ids[number],
            kind="email",
            identifier_hash=hashes.digest(email.encode()),
            sealed=seal_identifier(key, "email", email),
            data_key=wrapped,
            data_key_id=keys.vault.current,
            name=f"Somchai {number}",
            country="TH",
            locale="th-TH",
            created_ms=now_ms,
        )

    async def main() -> None:
        pool = Pool(daemon.database_dsn(), size=WRITERS)
        store = PostgresAuthStore(pool)
        numbers = iter(range(count))

        async def write() -> None:
            for number in numbers:  # shared: each takes the next one
                done[number] = (await store.create_user(user(number))).id

        async with trio.open_nursery() as nursery:
            for _ in range(WRITERS):
                nursery.start_soon(write)
        await pool.aclose()

    trio.run(main)
    return [done[number] for number in range(count)]


def sign(daemon: MeasuredDaemon, ids: Sequence[UUID]) -> list[User]:
    """A fresh token for each, of a session of its own; they live 15 minutes."""
    settings = AuthSettings()
    tokens = AccessTokens(
        keys_of(daemon).signing,
        issuer=settings.issuer,
        audience=settings.audience,
        lifetime_s=settings.access_token_s,
        skew_s=settings.clock_skew_s,
        random=os.urandom,
    )
    now_ms = time.time_ns() // 1_000_000
    return [
        User(id, tokens.issue(id, UUID(bytes=os.urandom(16), version=4), now_ms)[0])
        for id in ids
    ]


def send_all(
    daemon: MeasuredDaemon, owners: Sequence[User], dialogs: Sequence[str], each: int
) -> None:
    """So many messages of 64 bytes in each dialog, by its owner."""
    work = list(zip(owners, dialogs, strict=True))
    failed: list[object] = []

    def send() -> None:
        line = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=30)
        while True:
            try:
                owner, dialog = work.pop()
            except IndexError:
                return
            for number in range(each):
                body = {"type": "text", "content": {"text": f"{number:064d}"}}
                line.request(
                    "POST",
                    f"/dialogs/{dialog}/messages",
                    json.dumps(body),
                    {
                        "Authorization": f"Bearer {owner.token}",
                        "Content-Type": "application/json",
                        "Idempotency-Key": str(uuid4()),
                    },
                )
                answer = line.getresponse()
                text = answer.read()
                if answer.status != 201:
                    failed.append(text)
                    return

    threads = [threading.Thread(target=send) for _ in range(SENDERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise Failed(f"a message was refused: {failed[0]!r}")


def request(
    daemon: MeasuredDaemon, user: User, verb: str, path: str, body: Any = None
) -> Any:
    """The JSON of one answer. Raises: Failed, for any but a success."""
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=REQUEST_S)
    try:
        connection.request(
            verb,
            path,
            body=None if body is None else json.dumps(body),
            headers={
                "Authorization": f"Bearer {user.token}",
                "Content-Type": "application/json",
            },
        )
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    if answer.status not in (200, 201):
        raise Failed(f"{verb} {path}: {answer.status} {text[:500]!r}")
    return json.loads(text)


def upgrade_status(daemon: MeasuredDaemon, user: User) -> int:
    """What a WebSocket handshake with this user's token is answered with."""
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=REQUEST_S)
    headers = {
        "Authorization": f"Bearer {user.token}",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    try:
        connection.request("GET", "/websocket", headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def make_dialogs(
    daemon: MeasuredDaemon, pairs: Sequence[tuple[User, User]]
) -> list[str]:
    return [
        request(
            daemon,
            one,
            "POST",
            "/dialogs",
            {"type": "user", "participants": [str(other.id)]},
        )["id"]
        for one, other in pairs
    ]


def make_group(daemon: MeasuredDaemon, owner: User, others: Sequence[User]) -> str:
    body = {
        "type": "group",
        "name": "Bench",
        "participants": [str(user.id) for user in others],
    }
    id: str = request(daemon, owner, "POST", "/dialogs", body)["id"]
    return id


def warm_up(daemon: MeasuredDaemon, users: Sequence[User]) -> None:
    """Imports, caches and pools are there afterwards; a few requests of each user."""
    for user in islice(users, 50):
        request(daemon, user, "GET", "/users/profile")
