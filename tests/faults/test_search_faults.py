"""A crash, a damaged index, a rebuild: everything that was said is found again."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio

from tests.support.client import Person, sign_in
from tests.support.daemon import Daemon
from tests.support.settings import ROOMY

pytestmark = [pytest.mark.service, pytest.mark.slow]

NEVER_S = "60"
"""Between two commits: longer than a test."""
SOON_S = 10.0


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    daemon = Daemon(ROOMY | {"SEARCH_PER_USER_MINUTE": "100000"})
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.remove()


async def say(person: Person, dialog_id: str, words: str) -> str:
    body = {"type": "text", "content": {"text": words}}
    message = await person.ok("POST", f"/dialogs/{dialog_id}/messages", body)
    id: str = message["id"]
    return id


async def found(person: Person, q: str) -> list[str] | None:
    """None while search does not answer."""
    answer = await person.http.get("/messages/search", params={"q": q, "limit": 50})
    if answer.status_code == 503:
        assert answer.json()["type"].endswith("search-unavailable")
        return None
    return [hit["message"]["id"] for hit in answer.json()["hits"]]


async def until(what: Callable[[], Any], wanted: Any) -> None:
    answer: Any = None
    with trio.move_on_after(SOON_S):
        while (answer := await what()) != wanted:
            await trio.sleep(0.05)
    assert answer == wanted


async def flushed(daemon: Daemon) -> None:
    for _ in range(200):
        if daemon.console("journal")["unflushed_records"] == 0:
            return
        await trio.sleep(0.05)
    raise AssertionError("never flushed")


async def test_killed_between_a_flush_and_its_commit_nothing_is_lost(
    daemon: Daemon,
) -> None:
    async with (
        sign_in(daemon, "+66815550001") as a,
        sign_in(daemon, "+66815550002") as b,
    ):
        body = {"type": "user", "participants": [b.id]}
        dialog_id = (await a.ok("POST", "/dialogs", body))["id"]
        kept = await say(a, dialog_id, "ferry one")
        edited = await say(a, dialog_id, "ferry two")
        gone = await say(a, dialog_id, "ferry three")
        await until(lambda: found(b, "ferry"), [gone, edited, kept])
        daemon.stop()
        daemon.settings["SEARCH_COMMIT_INTERVAL_S"] = NEVER_S
        daemon.start()
        first = await say(a, dialog_id, "ferry four")
        edit = {"content": {"text": "train two"}}
        await a.ok("PUT", f"/messages/{edited}", edit)
        await a.ok("DELETE", f"/messages/{gone}")
        last = await say(a, dialog_id, "ferry five")
        await flushed(daemon)
        before = await found(b, "ferry")
        assert before is not None
        assert last not in before
        daemon.kill()
        del daemon.settings["SEARCH_COMMIT_INTERVAL_S"]
        daemon.start()
        await until(lambda: found(b, "ferry"), [last, first, kept])
        await until(lambda: found(b, "train"), [edited])


@pytest.mark.parametrize("damage", ["gone", "torn", "another version"])
async def test_a_damaged_index_is_built_anew_by_itself(
    daemon: Daemon, damage: str
) -> None:
    async with (
        sign_in(daemon, "+66815550003") as a,
        sign_in(daemon, "+66815550004") as b,
    ):
        body = {"type": "user", "participants": [b.id]}
        dialog_id = (await a.ok("POST", "/dialogs", body))["id"]
        ids = [await say(a, dialog_id, f"ferry {n}") for n in range(20)]
        await until(lambda: found(b, "ferry"), ids[::-1])
        daemon.stop()
        folder = daemon.data / "search"
        if damage == "gone":
            shutil.rmtree(folder)
        elif damage == "torn":
            for path in folder.glob("*/*.idx"):
                path.write_bytes(path.read_bytes()[:20])
        else:
            (folder / "current").write_text('{"format":0,"generation":1}')
        daemon.start()
        await until(lambda: found(b, "ferry"), ids[::-1])
        ids.append(await say(a, dialog_id, "ferry again"))
        await until(lambda: found(b, "ferry"), ids[::-1])
        assert "building the search index" in daemon.log()


async def test_an_operator_builds_it_anew_while_it_answers(daemon: Daemon) -> None:
    async with (
        sign_in(daemon, "+66815550005") as a,
        sign_in(daemon, "+66815550006") as b,
    ):
        body = {"type": "user", "participants": [b.id]}
        dialog_id = (await a.ok("POST", "/dialogs", body))["id"]
        ids = [await say(a, dialog_id, f"ferry {n}") for n in range(10)]
        await until(lambda: found(b, "ferry"), ids[::-1])
        for _ in range(3):
            daemon.console("search", "rebuild")
            assert await found(b, "ferry") == ids[::-1]
            ids.append(await say(a, dialog_id, "ferry meanwhile"))
            await until(lambda: found(b, "ferry"), ids[::-1])
        status = daemon.console("search")
        assert status["is_ready"]
        assert status["documents"] >= len(ids)
        assert not status["is_failing"]
