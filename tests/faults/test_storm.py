"""Everybody comes back at once after a crash: each has everything, exactly once, and
the database is asked far less than once a client."""

from __future__ import annotations

import json
import selectors
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from bench.daemon import MeasuredDaemon
from bench.seed import User, make_group, make_users, send_all, sign
from tests.support.raw import RawSocket

pytestmark = [pytest.mark.service, pytest.mark.slow]

CLIENTS, GROUP = 600, 100
SAID = 10
TEXT = 0x1
WAIT_S = 60.0
TRANSACTIONS_A_CLIENT_MAX = 0.5


class Client:
    """A device of one person, which is in one group. told: of messages, live, by id.
    answers: of `sync`, in order."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.cursor: str | None = None
        self.told: list[str] = []
        self.answers: list[Any] = []

    def connect(self, port: int) -> None:
        self.raw = RawSocket(port)
        self.raw.ask_upgrade(self.user.token)

    def sync(self) -> None:
        self.answers.clear()
        ask: dict[str, Any] = {"op": "sync", "id": 1, "limit": 300}
        if self.cursor is not None:
            ask["cursor"] = self.cursor
        self.raw.send_frame(TEXT, json.dumps(ask).encode())

    def serve(self) -> None:
        for opcode, payload in self.raw.serve():
            envelope = json.loads(payload) if opcode == TEXT else {}
            if envelope.get("op") == "message.new":
                self.told.append(envelope["message"]["id"])
            elif "id" in envelope:
                assert envelope["op"] == "reply", envelope
                self.answers.append(envelope["result"])
                self.cursor = envelope["result"]["cursor"]


def storm(clients: Sequence[Client], port: int) -> None:
    """All connect, then all ask: nobody waits for anybody's answer."""
    for client in clients:
        client.connect(port)
    for client in clients:
        client.raw.await_upgrade()
    for client in clients:
        client.sync()
    serve_until(clients, lambda client: bool(client.answers))


def serve_until(clients: Sequence[Client], done: Callable[[Client], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    with selectors.EpollSelector() as selector:
        for client in clients:
            selector.register(client.raw.socket, selectors.EVENT_READ, client)
        while not all(map(done, clients)):
            assert time.monotonic() < deadline
            for key, _ in selector.select(0.1):
                key.data.serve()
                assert not key.data.raw.closed


def test_all_come_back_at_once_after_a_crash_and_each_has_everything_once() -> None:
    with MeasuredDaemon() as daemon:
        users = sign(daemon, make_users(daemon, CLIENTS, seed=1))
        owners = users[::GROUP]
        groups = [
            make_group(daemon, owner, users[i * GROUP + 1 : (i + 1) * GROUP])
            for i, owner in enumerate(owners)
        ]
        clients = [Client(user) for user in users]
        storm(clients, daemon.port)
        send_all(daemon, owners, groups, SAID)
        serve_until(clients, lambda client: len(client.told) == SAID)
        send_all(daemon, owners, groups, SAID)  # of these, who knows what is told

        daemon.kill()
        for client in clients:
            client.raw.close()
        daemon.start()
        before = daemon.transactions()
        storm(clients, daemon.port)
        said: dict[str, list[str]] = {}
        for number, client in enumerate(clients):
            [page] = client.answers
            assert not page["has_more"]
            assert not page.get("is_reset", False)
            new = [e["message"] for e in page["events"] if e["op"] == "message.new"]
            group = groups[number // GROUP]
            assert {message["dialog_id"] for message in new} == {group}
            ids = [message["id"] for message in new]
            assert ids == said.setdefault(group, ids)
            assert len(set(ids)) == len(ids) == 2 * SAID
            assert client.told[:SAID] == ids[:SAID]
            assert max(Counter(client.told).values()) == 1
            client.told.clear()
        used = daemon.queries()["transactions"] - before
        assert used < TRANSACTIONS_A_CLIENT_MAX * CLIENTS

        send_all(daemon, owners, groups, 1)
        serve_until(clients, lambda client: bool(client.told))
        for number, client in enumerate(clients):
            [id] = client.told
            assert id not in said[groups[number // GROUP]]
        for client in clients:
            client.raw.close()
