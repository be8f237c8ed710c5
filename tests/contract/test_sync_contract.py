"""Catching up as docs/websocket.md says, through both subprotocols."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from tests.contract.test_auth_contract import People
from tests.support.client import Person, Socket, uuid7

pytestmark = [pytest.mark.service, pytest.mark.slow]

PROTOCOLS = pytest.mark.parametrize("protocol", ["tchat.json.v1", "tchat.msgpack.v1"])
TEXT = {"type": "text", "content": {"text": "hello"}}
PAGES_MAX = 50


async def group_of(a: Person, *others: Person) -> str:
    body = {"type": "group", "name": "Lunch", "participants": [p.id for p in others]}
    id: str = (await a.ok("POST", "/dialogs", body))["id"]
    return id


async def say(a: Person, dialog_id: str, words: str = "hello", **more: Any) -> Any:
    body = TEXT | {"content": {"text": words}, "client_id": uuid7()} | more
    return await a.ok("POST", f"/dialogs/{dialog_id}/messages", body)


async def first_cursor(socket: Socket) -> str:
    page = await socket.command("sync")
    assert page["is_reset"] is True
    cursor: str = page["cursor"]
    return cursor


def ops(page: Any) -> list[str]:
    return [event["op"] for event in page["events"]]


@asynccontextmanager
async def away(person: Person, protocol: str) -> AsyncIterator[tuple[str, Any]]:
    """The cursor of a device that goes, and how it asks when it is back."""
    async with person.socket(protocol) as socket:
        cursor = await first_cursor(socket)
    async with AsyncExitStack() as stack:

        async def ask(**fields: Any) -> Any:
            socket = await stack.enter_async_context(person.socket(protocol))
            return await socket.command("sync", **{"cursor": cursor} | fields)

        yield cursor, ask


@PROTOCOLS
async def test_every_kind_of_change_arrives_in_one_page(
    people: People, protocol: str
) -> None:
    a, b, c = await people(), await people(), await people()
    id = await group_of(a, b)
    async with away(b, protocol) as (_, ask):
        first = await say(a, id, "one", mentions=[b.id])
        second = await say(a, id, "two", thread_id=first["id"])
        path = f"/messages/{first['id']}"
        await a.ok("PUT", path, {"content": {"text": "uno"}})
        await a.ok("POST", f"{path}/reactions", {"emoji": "👍"})
        await a.ok("DELETE", f"{path}/reactions", params={"emoji": "👍"})
        await a.ok("POST", f"{path}/pin")
        await a.ok("DELETE", f"/messages/{second['id']}")
        await a.ok("POST", f"/dialogs/{id}/members", {"user_ids": [c.id]})
        await a.ok("PUT", f"/dialogs/{id}/members/{c.id}", {"role": "admin"})
        await a.ok("DELETE", f"/dialogs/{id}/members/{c.id}")
        await a.ok("PUT", f"/dialogs/{id}", {"name": "Dinner"})
        await b.ok("PUT", f"/dialogs/{id}/draft", {"text": "well"})
        page = await ask()
    assert ops(page) == [
        *("message.new", "message.new", "message.edited"),
        *("reaction.added", "reaction.removed", "message.pinned", "message.deleted"),
        *("member.added", "member.role", "member.removed", "dialog.updated"),
    ]
    assert [event["seq"] for event in page["events"]] == list(range(2, 13))
    shown = page["events"][0]["message"]
    assert (shown["content"], shown["is_edited"]) == ({"text": "uno"}, True)
    assert (shown["thread"]["count"], shown["thread"]["seq"]) == (0, 8)
    assert page["events"][1]["message"]["content"] == {}
    [own] = page["own"]
    assert (own["dialog_id"], own["last_seq"]) == (id, 12)
    assert (own["unread_count"], own["mention_count"]) == (1, 1)
    assert (own["mention_seqs"], own["draft"]["text"]) == ([2], "well")
    assert page["has_more"] is False
    assert not page.keys() & {"is_reset", "dialogs", "latest", "left"}


@PROTOCOLS
async def test_who_joined_has_the_dialog_and_who_left_has_not(
    people: People, protocol: str
) -> None:
    a, b = await people(), await people()
    joined, left, dropped = (
        await group_of(a),
        await group_of(a, b),
        await group_of(a, b),
    )
    async with away(b, protocol) as (_, ask):
        await say(a, joined)
        await a.ok("POST", f"/dialogs/{joined}/members", {"user_ids": [b.id]})
        last = await say(a, joined, "welcome")
        await a.ok("DELETE", f"/dialogs/{left}/members/{b.id}")
        await say(a, left, "not for b")
        await a.ok("DELETE", f"/dialogs/{dropped}")
        page = await ask()
        [dialog] = page["dialogs"]
        assert (dialog["id"], dialog["last_seq"]) == (joined, last["seq"])
        assert (dialog["last_message"]["id"], dialog["unread_count"]) == (last["id"], 1)
        assert ops(page) == ["member.removed", "dialog.deleted"]
        assert sorted(page["left"]) == sorted([left, dropped])
        again = await ask(cursor=page["cursor"])
    assert again["events"] == []
    assert not again.keys() & {"dialogs", "own", "left"}


@PROTOCOLS
async def test_a_long_absence_comes_in_pages_the_list_first(
    people: People, protocol: str
) -> None:
    a, b = await people(), await people()
    ids = [await group_of(a, b) for _ in range(3)]
    async with away(b, protocol) as (_, ask):
        sent = [await say(a, ids[turn % 3], str(turn)) for turn in range(9)]
        page = await ask(limit=2)
        assert [d["id"] for d in page["latest"]] == ids[::-1]
        assert [d["last_message"]["content"]["text"] for d in page["latest"]] == [
            *("8", "7", "6")
        ]
        assert [d["unread_count"] for d in page["latest"]] == [3, 3, 3]
        events, own = page["events"], page.get("own", [])
        for _ in range(PAGES_MAX):
            if not page["has_more"]:
                break
            page = await ask(cursor=page["cursor"], limit=2)
            assert "latest" not in page
            events += page["events"]
            own += page.get("own", [])
    told = [event["message"]["id"] for event in events]
    assert told == [m["id"] for id in ids for m in sent if m["dialog_id"] == id]
    assert [state["dialog_id"] for state in own] == ids


@PROTOCOLS
async def test_who_missed_more_than_a_thousand_events_gets_the_dialog_whole(
    people: People, protocol: str
) -> None:
    a, b = await people(), await people()
    id = await group_of(a, b)
    async with away(b, protocol) as (_, ask):
        async with a.socket() as socket:
            for _ in range(11):
                for number in range(91):
                    await socket.send(
                        {"op": "message.send", "id": number, "dialog_id": id} | TEXT
                    )
                last = await say(a, id)
        page = await ask()
    [dialog] = page["dialogs"]
    assert dialog["unread_count"] > 300
    assert page["events"] == [] or len(page["events"]) <= 300
    assert dialog["last_seq"] >= last["seq"] > 1_000


@PROTOCOLS
async def test_two_devices_show_the_same(people: People, protocol: str) -> None:
    a, b = await people(), await people()
    id = await group_of(a, b)
    async with b.socket(protocol) as one:
        cursor = await first_cursor(one)
        async with b.socket(protocol) as other:
            sent = [await say(a, id, str(turn)) for turn in range(3)]
            read = await one.command("message.read", message_id=sent[1]["id"])
            assert (read["unread_count"], read["last_seq"]) == (1, 5)
            event = await other.event("message.read")
            assert (event["read_seq"], event["seq"]) == (3, 5)
            own = await other.event("dialog.settings")
            assert (own["unread_count"], own["last_seq"]) == (1, 5)
            await other.command("dialog.draft", dialog_id=id, text="well")
            own = await one.event("dialog.settings")
            assert own["draft"]["text"] == "well"
            edit = {"message_id": sent[0]["id"], "emoji": "👍"}
            await one.command("message.react", **edit)
            for socket in (one, other):  # who asked is told the seq, too
                assert (await socket.event("reaction.added"))["seq"] == 6
        page = await one.command("sync", cursor=cursor)
    over_http = await b.ok("GET", "/sync", params={"cursor": cursor})
    assert page == over_http
    assert page["own"] == [
        {"op": "dialog.settings", **{k: v for k, v in own.items() if k != "op"}}
        | {"last_seq": 6}
    ]


@PROTOCOLS
async def test_what_is_no_cursor_is_refused_and_an_unknown_one_begins_anew(
    people: People, protocol: str
) -> None:
    a = await people()
    id = await group_of(a)
    async with a.socket(protocol) as socket:
        answer = await socket.ask("sync", cursor="no cursor")
        assert (answer["op"], answer["problem"]["status"]) == ("error", 400)
        page = await socket.command("sync", cursor="lgLOf____wAAAAA")
    assert page["is_reset"] is True
    assert [dialog["id"] for dialog in page["dialogs"]] == [id]
