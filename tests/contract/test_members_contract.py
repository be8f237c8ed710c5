"""Members, roles, bans, settings, drafts as docs/http.md says, through both doors."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.contract.test_auth_contract import People, refused
from tests.support.client import Person

pytestmark = [pytest.mark.service, pytest.mark.slow]

TEXT = {"type": "text", "content": {"text": "hello"}}


def problem(answer: httpx.Response, status: int, cause: str) -> dict[str, Any]:
    found = refused(answer, status)
    assert found["type"] == f"urn:tchatd:problem:{cause}"
    return found


async def group_of(a: Person, *others: Person, **more: Any) -> dict[str, Any]:
    body = {"type": "group", "name": "Lunch", "participants": [p.id for p in others]}
    dialog: dict[str, Any] = await a.ok("POST", "/dialogs", body | more)
    return dialog


@pytest.mark.parametrize("type", ["group", "channel", "business"])
async def test_every_type_of_dialog_is_made(people: People, type: str) -> None:
    a, b = await people(), await people()
    body = {
        "type": type,
        "name": "Lunch",
        "participants": [b.id],
        "settings": {"description": "at noon", "slow_mode_s": 5},
    }
    answer = await a.http.post("/dialogs", json=body)
    assert answer.status_code == 201, answer.text
    dialog = answer.json()
    assert (dialog["type"], dialog["role"], dialog["member_count"]) == (
        type,
        "owner",
        2,
    )
    assert dialog["settings"]["description"] == "at noon"
    theirs = await b.ok("GET", f"/dialogs/{dialog['id']}")
    assert theirs["role"] == "member"


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"type": "channel", "name": None}, "name"),
        ({"settings": {"public_name": "lunch_bkk"}}, "settings.public_name"),
        ({"settings": {"assignee_id": str(uuid4())}}, "settings.assignee_id"),
        ({"settings": {"who_may_write": "king"}}, "settings.who_may_write"),
        ({"settings": {"slow_mode_s": -1}}, "settings.slow_mode_s"),
        ({"type": "user", "settings": {"slow_mode_s": 1}}, "settings.slow_mode_s"),
    ],
)
async def test_a_dialog_that_cannot_be_set_so_is_refused(
    people: People, more: dict[str, Any], field: str
) -> None:
    a, b = await people(), await people()
    body = {"type": "group", "name": "x", "participants": [b.id]} | more
    body = {key: value for key, value in body.items() if value is not None}
    found = refused(await a.http.post("/dialogs", json=body), 400)
    assert field in found["details"]


async def test_a_dialog_with_oneself_is_refused(people: People) -> None:
    a = await people()
    body = {"type": "user", "participants": [a.id]}
    problem(await a.http.post("/dialogs", json=body), 422, "invalid-participants")


# Members


async def test_members_are_added_and_listed(people: People) -> None:
    a, b, c = await people(), await people(), await people()
    dialog = await group_of(a, b)
    path = f"/dialogs/{dialog['id']}/members"
    answer = await a.http.post(path, json={"user_ids": [b.id, c.id], "role": "guest"})
    assert answer.status_code == 200, answer.text
    event = answer.json()
    assert (event["op"], event["user_ids"], event["count"]) == (
        *("member.added", [c.id]),
        1,
    )
    assert (event["seq"], event["role"], event["member_count"]) == (2, "guest", 3)
    first = await a.ok("GET", path, params={"limit": 2})
    assert (first["member_count"], first["has_more"]) == (3, True)
    rest = await b.ok("GET", path, params={"cursor": first["next_cursor"]})
    assert (rest["has_more"], "next_cursor" in rest) == (False, False)
    roles = {m["user_id"]: m["role"] for m in first["members"] + rest["members"]}
    assert roles == {a.id: "owner", b.id: "member", c.id: "guest"}
    [owner] = (await a.ok("GET", path, params={"role": "owner"}))["members"]
    assert owner.keys() == {"user_id", "role", "read_seq", "delivered_seq"}


async def test_who_comes_and_goes_is_told_on_their_socket(people: People) -> None:
    a, b = await people(), await people()
    dialog = await group_of(a)
    path = f"/dialogs/{dialog['id']}/members"
    async with b.socket("tchat.msgpack.v1") as socket:
        await a.ok("POST", path, {"user_ids": [b.id]})
        created = await socket.event("dialog.created")
        assert (created["dialog"]["id"], created["seq"]) == (dialog["id"], 2)
        await a.ok("PUT", f"{path}/{b.id}", {"role": "admin"})
        event = await socket.event("member.role")
        assert (event["user_id"], event["role"], event["by"]) == (b.id, "admin", a.id)
        await a.ok("DELETE", f"{path}/{b.id}")
        event = await socket.event("member.removed")
        assert (event["user_id"], event["reason"]) == (b.id, "removed")
    problem(await b.http.get(f"/dialogs/{dialog['id']}"), 404, "dialog-not-found")


async def test_roles_are_given_and_handed_over(people: People) -> None:
    a, b, c = await people(), await people(), await people()
    dialog = await group_of(a, b, c)
    path = f"/dialogs/{dialog['id']}/members"
    answer = await a.ok("PUT", f"{path}/{b.id}", {"role": "admin"})
    assert (answer["user_id"], answer["role"]) == (b.id, "admin")
    put = b.http.put
    problem(await put(f"{path}/{a.id}", json={"role": "guest"}), 403, "not-allowed")
    problem(await put(f"{path}/{c.id}", json={"role": "owner"}), 403, "not-allowed")
    problem(
        await put(f"{path}/{uuid4()}", json={"role": "guest"}), 404, "member-not-found"
    )
    refused(await put(f"{path}/{c.id}", json={}), 400)
    refused(await put(f"{path}/{c.id}", json={"role": "king"}), 400)
    refused(await put(f"{path}/nobody", json={"role": "guest"}), 400)
    problem(await a.http.delete(f"{path}/{a.id}"), 422, "last-owner")
    await a.ok("PUT", f"{path}/{b.id}", {"role": "owner"})
    assert (await a.ok("GET", f"/dialogs/{dialog['id']}"))["role"] == "admin"
    await a.ok("DELETE", f"{path}/{a.id}")
    await b.ok("PUT", f"{path}/{c.id}", {"role": "owner", "hands_over": False})
    await b.ok("DELETE", f"{path}/{b.id}")
    await c.ok("DELETE", f"{path}/{c.id}")
    refused(await c.http.get(f"/dialogs/{dialog['id']}"), 404)


async def test_members_are_refused_what_is_not_theirs(people: People) -> None:
    a, b, c = await people(), await people(), await people()
    dialog = await group_of(a, b)
    path = f"/dialogs/{dialog['id']}/members"
    post = a.http.post
    bad: list[dict[str, Any]] = [
        *({}, {"user_ids": []}, {"user_ids": ["x"]}),
        {"user_ids": [str(uuid4())] * 1_001},
        {"user_ids": [c.id], "role": "king"},
    ]
    for body in bad:
        refused(await post(path, json=body), 400)
    unknown = {"user_ids": [str(uuid4())]}
    problem(await post(path, json=unknown), 422, "invalid-participants")
    body = {"user_ids": [c.id], "role": "owner"}
    problem(await post(path, json=body), 403, "not-allowed")
    problem(await b.http.delete(f"{path}/{a.id}"), 403, "not-allowed")
    refused(await a.http.get(path, params={"limit": 101}), 400)
    refused(await a.http.get(path, params={"cursor": "x"}), 400)
    refused(await a.http.delete(f"{path}/{a.id}", params={"ban": "true"}), 400)


async def test_who_is_silenced_is_told_until_when(people: People) -> None:
    a, b = await people(), await people()
    dialog = await group_of(a, b)
    path = f"/dialogs/{dialog['id']}/members/{b.id}"
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    async with b.socket() as socket:
        answer = await a.ok("PUT", path, {"silenced_until": until})
        event = await socket.event("dialog.settings")
        assert event["silenced_until"] == answer["silenced_until"]
        told = await socket.ask("message.send", dialog_id=dialog["id"], **TEXT)
        assert told["problem"]["type"] == "urn:tchatd:problem:silenced"
        told = await socket.ask("typing.start", dialog_id=dialog["id"])
        assert told["problem"]["status"] == 403
    messages = f"/dialogs/{dialog['id']}/messages"
    found = problem(await b.http.post(messages, json=TEXT), 403, "silenced")
    assert found["details"]["silenced_until"] == answer["silenced_until"]
    refused(await a.http.put(path, json={"silenced_until": "2030-01-01"}), 400)
    assert "silenced_until" not in await a.ok("PUT", path, {"silenced_until": None})
    await b.ok("POST", messages, TEXT)


# Bans


async def test_bans_are_made_listed_and_ended(people: People) -> None:
    a, b, c = await people(), await people(), await people()
    dialog = await group_of(a, b)
    path, bans = f"/dialogs/{dialog['id']}/members", f"/dialogs/{dialog['id']}/bans"
    await a.ok("DELETE", f"{path}/{b.id}", params={"ban": "true"})
    assert await a.ok("POST", bans, {"user_id": c.id}) == {}
    page = await a.ok("GET", bans, params={"limit": 1})
    assert (page["total"], page["has_more"]) == (2, True)
    rest = await a.ok("GET", bans, params={"cursor": page["next_cursor"]})
    assert {*page["user_ids"], *rest["user_ids"]} == {b.id, c.id}
    body = {"user_ids": [b.id]}
    problem(await a.http.post(path, json=body), 403, "banned")
    assert await a.ok("DELETE", f"{bans}/{b.id}") == {}
    assert (await a.ok("POST", path, body))["count"] == 1
    for answer in (
        *(await b.http.get(bans), await b.http.post(bans, json={"user_id": c.id})),
        await b.http.delete(f"{bans}/{c.id}"),
    ):
        problem(answer, 403, "not-allowed")
    problem(
        await a.http.post(bans, json={"user_id": str(uuid4())}), 404, "member-not-found"
    )
    refused(await a.http.post(bans, json={"user_id": a.id}), 400)


# The dialog itself


async def test_a_dialog_is_renamed_set_and_deleted(people: People) -> None:
    a, b = await people(), await people()
    dialog = await group_of(a, b)
    path = f"/dialogs/{dialog['id']}"
    async with b.socket() as socket:
        view = await a.ok(
            "PUT", path, {"name": "Dinner", "avatar": "https://f.example/a"}
        )
        assert (view["name"], view["avatar"]) == ("Dinner", "https://f.example/a")
        event = await socket.event("dialog.updated")
        assert (event["name"], event["by"], event["seq"]) == ("Dinner", a.id, 2)
        view = await a.ok("PUT", path, {"settings": {"who_may_write": "admin"}})
        assert view["settings"]["who_may_write"] == "admin"
        problem(await b.http.post(f"{path}/messages", json=TEXT), 403, "not-allowed")
        change = {
            "avatar": None,
            "settings": {"who_may_write": None, "slow_mode_s": 60},
        }
        view = await a.ok("PUT", path, change)
        assert "avatar" not in view
        assert "who_may_write" not in view["settings"]
        await b.ok("POST", f"{path}/messages", TEXT)
        slow = problem(
            await b.http.post(f"{path}/messages", json=TEXT), 429, "slow-mode"
        )
        assert 1 <= slow["retry_after"] <= 60
        for body in (
            *({"name": ""}, {"name": " "}, {"avatar": "x"}),
            *({"settings": {"public_name": "lunch_bkk"}}, {"settings": None}),
        ):
            refused(await a.http.put(path, json=body), 400)
        problem(await b.http.put(path, json={"name": "x"}), 403, "not-allowed")
        told = problem(await b.http.delete(path), 403, "not-allowed")
        assert "leave" in told["detail"]
        assert await a.ok("DELETE", path) == {}
        assert (await socket.event("dialog.deleted"))["by"] == a.id
    for person in (a, b):
        problem(await person.http.get(path), 404, "dialog-not-found")
        assert (await person.ok("GET", "/dialogs"))["total"] == 0


async def test_of_two_people_each_deletes_their_own_history(people: People) -> None:
    a, b = await people(), await people()
    body = {"type": "user", "participants": [b.id]}
    dialog = await a.ok("POST", "/dialogs", body)
    path = f"/dialogs/{dialog['id']}"
    await b.ok("POST", f"{path}/messages", TEXT)
    assert await a.ok("DELETE", path) == {}
    assert (await a.ok("GET", f"{path}/messages"))["messages"] == []
    assert (await a.ok("GET", path))["unread_count"] == 0
    assert len((await b.ok("GET", f"{path}/messages"))["messages"]) == 1
    view = await b.ok("PUT", path, {"settings": {"vanish_after_s": 3_600}})
    assert view["settings"]["vanish_after_s"] == 3_600
    refused(await b.http.put(path, json={"name": "x"}), 400)
    for answer in (
        await a.http.delete(f"{path}/members/{a.id}"),
        await a.http.delete(f"{path}/members/{b.id}"),
        await a.http.put(f"{path}/members/{b.id}", json={"role": "owner"}),
        await a.http.post(f"{path}/members", json={"user_ids": [b.id]}),
        await a.http.post(f"{path}/bans", json={"user_id": b.id}),
    ):
        problem(answer, 403, "not-allowed")


# One's own


async def test_ones_own_settings_reach_ones_other_devices(people: People) -> None:
    a, b = await people(), await people()
    dialog = await group_of(a, b)
    path = f"/dialogs/{dialog['id']}"
    muted = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    async with a.socket() as one, a.socket("tchat.msgpack.v1") as other:
        body = {"is_pinned": True, "is_archived": True, "muted_until": muted}
        own = await a.ok("PUT", f"{path}/settings", body)
        assert (own["op"], own["is_pinned"], own["is_archived"]) == (
            *("dialog.settings", True),
            True,
        )
        for socket in (one, other):
            assert await socket.event("dialog.settings") == own
        draft = await one.command("dialog.draft", dialog_id=dialog["id"], text="wel")
        assert draft["draft"]["text"] == "wel"
        assert (await other.event("dialog.settings"))["draft"]["text"] == "wel"
        own = await other.command(
            "dialog.settings", dialog_id=dialog["id"], is_pinned=False, muted_until=None
        )
        assert own.keys().isdisjoint({"is_pinned", "muted_until"})
        assert (await one.event("dialog.settings"))["is_archived"] is True
    view = await a.ok("GET", path)
    assert (view["is_archived"], view["draft"]["text"]) == (True, "wel")
    gone = await a.ok("PUT", f"{path}/draft", {"text": ""})
    assert "draft" not in gone
    theirs = await b.ok("GET", path)
    assert (theirs["is_archived"], "draft" in theirs) == (False, False)


async def test_drafts_and_settings_that_cannot_be_are_refused(people: People) -> None:
    a, b = await people(), await people()
    dialog, other = await group_of(a, b), await group_of(b, a)
    path = f"/dialogs/{dialog['id']}"
    foreign = await a.ok("POST", f"/dialogs/{other['id']}/messages", TEXT)
    put = a.http.put
    for body in ({}, {"text": "x" * 4_097}, {"text": 1}):
        refused(await put(f"{path}/draft", json=body), 400)
    body = {"text": "x", "reply_to_id": foreign["id"]}
    problem(await put(f"{path}/draft", json=body), 422, "foreign-reply")
    body = {"text": "x", "reply_to_id": str(uuid4())}
    problem(await put(f"{path}/draft", json=body), 404, "message-not-found")
    for body in ({"is_pinned": 1}, {"muted_until": "soon"}):
        refused(await put(f"{path}/settings", json=body), 400)


async def test_an_outsider_sees_none_of_it(people: People) -> None:
    a, b, outsider = await people(), await people(), await people()
    dialog = await group_of(a, b)
    asked: tuple[tuple[str, str, Any], ...] = (
        ("PUT", "", {"name": "x"}),
        ("DELETE", "", None),
        ("GET", "/members", None),
        ("POST", "/members", {"user_ids": [b.id]}),
        ("PUT", f"/members/{b.id}", {"role": "admin"}),
        ("DELETE", f"/members/{b.id}", None),
        ("GET", "/bans", None),
        ("POST", "/bans", {"user_id": b.id}),
        ("DELETE", f"/bans/{b.id}", None),
        ("PUT", "/settings", {"is_pinned": True}),
        ("PUT", "/draft", {"text": "x"}),
    )
    for verb, path, body in asked:
        for id in (dialog["id"], str(uuid4())):
            answer = await outsider.http.request(
                verb, f"/dialogs/{id}{path}", json=body
            )
            problem(answer, 404, "dialog-not-found")
        answer = await outsider.http.request(
            verb, f"/dialogs/{'x' * 36}{path}", json=body
        )
        refused(answer, 400)
    async with outsider.socket() as socket:
        for op, more in (("dialog.draft", {"text": "x"}), ("dialog.settings", {})):
            told = await socket.ask(op, dialog_id=dialog["id"], **more)
            assert told["problem"]["status"] == 404
