"""Bots, webhooks and buttons as docs/bots.md says, through both doors.

The webhooks are received on loopback, which the tests' daemon allows.
"""

from __future__ import annotations

import hmac
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any
from uuid import uuid4

import pytest
import trio

from tests.contract.conftest import Site
from tests.contract.test_auth_contract import People, refused
from tests.support.client import Json, Person, connect, uuid7
from tests.support.receiver import Answer, Received, receiver

pytestmark = [pytest.mark.service, pytest.mark.slow]
_names = itertools.count(1)
BUTTONS = [
    [{"text": "Yes", "data": "yes"}, {"text": "Site", "url": "https://a.example"}]
]


async def new_bot(owner: Person, **fields: Any) -> Json:
    username = f"contract{next(_names)}_{uuid4().hex[:8]}_bot"
    body = {"name": "Helper", "username": username} | fields
    bot: Json = await owner.ok("POST", "/bots", body)
    return bot


class Client:
    """A bot's own HTTP client."""

    def __init__(self, site: Site, bot: Json) -> None:
        self.bot = bot
        self.http = site.client()
        self.http.headers["authorization"] = f"Bearer {bot['token']}"

    async def ok(self, verb: str, path: str, body: Json | None = None) -> Any:
        answer = await self.http.request(verb, path, json=body)
        assert answer.is_success, (answer.status_code, answer.text)
        return answer.json()


@asynccontextmanager
async def as_bot(site: Site, bot: Json) -> AsyncIterator[Client]:
    client = Client(site, bot)
    async with client.http:
        yield client


async def dialog_with(person: Person, *ids: str) -> str:
    kind = "user" if len(ids) == 1 else "group"
    body: Json = {"type": kind, "participants": list(ids)}
    if kind == "group":
        body["name"] = "Team"
    id: str = (await person.ok("POST", "/dialogs", body))["id"]
    return id


def say(text: str, **fields: Any) -> Json:
    return {"type": "text", "content": {"text": text}} | fields


def check_signature(request: Received, secret: str) -> None:
    """As docs/bots.md tells writers of bots to."""
    header = request.headers["x-tchat-signature"]
    parts = dict(part.split("=", 1) for part in header.split(","))
    signed = parts["t"].encode() + b"." + request.body
    expected = hmac.new(secret.encode(), signed, sha256).hexdigest()
    assert hmac.compare_digest(parts["v1"], expected)


async def test_a_bot_has_a_token_that_is_shown_once(people: People, site: Site) -> None:
    owner = await people()
    made = await owner.http.post(
        "/bots", json={"name": "Helper", "username": f"shown_{uuid4().hex[:8]}_bot"}
    )
    assert made.status_code == 201
    bot = made.json()
    assert bot["token"].startswith(f"bot:{bot['id']}:")
    assert (bot["is_bot"], bot["owner_id"]) == (True, owner.id)
    listed = (await owner.ok("GET", "/bots"))["bots"]
    assert [b["id"] for b in listed] == [bot["id"]]
    assert "token" not in listed[0]
    found = await (await people()).ok("GET", f"/bots/named/{bot['username']}")
    assert found["id"] == bot["id"]
    async with as_bot(site, bot) as client:
        profile = await client.ok("GET", "/users/profile")
    assert (profile["id"], profile["is_bot"]) == (bot["id"], True)
    assert "phone" not in profile
    assert "is_bot" not in await owner.ok("GET", "/users/profile")
    assert (await owner.ok("GET", f"/users/{bot['id']}"))["is_bot"]
    assert "is_bot" not in await owner.ok("GET", f"/users/{owner.id}")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "Helper"},
        {"name": "Helper", "username": "no_suffix"},
        {"name": "Helper", "username": "Upper_bot"},
        {"name": "Helper", "username": "x" * 40 + "_bot"},
        {"name": "", "username": "fine_bot"},
        {"name": "\n", "username": "fine_bot"},
        {"name": "Helper", "username": "fine_bot\n"},
    ],
)
async def test_a_bot_that_cannot_be_is_refused(people: People, body: Json) -> None:
    owner = await people()
    refused(await owner.http.post("/bots", json=body), 400)
    assert (await owner.ok("GET", "/bots"))["bots"] == []


