"""Search as CONTRACT says, through both doors: found within a second, gone at once."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
import trio

from tests.contract.test_auth_contract import People, refused
from tests.contract.test_messaging_contract import dialog_of
from tests.support.client import Person

pytestmark = [pytest.mark.service, pytest.mark.slow]

SOON_S = 1.0
POLL_S = 0.05


async def say(person: Person, dialog: dict[str, Any], words: str) -> dict[str, Any]:
    message: dict[str, Any] = await person.ok(
        "POST",
        f"/dialogs/{dialog['id']}/messages",
        {"type": "text", "content": {"text": words}},
    )
    return message


async def found(person: Person, q: str, **more: Any) -> list[str]:
    """Ids of the messages that are found."""
    answer = await person.ok("GET", "/messages/search", params={"q": q, **more})
    return [hit["message"]["id"] for hit in answer["hits"]]


async def soon(person: Person, q: str, ids: list[str], **more: Any) -> None:
    """These are found within a second; what is new has the time to come."""
    hits: list[str] = []
    with trio.move_on_after(SOON_S):
        while (hits := await found(person, q, **more)) != ids:
            await trio.sleep(POLL_S)
    assert hits == ids


async def test_a_message_is_found_within_a_second_by_members_alone(
    people: People,
) -> None:
    a, b, stranger = await people(), await people(), await people()
    dialog = await dialog_of(a, b)
    first = await say(a, dialog, "Hôm nay ăn bánh mì ở Đà Nẵng")
    await soon(b, "banh mi", [first["id"]])
    second = await say(b, dialog, "พรุ่งนี้กินข้าวกันไหม")
    await soon(a, "กินข้าว", [second["id"]])
    assert await found(stranger, "banh mi") == []
    answer = await a.ok("GET", "/messages/search", params={"q": "đà nẵng"})
    [hit] = answer["hits"]
    assert hit["dialog_id"] == dialog["id"]
    assert hit["message"]["content"] == first["content"]
    [highlight] = hit["highlights"]
    text, ranges = first["content"]["text"], highlight["ranges"]
    assert highlight["field"] == "text"
    assert [text[start:end] for start, end in ranges] == ["Đà", "Nẵng"]


async def test_a_deleted_message_is_not_found_at_once_an_edited_one_anew(
    people: People,
) -> None:
    a, b = await people(), await people()
    dialog = await dialog_of(a, b)
    kept = await say(a, dialog, "makan siang besok")
    gone = await say(a, dialog, "makan malam besok")
    await soon(b, "makan", [gone["id"], kept["id"]])
    await a.ok("DELETE", f"/messages/{gone['id']}")
    assert await found(b, "makan") == [kept["id"]]
    edited = {"content": {"text": "sarapan besok"}}
    await a.ok("PUT", f"/messages/{kept['id']}", edited)
    assert await found(b, "makan") == []
    await soon(b, "sarapan", [kept["id"]])


async def test_ranges_senders_types_and_pages(people: People) -> None:
    a, b, c = await people(), await people(), await people()
    one, other = await dialog_of(a, b), await dialog_of(a, c)
    sent = [await say(a if n % 2 else b, one, f"invoice number {n}") for n in range(6)]
    elsewhere = await say(c, other, "invoice elsewhere")
    ids = [message["id"] for message in sent]
    await soon(a, "invoice", [elsewhere["id"], *ids[::-1]])
    assert await found(a, "invoice", dialog_id=one["id"]) == ids[::-1]
    assert await found(a, "invoice", sender_id=c.id) == [elsewhere["id"]]
    assert await found(a, "invoice", type="image") == []
    at = sent[3]["created_at"]
    since = await found(a, "invoice", dialog_id=one["id"], **{"from": at})
    until = await found(a, "invoice", dialog_id=one["id"], until=at)
    assert since + until == ids[::-1]
    assert ids[3] in since
    params: dict[str, Any] = {"q": "invoice", "limit": 3}
    pages, more = [], True
    while more:
        page = await a.ok("GET", "/messages/search", params=params)
        pages += [hit["message"]["id"] for hit in page["hits"]]
        more = "next_cursor" in page
        params["cursor"] = page.get("next_cursor")
    assert pages == [elsewhere["id"], *ids[::-1]]


async def test_a_slip_of_the_keyboard_is_forgiven(people: People) -> None:
    a, b = await people(), await people()
    dialog = await dialog_of(a, b)
    message = await say(a, dialog, "The restaurant opens tomorrow")
    await soon(b, "restaurant", [message["id"]])
    for q in ("restarant", "tomorow", "RESTAURANT tomor"):
        assert await found(b, q) == [message["id"]], q
    assert await found(b, "opera") == []


async def test_who_leaves_finds_nothing_more(people: People) -> None:
    a, b = await people(), await people()
    body = {"type": "group", "name": "Trip to Bali", "participants": [b.id]}
    dialog = await a.ok("POST", "/dialogs", body)
    message = await say(a, dialog, "the ferry leaves early")
    await soon(b, "ferry", [message["id"]])
    await b.ok("DELETE", f"/dialogs/{dialog['id']}/members/{b.id}")
    assert await found(b, "ferry") == []
    refused(
        await b.http.get(
            "/messages/search", params={"q": "ferry", "dialog_id": dialog["id"]}
        ),
        404,
    )


async def test_dialogs_are_found_by_name(people: People) -> None:
    a, b = await people(), await people()
    body = {"type": "group", "name": "Trip to Bali", "participants": [b.id]}
    dialog = await a.ok("POST", "/dialogs", body)
    names: list[str] = []
    with trio.move_on_after(SOON_S):
        while not names:
            answer = await b.ok("GET", "/dialogs/search", params={"q": "bal tr"})
            names = [found["id"] for found in answer["dialogs"]]
            await trio.sleep(POLL_S)
    assert names == [dialog["id"]]


async def test_people_are_found_by_name_and_by_their_whole_phone(
    people: People,
) -> None:
    a, b = await people(), await people()
    name = f"Zebedee {uuid4().hex[:8]}"
    await b.ok("PUT", "/users/profile", {"name": name})
    ids: list[str] = []
    with trio.move_on_after(3 * SOON_S):
        while not ids:
            answer = await a.ok("GET", "/users/search", params={"q": name[:13]})
            ids = [person["id"] for person in answer["people"]]
            await trio.sleep(POLL_S)
    assert ids == [b.id]
    answer = await a.ok("GET", "/users/search", params={"q": b.user["phone"]})
    assert [person["id"] for person in answer["people"]] == [b.id]
    answer = await a.ok("GET", "/users/search", params={"q": b.user["phone"][:-2]})
    assert answer["people"] == []


@pytest.mark.parametrize("path", ["/messages/search", "/dialogs/search"])
@pytest.mark.parametrize(
    "query",
    [
        {},
        {"q": ""},
        {"q": "x" * 201},
        {"q": "x", "limit": 0},
        {"q": "x", "limit": 51},
    ],
)
async def test_a_bad_question_is_400(
    people: People, path: str, query: dict[str, Any]
) -> None:
    a = await people()
    refused(await a.http.get(path, params=query), 400)


@pytest.mark.parametrize(
    "query",
    [
        {"cursor": "nonsense"},
        {"from": "yesterday"},
        {"until": "2026-01-01T00:00:00"},
        {"dialog_id": "no-uuid"},
        {"sender_id": "no-uuid"},
        {"type": "smoke-signal"},
    ],
)
async def test_a_bad_question_about_messages_is_400(
    people: People, query: dict[str, Any]
) -> None:
    a = await people()
    refused(await a.http.get("/messages/search", params={"q": "x", **query}), 400)


async def test_nothing_to_look_for_finds_nothing(people: People) -> None:
    a = await people()
    for q in ("...", "?!", "  "):
        assert await found(a, q) == []
    assert await found(a, "x", sender_id=str(uuid4())) == []
    refused(
        await a.http.get(
            "/messages/search", params={"q": "x", "dialog_id": str(uuid4())}
        ),
        404,
    )
