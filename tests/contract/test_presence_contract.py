"""Presence and typing over a real daemon, in both subprotocols, with real time.

The daemon's times are short, so that what ends by itself ends within the test.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
import trio

from tests.contract.test_messaging_contract import TEXT, dialog_of
from tests.support.client import Json, Person, Socket, sign_in
from tests.support.daemon import Daemon
from tests.support.raw import RawSocket
from tests.support.settings import ROOMY

pytestmark = [pytest.mark.service, pytest.mark.slow]

SHORT = {
    "GATEWAY_PING_INTERVAL_S": "1",
    "GATEWAY_PONG_TIMEOUT_S": "1",
    "GATEWAY_IDLE_S": "3",
    "PRESENCE_GRACE_S": "0.2",
    "PRESENCE_SETTLE_S": "0.2",
    "PRESENCE_DIALOG_MEMBERS_MAX": "3",
    "TYPING_VALID_S": "1.5",
    "TYPING_REPEAT_S": "0.5",
    "TYPING_SMALL_MEMBERS_MAX": "3",
    "TYPING_SHOWN_MAX": "1",
}
QUIET_S = 2.5
"""Longer than anything here takes to end by itself."""

People = Callable[[], Awaitable[Person]]
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def short_daemon() -> Iterator[Daemon]:
    daemon = Daemon(ROOMY | SHORT)
    try:
        yield daemon.start()
    finally:
        daemon.remove()


@pytest.fixture
async def people(short_daemon: Daemon) -> AsyncIterator[People]:
    async with AsyncExitStack() as stack:

        async def make() -> Person:
            phone = f"+6682{next(_numbers):07d}"
            return await stack.enter_async_context(sign_in(short_daemon, phone))

        yield make


@pytest.fixture(params=["tchat.json.v1", "tchat.msgpack.v1"])
def protocol(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def status(event: Json) -> tuple[str, str]:
    return event["user_id"], event["status"]


async def quiet(socket: Socket, *ops: str) -> None:
    """Nothing of that kind comes for a while."""
    with trio.move_on_after(QUIET_S):
        async for event in socket.events:
            assert event["op"] not in ops, event


async def test_a_watcher_is_told_every_change(people: People, protocol: str) -> None:
    a, b = await people(), await people()
    async with a.socket(protocol) as watcher:
        told = await watcher.command("presence.watch", user_ids=[b.id])
        assert status(told["presence"][0]) == (b.id, "offline")
        async with b.socket(protocol) as other:
            assert status(await watcher.event("presence.update")) == (b.id, "online")
            for choice in ("away", "busy", "offline", "online"):
                answer = await other.command("presence.set", status=choice)
                assert answer == {"status": choice} or choice == "busy"
                update = await watcher.event("presence.update")
                assert status(update) == (b.id, choice)
        update = await watcher.event("presence.update")
        assert status(update) == (b.id, "offline")
        assert update["last_seen"].endswith("Z")


async def test_the_status_of_ones_profile_is_how_one_comes_and_is_seen(
    people: People, protocol: str
) -> None:
    a, b = await people(), await people()
    async with a.socket(protocol) as watcher:
        await watcher.command("presence.watch", user_ids=[b.id])
        await b.ok("PUT", "/users/profile", {"status": "busy"})
        async with b.socket(protocol) as other:
            assert status(await other.event("presence.update")) == (b.id, "busy")
            assert status(await watcher.event("presence.update")) == (b.id, "busy")
            await b.ok("PUT", "/users/profile", {"status": "away"})
            assert status(await watcher.event("presence.update")) == (b.id, "away")
            await other.command("presence.set", status="offline")
            update = await watcher.event("presence.update")
            assert status(update) == (b.id, "offline")
            own = await b.ok("GET", "/users/profile")
            assert own["status"] == "offline"
            assert "last_seen" not in own
            await other.command("presence.set", status="online")
            assert status(await watcher.event("presence.update")) == (b.id, "online")
        await watcher.event("presence.update")
        own = await b.ok("GET", "/users/profile")
        assert own["status"] == "away"  # as what they come
        assert own["last_seen"].endswith("Z")


async def test_who_is_invisible_looks_offline_and_gets_everything(
    people: People, protocol: str
) -> None:
    a, b = await people(), await people()
    dialog = await dialog_of(a, b)
    async with a.socket(protocol) as watcher, b.socket(protocol) as phone:
        await phone.command("presence.set", status="offline")
        async with b.socket(protocol) as tablet:
            own = await tablet.event("presence.update")
            assert status(own) == (b.id, "offline")
            told = await watcher.command("presence.watch", user_ids=[b.id])
            assert status(told["presence"][0]) == (b.id, "offline")
            listed = await a.ok("GET", "/presence", params={"user_ids": b.id})
            assert listed["presence"][0]["status"] == "offline"
            await a.ok("POST", f"/dialogs/{dialog['id']}/messages", TEXT)
            for device in (phone, tablet):
                await device.event("message.new")
            await tablet.command("presence.set", status="online")
            assert status(await phone.event("presence.update")) == (b.id, "online")
            assert status(await watcher.event("presence.update")) == (b.id, "online")


async def test_an_open_dialog_shows_who_is_there(people: People, protocol: str) -> None:
    a, b, c, d = [await people() for _ in range(4)]
    two = await dialog_of(a, b)
    group = await a.ok(
        "POST",
        "/dialogs",
        {"type": "group", "name": "Us", "participants": [b.id, c.id, d.id]},
    )
    async with a.socket(protocol) as socket:
        opened = await socket.command("presence.watch", dialog_id=two["id"])
        assert [status(item) for item in opened["presence"]] == [(b.id, "offline")]
        large = await socket.command("presence.watch", dialog_id=group["id"])
        assert large == {"presence": [], "online_count": 1}
        async with b.socket(protocol):
            assert status(await socket.event("presence.update")) == (b.id, "online")
        assert status(await socket.event("presence.update")) == (b.id, "offline")
        closed = await socket.command("presence.unwatch", dialog_id=two["id"])
        assert closed == {"watched": 0}
        async with b.socket(protocol):
            await quiet(socket, "presence.update")
    async with d.socket(protocol) as stranger:
        refused = await stranger.ask("presence.watch", dialog_id=two["id"])
        assert refused["problem"]["status"] == 404


async def test_privacy_and_blocks_are_told_to_who_watches(
    people: People, protocol: str
) -> None:
    a, b = await people(), await people()
    async with a.socket(protocol) as watcher, b.socket(protocol):
        await watcher.command("presence.watch", user_ids=[b.id])
        with suppress(trio.TooSlowError), trio.fail_after(2):
            await watcher.event("presence.update")  # if it was not shown yet
        await b.ok("PUT", "/users/privacy", {"last_seen": "nobody"})
        update = await watcher.event("presence.update")
        assert status(update) == (b.id, "offline")
        assert update["last_seen_about"] == "recently"
        await b.ok("PUT", "/users/privacy", {"last_seen": "everyone"})
        assert status(await watcher.event("presence.update")) == (b.id, "online")
        await b.ok("POST", "/users/blocks", {"user_ids": [a.id]})
        update = await watcher.event("presence.update")
        assert (update["status"], update["last_seen_about"]) == ("offline", "long_ago")


async def test_a_client_that_just_stops_leaves_no_ghost(people: People) -> None:
    a, b = await people(), await people()
    async with a.socket() as watcher:
        await watcher.command("presence.watch", user_ids=[b.id])
        stalled = RawSocket(b.daemon.port)
        await trio.to_thread.run_sync(stalled.upgrade, b.access_token)
        assert status(await watcher.event("presence.update")) == (b.id, "online")
        # It neither reads nor answers pings from here on, and its end is never sent.
        assert status(await watcher.event("presence.update")) == (b.id, "offline")
        stalled.close()


async def test_after_a_crash_nobody_is_online_and_last_seen_is_known() -> None:
    daemon = Daemon(ROOMY | SHORT | {"PRESENCE_LAST_SEEN_WRITE_S": "0.2"})
    try:
        daemon.start()
        async with (
            sign_in(daemon, "+66830000001") as a,
            sign_in(daemon, "+66830000002") as b,
        ):
            with suppress(Exception):  # it will be killed under them
                async with a.socket() as watcher, b.socket():
                    await watcher.command("presence.watch", user_ids=[b.id])
                    await trio.sleep(QUIET_S)
                    await trio.to_thread.run_sync(daemon.kill)
            await trio.to_thread.run_sync(daemon.start)
            query = {"user_ids": b.id}
            [seen] = (await a.ok("GET", "/presence", params=query))["presence"]
            assert seen["status"] == "offline"
            assert seen["last_seen"].endswith("Z")
            # And after a graceful stop it is when it stopped.
            async with b.socket():
                await trio.sleep(1.5)
            await trio.to_thread.run_sync(daemon.stop)
            await trio.to_thread.run_sync(daemon.start)
            [again] = (await a.ok("GET", "/presence", params=query))["presence"]
            assert again["last_seen"] > seen["last_seen"]
    finally:
        daemon.remove()


async def test_typing_ends_by_itself_and_is_thinned(
    people: People, protocol: str
) -> None:
    a, b = await people(), await people()
    dialog = await dialog_of(a, b)
    about = {"dialog_id": dialog["id"]}
    async with a.socket(protocol) as typist, b.socket(protocol) as reader:
        for _ in range(5):
            await typist.command("typing.start", **about)
        event = await reader.event("typing.start")
        assert event == {"op": "typing.start", "user_id": a.id, **about}
        stop = await _typing(reader)
        assert stop == {"op": "typing.stop", "user_id": a.id, **about}

        await typist.command("typing.start", **about)
        await reader.event("typing.start")
        await typist.command("message.send", **about, **TEXT)
        assert (await _typing(reader))["op"] == "typing.stop"
        await reader.event("message.new")

        await typist.command("typing.start", **about)
        await reader.event("typing.start")
    # The reader's socket is gone here, too: nothing may fail on the way.


async def _typing(socket: Socket) -> Json:
    """The next event about typing, of either kind."""
    with trio.fail_after(15):
        async for event in socket.events:
            if event["op"].startswith("typing."):
                return event
    raise ConnectionError("closed before it came")


async def test_typing_ends_with_the_connection(people: People, protocol: str) -> None:
    a, b = await people(), await people()
    dialog = await dialog_of(a, b)
    async with b.socket(protocol) as reader:
        async with a.socket(protocol) as typist:
            await typist.command("typing.start", dialog_id=dialog["id"])
            await reader.event("typing.start")
        assert (await _typing(reader))["op"] == "typing.stop"


async def test_in_a_larger_dialog_one_is_shown_at_a_time(
    people: People, protocol: str
) -> None:
    everybody = [await people() for _ in range(4)]
    a, b, _, d = everybody
    group: dict[str, Any] = await a.ok(
        "POST",
        "/dialogs",
        {
            "type": "group",
            "name": "Us",
            "participants": [person.id for person in everybody[1:]],
        },
    )
    about = {"dialog_id": group["id"]}
    async with (
        a.socket(protocol) as first,
        b.socket(protocol) as second,
        d.socket(protocol) as reader,
    ):
        await first.command("typing.start", **about)
        await second.command("typing.start", **about)
        assert (await _typing(reader))["user_id"] == a.id
        await first.command("typing.stop", **about)
        stop = await _typing(reader)
        assert (stop["op"], stop["user_id"]) == ("typing.stop", a.id)
        await second.command("typing.start", **about)
        start = await _typing(reader)
        assert (start["op"], start["user_id"]) == ("typing.start", b.id)


async def test_who_is_blocked_is_not_told_who_types(people: People) -> None:
    a, b = await people(), await people()
    dialog = await dialog_of(a, b)
    await a.ok("POST", "/users/blocks", {"user_ids": [b.id]})
    async with a.socket() as blocker, b.socket() as blocked:
        await blocker.command("typing.start", dialog_id=dialog["id"])
        await blocked.command("typing.start", dialog_id=dialog["id"])
        await quiet(blocked, "typing.start", "typing.stop")
        await quiet(blocker, "typing.start", "typing.stop")
