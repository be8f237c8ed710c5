"""Invites, public names, scheduled messages, businesses: through both doors, live."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import trio

from tests.contract.test_auth_contract import People, refused
from tests.support.client import Person, Socket

pytestmark = [pytest.mark.service, pytest.mark.slow]

TEXT = {"type": "text", "content": {"text": "hello"}}
PROTOCOLS = ("tchat.json.v1", "tchat.msgpack.v1")


async def made(owner: Person, kind: str, *others: Person, **more: Any) -> str:
    body = {"type": kind, "participants": [p.id for p in others], "name": "Thai news"}
    id: str = (await owner.ok("POST", "/dialogs", body | more))["id"]
    return id


def soon(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


# Invites


async def test_who_has_a_link_comes_in(people: People) -> None:
    owner, member, guest = [await people() for _ in range(3)]
    id = await made(owner, "group", member)
    answer = await owner.http.post(
        f"/dialogs/{id}/invites", json={"expires_at": soon(60), "uses_max": 1}
    )
    assert answer.status_code == 201
    invite = answer.json()
    assert invite.keys() == {
        *("code", "dialog_id", "created_by", "created_at", "uses", "needs_approval"),
        *("title", "uses_max", "expires_at"),
    }
    seen = await guest.ok("GET", f"/invites/{invite['code']}")
    assert (seen["name"], seen["member_count"]) == ("Thai news", 2)
    assert "dialog_id" not in seen
    async with owner.socket() as socket:
        joined = await guest.http.post(f"/invites/{invite['code']}/join")
        assert joined.status_code == 200
        assert joined.json()["status"] == "joined"
        assert joined.json()["dialog"]["id"] == id
        event = await socket.event("member.added")
        assert event["user_ids"] == [guest.id]
    late = await people()
    refused(await late.http.post(f"/invites/{invite['code']}/join"), 404)
    refused(await late.http.get(f"/invites/{invite['code']}"), 404)
    assert (await guest.ok("POST", f"/invites/{invite['code']}/join"))["dialog"]
    [listed] = (await owner.ok("GET", f"/dialogs/{id}/invites"))["invites"]
    assert (listed["code"], listed["uses"]) == (invite["code"], 1)
    await owner.ok("DELETE", f"/dialogs/{id}/invites/{invite['code']}")
    refused(await owner.http.delete(f"/dialogs/{id}/invites/{invite['code']}"), 404)


async def test_parallel_joins_never_exceed_the_uses(people: People) -> None:
    owner, *others = [await people() for _ in range(7)]
    id = await made(owner, "group")
    invite = await owner.ok("POST", f"/dialogs/{id}/invites", {"uses_max": 2})
    statuses: list[int] = []

    async def join(person: Person) -> None:
        answer = await person.http.post(f"/invites/{invite['code']}/join")
        statuses.append(answer.status_code)

    async with trio.open_nursery() as nursery:
        for person in others:
            nursery.start_soon(join, person)
    assert sorted(statuses) == [200, 200, 404, 404, 404, 404]
    assert (await owner.ok("GET", f"/dialogs/{id}"))["member_count"] == 3


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_who_needs_approval_waits_and_both_sides_are_told(
    people: People, protocol: str
) -> None:
    owner, one, other = [await people() for _ in range(3)]
    id = await made(owner, "group")
    invite = await owner.ok("POST", f"/dialogs/{id}/invites", {"needs_approval": True})
    async with owner.socket(protocol) as admin, one.socket(protocol) as asker:
        for person in (one, other):
            answer = await person.http.post(f"/invites/{invite['code']}/join")
            assert (answer.status_code, answer.json()) == (202, {"status": "requested"})
            event = await admin.event("join.requested")
            assert (event["dialog_id"], event["user_id"]) == (id, person.id)
        path = f"/dialogs/{id}/join-requests"
        refused(await one.http.get(path), 404)
        page = await owner.ok("GET", path)
        assert [r["user_id"] for r in page["requests"]] == [one.id, other.id]
        assert page["total"] == 2
        await owner.ok("POST", f"{path}/{one.id}", {"approve": True})
        assert (await asker.event("dialog.created"))["dialog"]["id"] == id
        assert (await asker.event("join.decided"))["approved"] is True
        await owner.ok("POST", f"{path}/{other.id}", {"approve": False})
        refused(
            await owner.http.post(f"{path}/{other.id}", json={"approve": True}), 404
        )
    refused(await other.http.get(f"/dialogs/{id}"), 404)


@pytest.mark.parametrize(
    "body",
    [
        {"expires_at": "tomorrow"},
        {"expires_at": "2020-01-01T00:00:00Z"},
        {"expires_at": "2999-01-01T00:00:00"},
        {"uses_max": 0},
        {"uses_max": "many"},
        {"title": "x" * 101},
    ],
)
async def test_an_invite_that_cannot_be_is_refused(
    people: People, body: dict[str, Any]
) -> None:
    owner = await people()
    id = await made(owner, "group")
    refused(await owner.http.post(f"/dialogs/{id}/invites", json=body), 400)
    assert (await owner.ok("GET", f"/dialogs/{id}/invites"))["invites"] == []


# Public names


async def test_a_channel_is_found_read_and_joined_by_its_name(people: People) -> None:
    owner, reader = await people(), await people()
    id, name = await made(owner, "channel"), f"news_{uuid4().hex[:12]}"
    view = await owner.ok("PUT", f"/dialogs/{id}/public-name", {"name": name.upper()})
    assert view["settings"]["public_name"] == name
    await owner.ok("POST", f"/dialogs/{id}/messages", TEXT)
    seen = await reader.ok("GET", f"/channels/{name}")
    assert (seen["type"], seen["name"], seen["is_member"]) == (
        "channel",
        "Thai news",
        False,
    )
    page = await reader.ok("GET", f"/channels/{name}/messages", params={"limit": 5})
    assert [m["content"] for m in page["messages"]] == [{"text": "hello"}]
    refused(await reader.http.get(f"/dialogs/{id}/messages"), 404)
    joined = await reader.ok("POST", f"/channels/{name}/join")
    assert joined["dialog"]["id"] == id
    refused(
        await reader.http.put(f"/dialogs/{id}/public-name", json={"name": "x" * 9}), 403
    )
    other = await made(reader, "channel")
    taken = await reader.http.put(f"/dialogs/{other}/public-name", json={"name": name})
    refused(taken, 409)
    view = await owner.ok("DELETE", f"/dialogs/{id}/public-name")
    assert "public_name" not in view["settings"]
    refused(await reader.http.get(f"/channels/{name}"), 404)
    held = await reader.http.put(f"/dialogs/{other}/public-name", json={"name": name})
    refused(held, 409)


@pytest.mark.parametrize(
    ("name", "status"),
    [("four", 400), ("1news", 400), ("news!", 400), ("x" * 33, 400), ("admin", 422)],
)
async def test_a_name_that_cannot_be_is_refused(
    people: People, name: str, status: int
) -> None:
    owner = await people()
    id = await made(owner, "group")
    answer = await owner.http.put(f"/dialogs/{id}/public-name", json={"name": name})
    refused(answer, status)


# Scheduled messages


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_scheduled_message_comes_when_it_is_due(
    people: People, protocol: str
) -> None:
    a, b = await people(), await people()
    id = await made(a, "user", b)
    path = f"/dialogs/{id}/scheduled"
    async with a.socket(protocol) as own, b.socket(protocol) as other:
        answer = await a.http.post(path, json=TEXT | {"send_at": soon(0.5)})
        assert answer.status_code == 201
        planned = answer.json()
        assert planned.keys() == {"id", "dialog_id", "send_at", "type", "content"}
        event = await other.event("message.new")
        assert event["message"]["sender_id"] == a.id
        assert event["message"]["content"] == {"text": "hello"}
        assert event["message"]["created_at"] >= planned["send_at"]
        sent = await own.event("scheduled.sent")
        assert (sent["id"], sent["message_id"]) == (
            planned["id"],
            event["message"]["id"],
        )
    assert (await a.ok("GET", path))["scheduled"] == []
    refused(await a.http.delete(f"/scheduled/{planned['id']}"), 404)


async def test_scheduled_messages_are_listed_changed_and_cancelled(
    people: People,
) -> None:
    a, b = await people(), await people()
    id = await made(a, "user", b)
    path = f"/dialogs/{id}/scheduled"
    ids = []
    for minutes in (2, 1):
        body = TEXT | {"send_at": soon(60 * minutes)}
        ids.append((await a.ok("POST", path, body))["id"])
    listed = (await a.ok("GET", path))["scheduled"]
    assert [row["id"] for row in listed] == [ids[1], ids[0]]
    assert (await b.ok("GET", path))["scheduled"] == []
    change = {"type": "text", "content": {"text": "later"}, "send_at": soon(90)}
    refused(await b.http.put(f"/scheduled/{ids[1]}", json=change), 404)
    refused(await b.http.delete(f"/scheduled/{ids[1]}"), 404)
    changed = await a.ok("PUT", f"/scheduled/{ids[1]}", change)
    assert changed["content"] == {"text": "later"}
    for id in ids:
        assert await a.ok("DELETE", f"/scheduled/{id}") == {}
    assert (await a.ok("GET", path))["scheduled"] == []


@pytest.mark.parametrize(
    "change",
    [
        {"send_at": "2020-01-01T00:00:00Z"},
        {"send_at": "2999-01-01T00:00:00Z"},
        {"send_at": None},
        {"content": {"text": ""}},
        {"type": "payment", "content": {"amount": 1}},
    ],
)
async def test_what_cannot_be_sent_is_not_scheduled(
    people: People, change: dict[str, Any]
) -> None:
    a, b = await people(), await people()
    path = f"/dialogs/{await made(a, 'user', b)}/scheduled"
    refused(await a.http.post(path, json=TEXT | {"send_at": soon(60)} | change), 400)
    assert (await a.ok("GET", path))["scheduled"] == []


async def test_what_a_type_does_not_know_is_not_kept_and_a_large_body_refused(
    people: People,
) -> None:
    a, b = await people(), await people()
    path = f"/dialogs/{await made(a, 'user', b)}/scheduled"
    body = {"type": "text", "send_at": soon(60)}
    for more, status in (("x", 201), ("x" * (1 << 17), 413)):
        content = {"text": "hello", "more": more}
        answer = await a.http.post(path, json=body | {"content": content})
        assert answer.status_code == status
    [planned] = (await a.ok("GET", path))["scheduled"]
    assert planned["content"] == {"text": "hello"}
    change = body | {"content": {"text": "x", "more": "x" * (1 << 17)}}
    refused(await a.http.put(f"/scheduled/{planned['id']}", json=change), 413)


async def test_who_may_not_write_any_more_is_told_why_it_failed(
    people: People,
) -> None:
    owner, member = await people(), await people()
    id = await made(owner, "group", member)
    async with member.socket() as socket:
        body = TEXT | {"send_at": soon(1)}
        planned = await member.ok("POST", f"/dialogs/{id}/scheduled", body)
        await owner.ok(
            "PUT", f"/dialogs/{id}", {"settings": {"who_may_write": "admin"}}
        )
        failed = await socket.event("scheduled.failed")
        assert (failed["id"], failed["reason"]) == (planned["id"], "not-allowed")
    [row] = (await member.ok("GET", f"/dialogs/{id}/scheduled"))["scheduled"]
    assert row["failed"] == "not-allowed"


# Businesses


async def heard(socket: Socket, sender: Person) -> str:
    event = await socket.event(
        "message.new", lambda e: bool(e["message"]["sender_id"] == sender.id)
    )
    text: str = event["message"]["content"]["text"]
    return text


async def test_a_customer_is_greeted_and_an_agent_takes_over(people: People) -> None:
    shop, agent, customer = [await people() for _ in range(3)]
    refused(await shop.http.get("/business"), 404)
    profile = {
        "greeting": "Welcome!",
        "away_message": "We are closed.",
        "hours": {"time_zone": "Asia/Bangkok", "weekly": []},
        "quick_replies": [{"shortcut": "hi", "text": "Hello!"}],
        "agents": [agent.id],
    }
    put = await shop.ok("PUT", "/business", profile)
    assert put == profile | {
        "user_id": shop.id,
        "hours": profile["hours"] | {"holidays": []},  # type: ignore[operator]
    }
    assert await shop.ok("GET", "/business") == put
    seen = await customer.ok("GET", f"/businesses/{shop.id}")
    assert seen["is_open"] is False
    body = {"type": "business", "participants": [shop.id]}
    first = await customer.http.post("/dialogs", json=body)
    assert first.status_code == 201
    dialog = first.json()
    assert (dialog["role"], dialog["member_count"]) == ("guest", 3)
    assert (await customer.http.post("/dialogs", json=body)).status_code == 200
    id = dialog["id"]
    async with customer.socket() as socket:
        await customer.ok("POST", f"/dialogs/{id}/messages", TEXT)
        assert await heard(socket, shop) == "Welcome!"
        assert await heard(socket, shop) == "We are closed."
        view = await agent.ok("PUT", f"/dialogs/{id}/assignee", {"user_id": agent.id})
        assert view["settings"]["assignee_id"] == agent.id
        closed = {"is_closed": True}
        await agent.ok("PUT", f"/dialogs/{id}/conversation", closed)
        await customer.ok("POST", f"/dialogs/{id}/messages", TEXT)
        await socket.event("dialog.updated", lambda e: "is_closed" in e["settings"])
        await socket.event("dialog.updated", lambda e: "is_closed" not in e["settings"])
        assert await heard(socket, shop) == "Welcome!"
    quick = await agent.ok("GET", f"/dialogs/{id}/quick-replies")
    assert quick["quick_replies"] == profile["quick_replies"]
    for path in ("assignee", "conversation"):
        answer = await customer.http.put(
            f"/dialogs/{id}/{path}", json={"user_id": None, "is_closed": True}
        )
        refused(answer, 403)
    refused(await customer.http.get(f"/dialogs/{id}/quick-replies"), 403)


@pytest.mark.parametrize(
    "profile",
    [
        {"greeting": "x" * 4097},
        {"hours": {"time_zone": "Mars/Base", "weekly": []}},
        {
            "hours": {
                "time_zone": "Asia/Bangkok",
                "weekly": [{"day": "mon", "opens": "09:00", "closes": "08:00"}],
            }
        },
        {"hours": {"time_zone": "Asia/Bangkok", "weekly": [{"day": "mon"}]}},
        {"quick_replies": [{"shortcut": "Hi!", "text": "x"}]},
        {"agents": [str(uuid4())]},
        {"agents": [str(uuid4()) for _ in range(21)]},
    ],
)
async def test_a_profile_that_cannot_be_is_refused(
    people: People, profile: dict[str, Any]
) -> None:
    shop = await people()
    refused(await shop.http.put("/business", json=profile), 400, 422)
    refused(await shop.http.get("/business"), 404)


async def test_agents_come_and_go_in_dialogs_that_are_there(people: People) -> None:
    shop, one, other, customer = [await people() for _ in range(4)]
    await shop.ok("PUT", "/business", {"agents": [one.id]})
    body = {"type": "business", "participants": [shop.id]}
    id = (await customer.ok("POST", "/dialogs", body))["id"]
    async with other.socket() as socket, one.socket() as former:
        await shop.ok("PUT", "/business", {"agents": [other.id]})
        assert (await socket.event("dialog.created"))["dialog"]["id"] == id
        assert (await former.event("member.removed"))["user_id"] == one.id
    refused(await one.http.get(f"/dialogs/{id}"), 404)
    assert (await other.ok("GET", f"/dialogs/{id}"))["role"] == "member"
