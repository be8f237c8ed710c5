"""People as they see each other: profiles, privacy, contacts, blocks, both doors."""

from __future__ import annotations

from itertools import product
from typing import Any
from uuid import uuid4

import pytest

from tests.contract.test_auth_contract import People, refused
from tests.contract.test_messaging_contract import TEXT, dialog_of
from tests.support.client import Person

pytestmark = [pytest.mark.service, pytest.mark.slow]

AUDIENCES = ("everyone", "contacts", "nobody")


async def profile_of(viewer: Person, target: Person) -> dict[str, Any]:
    profile: dict[str, Any] = await viewer.ok("GET", f"/users/{target.id}")
    return profile


async def test_a_profile_has_what_others_may_see(people: People) -> None:
    a, b = await people(), await people()
    profile = await profile_of(a, b)
    assert profile.keys() >= {
        *("id", "name", "status", "is_verified", "is_contact", "is_blocked"),
    }
    assert "phone" not in profile
    own = await profile_of(b, b)
    assert own["phone"] == b.user["phone"]
    assert own["status"] == "offline"
    refused(await a.http.get(f"/users/{uuid4()}"), 404)
    refused(await a.http.get("/users/no-uuid"), 400)


async def test_privacy_is_changed_in_parts(people: People) -> None:
    a = await people()
    before = await a.ok("GET", "/users/privacy")
    assert before == {
        "last_seen": "everyone",
        "profile_photo": "everyone",
        "phone": "contacts",
        "findable_by_phone": "everyone",
        "groups": "everyone",
        "findable": True,
    }
    changed = await a.ok("PUT", "/users/privacy", {"groups": "nobody"})
    assert changed == before | {"groups": "nobody"}
    assert await a.ok("GET", "/users/privacy") == changed
    refused(await a.http.put("/users/privacy", json={"groups": "friends"}), 400)


async def test_the_privacy_table_of_viewer_and_setting(people: People) -> None:
    target, contact, stranger, blocked = [await people() for _ in range(4)]
    await target.ok(
        "PUT", "/users/profile", {"avatar": "https://f.example/me", "name": "Target"}
    )
    await target.ok("POST", "/users/contacts", {"user_ids": [contact.id, blocked.id]})
    await target.ok("POST", "/users/blocks", {"user_ids": [blocked.id]})
    viewers = {"contact": contact, "stranger": stranger, "blocked": blocked}
    async with target.socket() as socket:
        await socket.command("presence.set", status="busy")
        for audience, (kind, viewer) in product(AUDIENCES, viewers.items()):
            fields = ("last_seen", "profile_photo", "phone")
            await target.ok("PUT", "/users/privacy", dict.fromkeys(fields, audience))
            profile = await profile_of(viewer, target)
            [listed] = (
                await viewer.ok("GET", "/presence", params={"user_ids": target.id})
            )["presence"]
            shown = kind != "blocked" and (
                audience == "everyone" or (audience, kind) == ("contacts", "contact")
            )
            case = (audience, kind)
            assert ("phone" in profile) is shown, case
            assert ("avatar" in profile) is shown, case
            assert profile["status"] == ("busy" if shown else "offline"), case
            assert listed["status"] == profile["status"], case
            about = "long_ago" if kind == "blocked" else "recently"
            assert profile.get("last_seen_about") == (None if shown else about), case
            assert "last_seen" not in profile, case
            assert profile["name"] == "Target"


async def test_who_hides_their_last_seen_does_not_see_that_of_others(
    people: People,
) -> None:
    a, b = await people(), await people()
    async with b.socket() as socket:
        await socket.command("presence.set", status="busy")
        assert (await profile_of(a, b))["status"] == "busy"
        await a.ok("PUT", "/users/privacy", {"last_seen": "nobody"})
        assert (await profile_of(a, b))["last_seen_about"] == "recently"
        await a.ok("PUT", "/users/privacy", {"last_seen": "contacts"})
        assert (await profile_of(a, b))["status"] == "offline"
        await a.ok("POST", "/users/contacts", {"user_ids": [b.id]})
        assert (await profile_of(a, b))["status"] == "busy"


