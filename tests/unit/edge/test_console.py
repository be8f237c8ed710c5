"""The console's socket: who may talk, what it answers, and its bounds."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tchatd.edge.console import (
    ARGUMENTS_MAX,
    PEER,
    Command,
    Console,
    ConsoleError,
    ConsolePorts,
    Rows,
    reachable,
    standard_commands,
)
from tchatd.kernel.errors import NotFound
from tchatd.observe import logging

OWN_USER = os.geteuid()


def ports(drain: Callable[[], None] = lambda: None) -> ConsolePorts:
    async def sessions(user: str, limit: int) -> Rows:
        if user != "known":
            raise NotFound("no such user")
        return Rows([{"id": "s1"}][:limit], 1)

    async def kick(user: str) -> dict[str, object]:
        return {"user": user, "closed": 2}

    return ConsolePorts(
        status=lambda: {"state": "serving"},
        connections=lambda limit: Rows([{"number": n} for n in range(limit)], 500),
        sessions=sessions,
        kick=kick,
        otp=lambda identifier: "123456" if identifier == "a@b.co" else None,
        journal=lambda: {"durable_position": 7},
        drain=drain,
        metrics=lambda: "up 1\n",
    )


@asynccontextmanager
async def serving(
    path: Path, commands: list[Command] | None = None, **limits: Any
) -> AsyncIterator[Console]:
    console = Console(
        path, standard_commands(ports(), 3) if commands is None else commands, **limits
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(console.run)
        yield console
        console.close()


async def ask(path: Path, *lines: object) -> list[dict[str, Any]]:
    """Each line sent in turn, with its answer; raw bytes go as they are."""
    with reachable(path) as name:
        stream = await trio.open_unix_socket(name)
    answers = []
    async with stream:
        for line in lines:
            raw = line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n"
            await stream.send_all(raw)
            received = b""
            while not received.endswith(b"\n"):
                more = await stream.receive_some()
                if not more:
                    break
                received += more
            answers.append(json.loads(received))
    return answers


async def one(path: Path, command: str, *arguments: str) -> Any:
    (answer,) = await ask(
        path, {"id": 4, "command": command, "arguments": list(arguments)}
    )
    assert answer["id"] == 4
    return answer.get("result", answer.get("error"))


async def test_only_the_owner_reaches_the_socket_file(tmp_path: Path) -> None:
    path = tmp_path / "console.sock"
    async with serving(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


async def test_each_command_answers_with_its_result(tmp_path: Path) -> None:
    path = tmp_path / "console.sock"
    async with serving(path):
        assert await one(path, "status") == {"state": "serving"}
        assert await one(path, "sessions", "known") == {
            "rows": [{"id": "s1"}],
            "total": 1,
        }
        assert (await one(path, "kick", "known"))["closed"] == 2
        assert await one(path, "otp", "a@b.co") == {"code": "123456"}
        assert await one(path, "journal") == {"durable_position": 7}
        assert await one(path, "metrics") == "up 1\n"
        names = [row["command"].split()[0] for row in (await one(path, "help"))["rows"]]
        assert names == [
            *("status", "connections", "sessions", "kick", "otp", "journal"),
            *("drain", "log-level", "metrics", "help"),
        ]


async def test_help_tells_of_one_command_too(tmp_path: Path) -> None:
    path = tmp_path / "console.sock"
    async with serving(path):
        told = await one(path, "help", "kick")
        assert told["usage"] == "kick USER"
        assert (await one(path, "help", "reboot"))["code"] == "unknown-command"


async def test_options_are_named_by_help_and_by_who_misses_an_argument(
    tmp_path: Path,
) -> None:
    path = tmp_path / "console.sock"
    ban = Command("ban", "USER", "Ban.", lambda _: None, "--reason WHY [--for 7d]")
    async with serving(path, [ban]):
        usage = "ban USER --reason WHY [--for 7d]"
        assert (await one(path, "help", "ban"))["usage"] == usage
        assert (await one(path, "ban"))["message"] == f"usage: {usage}"


async def test_lists_are_cut_and_their_total_is_told(tmp_path: Path) -> None:
    path = tmp_path / "console.sock"
    async with serving(path):
        answer = await one(path, "connections", "100")
        assert (len(answer["rows"]), answer["total"]) == (3, 500)
        assert len((await one(path, "connections", "2"))["rows"]) == 2


async def test_drain_asks_for_it_once(tmp_path: Path) -> None:
    path, asked = tmp_path / "console.sock", []
    commands = standard_commands(ports(lambda: asked.append(True)), 3)
    async with serving(path, commands):
        assert await one(path, "drain") == {"draining": True}
    assert asked == [True]


async def test_the_log_level_is_shown_and_set(tmp_path: Path) -> None:
    path = tmp_path / "console.sock"
    async with serving(path):
        try:
            assert await one(path, "log-level", "error") == {"level": "error"}
            assert logging.level() == "error"
            assert await one(path, "log-level") == {"level": "error"}
            assert (await one(path, "log-level", "loud"))["code"] == "usage"
        finally:
            logging.set_level("info")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("reboot",), "unknown-command"),
        (("sessions",), "usage"),
        (("status", "now"), "usage"),
        (("connections", "many"), "usage"),
        (("sessions", "nobody"), "not-found"),
        (("otp", "x@y.co"), "not-found"),
    ],
)
async def test_a_refusal_has_a_code_and_a_sentence(
    tmp_path: Path, words: tuple[str, ...], code: str
) -> None:
    path = tmp_path / "console.sock"
    async with serving(path):
        error = await one(path, *words)
        assert error["code"] == code
        assert error["message"]


async def test_what_is_no_request_is_refused_and_the_connection_stays(
    tmp_path: Path,
) -> None:
    path = tmp_path / "console.sock"
    async with serving(path):
        answers = await ask(
            path, b"hello\n", b"[]\n", b'{"x":1}\n', {"command": "status"}
        )
        assert [a.get("error", {}).get("code") for a in answers] == [
            *("usage", "usage", "usage", None)
        ]


async def test_a_line_without_end_closes_the_connection(tmp_path: Path) -> None:
    path = tmp_path / "console.sock"
    async with serving(path, line_bytes_max=1_024):
        (answer,) = await ask(path, b"x" * 2_048)
        assert answer["error"]["message"] == "the line is too long"


async def test_an_answer_over_the_limit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "console.sock"
    commands = [Command("long", "", "", lambda _: "x" * 5_000)]
    async with serving(path, commands, line_bytes_max=1_024):
        assert (await one(path, "long"))["code"] == "too-large"


def test_usage_says_how_many_arguments_there_are() -> None:
    def takes(usage: str, options: str = "") -> list[int]:
        command = Command("x", usage, "", lambda _: None, options)
        return [count for count in range(ARGUMENTS_MAX + 2) if command.takes(count)]

    assert takes("") == [0]
    assert takes("USER [CODE]") == [1, 2]
    assert takes("ID", "--reason WHY") == list(range(1, ARGUMENTS_MAX + 1))


async def test_a_command_knows_who_runs_it(tmp_path: Path) -> None:
    commands = [Command("who", "", "", lambda _: PEER.get())]
    path = tmp_path / "console.sock"
    async with serving(path, commands):
        [answer] = await ask(path, {"command": "who"})
        assert answer["result"] == OWN_USER


async def test_a_command_that_takes_too_long_is_given_up(
    tmp_path: Path, autojump_clock: trio.abc.Clock
) -> None:
    path = tmp_path / "console.sock"

    async def sleep(_: object) -> None:
        await trio.sleep_forever()

    commands = [Command("sleep", "", "", sleep)]
    async with serving(path, commands, command_s=30):
        assert (await one(path, "sleep"))["code"] == "timeout"


async def test_one_console_too_many_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "console.sock"
    async with (
        serving(path, connections_max=1),
        await trio.open_unix_socket(str(path)) as first,
    ):
        await first.send_all(b'{"command":"status"}\n')
        await first.receive_some()
        second = await trio.open_unix_socket(str(path))
        async with second:
            refused = json.loads(await second.receive_some())
        assert refused["error"]["code"] == "busy"


async def test_a_command_that_breaks_ends_only_its_connection(tmp_path: Path) -> None:
    path = tmp_path / "console.sock"

    def broken(_: object) -> None:
        raise KeyError("x")

    commands = [Command("broken", "", "", broken), Command("fine", "", "", lambda _: 1)]
    async with serving(path, commands):
        async with await trio.open_unix_socket(str(path)) as stream:
            await stream.send_all(b'{"command":"broken"}\n')
            assert await stream.receive_some() == b""
        assert await one(path, "fine") == 1


async def test_a_socket_left_by_a_crash_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "console.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    async with serving(path):
        assert await one(path, "status") == {"state": "serving"}


async def test_a_path_longer_than_a_socket_address_works(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100) / ("y" * 100)
    folder.mkdir(parents=True)
    path = folder / "console.sock"
    async with serving(path):
        assert path.exists()
        assert await one(path, "status") == {"state": "serving"}


async def test_another_user_is_refused_whatever_the_file_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "console.sock"
    async with serving(path):
        monkeypatch.setattr(os, "geteuid", lambda: OWN_USER + 1)
        if OWN_USER == 0:  # root may always talk: there is nothing to refuse
            assert await one(path, "status") == {"state": "serving"}
            return
        async with await trio.open_unix_socket(str(path)) as stream:
            await stream.send_all(b'{"command":"status"}\n')
            assert await stream.receive_some() == b""


def test_an_error_keeps_its_code() -> None:
    assert ConsoleError("usage", "x").code == "usage"
