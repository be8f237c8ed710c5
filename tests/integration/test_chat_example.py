"""The client of examples/ shows its dialog, and says what it cannot do in a line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from tests.support.client import ANSWER_S, Json, Person, sign_in
from tests.support.daemon import ROOT, Daemon

pytestmark = [pytest.mark.service, pytest.mark.slow]

CHAT = [sys.executable, str(ROOT / "examples" / "chat.py")]
PLACE = {"latitude": 13.75, "longitude": 100.5}


async def dialog_with(person: Person, **asked: object) -> str:
    dialog: Json = await person.ok("POST", "/dialogs", asked)
    id: str = dialog["id"]
    return id


@asynccontextmanager
async def chatting(person: Person, dialog_id: str) -> AsyncIterator[trio.Process]:
    command = [*CHAT, person.daemon.url, person.access_token, dialog_id]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    async with trio.open_nursery() as nursery:
        process = await nursery.start(partial(trio.run_process, command, **pipes))
        yield process
        nursery.cancel_scope.cancel()


async def test_what_others_say_is_printed_whatever_it_is(
    daemon: Daemon, new_phone: Callable[[], str]
) -> None:
    async with (
        sign_in(daemon, new_phone()) as reader,
        sign_in(daemon, new_phone()) as writer,
    ):
        other = [writer.id]
        shown = await dialog_with(reader, type="user", participants=other)
        hidden = await dialog_with(reader, type="group", name="B", participants=other)
        async with chatting(reader, shown) as chat:
            assert chat.stdin is not None
            assert chat.stdout is not None
            printed = b""
            await chat.stdin.send_all(b"hello\n")
            with trio.fail_after(ANSWER_S):
                while b"(sent)" not in printed:
                    printed += await chat.stdout.receive_some()
                for dialog_id, kind, content in (
                    (hidden, "text", {"text": "elsewhere"}),
                    (shown, "location", PLACE),
                    (shown, "text", {"text": "here"}),
                ):
                    path = f"/dialogs/{dialog_id}/messages"
                    said = {"type": kind, "content": content}
                    await writer.ok("POST", path, said)
                while b"here" not in printed:
                    printed += await chat.stdout.receive_some()
        lines = [line.split() for line in printed.decode().splitlines()]
        assert [line[1] for line in lines] == ["(sent)", "[location]", "here"]


@pytest.mark.parametrize(
    ("port", "line"), [("", "refused: 401 "), ("1", "no connection: ")]
)
def test_what_fails_is_a_line(daemon: Daemon, port: str, line: str) -> None:
    url = f"http://127.0.0.1:{port or daemon.port}"
    done = subprocess.run(
        [*CHAT, url, "token", "dialog"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=ANSWER_S,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1