async def test_a_username_is_of_one_bot(people: People) -> None:
    owner, other = await people(), await people()
    bot = await new_bot(owner)
    again = {"name": "Copy", "username": bot["username"]}
    answer = await other.http.post("/bots", json=again)
    refused(answer, 409)
    await owner.ok("DELETE", f"/bots/{bot['id']}")
    await other.ok("POST", "/bots", again)


async def test_deleting_bots_makes_no_more_of_them_a_day(people: People) -> None:
    owner = await people()
    for _ in range(20):
        bot = await new_bot(owner)
        await owner.ok("DELETE", f"/bots/{bot['id']}")
    another = {"name": "Helper", "username": "one_too_many_bot"}
    refused(await owner.http.post("/bots", json=another), 429)


async def test_a_bot_looks_nobody_up_and_reports_nothing(
    people: People, site: Site
) -> None:
    owner, other = await people(), await people()
    async with as_bot(site, await new_bot(owner)) as bot:
        body: Json = {"phones": ["+66812345678"]}
        answers = [
            await bot.http.post("/users/contacts", json=body),
            await bot.http.get("/users/search", params={"q": "+66812345678"}),
            await bot.http.post(f"/users/{other.id}/report", json={"reason": "spam"}),
        ]
        for answer in answers:
            problem = refused(answer, 403)
            assert problem["type"].endswith("not-for-bots")
        await bot.ok("GET", "/users/search?q=somchai")


async def test_only_its_owner_touches_a_bot(people: People, site: Site) -> None:
    owner, other = await people(), await people()
    bot = await new_bot(owner)
    path = f"/bots/{bot['id']}"
    refused(await other.http.delete(path), 404)
    refused(await other.http.post(f"{path}/token"), 404)
    refused(await other.http.get(f"{path}/webhook"), 404)
    body = {"url": "http://127.0.0.1:1/"}
    refused(await other.http.put(f"{path}/webhook", json=body), 404)
    async with as_bot(site, bot) as client:
        refused(await client.http.delete(path), 404)
        answer = await client.http.post(
            "/bots", json={"name": "Child", "username": "child_bot"}
        )
        refused(answer, 403)
        await client.ok("PUT", f"{path}/webhook", body)
        await client.ok("DELETE", f"{path}/webhook")


async def test_a_new_token_ends_the_old_one_and_its_sockets(
    people: People, site: Site
) -> None:
    owner = await people()
    bot = await new_bot(owner)
    async with as_bot(site, bot) as client:
        await client.ok("GET", "/dialogs")
        async with connect(site.daemon, bot["token"]) as socket:
            await socket.command("ping")
            changed = await owner.ok("POST", f"/bots/{bot['id']}/token")
            assert (await socket.wait_closed())[0] == 4002
        refused(await client.http.get("/dialogs"), 401)
    async with as_bot(site, changed) as client:
        await client.ok("GET", "/dialogs")
    await owner.ok("DELETE", f"/bots/{bot['id']}")
    async with as_bot(site, changed) as client:
        refused(await client.http.get("/dialogs"), 401)


@pytest.mark.parametrize(
    "token", ["bot:", "bot:x:y", f"bot:{uuid4()}:{'A' * 43}", "bot:" + "A" * 4000]
)
async def test_a_token_of_no_bot_is_refused(site: Site, token: str) -> None:
    async with site.client() as http:
        headers = {"authorization": f"Bearer {token}"}
        refused(await http.get("/dialogs", headers=headers), 401)


