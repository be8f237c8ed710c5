"""Who is seen as what, and who is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from trio.testing import wait_all_tasks_blocked

from tchatd.edge.presence import PresenceSettings
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


async def test_a_watcher_is_told_who_comes_and_who_goes() -> None:
    async with running(grace_s=5) as edge:
        edge.connect(1, "u1")
        answer = await ask(edge, 1, "presence.watch", user_ids=ids(2, 3))
        assert [item["status"] for item in answer["presence"]] == ["offline"] * 2

        edge.connect(2, "u2")
        assert updates(edge, 1) == [(*ids(2), "online")]
        edge.sessions.closed(2)
        edge.advance(6)
        assert updates(edge, 1) == [(*ids(2), "offline")]


async def test_a_reconnect_within_the_grace_makes_no_noise() -> None:
    async with running(grace_s=5) as edge:
        edge.connect(1, "u1")
        edge.connect(2, "u2")
        answer = await ask(edge, 1, "presence.watch", user_ids=ids(2))
        assert answer["presence"][0]["status"] == "online"

        edge.sessions.closed(2)
        edge.advance(3)
        edge.connect(3, "u2")
        edge.advance(10)

        assert updates(edge, 1) == []


async def test_a_second_connection_keeps_a_user_online() -> None:
    async with running() as edge:
        for connection, token in ((1, "u1"), (2, "u2"), (3, "u2")):
            edge.connect(connection, token)
        await ask(edge, 1, "presence.watch", user_ids=ids(2))

        edge.sessions.closed(2)
        edge.advance(60)

        assert updates(edge, 1) == []


async def test_a_status_is_told_once_for_each_change() -> None:
    async with running() as edge:
        edge.connect(1, "u1")
        edge.connect(2, "u2")
        await ask(edge, 1, "presence.watch", user_ids=ids(2))

        for status in ("away", "away", "busy", "online", "online"):
            assert await ask(edge, 2, "presence.set", status=status) == {
                "status": status
            }

        assert updates(edge, 1) == [(*ids(2), s) for s in ("away", "busy", "online")]


async def test_who_is_invisible_looks_offline_and_leaves_without_a_word() -> None:
    async with running(grace_s=1) as edge:
        edge.connect(1, "u1")
        edge.connect(2, "u2")
        await ask(edge, 1, "presence.watch", user_ids=ids(2))
        await ask(edge, 2, "presence.set", status="offline")
        assert updates(edge, 1) == [(*ids(2), "offline")]

        edge.sessions.closed(2)
        edge.advance(5)
        assert updates(edge, 1) == []
        edge.connect(3, "u2")
        assert updates(edge, 1) == [(*ids(2), "online")]


async def test_unwatched_users_are_told_no_more() -> None:
    async with running() as edge:
        edge.connect(1, "u1")
        await ask(edge, 1, "presence.watch", user_ids=ids(2, 3, 4))

        assert await ask(edge, 1, "presence.unwatch", user_ids=ids(2)) == {"watched": 2}
        edge.connect(2, "u2")
        edge.connect(3, "u3")
        assert updates(edge, 1) == [(*ids(3), "online")]
        assert await ask(edge, 1, "presence.unwatch") == {"watched": 0}
        edge.connect(4, "u4")
        assert updates(edge, 1) == []


async def test_a_connection_watches_only_so_many() -> None:
    async with running(watched_max=3) as edge:
        edge.connect(1, "u1")
        await ask(edge, 1, "presence.watch", user_ids=ids(2, 3))

        answer = await ask(edge, 1, "presence.watch", user_ids=ids(4, 5))

        assert answer["status"] == 422
        assert (await ask(edge, 1, "presence.watch", user_ids=ids(2, 4)))["presence"]


async def test_a_watcher_who_left_is_forgotten() -> None:
    async with running() as edge:
        edge.connect(1, "u1")
        await ask(edge, 1, "presence.watch", user_ids=ids(2))
        edge.sessions.closed(1)

        edge.connect(2, "u2")

        assert 1 not in edge.transport.queued
        assert "presence_watches 0.0" in edge.metrics.render().decode()


async def test_who_left_while_the_users_were_looked_up_watches_nothing() -> None:
    async with running() as edge:
        edge.connect(1, "u1")
        edge.send(1, {"op": "presence.watch", "id": 1, "user_ids": ids(2)})
        edge.sessions.closed(1)
        await wait_all_tasks_blocked()

        assert "presence_watches 0.0" in edge.metrics.render().decode()


async def test_last_seen_is_told_of_who_was_here() -> None:
    async with running(grace_s=1) as edge:
        edge.connect(1, "u1")
        edge.connect(2, "u2")
        edge.sessions.closed(2)
        edge.advance(5)

        answer = await ask(edge, 1, "presence.watch", user_ids=ids(2, 3, 99_999))

        assert [item["status"] for item in answer["presence"]] == ["offline"] * 3
        assert ["last_seen" in item for item in answer["presence"]] == [
            True,
            False,
            False,
        ]
