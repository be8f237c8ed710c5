"""The console's commands of moderators, over memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest

from tchatd.app import moderators
from tchatd.app.configuration import ConfigurationError
from tchatd.domains.bots.models import OutgoingEvent
from tchatd.edge.console import PEER, Command, ConsoleError, Rows
from tchatd.kernel.errors import Banned
from tests.support.bots import BotWorld
from tests.support.moderation import MESSAGE, USERS, ModerationWorld, new_report


class Console:
    """The commands over fakes; `ask` runs one as a line says."""

    def __init__(self) -> None:
        self.world = ModerationWorld()
        self.bots = BotWorld()
        self.pending: list[int] = []
        self.forgotten: list[int] = []
        self.broken = False

        async def find_user(text: str) -> Any:
            number = int(text) if text.isdecimal() else 0
            if number not in USERS:
                return None
            return SimpleNamespace(number=number, id=USERS[number])

        async def ids_of(numbers: Sequence[int]) -> dict[int, UUID]:
            return {number: USERS[number] for number in numbers}

        def reload() -> int:
            if self.broken:
                raise ConfigurationError(["line 1 is wrong"])
            return 3

        auth: Any = SimpleNamespace(
            find_user=find_user,
            directory=SimpleNamespace(ids_of=ids_of),
            profiles=SimpleNamespace(forget=self.forgotten.append),
        )
        bots: Any = SimpleNamespace(
            store=self.bots.store,
            webhooks=self.bots.webhooks,
            delivery=SimpleNamespace(pending=self.pending.append),
        )
        moderation: Any = SimpleNamespace(
            store=self.world.store,
            reports=self.world.reports,
            decisions=self.world.decisions,
            reload=reload,
        )
        made = moderators.commands(auth, bots, moderation, self.world.clock, 100)
        self.commands: dict[str, Command] = {command.name: command for command in made}

    async def ask(self, name: str, *arguments: str) -> Any:
        command = self.commands[name]
        assert command.takes(len(arguments)), command.synopsis
        return await command.run(arguments)


@pytest.fixture
async def console() -> Console:
    PEER.set(os.geteuid())
    return Console()


async def test_reports_are_listed_shown_and_resolved(console: Console) -> None:
    assert await console.ask("reports") == Rows([], 0)
    number = str(await console.world.store.report(new_report(comment=None)))
    listed = await console.ask("reports", "list")
    assert listed.total == 1
    assert listed.rows[0]["about"] == f"message {MESSAGE}"
    shown = await console.ask("reports", "show", number)
    assert (shown["by"], shown["accused"]) == (str(USERS[1]), str(USERS[2]))
    assert (shown["comment"], shown["action"]) == (None, None)
    answer = await console.ask(
        *("reports", "resolve", number, "--action", "ban", "--reason", "scam")
    )
    assert answer == {"reports_resolved": 1, "action": "ban", "until": None}
    with pytest.raises(Banned):
        console.world.standing.check_ban(2)
    with pytest.raises(ConsoleError, match="already"):
        await console.ask(
            *("reports", "resolve", number, "--action=none", "--reason=again")
        )
    assert (await console.ask("reports", "show", number))["action"] == "ban"


async def test_a_silence_lasts_a_week_unless_told(console: Console) -> None:
    now_ms = console.world.clock.now_ms()
    answers = [
        await console.ask("user", "silence", "2", "--reason", "noise"),
        await console.ask("user", "silence", "3", "--reason", "noise", "--for", "12h"),
        await console.ask("user", "ban", "4", "--reason", "spam"),
    ]
    sanctions = await console.world.store.sanctions()
    assert [made.until_ms for made in sanctions] == [
        *(now_ms + 7 * 86_400_000, now_ms + 43_200_000, 0)
    ]
    shown = await console.ask("moderation", "sanctions")
    assert [row["sanction"] for row in shown.rows] == ["silence", "silence", "ban"]
    assert shown.rows[2]["until"] is None
    assert [told["until"] for told in answers] == [row["until"] for row in shown.rows]


async def test_what_is_decided_says_who_and_why(console: Console) -> None:
    await console.ask("user", "ban", "2", "--reason", "spam bot")
    ended = await console.ask("user", "unban", "2", "--reason", "a mistake")
    assert ended["was_sanctioned"]
    await console.ask("message", "remove", str(MESSAGE), "--reason", "illegal")
    log = await console.ask("moderation", "log")
    assert [(row["action"], row["reason"]) for row in log.rows] == [
        ("remove", "illegal"),
        ("unban", "a mistake"),
        ("ban", "spam bot"),
    ]
    assert all(f"uid {os.geteuid()}" in row["who"] for row in log.rows)
    assert (await console.ask("moderation", "log", "1")).total == 3
    assert console.world.conversations.removed == [(MESSAGE, "illegal")]


async def test_a_tier_is_set_written_down_and_seen_at_once(console: Console) -> None:
    told = await console.ask("user", "tier", "2", "3", "--reason", "passport seen")
    assert told == {"user": str(USERS[2]), "kyc_tier": 3}
    assert console.world.store.tiers == {2: 3}
    assert console.forgotten == [2]
    [row] = (await console.ask("moderation", "log")).rows
    assert (row["action"], row["reason"]) == ("tier 3", "passport seen")


async def test_who_has_no_name_is_written_by_number(console: Console) -> None:
    PEER.set(4_000_000)
    assert moderators.who() == "uid 4000000"


@pytest.mark.parametrize(
    "line",
    [
        *("reports close 1", "reports show", "reports show x", "reports show 0"),
        "reports list --loud",
        *("user ban 2", "user kill 2 --reason x", "user ban 2 --reason"),
        *("user ban 2 --reason x --for ever", "user ban 2 --reason x --for 0d"),
        "user ban 2 --reason x --for 999999999d",
        *("user ban 2 --why x", "user unban 2"),
        *("user tier 2 --reason x", "user tier 2 4 --reason x", "user tier 2 0"),
        *("user tier 2 2", "user tier 2 2 --reason x --for 7d"),
        *("message remove x --reason y", f"message remove {MESSAGE}"),
        *("message add x --reason y", "moderation log x", "moderation go"),
        *("webhooks dlq", "webhooks dlq show", "webhooks list", "webhooks dlq drop x"),
    ],
)
async def test_what_is_wrong_is_told_and_changes_nothing(
    console: Console, line: str
) -> None:
    await console.world.store.report(new_report())
    name, *arguments = line.split()
    command = console.commands[name]
    if command.takes(len(arguments)):
        with pytest.raises(ConsoleError) as refused:
            await command.run(arguments)
        assert refused.value.code == "usage"
    assert await console.world.store.decisions(9) == ([], 0)
    assert await console.world.store.sanctions() == []


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("user ban 2", ["--reason"]),
        ("user kill 2", ["--reason", "--for"]),
        ("user ban 2 --why x", ["--reason", "--for"]),
        ("message add 2", ["--reason"]),
        ("reports close 1", ["--action", "--reason", "--for"]),
    ],
)
async def test_who_misuses_a_command_is_told_its_options(
    console: Console, line: str, options: list[str]
) -> None:
    with pytest.raises(ConsoleError) as refused:
        await console.ask(*line.split())
    assert all(option in str(refused.value) for option in options)


@pytest.mark.parametrize(
    "line",
    [
        *("reports show 99", "user ban 99 --reason x", "webhooks dlq show 9"),
        *("webhooks dlq retry 9", "webhooks dlq drop 9"),
    ],
)
async def test_what_is_not_there_is_told(console: Console, line: str) -> None:
    with pytest.raises(ConsoleError) as refused:
        await console.ask(*line.split())
    assert refused.value.code == "not-found"


async def test_the_words_are_read_again(console: Console) -> None:
    assert await console.ask("moderation", "reload") == {"patterns": 3}
    console.broken = True
    with pytest.raises(ConsoleError, match="line 1"):
        await console.ask("moderation", "reload")


async def test_dead_letters_are_listed_shown_retried_and_dropped(
    console: Console,
) -> None:
    bot = await console.bots.hooked()
    store = console.bots.store
    events = [
        OutgoingEvent(bot=bot, id=uuid4(), type="poll.voted", body=text, created_ms=1)
        for text in "ab"
    ]
    await store.append(events)
    for event in await store.pending(bot, 9):
        await store.bury(event, 2, "answered 500", 9)
    listed = await console.ask("webhooks", "dlq", "list")
    second, first = (str(row["number"]) for row in listed.rows)
    shown = await console.ask("webhooks", "dlq", "show", first)
    assert (shown["body"], shown["why"]) == ("a", "answered 500")
    assert await console.ask("webhooks", "dlq", "retry", first) == {
        "queued": str(events[0].id)
    }
    assert console.pending == [bot]
    assert [event.body for event in await store.pending(bot, 9)] == ["a"]
    await console.ask("webhooks", "dlq", "drop", second)
    assert (await console.ask("webhooks", "dlq", "list")).total == 0