@pytest.mark.parametrize("protocol", ["tchat.json.v1", "tchat.msgpack.v1"])
async def test_a_bot_speaks_the_same_websocket(
    people: People, site: Site, protocol: str
) -> None:
    person = await people()
    bot = await new_bot(await people())
    dialog_id = await dialog_with(person, bot["id"])
    async with (
        connect(site.daemon, bot["token"], protocol) as robot,
        person.socket(protocol) as human,
    ):
        await human.command(
            "message.send", dialog_id=dialog_id, client_id=uuid7(), **say("hello")
        )
        heard = await robot.event("message.new")
        assert heard["message"]["content"]["text"] == "hello"
        await robot.command(
            "message.send",
            dialog_id=dialog_id,
            client_id=uuid7(),
            **say("hello yourself", reply_to_id=heard["message"]["id"]),
        )
        answer = await human.event("message.new")
        assert answer["message"]["sender_id"] == bot["id"]


async def test_a_bot_opens_no_dialogs_but_uses_those_it_has(
    people: People, site: Site
) -> None:
    person = await people()
    bot = await new_bot(await people())
    async with as_bot(site, bot) as client:
        with_person = {"type": "user", "participants": [person.id]}
        refused(await client.http.post("/dialogs", json=with_person), 403)
        group = {"type": "group", "name": "Mine", "participants": [person.id]}
        refused(await client.http.post("/dialogs", json=group), 403)
        dialog_id = await dialog_with(person, bot["id"])
        again = await client.http.post("/dialogs", json=with_person)
        assert (again.status_code, again.json()["id"]) == (200, dialog_id)
        await client.ok("POST", f"/dialogs/{dialog_id}/messages", say("hello"))


# Webhooks


async def test_a_webhook_is_shown_as_it_is(people: People) -> None:
    owner = await people()
    bot = await new_bot(owner)
    path = f"/bots/{bot['id']}/webhook"
    refused(await owner.http.get(path), 404)
    made = await owner.ok("PUT", path, {"url": "http://127.0.0.1:1/hook"})
    assert len(made["secret"]) >= 32
    shown = await owner.ok("GET", path)
    assert "secret" not in shown
    assert (shown["url"], shown["pending"]) == ("http://127.0.0.1:1/hook", 0)
    assert "message.new" in shown["events"]
    await owner.ok("DELETE", path)
    refused(await owner.http.get(path), 404)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"url": "ftp://a.example/"},
        {"url": "not a url"},
        {"url": "http://user@a.example/"},
        {"url": "http://a.example/", "secret": "short"},
        {"url": "http://a.example/", "events": []},
        {"url": "http://a.example/", "events": ["message.written"]},
        {"url": "http://a.example/" + "x" * 2048},
    ],
)
async def test_a_webhook_that_cannot_be_is_refused(people: People, body: Json) -> None:
    owner = await people()
    bot = await new_bot(owner)
    path = f"/bots/{bot['id']}/webhook"
    refused(await owner.http.put(path, json=body), 400)
    refused(await owner.http.get(path), 404)


async def test_events_are_delivered_signed_and_in_order(
    people: People, site: Site
) -> None:
    owner, person = await people(), await people()
    bot = await new_bot(owner)
    async with receiver() as received:
        hook = await owner.ok(
            "PUT", f"/bots/{bot['id']}/webhook", {"url": received.url}
        )
        dialog_id = await dialog_with(person, bot["id"])
        for number in range(12):
            path = f"/dialogs/{dialog_id}/messages"
            await person.ok("POST", path, say(f"number {number}"))
        requests = [await received.next() for _ in range(13)]
    events = [json.loads(request.body) for request in requests]
    assert [event["type"] for event in events] == ["dialog.created"] + 12 * [
        "message.new"
    ]
    texts = [event["data"]["message"]["content"]["text"] for event in events[1:]]
    assert texts == [f"number {number}" for number in range(12)]
    assert len({event["id"] for event in events}) == 13
    for request, event in zip(requests, events, strict=True):
        check_signature(request, hook["secret"])
        assert request.headers["x-tchat-event"] == event["type"]
        assert request.headers["x-tchat-event-id"] == event["id"]
        assert event["bot_id"] == bot["id"]


