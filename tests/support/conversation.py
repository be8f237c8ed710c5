"""Owns two people in a dialog and what the daemon has told them, to be compared.

A sender that loses its answer keeps the client_id, so that `check` can ask again and
then hold the whole log against every answer there ever was.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import trio
import trio_websocket

from tests.support.client import Json, Person, Socket, connect, sign_in, uuid7
from tests.support.daemon import Daemon

GONE = (
    OSError,
    ConnectionError,
    trio_websocket.ConnectionClosed,
    trio_websocket.HandshakeError,
    trio.ClosedResourceError,
)


class Refused(Exception):
    """The daemon answered with a problem: nothing was accepted."""


class Conversation:
    """asked: text by client_id. acknowledged: (message id, seq) by client_id."""

    def __init__(self, sender: Person, reader: Person, dialog_id: str) -> None:
        self.sender = sender
        self.reader = reader
        self.dialog_id = dialog_id
        self.asked: dict[str, str] = {}
        self.acknowledged: dict[str, tuple[str, int]] = {}
        self.refused: list[Json] = []

    async def send(self, socket: Socket) -> None:
        """One new message; a refusal is noted and its client_id forgotten."""
        client_id = uuid7()
        self.asked[client_id] = f"message {len(self.asked)}"
        try:
            await self._ask(socket, client_id)
        except Refused as refused:
            self.refused.append(refused.args[0])
            del self.asked[client_id]
            await trio.sleep(0.02)

    async def _ask(self, socket: Socket, client_id: str) -> None:
        answer = await socket.ask(
            "message.send",
            dialog_id=self.dialog_id,
            client_id=client_id,
            type="text",
            content={"text": self.asked[client_id]},
        )
        if answer["op"] == "error":
            raise Refused(answer["problem"])
        first = (answer["result"]["id"], answer["result"]["seq"])
        assert self.acknowledged.setdefault(client_id, first) == first

    async def keep_sending(self, daemon: Daemon, outstanding: int) -> None:
        """Until cancelled, or until the daemon goes: then it returns."""
        try:
            async with (
                connect(daemon, self.sender.access_token) as socket,
                trio.open_nursery() as nursery,
            ):
                for _ in range(outstanding):
                    nursery.start_soon(self._one_after_the_other, socket)
        except* GONE:
            pass

    async def _one_after_the_other(self, socket: Socket) -> None:
        while True:
            await self.send(socket)

    async def check(self, daemon: Daemon, repeat: list[str]) -> None:
        """repeat: client_ids to ask once more; each must get its first answer."""
        async with connect(daemon, self.sender.access_token) as socket:
            for client_id in repeat:
                await self._ask(socket, client_id)
        self.compare(await self.log())
        listed = (await self.reader.ok("GET", "/dialogs"))["dialogs"]
        dialog = next(d for d in listed if d["id"] == self.dialog_id)
        assert dialog["unread_count"] == len(self.acknowledged)

    async def log(self) -> list[Json]:
        events: list[Json] = []
        for _ in range(10_000):
            page: Any = await self.reader.ok(
                "GET",
                f"/dialogs/{self.dialog_id}/events",
                params={"after": len(events), "limit": 1000},
            )
            events += page["events"]
            if not page["has_more"]:
                assert page["last_seq"] == len(events)
                return events
        raise AssertionError("the log never ends")

    def compare(self, log: list[Json]) -> None:
        """Every answer is in the log once, as it was given; nothing else is."""
        assert [event["seq"] for event in log] == list(range(1, len(log) + 1))
        messages = {e["message"]["id"]: e for e in log if e["op"] == "message.new"}
        assert len(messages) == len(self.acknowledged) == len(self.asked)
        for client_id, (id, seq) in self.acknowledged.items():
            assert messages[id]["seq"] == seq
            assert messages[id]["message"]["content"]["text"] == self.asked[client_id]


@asynccontextmanager
async def conversations(
    daemon: Daemon, pairs: int
) -> AsyncIterator[list[Conversation]]:
    async with AsyncExitStack() as stack:
        found = []
        for number in range(pairs):
            sender, reader = [
                await stack.enter_async_context(
                    sign_in(daemon, f"+66819{2 * number + side:06d}")
                )
                for side in range(2)
            ]
            dialog = await sender.ok(
                "POST", "/dialogs", {"type": "user", "participants": [reader.id]}
            )
            found.append(Conversation(sender, reader, dialog["id"]))
        yield found
