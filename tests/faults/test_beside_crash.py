"""`kill -9` around the moment when something is done by itself: it is done once.

Scheduled messages are due, and customers are greeted, while the daemon is killed again
and again at random moments; afterwards each scheduled message and each greeting is in
its dialog exactly once. TCHATD_CRASH_SEED replays a run.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import trio

from tests.support.client import Person, sign_in, uuid7
from tests.support.daemon import Daemon
from tests.support.settings import ROOMY

pytestmark = [pytest.mark.service, pytest.mark.slow]

SEED = int(os.environ.get("TCHATD_CRASH_SEED", "20261124"))
RUNS, MESSAGES, CUSTOMERS, WAIT_S = 4, 12, 6, 90
TEXT = {"type": "text", "content": {"text": "hello"}}


async def texts(person: Person, dialog_id: str, sender: Person) -> Counter[str]:
    page = await person.ok(
        "GET", f"/dialogs/{dialog_id}/messages", params={"limit": 100}
    )
    found = [m for m in page["messages"] if m["sender_id"] == sender.id]
    return Counter(message["content"]["text"] for message in found)


async def until_there(
    person: Person, dialog_id: str, sender: Person, wanted: int
) -> Counter[str]:
    """Also after the lease of what was claimed before the last crash."""
    with trio.fail_after(WAIT_S):
        while True:
            found = await texts(person, dialog_id, sender)
            if found.total() >= wanted:
                return found
            await trio.sleep(0.2)


async def say(customer: Person, dialog_id: str, client_id: str) -> None:
    """However often it takes; the client_id makes it one message."""
    body = TEXT | {"client_id": client_id}
    with trio.fail_after(WAIT_S):
        while True:
            try:
                await customer.ok("POST", f"/dialogs/{dialog_id}/messages", body)
            except httpx.HTTPError:
                await trio.sleep(0.05)
            else:
                return


async def kill_now_and_then(daemon: Daemon, chance: random.Random) -> None:
    for _ in range(RUNS):
        await trio.sleep(chance.uniform(0.1, 0.7))
        daemon.kill()
        await trio.to_thread.run_sync(daemon.start)


async def test_what_is_done_by_itself_is_done_once() -> None:
    chance = random.Random(SEED)
    daemon = Daemon(ROOMY)
    try:
        daemon.start()
        async with AsyncExitStack() as stack:
            people = [
                await stack.enter_async_context(sign_in(daemon, f"+66817{n:06d}"))
                for n in range(3 + CUSTOMERS)
            ]
            author, reader, shop, *customers = people
            body = {"type": "user", "participants": [reader.id]}
            id = (await author.ok("POST", "/dialogs", body))["id"]
            wanted = Counter(f"{number}" for number in range(MESSAGES))
            for number in range(MESSAGES):
                due = datetime.now(UTC) + timedelta(seconds=chance.uniform(1, 5))
                planned = {"type": "text", "content": {"text": f"{number}"}}
                planned["send_at"] = due.isoformat()
                await author.ok("POST", f"/dialogs/{id}/scheduled", planned)
            await shop.ok("PUT", "/business", {"greeting": "Welcome!"})
            body = {"type": "business", "participants": [shop.id]}
            shops = [(await c.ok("POST", "/dialogs", body))["id"] for c in customers]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(kill_now_and_then, daemon, chance)
                for customer, dialog_id in zip(customers, shops, strict=True):
                    nursery.start_soon(say, customer, dialog_id, uuid7())
            assert await until_there(reader, id, author, MESSAGES) == wanted
            for customer, dialog_id in zip(customers, shops, strict=True):
                greeted = await until_there(customer, dialog_id, shop, 1)
                assert greeted == {"Welcome!": 1}
            assert (await author.ok("GET", f"/dialogs/{id}/scheduled")) == {
                "scheduled": []
            }
            assert await texts(reader, id, author) == wanted
    finally:
        daemon.remove()