async def test_in_a_group_a_bot_is_told_what_is_for_it(people: People) -> None:
    owner, person = await people(), await people()
    bot = await new_bot(owner)
    async with receiver() as received:
        hook = {"url": received.url, "events": ["message.new"]}
        await owner.ok("PUT", f"/bots/{bot['id']}/webhook", hook)
        dialog_id = await dialog_with(person, bot["id"], owner.id)
        path = f"/dialogs/{dialog_id}/messages"
        await person.ok("POST", path, say("for the others"))
        await person.ok("POST", path, say("hey", mentions=[bot["id"]]))
        await person.ok("POST", path, say("/help"))
        told = [json.loads((await received.next()).body) for _ in range(2)]
        texts = [event["data"]["message"]["content"]["text"] for event in told]
        assert texts == ["hey", "/help"]
        hook["events"] = ["message.all"]
        await owner.ok("PUT", f"/bots/{bot['id']}/webhook", hook)
        await person.ok("POST", path, say("for everyone"))
        last = json.loads((await received.next()).body)
        assert last["data"]["message"]["content"]["text"] == "for everyone"


async def test_a_failed_delivery_is_repeated_with_the_same_id(people: People) -> None:
    owner, person = await people(), await people()
    bot = await new_bot(owner)
    async with receiver() as received:
        received.answers = [Answer(500), Answer(200)]
        hook = {"url": received.url, "events": ["message.new"]}
        await owner.ok("PUT", f"/bots/{bot['id']}/webhook", hook)
        dialog_id = await dialog_with(person, bot["id"])
        await person.ok("POST", f"/dialogs/{dialog_id}/messages", say("once"))
        first, second = await received.next(), await received.next()
    assert first.body == second.body
    assert first.headers["x-tchat-event-id"] == second.headers["x-tchat-event-id"]
    assert (first.headers["x-tchat-attempt"], second.headers["x-tchat-attempt"]) == (
        *("1", "2"),
    )


async def test_a_message_that_was_deleted_meanwhile_is_not_told(people: People) -> None:
    owner, person = await people(), await people()
    bot = await new_bot(owner)
    async with receiver() as received:
        received.answers = [Answer(500), Answer(200)]
        hook = {"url": received.url, "events": ["message.new"]}
        await owner.ok("PUT", f"/bots/{bot['id']}/webhook", hook)
        path = f"/dialogs/{await dialog_with(person, bot['id'])}/messages"
        message = await person.ok("POST", path, say("a slip"))
        first = json.loads((await received.next()).body)
        await person.ok("DELETE", f"/messages/{message['id']}")
        again = json.loads((await received.next()).body)
    assert first["data"]["message"]["content"] == {"text": "a slip"}
    assert again["id"] == first["id"]
    assert again["data"]["message"]["content"] == {}
    assert again["data"]["message"]["deleted_at"]


async def test_what_is_given_up_can_be_seen_and_tried_again(
    people: People, site: Site
) -> None:
    owner, person = await people(), await people()
    bot = await new_bot(owner)
    hook_path = f"/bots/{bot['id']}/webhook"
    async with receiver() as received, owner.socket() as socket:
        received.answers = [Answer(503)]
        hook = {"url": received.url, "events": ["message.new"]}
        await owner.ok("PUT", hook_path, hook)
        dialog_id = await dialog_with(person, bot["id"])
        for text in ("one", "two"):
            await person.ok("POST", f"/dialogs/{dialog_id}/messages", say(text))
        disabled = await socket.event("bot.webhook_disabled")
        assert (disabled["bot_id"], disabled["why"]) == (bot["id"], "answered 503")
        shown = await owner.ok("GET", hook_path)
        assert shown["disabled_why"] == "answered 503"
        letters = await console(site, "webhooks", "dlq", "list")
        mine = [row for row in letters["rows"] if row["bot"] == bot["id"]]
        assert [row["attempts"] for row in mine] == [3, 3]
        for _ in range(6):
            await received.next()
        received.answers = [Answer(200)]
        await owner.ok("PUT", hook_path, hook)
        number = str(mine[-1]["number"])
        body = (await console(site, "webhooks", "dlq", "show", number))["body"]
        assert json.loads(body)["data"]["message"]["content"]["text"] == "one"
        await console(site, "webhooks", "dlq", "retry", number)
        assert (await received.next()).body.decode() == body
        await console(site, "webhooks", "dlq", "drop", str(mine[0]["number"]))


