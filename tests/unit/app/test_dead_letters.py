"""The console's commands of dead letters and subscribers, over memory."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tchatd.app import dead_letters
from tchatd.edge.console import PEER, Command, ConsoleError, Rows
from tchatd.events.store import BEHIND, NewLetter
from tchatd.kernel.clock import ManualClock
from tchatd.stores.memory.event_log import MemoryEventStore
from tests.support.events import NOW, A, B, draft


class Console:
    """Letters of one subscriber; `ask` runs a command as a line says."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = MemoryEventStore(self.clock)
        self.retried: list[str] = []
        self.registered = ["s"]
        made = dead_letters.commands(
            self.store,
            self.retried.append,
            lambda: 10,
            lambda: self.registered,
            self.clock,
            100,
        )
        self.commands: dict[str, Command] = {command.name: command for command in made}

    async def fill(self) -> None:
        events = self.store.log.write(
            draft(A, data=b'{"amount":5}'), draft(A, 2), draft(B)
        )
        await self.store.acquire("s", "n1", 6, 0)
        letters = [
            NewLetter(events[0], 5, "KeyError", True, NOW),
            NewLetter(events[1], 0, BEHIND, True, NOW),
            NewLetter(events[2], 5, "conflict", True, NOW),
        ]
        await self.store.settle("s", "n1", 3, letters, 6)

    async def ask(self, name: str, *arguments: str) -> Any:
        command = self.commands[name]
        assert command.takes(len(arguments)), command.synopsis
        return await command.run(arguments)

    async def refused(self, name: str, *arguments: str) -> str:
        with pytest.raises(ConsoleError) as caught:
            await self.ask(name, *arguments)
        return caught.value.code


@pytest.fixture
async def console() -> Console:
    PEER.set(os.geteuid())
    console = Console()
    await console.fill()
    return console


async def test_letters_are_listed_and_shown_whole(console: Console) -> None:
    listed = await console.ask("dlq", "list")
    assert isinstance(listed, Rows)
    assert listed.total == 3
    first = listed.rows[0]
    assert (first["number"], first["why"], first["attempts"]) == (1, "KeyError", 5)
    assert "data" not in first
    assert (await console.ask("dlq", "list", "--subscriber", "t")).total == 0
    shown = await console.ask("dlq", "show", "1")
    assert shown["data"] == {"amount": 5}
    assert shown["domain"] == "payment"
    assert await console.refused("dlq", "show", "9") == "not-found"
    assert await console.refused("dlq", "show", "x") == "usage"


async def test_retrying_needs_a_reason_and_the_first_one(console: Console) -> None:
    assert await console.refused("dlq", "retry", "1") == "usage"
    assert await console.refused("dlq", "retry", "2", "--reason", "w") == "conflict"
    assert await console.refused("dlq", "retry", "9", "--reason", "w") == "not-found"
    assert console.retried == []
    answer = await console.ask("dlq", "retry", "1", "--reason", "fixed")
    assert answer == {"released": 2, "subscriber": "s"}
    assert console.retried == ["s"]
    [(action, _, decided)] = console.store.decisions
    assert (action, decided.reason) == ("dlq retry", "fixed")
    assert f"uid {os.geteuid()}" in decided.who


async def test_all_of_a_subscriber_are_retried(console: Console) -> None:
    why = ("--reason", "fixed")
    assert await console.refused("dlq", "retry", "all", *why) == "usage"
    answer = await console.ask("dlq", "retry", "all", "--subscriber", "s", *why)
    assert answer["released"] == 3


async def test_dropping_needs_a_reason_and_lets_the_rest_go_on(
    console: Console,
) -> None:
    assert await console.refused("dlq", "drop", "1") == "usage"
    await console.ask("dlq", "drop", "1", "--reason", "it never was")
    assert [one.number for one in await console.store.released("s", 9)] == [2]
    assert console.retried == ["s"]
    assert await console.refused("dlq", "drop", "1", "--reason", "w") == "not-found"


async def test_subscribers_are_listed(console: Console) -> None:
    [row] = (await console.ask("events")).rows
    assert row == {
        "subscriber": "s",
        "position": 3,
        "behind": 7,
        "node": "n1",
        "dead_letters": 3,
        "is_known": True,
    }
    assert await console.ask("events", "list") == await console.ask("events")
    assert await console.refused("events", "drop") == "usage"


async def test_who_is_no_more_can_be_forgotten_with_a_reason(console: Console) -> None:
    why = ("--reason", "it is gone")
    assert await console.refused("events", "forget", "s", *why) == "conflict"
    console.registered.clear()
    assert await console.refused("events", "forget", "s") == "usage"
    assert await console.refused("events", "forget", "s", *why) == "not-found"
    console.clock.advance(6_000)
    assert await console.ask("events", "forget", "s", *why) == {"forgotten": "s"}
    assert (await console.ask("events")).total == 0


async def test_what_is_not_a_command_says_how_it_is_used(console: Console) -> None:
    assert await console.refused("dlq", "purge") == "usage"
    assert await console.refused("dlq", "list", "--for", "7d") == "usage"
