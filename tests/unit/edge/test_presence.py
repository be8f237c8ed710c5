"""Who is seen as what, and who is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tchatd.edge import presence
from tchatd.edge.presence import PresenceSettings
from tchatd.edge.presence_models import Status
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.errors import Unavailable
from tests.support.edge_fakes import Edge, Json, user_id


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[Edge]:
    edge = Edge(presence_settings=PresenceSettings(**settings))
    async with trio.open_nursery() as nursery:
        await nursery.start(edge.dispatcher.run)
        yield edge
        edge.dispatcher.close()


async def ask(edge: Edge, connection: int, op: str, **members: Any) -> Json:
    edge.send(connection, {"op": op, "id": 1, **members})
    await wait_all_tasks_blocked()
    answers = [e for e in edge.received(connection) if e["op"] in ("reply", "error")]
    assert len(answers) == 1
    told: Json = answers[0].get("result") or answers[0]["problem"]
    return told


def ids(*numbers: int) -> list[str]:
    return [str(user_id(number)) for number in numbers]


def updates(edge: Edge, connection: int) -> list[tuple[str, str]]:
    return [
        (event["user_id"], event["status"])
        for event in edge.received(connection)
        if event["op"] == "presence.update"
    ]


DIALOG = str(UUID(int=7))


def come(edge: Edge, connection: int, token: str) -> None:
    """Connect, and be there long enough to be shown."""
    edge.connect(connection, token)
    edge.advance(1)


async def test_a_watcher_is_told_who_comes_and_who_goes() -> None:
    async with running(grace_s=5) as edge:
        come(edge, 1, "u1")
        answer = await ask(edge, 1, "presence.watch", user_ids=ids(2, 3))
        assert [item["status"] for item in answer["presence"]] == ["offline"] * 2

        come(edge, 2, "u2")
        assert updates(edge, 1) == [(*ids(2), "online")]
        edge.sessions.closed(2)
        edge.advance(4)
        assert updates(edge, 1) == []
        edge.advance(2)
        assert updates(edge, 1) == [(*ids(2), "offline")]


async def test_a_reconnect_within_the_grace_makes_no_noise() -> None:
    async with running(grace_s=5) as edge:
        come(edge, 1, "u1")
        come(edge, 2, "u2")
        answer = await ask(edge, 1, "presence.watch", user_ids=ids(2))
        assert answer["presence"][0]["status"] == "online"

        edge.sessions.closed(2)
        edge.advance(3)
        edge.connect(3, "u2")
        edge.advance(10)

        assert updates(edge, 1) == []


async def test_who_comes_and_is_gone_at_once_is_not_shown() -> None:
    async with running(settle_s=0.5) as edge:
        come(edge, 1, "u1")
        await ask(edge, 1, "presence.watch", user_ids=ids(2))
        edge.connect(2, "u2")
        assert edge.presence.status_of(2) == "offline"
        edge.sessions.closed(2)
        edge.advance(60)
        assert updates(edge, 1) == []


async def test_a_second_connection_keeps_a_user_online() -> None:
    async with running() as edge:
        for connection, token in ((1, "u1"), (2, "u2"), (3, "u2")):
            come(edge, connection, token)
        await ask(edge, 1, "presence.watch", user_ids=ids(2))

        edge.sessions.closed(2)
        edge.advance(60)

        assert updates(edge, 1) == []


async def test_a_status_is_told_once_for_each_change() -> None:
    async with running() as edge:
        come(edge, 1, "u1")
        come(edge, 2, "u2")
        await ask(edge, 1, "presence.watch", user_ids=ids(2))

        for status in ("away", "away", "busy", "online", "online"):
            assert await ask(edge, 2, "presence.set", status=status) == {
                "status": status
            }

        assert updates(edge, 1) == [(*ids(2), s) for s in ("away", "busy", "online")]


async def test_a_user_is_away_when_all_their_connections_are() -> None:
    async with running() as edge:
        come(edge, 1, "u1")
        come(edge, 2, "u2")
        come(edge, 3, "u2")
        await ask(edge, 1, "presence.watch", user_ids=ids(2))

        assert await ask(edge, 2, "presence.set", status="away") == {"status": "online"}
        assert updates(edge, 1) == []
        assert await ask(edge, 3, "presence.set", status="away") == {"status": "away"}
        edge.connect(4, "u2")  # a new one is not away
        edge.sessions.closed(4)

        assert updates(edge, 1) == [(*ids(2), s) for s in ("away", "online", "away")]


async def test_the_one_that_was_not_away_leaves_the_user_away() -> None:
    async with running() as edge:
        come(edge, 1, "u1")
        come(edge, 2, "u2")
        come(edge, 3, "u2")
        await ask(edge, 2, "presence.set", status="away")
        await ask(edge, 1, "presence.watch", user_ids=ids(2))
        edge.sessions.closed(3)
        assert updates(edge, 1) == [(*ids(2), "away")]


@pytest.mark.parametrize(("choice", "seen"), [("busy", "busy"), ("offline", "offline")])
async def test_a_choice_holds_for_all_devices_and_they_are_told(
    choice: str, seen: str
) -> None:
    async with running() as edge:
        come(edge, 1, "u1")
        for connection in (2, 3):
            come(edge, connection, "u2")
        await ask(edge, 1, "presence.watch", user_ids=ids(2))

        await ask(edge, 2, "presence.set", status=choice)
        assert updates(edge, 3) == [(*ids(2), choice)]
        assert updates(edge, 2) == []
        assert updates(edge, 1) == [(*ids(2), seen)]

        # Away is what a device notices by itself: it ends no choice.
        await ask(edge, 3, "presence.set", status="away")
        edge.connect(4, "u2")
        assert updates(edge, 4) == [(*ids(2), choice)]
        edge.sessions.closed(2)
        assert updates(edge, 1) == []

        await ask(edge, 4, "presence.set", status="online")
        assert updates(edge, 1) == [(*ids(2), "online")]
        assert updates(edge, 3) == [(*ids(2), "online")]


async def test_a_device_that_wakes_up_ends_no_choice() -> None:
    async with running() as edge:
        come(edge, 2, "u2")
        come(edge, 3, "u2")
        await ask(edge, 2, "presence.set", status="offline")
        await ask(edge, 3, "presence.set", status="away")
        woken = await ask(edge, 3, "presence.set", status="online")
        assert woken == {"status": "offline"}
        assert await ask(edge, 3, "presence.set", status="online") == {
            "status": "online"
        }


async def test_a_choice_ends_with_the_last_connection() -> None:
    async with running(grace_s=1) as edge:
        come(edge, 2, "u2")
        await ask(edge, 2, "presence.set", status="busy")
        edge.sessions.closed(2)
        edge.advance(5)
        come(edge, 2, "u2")
        assert edge.presence.status_of(2) == "online"


@pytest.mark.parametrize("choice", ["offline", "busy", "away"])
async def test_who_chose_it_in_their_profile_comes_as_that(choice: Status) -> None:
    async with running(grace_s=1) as edge:
        edge.presence.choice_of = lambda number: choice if number == 2 else "online"
        come(edge, 1, "u1")
        await ask(edge, 1, "presence.watch", user_ids=ids(2))
        edge.connect(2, "u2")
        updates(edge, 2)
        edge.sessions.closed(2)  # before anybody saw them
        assert edge.presence.online_count(BitMap((1, 2))) == 1
        for _ in range(2):
            come(edge, 2, "u2")
            assert edge.presence.status_of(2) == choice
            assert edge.presence.own(2) == (choice, None)
            seen = {event[1] for event in updates(edge, 1)}
            assert seen == ({choice} - {"offline"})
            told = [] if choice == "away" else [(*ids(2), choice)]
            assert updates(edge, 2) == told

            await ask(edge, 2, "presence.set", status="online")
            assert edge.presence.own(2) == ("online", None)
            edge.sessions.closed(2)
            edge.advance(5)
            assert [status for _, status in updates(edge, 1)] == ["online", "offline"]


async def test_a_choice_over_http_is_told_to_watchers_and_own_devices() -> None:
    async with running() as edge:
        come(edge, 1, "u1")
        come(edge, 2, "u2")
        come(edge, 3, "u2")
        await ask(edge, 1, "presence.watch", user_ids=ids(2, 4))
        for choice in ("busy", "away", "offline", "online"):
            edge.presence.choose(2, user_id(2), choice)
            assert updates(edge, 1) == [(*ids(2), choice)]
            assert edge.presence.own(2) == (choice, None)
        assert [s for _, s in updates(edge, 3)][-2:] == ["offline", "online"]

        edge.presence.choose(4, user_id(4), "busy")  # who is not here is not seen
        assert updates(edge, 1) == []


async def test_who_is_not_here_is_told_when_they_were() -> None:
    async with running(grace_s=1) as edge:
        assert edge.presence.own(2) is None
        await edge.presence.load_own(2)
        assert edge.presence.own(2) == (None, None)
        come(edge, 2, "u2")
        edge.sessions.closed(2)
        edge.advance(5)
        status, last_seen = edge.presence.own(2) or ("", "")
        assert status is None
        assert str(last_seen).endswith("Z")


async def test_who_is_invisible_looks_offline_and_leaves_without_a_word() -> None:
    async with running(grace_s=1) as edge:
        come(edge, 1, "u1")
        come(edge, 2, "u2")
        await ask(edge, 1, "presence.watch", user_ids=ids(2))
        await ask(edge, 2, "presence.set", status="offline")
        assert updates(edge, 1) == [(*ids(2), "offline")]

        edge.sessions.closed(2)
        edge.advance(5)
        assert updates(edge, 1) == []
        come(edge, 3, "u2")
        assert updates(edge, 1) == [(*ids(2), "online")]


async def test_who_says_at_once_that_they_are_invisible_is_never_shown() -> None:
    async with running() as edge:
        come(edge, 1, "u1")
        await ask(edge, 1, "presence.watch", user_ids=ids(2))
        edge.connect(2, "u2")
        await ask(edge, 2, "presence.set", status="offline")
        edge.advance(60)
        answer = await ask(edge, 1, "presence.watch", user_ids=ids(2))
        assert answer["presence"] == [{"user_id": ids(2)[0], "status": "offline"}]
        assert updates(edge, 1) == []


async def test_an_invisible_user_still_gets_everything() -> None:
    async with running() as edge:
        come(edge, 2, "u2")
        await ask(edge, 2, "presence.set", status="offline")
        assert list(edge.hub.online) == [2]
        edge.hub.deliver(BitMap([2]), {"op": "message.new"})
        assert edge.received(2) == [{"op": "message.new"}]


async def test_unwatched_users_are_told_no_more() -> None:
    async with running() as edge:
        come(edge, 1, "u1")
        await ask(edge, 1, "presence.watch", user_ids=ids(2, 3, 4))

        assert await ask(edge, 1, "presence.unwatch", user_ids=ids(2)) == {"watched": 2}
        come(edge, 2, "u2")
        come(edge, 3, "u3")
        assert updates(edge, 1) == [(*ids(3), "online")]
        assert await ask(edge, 1, "presence.unwatch") == {"watched": 0}
        come(edge, 4, "u4")
        assert updates(edge, 1) == []


async def test_a_connection_watches_only_so_many() -> None:
    async with running(watched_max=3) as edge:
        come(edge, 1, "u1")
        await ask(edge, 1, "presence.watch", user_ids=ids(2, 3))

        answer = await ask(edge, 1, "presence.watch", user_ids=ids(4, 5))

        assert answer["status"] == 422
        assert (await ask(edge, 1, "presence.watch", user_ids=ids(2, 4)))["presence"]


async def test_all_connections_watch_only_so_many_together() -> None:
    async with running(watches_max=3) as edge:
        come(edge, 1, "u1")
        come(edge, 2, "u2")
        await ask(edge, 1, "presence.watch", user_ids=ids(3, 4))
        refused = await ask(edge, 2, "presence.watch", user_ids=ids(3, 4))
        assert refused["status"] == 503
        edge.sessions.closed(1)
        assert (await ask(edge, 2, "presence.watch", user_ids=ids(3, 4)))["presence"]


async def test_a_watcher_who_left_is_forgotten() -> None:
    async with running() as edge:
        come(edge, 1, "u1")
        await ask(edge, 1, "presence.watch", user_ids=ids(2))
        edge.sessions.closed(1)

        come(edge, 2, "u2")

        assert 1 not in edge.transport.queued
        assert "presence_watches 0.0" in edge.metrics.render().decode()


async def test_who_left_while_the_users_were_looked_up_watches_nothing() -> None:
    async with running() as edge:
        come(edge, 1, "u1")
        edge.send(1, {"op": "presence.watch", "id": 1, "user_ids": ids(2)})
        edge.sessions.closed(1)
        await wait_all_tasks_blocked()

        assert "presence_watches 0.0" in edge.metrics.render().decode()


async def test_somebody_has_to_be_named() -> None:
    async with running() as edge:
        come(edge, 1, "u1")
        assert (await ask(edge, 1, "presence.watch"))["status"] == 400


# Open dialogs


async def test_an_open_dialog_watches_its_other_members() -> None:
    async with running() as edge:
        edge.members.of[DIALOG] = BitMap([1, 2, 3])
        come(edge, 1, "u1")
        come(edge, 2, "u2")
        answer = await ask(edge, 1, "presence.watch", dialog_id=DIALOG)
        seen = {item["user_id"]: item["status"] for item in answer["presence"]}
        assert seen == dict(zip(ids(2, 3), ("online", "offline"), strict=True))
        assert answer["online_count"] == 2
        come(edge, 3, "u3")
        assert updates(edge, 1) == [(*ids(3), "online")]

        closed = await ask(edge, 1, "presence.unwatch", dialog_id=DIALOG)
        assert closed == {"watched": 0}
        await ask(edge, 3, "presence.set", status="busy")
        assert updates(edge, 1) == []


async def test_who_may_not_know_the_members_is_told_of_none() -> None:
    """Nor how many of few are here, which would tell of each."""
    async with running() as edge:
        edge.members.of[DIALOG] = BitMap([1, 2, 3])
        edge.members.unseeing.add(1)
        come(edge, 1, "u1")
        come(edge, 2, "u2")
        answer = await ask(edge, 1, "presence.watch", dialog_id=DIALOG)
        assert answer == {"presence": []}
        come(edge, 3, "u3")
        assert updates(edge, 1) == []
        answer = await ask(edge, 2, "presence.watch", dialog_id=DIALOG)
        assert answer["online_count"] == 3


async def test_who_hides_or_blocks_is_not_counted_in_a_small_dialog() -> None:
    async with running() as edge:
        edge.members.of[DIALOG] = BitMap([1, 2, 3, 4, 5])
        for number in (1, 2, 3, 4, 5):
            come(edge, number, f"u{number}")
        edge.visibility.sights = {(1, 2): "coarse", (1, 3): "nothing"}
        await ask(edge, 4, "presence.set", status="offline")
        answer = await ask(edge, 1, "presence.watch", dialog_id=DIALOG)
        assert answer["online_count"] == 2  # the caller, and 5
        edge.members.of[DIALOG] = BitMap([1, 2])
        answer = await ask(edge, 1, "presence.watch", dialog_id=DIALOG)
        assert answer["online_count"] == 1
        answer = await ask(edge, 2, "presence.watch", dialog_id=DIALOG)
        assert answer["online_count"] == 2


async def test_who_is_watched_by_name_stays_when_the_dialog_closes() -> None:
    async with running() as edge:
        edge.members.of[DIALOG] = BitMap([1, 2, 3])
        come(edge, 1, "u1")
        await ask(edge, 1, "presence.watch", user_ids=ids(2))
        await ask(edge, 1, "presence.watch", dialog_id=DIALOG)
        closed = await ask(edge, 1, "presence.unwatch", dialog_id=DIALOG)
        assert closed == {"watched": 1}
        come(edge, 3, "u3")
        come(edge, 2, "u2")
        assert updates(edge, 1) == [(*ids(2), "online")]


async def test_opened_again_a_dialog_has_the_members_of_now() -> None:
    async with running() as edge:
        edge.members.of[DIALOG] = BitMap([1, 2])
        come(edge, 1, "u1")
        await ask(edge, 1, "presence.watch", dialog_id=DIALOG)
        edge.members.of[DIALOG] = BitMap([1, 3])
        await ask(edge, 1, "presence.watch", dialog_id=DIALOG)
        come(edge, 2, "u2")
        come(edge, 3, "u3")
        assert updates(edge, 1) == [(*ids(3), "online")]


async def test_of_a_large_dialog_only_a_count_is_told() -> None:
    async with running(dialog_members_max=3) as edge:
        edge.members.of[DIALOG] = BitMap([1, 2, 3, 4])
        for number in (1, 2, 3, 5):
            come(edge, number, f"u{number}")
        await ask(edge, 3, "presence.set", status="offline")
        answer = await ask(edge, 1, "presence.watch", dialog_id=DIALOG)
        assert answer == {"presence": [], "online_count": 2}
        come(edge, 4, "u4")
        assert updates(edge, 1) == []


async def test_a_dialog_of_others_is_not_opened() -> None:
    async with running() as edge:
        edge.members.of[DIALOG] = BitMap([2, 3])
        come(edge, 1, "u1")
        answer = await ask(edge, 1, "presence.watch", dialog_id=DIALOG)
        assert answer["status"] == 404


async def test_a_connection_has_only_so_many_dialogs_open() -> None:
    async with running(dialogs_max=1) as edge:
        other = str(UUID(int=8))
        edge.members.of[DIALOG] = edge.members.of[other] = BitMap([1, 2])
        come(edge, 1, "u1")
        await ask(edge, 1, "presence.watch", dialog_id=DIALOG)
        refused = await ask(edge, 1, "presence.watch", dialog_id=other)
        assert refused["status"] == 422
        await ask(edge, 1, "presence.unwatch", dialog_id=DIALOG)
        await ask(edge, 1, "presence.watch", dialog_id=other)


# Who may see it


async def test_who_may_not_see_is_told_roughly_and_of_no_change() -> None:
    async with running(grace_s=1) as edge:
        edge.visibility.sights = {(1, 2): "coarse", (1, 3): "nothing"}
        for number in (1, 2, 3):
            come(edge, number, f"u{number}")
        answer = await ask(edge, 1, "presence.watch", user_ids=ids(2, 3))
        assert answer["presence"] == [
            {"user_id": id, "status": "offline", "last_seen_about": about}
            for id, about in zip(ids(2, 3), ("recently", "long_ago"), strict=True)
        ]
        for connection in (2, 3):
            await ask(edge, connection, "presence.set", status="busy")
            edge.sessions.closed(connection)
        edge.advance(5)
        assert updates(edge, 1) == []


async def test_who_may_see_from_now_on_is_told_how_it_is() -> None:
    async with running() as edge:
        come(edge, 1, "u1")
        come(edge, 2, "u2")
        edge.visibility.sights = {(1, 2): "coarse"}
        await ask(edge, 1, "presence.watch", user_ids=ids(2))
        edge.visibility.sights = {}
        await edge.presence.reconsider(2)
        assert updates(edge, 1) == [(*ids(2), "online")]
        await ask(edge, 2, "presence.set", status="busy")
        assert updates(edge, 1) == [(*ids(2), "busy")]


async def test_who_may_see_no_more_is_told_that_they_are_offline() -> None:
    async with running() as edge:
        come(edge, 1, "u1")
        come(edge, 2, "u2")
        await ask(edge, 1, "presence.watch", user_ids=ids(2))
        edge.visibility.sights = {(1, 2): "nothing"}
        await edge.presence.reconsider(1)  # whichever of the two has changed something
        events = [e for e in edge.received(1) if e["op"] == "presence.update"]
        assert events == [
            {
                "op": "presence.update",
                "user_id": ids(2)[0],
                "status": "offline",
                "last_seen_about": "long_ago",
            }
        ]
        await ask(edge, 2, "presence.set", status="busy")
        assert updates(edge, 1) == []


async def test_who_cannot_be_asked_about_sees_nothing_for_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def away(numbers: object) -> None:
        raise Unavailable

    async with running() as edge:
        come(edge, 1, "u1")
        come(edge, 2, "u2")
        await ask(edge, 1, "presence.watch", user_ids=ids(2))
        monkeypatch.setattr(edge.visibility, "load", away)
        edge.visibility.sights = {(1, 2): "nothing"}  # as of who is not in memory
        await edge.presence.reconsider(2)
        assert updates(edge, 1) == [(*ids(2), "offline")]
        await ask(edge, 2, "presence.set", status="busy")
        assert updates(edge, 1) == []


async def test_many_watchers_are_all_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "_LOADED_AT_ONCE", 7)
    async with running() as edge:
        come(edge, 1, "u1")
        for number in range(2, 42):
            come(edge, number, f"u{number}")
            await ask(edge, number, "presence.watch", user_ids=ids(1))
            edge.visibility.sights[number, 1] = "coarse"
        await edge.presence.reconsider(1)
        told = [updates(edge, number) for number in range(2, 42)]
        assert told == [[(*ids(1), "offline")]] * 40
        assert max(len(load) for load in edge.visibility.loads) <= 7 + 1


async def test_a_change_while_a_watch_begins_is_not_missed() -> None:
    async with running() as edge:
        come(edge, 1, "u1")
        come(edge, 2, "u2")
        edge.visibility.slow = trio.Event()
        edge.send(1, {"op": "presence.watch", "id": 1, "user_ids": ids(2)})
        await wait_all_tasks_blocked()
        edge.visibility.sights = {(1, 2): "coarse"}  # as memory has it from now on
        edge.visibility.slow.set()
        await edge.presence.reconsider(2)
        await wait_all_tasks_blocked()
        edge.received(1)
        await ask(edge, 2, "presence.set", status="busy")
        assert updates(edge, 1) == []


# When they were here


async def test_last_seen_is_told_of_who_was_here() -> None:
    async with running(grace_s=1) as edge:
        come(edge, 1, "u1")
        come(edge, 2, "u2")
        edge.sessions.closed(2)
        edge.advance(5)

        answer = await ask(edge, 1, "presence.watch", user_ids=ids(2, 3, 99_999))

        assert [item["status"] for item in answer["presence"]] == ["offline"] * 3
        assert ["last_seen" in item for item in answer["presence"]] == [
            True,
            False,
            False,
        ]


async def test_last_seen_is_read_from_the_store_once() -> None:
    async with running() as edge:
        await edge.store.keep_last_seen({5: 1_700_000_000_000})
        come(edge, 1, "u1")
        queries = edge.store.queries
        for _ in range(3):
            answer = await ask(edge, 1, "presence.watch", user_ids=ids(5, 6))
        [known, never] = answer["presence"]
        assert known["last_seen"] == "2023-11-14T22:13:20.000Z"
        assert "last_seen" not in never
        assert edge.store.queries == queries + 1


async def test_times_are_left_out_while_the_store_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def away(numbers: object) -> None:
        raise Unavailable

    async with running() as edge:
        come(edge, 1, "u1")
        monkeypatch.setattr(edge.store, "last_seen", away)
        answer = await ask(edge, 1, "presence.watch", user_ids=ids(2))
        assert answer["presence"] == [{"user_id": ids(2)[0], "status": "offline"}]


async def test_an_invisible_user_was_last_seen_when_they_hid() -> None:
    async with running(grace_s=1) as edge:
        come(edge, 1, "u1")
        come(edge, 2, "u2")
        await ask(edge, 2, "presence.set", status="offline")
        hid_ms = edge.clock.now_ms() // 1000 * 1000
        edge.advance(600)
        edge.sessions.closed(2)
        edge.advance(600)
        seen = (await edge.presence.look(1, [2]))[2]
        assert edge.last_seen.peek_ms(2) == hid_ms
        assert seen.status == "offline"


async def test_at_the_end_everybody_was_just_here() -> None:
    async with running() as edge:
        for number in (1, 2, 3):
            come(edge, number, f"u{number}")
        edge.sessions.closed(1)
        await ask(edge, 3, "presence.set", status="offline")
        edge.advance(2)
        before_ms = edge.last_seen.peek_ms(3)
        edge.advance(2)
        edge.presence.close()
        now_ms = edge.clock.now_ms() // 1000 * 1000
        assert [edge.last_seen.peek_ms(n) for n in (1, 2, 3)] == [
            now_ms,
            now_ms,
            before_ms,
        ]


async def test_many_who_come_at_once_are_shown_in_several_ticks() -> None:
    async with running(shown_at_once_max=2, settle_s=0) as edge:
        come(edge, 1, "u1")
        await ask(edge, 1, "presence.watch", user_ids=ids(2, 3, 4))
        for number in (2, 3, 4):
            edge.connect(number, f"u{number}")
        edge.advance(1)
        assert len(updates(edge, 1)) == 2
        edge.advance(1)
        assert len(updates(edge, 1)) == 1