async def console(site: Site, *words: str) -> Any:
    return await trio.to_thread.run_sync(site.daemon.console, *words)


# Buttons


async def test_only_bots_offer_buttons(people: People, site: Site) -> None:
    person = await people()
    bot = await new_bot(await people())
    path = f"/dialogs/{await dialog_with(person, bot['id'])}/messages"
    refused(await person.http.post(path, json=say("x", buttons=BUTTONS)), 400, 403, 422)
    async with as_bot(site, bot) as client:
        message = await client.ok("POST", path, say("Sure?", buttons=BUTTONS))
    assert message["buttons"] == BUTTONS


async def test_a_pressed_button_is_told_and_answered_live(
    people: People, site: Site
) -> None:
    person, outsider = await people(), await people()
    bot = await new_bot(await people())
    dialog_id = await dialog_with(person, bot["id"])
    async with (
        as_bot(site, bot) as client,
        connect(site.daemon, bot["token"]) as robot,
        person.socket("tchat.msgpack.v1") as human,
    ):
        message = await client.ok(
            "POST", f"/dialogs/{dialog_id}/messages", say("Sure?", buttons=BUTTONS)
        )
        pressed = await human.command(
            "button.press", message_id=message["id"], data="yes"
        )
        told = await robot.event("button.pressed")
        assert told["callback_id"] == pressed["callback_id"]
        assert (told["user_id"], told["data"]) == (person.id, "yes")
        assert (told["dialog_id"], told["message_id"]) == (dialog_id, message["id"])
        path = f"/callbacks/{told['callback_id']}/answer"
        refused(await person.http.post(path, json={"text": "mine"}), 404)
        await client.ok("POST", path, {"text": "Noted", "alert": True})
        answered = await human.event("button.answered")
        assert answered == {
            "op": "button.answered",
            "callback_id": told["callback_id"],
            "message_id": message["id"],
            "text": "Noted",
            "alert": True,
        }
        refused(await client.http.post(path, json={}), 404)
        by_http = await person.ok(
            "POST", f"/messages/{message['id']}/press", {"data": "yes"}
        )
        await robot.command("button.answer", callback_id=by_http["callback_id"])
        press = f"/messages/{message['id']}/press"
        refused(await person.http.post(press, json={"data": "no"}), 404)
        refused(await outsider.http.post(press, json={"data": "yes"}), 404)
        refused(await person.http.post(press, json={}), 400)


async def test_a_pressed_button_reaches_the_webhook(people: People, site: Site) -> None:
    owner, person = await people(), await people()
    bot = await new_bot(owner)
    dialog_id = await dialog_with(person, bot["id"])
    async with receiver() as received, as_bot(site, bot) as client:
        hook = {"url": received.url, "events": ["button.pressed"], "secret": "s" * 16}
        await owner.ok("PUT", f"/bots/{bot['id']}/webhook", hook)
        message = await client.ok(
            "POST", f"/dialogs/{dialog_id}/messages", say("Sure?", buttons=BUTTONS)
        )
        async with person.socket() as human:
            pressed = await human.command(
                "button.press", message_id=message["id"], data="yes"
            )
            request = await received.next()
            check_signature(request, "s" * 16)
            event = json.loads(request.body)
            assert event["data"]["callback_id"] == pressed["callback_id"]
            path = f"/callbacks/{pressed['callback_id']}/answer"
            await client.ok("POST", path, {"url": "https://a.example/done"})
            answered = await human.event("button.answered")
            assert answered["url"] == "https://a.example/done"
