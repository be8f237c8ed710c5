"""Dialogs and messages as CONTRACT says, good and bad input, through both doors."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.contract.test_auth_contract import People, refused
from tests.support.client import Person, uuid7

pytestmark = [pytest.mark.service, pytest.mark.slow]

TEXT = {"type": "text", "content": {"text": "hello"}}


async def dialog_of(a: Person, *others: Person) -> dict[str, Any]:
    dialog: dict[str, Any] = await a.ok(
        "POST", "/dialogs", {"type": "user", "participants": [p.id for p in others]}
    )
    return dialog


async def test_a_dialog_of_two_is_made_once(people: People) -> None:
    a, b = await people(), await people()
    body = {"type": "user", "participants": [b.id]}
    first = await a.http.post("/dialogs", json=body)
    assert first.status_code == 201
    assert first.json().keys() >= {
        *("id", "type", "participants", "member_count", "last_seq", "unread_count"),
        *("is_pinned", "is_archived", "created_at", "updated_at"),
    }
    assert sorted(first.json()["participants"]) == sorted([a.id, b.id])
    for person, other in ((a, b), (b, a)):
        again = await person.http.post(
            "/dialogs", json={"type": "user", "participants": [other.id]}
        )
        assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"type": "user"},
        {"type": "user", "participants": []},
        {"type": "user", "participants": ["no-uuid"]},
        {"type": "user", "participants": [str(uuid4())]},
        {"type": "user", "participants": [str(uuid4()), str(uuid4())]},
        {"type": "group", "participants": []},
        {"type": "group", "name": "", "participants": []},
        {"type": "orgy", "participants": []},
        {"type": "group", "name": 5, "participants": []},
    ],
)
async def test_a_dialog_that_cannot_be_is_refused(
    people: People, body: dict[str, Any]
) -> None:
    a = await people()
    refused(await a.http.post("/dialogs", json=body), 400, 404, 422)
    assert (await a.ok("GET", "/dialogs"))["total"] == 0


async def test_a_message_has_every_field(people: People) -> None:
    a, b = await people(), await people()
    dialog = await dialog_of(a, b)
    client_id = uuid7()
    answer = await a.http.post(
        f"/dialogs/{dialog['id']}/messages",
        json=TEXT | {"client_id": client_id, "mentions": [b.id]},
    )
    assert answer.status_code == 201
    message = answer.json()
    assert message.keys() >= {
        *("id", "dialog_id", "seq", "sender_id", "type", "content", "is_edited"),
        *("is_pinned", "mentions", "reactions", "created_at"),
    }
    assert message["mentions"] == [b.id]
    reply = await b.ok(
        "POST",
        f"/dialogs/{dialog['id']}/messages",
        TEXT | {"reply_to_id": message["id"]},
    )
    assert reply["reply_to_id"] == message["id"]
    assert reply["seq"] == message["seq"] + 1


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("text", {"text": "x" * 4096}),
        ("image", {"file_url": "https://f.example/a", "width": 1, "height": 2}),
        (
            "video",
            {
                "file_url": "https://f.example/v",
                "duration_ms": 5,
                "width": 1,
                "height": 2,
            },
        ),
        ("voice", {"file_url": "https://f.example/v", "duration_ms": 300_000}),
        (
            "file",
            {
                "file_url": "https://f.example/f",
                "name": "a.pdf",
                "size_bytes": 9,
                "mime_type": "application/pdf",
            },
        ),
        ("location", {"latitude": 13.75, "longitude": 100.5, "title": "Bangkok"}),
    ],
)
async def test_each_content_type_comes_back_as_sent(
    people: People, kind: str, content: dict[str, Any]
) -> None:
    a, b = await people(), await people()
    path = f"/dialogs/{(await dialog_of(a, b))['id']}/messages"
    await a.ok("POST", path, {"type": kind, "content": content})
    back = (await b.ok("GET", path))["messages"][0]
    assert (back["type"], back["content"]) == (kind, content)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"type": "text"},
        {"type": "text", "content": {"text": ""}},
        {"type": "text", "content": {"text": "x" * 4097}},
        {"type": "text", "content": {"text": 1}},
        {"type": "text", "content": []},
        {"type": "image", "content": {"file_url": "https://f.example/a"}},
        {
            "type": "voice",
            "content": {"file_url": "https://f.example/v", "duration_ms": 300_001},
        },
        {"type": "location", "content": {"latitude": 91, "longitude": 0}},
        {"type": "payment", "content": {"amount": 1, "currency": "THB"}},
        {"type": "system", "content": {"text": "x"}},
        TEXT | {"client_id": "x"},
        TEXT | {"client_id": str(uuid4())},
        TEXT | {"mentions": [str(uuid4()) for _ in range(51)]},
        TEXT | {"reply_to_id": str(uuid4())},
    ],
)
async def test_a_message_that_cannot_be_is_refused_and_not_stored(
    people: People, body: dict[str, Any]
) -> None:
    a, b = await people(), await people()
    path = f"/dialogs/{(await dialog_of(a, b))['id']}/messages"
    refused(await a.http.post(path, json=body), 400, 403, 404, 422)
    assert (await b.ok("GET", path))["messages"] == []


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0},
        {"limit": 101},
        {"limit": "many"},
        {"before": "no-uuid"},
    ],
)
async def test_a_bad_page_is_400(people: People, query: dict[str, Any]) -> None:
    a, b = await people(), await people()
    path = f"/dialogs/{(await dialog_of(a, b))['id']}/messages"
    refused(await a.http.get(path, params=query), 400)


async def test_dialogs_page_by_recency(people: People) -> None:
    a, b = await people(), await people()
    made = [
        await a.ok(
            "POST",
            "/dialogs",
            {"type": "group", "name": f"Group {n}", "participants": [b.id]},
        )
        for n in range(5)
    ]
    await b.ok("POST", f"/dialogs/{made[1]['id']}/messages", TEXT)
    first = await a.ok("GET", "/dialogs", params={"limit": 3})
    assert first["total"] == 5
    assert first["has_more"] is True
    assert first["dialogs"][0]["id"] == made[1]["id"]
    assert first["dialogs"][0]["last_message"]["content"] == TEXT["content"]
    assert first["dialogs"][0]["unread_count"] == 1
    offset = await a.ok("GET", "/dialogs", params={"limit": 3, "offset": 3})
    cursor = await a.ok(
        "GET", "/dialogs", params={"limit": 3, "cursor": first["next_cursor"]}
    )
    assert [d["id"] for d in offset["dialogs"]] == [d["id"] for d in cursor["dialogs"]]
    seen = {d["id"] for d in first["dialogs"] + offset["dialogs"]}
    assert seen == {d["id"] for d in made}
    only = await a.ok("GET", "/dialogs", params={"type": "user"})
    assert only["dialogs"] == []


async def test_unknown_things_are_404(people: People) -> None:
    a = await people()
    for verb, path in (
        ("GET", f"/dialogs/{uuid4()}"),
        ("GET", f"/dialogs/{uuid4()}/messages"),
        ("GET", f"/dialogs/{uuid4()}/events?after=0"),
        ("POST", f"/messages/{uuid4()}/read"),
    ):
        refused(await a.http.request(verb, path), 404)