async def test_contacts_come_by_phone_and_by_id_and_go(people: People) -> None:
    a, b, c, hidden = [await people() for _ in range(4)]
    await hidden.ok("PUT", "/users/privacy", {"findable_by_phone": "nobody"})
    added = await a.ok(
        "POST",
        "/users/contacts",
        {
            "user_ids": [b.id, str(uuid4())],
            "phones": [c.user["phone"], hidden.user["phone"], "+66899999999", "12345"],
        },
    )
    assert added["total"] == 2
    assert [contact["person"]["id"] for contact in added["contacts"]] == [b.id, c.id]
    assert added["contacts"][1]["phone"] == c.user["phone"]
    first = await a.ok("GET", "/users/contacts", params={"limit": 1})
    second = await a.ok(
        "GET",
        "/users/contacts",
        params={"limit": 1, "after": first["people"][0]["id"]},
    )
    assert (first["total"], first["has_more"]) == (2, True)
    assert (second["total"], second["has_more"]) == (2, False)
    seen = [person["id"] for person in first["people"] + second["people"]]
    assert sorted(seen) == sorted([b.id, c.id])
    gone = await a.ok("DELETE", "/users/contacts", params={"user_ids": b.id})
    assert gone == {"total": 1}
    assert (await a.ok("GET", "/users/contacts"))["people"][0]["id"] == c.id


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/users/contacts", {"user_ids": [str(uuid4())]}, 404),
        ("/users/contacts", {"user_ids": ["x"]}, 400),
        ("/users/contacts", {"phones": ["+66810000000"] * 101}, 400),
        ("/users/blocks", {}, 400),
        ("/users/blocks", {"user_ids": []}, 400),
        ("/users/blocks", {"user_ids": [str(uuid4())]}, 404),
        ("/users/blocks", {"user_ids": [str(uuid4())] * 101}, 400),
    ],
)
async def test_a_list_that_cannot_be_is_refused(
    people: People, path: str, body: dict[str, Any], status: int
) -> None:
    a = await people()
    refused(await a.http.post(path, json=body), status)
    refused(await a.http.post(path, json={"user_ids": [a.id]}), 422)
    refused(await a.http.delete(path), 400)
    many = {"user_ids": [str(uuid4()) for _ in range(300)]}
    refused(await a.http.delete(path, params=many), 400, 414)
    refused(await a.http.get(path, params={"limit": 101}), 400)
    assert (await a.ok("GET", path))["total"] == 0


async def test_who_is_blocked_can_neither_write_nor_add(people: People) -> None:
    a, b = await people(), await people()
    dialog = await dialog_of(a, b)
    path = f"/dialogs/{dialog['id']}/messages"
    first = await b.ok("POST", path, TEXT)
    assert await a.ok("POST", "/users/blocks", {"user_ids": [b.id]}) == {"total": 1}

    problem = refused(await b.http.post(path, json=TEXT), 403)
    assert "block" not in str(problem).lower()
    reaction = await b.http.post(
        f"/messages/{first['id']}/reactions", json={"emoji": "👍"}
    )
    refused(reaction, 403)
    group = {"type": "group", "name": "Us", "participants": [a.id]}
    refused(await b.http.post("/dialogs", json=group), 403)
    alone = await b.ok("POST", "/dialogs", group | {"participants": []})
    adding = await b.http.post(
        f"/dialogs/{alone['id']}/members", json={"user_ids": [a.id]}
    )
    refused(adding, 403)

    # It is theirs alone: who blocks still writes, and others are not affected.
    await a.ok("POST", path, TEXT)
    listed = await a.ok("GET", "/users/blocks")
    assert [person["id"] for person in listed["people"]] == [b.id]
    assert listed["people"][0]["is_blocked"] is True
    gone = await a.ok("DELETE", "/users/blocks", params={"user_ids": b.id})
    assert gone == {"total": 0}
    await b.ok("POST", path, TEXT)
    await b.ok("POST", "/dialogs", group)


async def test_who_lets_nobody_add_them_is_added_by_nobody(people: People) -> None:
    a, b = await people(), await people()
    await b.ok("PUT", "/users/privacy", {"groups": "contacts"})
    group = {"type": "group", "name": "Us", "participants": [b.id]}
    problem = refused(await a.http.post("/dialogs", json=group), 403)
    assert problem["details"] == {"participants": b.id}
    await b.ok("POST", "/users/contacts", {"user_ids": [a.id]})
    await a.ok("POST", "/dialogs", group)


async def test_preferences_are_any_small_object(people: People) -> None:
    a, other = await people(), await people()
    assert await a.ok("GET", "/users/preferences") == {"preferences": {}}
    wanted = {"theme": "dark", "fonts": {"size": 12.5}, "สี": [1, None, True]}
    body = {"preferences": wanted}
    assert await a.ok("PUT", "/users/preferences", body) == body
    assert await a.ok("GET", "/users/preferences") == body
    assert await other.ok("GET", "/users/preferences") == {"preferences": {}}
    large = {"preferences": {"x": "y" * 8_192}}
    refused(await a.http.put("/users/preferences", json=large), 413)
    refused(await a.http.put("/users/preferences", json={"preferences": [1]}), 400)
    refused(await a.http.put("/users/preferences", json={}), 400)
    assert await a.ok("GET", "/users/preferences") == body
