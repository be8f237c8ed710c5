"""Webhooks over kill -9: every message arrives at least once, in order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby

import pytest
import trio

from tests.contract.test_bots_contract import dialog_with, say
from tests.support.client import sign_in
from tests.support.daemon import Daemon
from tests.support.receiver import Answer, Receiver, receiver
from tests.support.settings import ROOMY

pytestmark = [pytest.mark.service, pytest.mark.slow]
MESSAGES = 60
CRASHES = 3


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    started = Daemon(ROOMY | {"BOTS_WEBHOOK_ATTEMPTS_MAX": "50"})
    try:
        yield started.start()
    finally:
        started.remove()


def texts(received: Receiver) -> list[str]:
    """What the receiver took, in the order in which it came."""
    events = [json.loads(request.body) for request in received.requests]
    return [event["data"]["message"]["content"]["text"] for event in events]


async def test_no_crash_loses_an_event_or_changes_the_order(daemon: Daemon) -> None:
    async with (
        receiver() as received,
        sign_in(daemon, "+66811000001") as owner,
        sign_in(daemon, "+66811000002") as person,
    ):
        bot = await owner.ok("POST", "/bots", {"name": "Echo", "username": "crash_bot"})
        hook = {"url": received.url, "events": ["message.new"]}
        await owner.ok("PUT", f"/bots/{bot['id']}/webhook", hook)
        path = f"/dialogs/{await dialog_with(person, bot['id'])}/messages"
        received.answers = [Answer(200), Answer(500)] * 10 + [Answer(200)]
        each = MESSAGES // CRASHES
        for crash in range(CRASHES):
            for number in range(crash * each, (crash + 1) * each):
                await person.ok("POST", path, say(f"{number}"))
            await trio.to_thread.run_sync(daemon.kill)
            await trio.to_thread.run_sync(daemon.start)
        last = str(MESSAGES - 1)
        with trio.fail_after(60):
            while not received.requests or texts(received)[-1] != last:
                await received.came.receive()
        # Repeats of one follow each other; nothing overtakes.
        assert [text for text, _ in groupby(texts(received))] == [
            str(number) for number in range(MESSAGES)
        ]
        ids: dict[str, set[str]] = {}
        for text, request in zip(texts(received), received.requests, strict=True):
            ids.setdefault(text, set()).add(request.headers["x-tchat-event-id"])
        assert all(len(of_one) == 1 for of_one in ids.values())
