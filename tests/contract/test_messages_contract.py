"""What becomes of messages, as docs/http.md and docs/websocket.md say: every route and
every command, asked the same through each door."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import pytest

from tests.contract.conftest import Site
from tests.contract.test_auth_contract import People, refused
from tests.support.client import Json, Person, Socket, uuid7

pytestmark = [pytest.mark.service, pytest.mark.slow]

ROUTES = {
    "message.send": ("POST", "/dialogs/{dialog_id}/messages"),
    "message.get": ("GET", "/messages/{message_id}"),
    "message.edit": ("PUT", "/messages/{message_id}"),
    "message.history": ("GET", "/messages/{message_id}/history"),
    "message.delete": ("DELETE", "/messages/{message_id}"),
    "message.read": ("POST", "/messages/{message_id}/read"),
    "message.delivered": ("POST", "/messages/{message_id}/delivered"),
    "message.react": ("POST", "/messages/{message_id}/reactions"),
    "message.unreact": ("DELETE", "/messages/{message_id}/reactions"),
    "message.reactions": ("GET", "/messages/{message_id}/reactions"),
    "message.pin": ("POST", "/messages/{message_id}/pin"),
    "message.unpin": ("DELETE", "/messages/{message_id}/pin"),
    "message.forward": ("POST", "/messages/{message_id}/forward"),
    "message.thread": ("GET", "/messages/{message_id}/thread"),
    "poll.vote": ("POST", "/messages/{message_id}/votes"),
    "poll.close": ("POST", "/messages/{message_id}/close-poll"),
    "dialog.clear": ("POST", "/dialogs/{dialog_id}/clear"),
    "dialog.pins": ("GET", "/dialogs/{dialog_id}/pins"),
    "dialog.history": ("GET", "/dialogs/{dialog_id}/messages"),
}
CREATES = {"message.send", "message.forward"}


class Door:
    """One way in; `protocol`: None for HTTP. sockets: by the person's id."""

    def __init__(self, protocol: str | None) -> None:
        self.protocol = protocol
        self.sockets: dict[str, Socket] = {}

    async def _ask(self, person: Person, op: str, fields: Json) -> tuple[int, Json]:
        if self.protocol is not None:
            answer = await self.sockets[person.id].ask(op, **fields)
            if answer["op"] == "error":
                return answer["problem"]["status"], answer["problem"]
            return 201 if op in CREATES else 200, answer["result"]
        verb, path = ROUTES[op]
        rest = {k: v for k, v in fields.items() if f"{{{k}}}" not in path}
        in_query = verb in ("GET", "DELETE")
        response = await person.http.request(
            verb,
            path.format(**fields),
            params=rest if in_query else None,
            json=None if in_query else rest,
        )
        if not response.is_success:
            refused(response, response.status_code)
        return response.status_code, response.json()

    async def ok(self, person: Person, op: str, **fields: Any) -> Any:
        status, body = await self._ask(person, op, fields)
        assert status == (201 if op in CREATES else 200), (op, body)
        return body

    async def no(
        self, person: Person, op: str, status: int, cause: str, **fields: Any
    ) -> Json:
        found, body = await self._ask(person, op, fields)
        assert (found, body["type"]) == (status, f"urn:tchatd:problem:{cause}"), body
        return body


@pytest.fixture(params=[None, "tchat.json.v1", "tchat.msgpack.v1"])
def door(request: pytest.FixtureRequest, site: Site) -> Door:
    if request.param is not None and site.http2:
        # Sockets are asked at the HTTP/1.1 site; HTTP/2 changes nothing of them.
        pytest.skip("asked beside the HTTP/1.1 site")
    return Door(request.param)


class Group:
    """a made it, b is a member, c is not; `path`: its id and what was said first."""

    def __init__(self, door: Door, a: Person, b: Person, c: Person, id: str) -> None:
        self.door, self.a, self.b, self.c, self.id = door, a, b, c, id

    async def say(self, person: Person, words: str = "hello", **more: Any) -> Json:
        said: Json = await self.door.ok(
            person,
            "message.send",
            dialog_id=self.id,
            type="text",
            content={"text": words},
            **more,
        )
        return said


@pytest.fixture
async def group(door: Door, people: People) -> AsyncIterator[Group]:
    a, b, c = await people(), await people(), await people()
    body = {"type": "group", "name": "Lunch", "participants": [b.id]}
    dialog = await a.ok("POST", "/dialogs", body)
    async with AsyncExitStack() as stack:
        if door.protocol is not None:
            for person in (a, b, c):
                door.sockets[person.id] = await stack.enter_async_context(
                    person.socket(door.protocol)
                )
        yield Group(door, a, b, c, dialog["id"])


async def test_an_edit_and_its_history(group: Group, door: Door) -> None:
    a, b, c = group.a, group.b, group.c
    message = await group.say(b, "one", mentions=[a.id])
    id = message["id"]
    edited = await door.ok(b, "message.edit", message_id=id, content={"text": "two"})
    assert (edited["id"], edited["seq"]) == (id, message["seq"])
    assert (edited["is_edited"], edited["content"]) == (True, {"text": "two"})
    assert edited["edited_at"] >= edited["created_at"]
    assert edited["mentions"] == [a.id]
    assert await door.ok(a, "message.get", message_id=id) == edited
    for person in (a, b):
        history = await door.ok(person, "message.history", message_id=id)
        assert [v["content"] for v in history["versions"]] == [{"text": "one"}]
        assert history["versions"][0].keys() == {"content", "until"}
    new = {"content": {"text": "x"}}
    await door.no(a, "message.edit", 403, "not-the-sender", message_id=id, **new)
    await door.no(c, "message.edit", 404, "message-not-found", message_id=id, **new)
    for bad in ({}, {"text": ""}, {"text": "x" * 4097}, {"text": 1}):
        await door.no(
            b, "message.edit", 400, "invalid-content", message_id=id, content=bad
        )
    await door.no(b, "message.edit", 400, "invalid", message_id=id)
    await door.no(
        b, "message.edit", 422, "invalid-mention", message_id=id, mentions=[c.id], **new
    )
    buttons = [[{"text": "Yes", "data": "y"}]]
    await door.no(
        b, "message.edit", 403, "only-bots", message_id=id, buttons=buttons, **new
    )
    await door.no(
        b,
        "message.send",
        403,
        "only-bots",
        dialog_id=group.id,
        type="text",
        content={"text": "x"},
        buttons=buttons,
    )
    other = await door.ok(
        b,
        "message.send",
        dialog_id=group.id,
        type="location",
        content={"latitude": 1, "longitude": 2},
    )
    moved = {"latitude": 3.5, "longitude": 2}
    assert (await door.ok(b, "message.edit", message_id=other["id"], content=moved))[
        "content"
    ] == moved
    await door.no(
        b, "message.edit", 400, "invalid-content", message_id=other["id"], **new
    )


async def test_a_deletion_for_everyone_and_for_oneself(
    group: Group, door: Door
) -> None:
    a, b, c = group.a, group.b, group.c
    one, two, three = [await group.say(b, words) for words in ("one", "two", "three")]
    await door.no(c, "message.delete", 404, "message-not-found", message_id=one["id"])
    await door.no(
        b, "message.delete", 400, "invalid", message_id=one["id"], reason="mine"
    )
    await door.no(
        b, "message.delete", 400, "invalid", message_id=one["id"], **{"for": "you"}
    )
    for _ in range(2):
        assert await door.ok(b, "message.delete", message_id=one["id"]) == {}
    left = await door.ok(a, "message.get", message_id=one["id"])
    assert (left["content"], "deleted_at" in left) == ({}, True)
    new = {"content": {"text": "x"}}
    await door.no(
        b, "message.edit", 409, "message-deleted", message_id=one["id"], **new
    )
    own = await door.ok(a, "message.delete", message_id=two["id"], **{"for": "me"})
    assert own["hidden"] == [[two["seq"], two["seq"]]]
    assert own["unread_count"] == 1
    await door.no(a, "message.get", 404, "message-not-found", message_id=two["id"])
    assert await door.ok(b, "message.get", message_id=two["id"]) == two
    page = await door.ok(a, "dialog.history", dialog_id=group.id)
    assert [m["id"] for m in page["messages"]] == [three["id"], one["id"]]
    assert (
        await door.ok(a, "message.delete", message_id=three["id"], reason="spam")
    ) == {}
    log = await a.ok("GET", f"/dialogs/{group.id}/events", params={"after": 0})
    last = log["events"][-1]
    assert (last["op"], last["reason"], last["user_id"]) == (
        "message.deleted",
        "spam",
        a.id,
    )
    hidden = next(e for e in log["events"] if e["seq"] == two["seq"])["message"]
    assert (hidden["content"], hidden["is_hidden"]) == ({}, True)
    mine = await group.say(a)
    await door.no(b, "message.delete", 403, "not-the-sender", message_id=mine["id"])


async def test_clearing_a_dialog(group: Group, door: Door) -> None:
    a, b, c = group.a, group.b, group.c
    last = await group.say(b)
    own = await door.ok(a, "dialog.clear", dialog_id=group.id)
    assert (own["cleared_seq"] >= last["seq"], own["unread_count"]) == (True, 0)
    assert (await door.ok(a, "dialog.history", dialog_id=group.id))["messages"] == []
    dialog = await a.ok("GET", f"/dialogs/{group.id}")
    assert "last_message" not in dialog
    [listed] = (await a.ok("GET", "/dialogs"))["dialogs"]
    assert "last_message" not in listed
    theirs = await b.ok("GET", f"/dialogs/{group.id}")
    assert theirs["last_message"]["id"] == last["id"]
    await door.no(c, "dialog.clear", 404, "dialog-not-found", dialog_id=group.id)
    assert await door.ok(a, "dialog.clear", dialog_id=group.id) == own


async def test_reactions(group: Group, door: Door) -> None:
    a, b, c = group.a, group.b, group.c
    id = (await group.say(b))["id"]
    for _ in range(2):
        message = await door.ok(a, "message.react", message_id=id, emoji="👍")
    [reaction] = message["reactions"]
    assert reaction.keys() == {"emoji", "user_id", "created_at"}
    assert (reaction["emoji"], reaction["user_id"]) == ("👍", a.id)
    assert message["reaction_counts"] == [{"emoji": "👍", "count": 1}]
    await door.ok(b, "message.react", message_id=id, emoji="👍")
    await door.ok(b, "message.react", message_id=id, emoji=":party:")
    found: list[tuple[str, str]] = []
    cursor: Json = {}
    for _ in range(3):
        page = await door.ok(a, "message.reactions", message_id=id, limit=1, **cursor)
        found += [(r["emoji"], r["user_id"]) for r in page["reactions"]]
        cursor = {"cursor": page.get("next_cursor")}
    assert cursor == {"cursor": None}
    assert sorted(found) == sorted([("👍", a.id), ("👍", b.id), (":party:", b.id)])
    only = await door.ok(a, "message.reactions", message_id=id, emoji=":party:")
    assert [r["user_id"] for r in only["reactions"]] == [b.id]
    for _ in range(2):
        message = await door.ok(b, "message.unreact", message_id=id, emoji=":party:")
    assert [r["user_id"] for r in message["reactions"]] == [a.id, b.id]
    for bad in ("", "no", "x" * 40, " "):
        await door.no(a, "message.react", 400, "invalid", message_id=id, emoji=bad)
    for number in range(19):
        await door.ok(a, "message.react", message_id=id, emoji=chr(0x1F600 + number))
    await door.no(
        a, "message.react", 422, "too-many-reactions", message_id=id, emoji="🚀"
    )
    await door.no(
        a, "message.reactions", 400, "invalid", message_id=id, cursor="nonsense"
    )
    for op in ("message.react", "message.unreact"):
        await door.no(c, op, 404, "message-not-found", message_id=id, emoji="👍")
    await door.no(c, "message.reactions", 404, "message-not-found", message_id=id)
    await door.ok(b, "message.delete", message_id=id)
    await door.no(a, "message.react", 409, "message-deleted", message_id=id, emoji="👍")


async def test_pins(group: Group, door: Door) -> None:
    a, b, c = group.a, group.b, group.c
    one, two = await group.say(b, "one"), await group.say(b, "two")
    for id in (one["id"], two["id"], two["id"]):
        assert (await door.ok(b, "message.pin", message_id=id))["is_pinned"] is True
    pins = await door.ok(a, "dialog.pins", dialog_id=group.id)
    assert [m["id"] for m in pins["messages"]] == [two["id"], one["id"]]
    for _ in range(2):
        message = await door.ok(b, "message.unpin", message_id=one["id"])
        assert message["is_pinned"] is False
    await door.ok(b, "message.delete", message_id=two["id"])
    pins = await door.ok(a, "dialog.pins", dialog_id=group.id)
    assert pins["messages"] == []
    await door.no(a, "message.pin", 409, "message-deleted", message_id=two["id"])
    for op in ("message.pin", "message.unpin"):
        await door.no(c, op, 404, "message-not-found", message_id=one["id"])
    await door.no(c, "dialog.pins", 404, "dialog-not-found", dialog_id=group.id)
    await a.ok("PUT", f"/dialogs/{group.id}", {"settings": {"who_may_pin": "admin"}})
    await door.no(b, "message.pin", 403, "not-allowed", message_id=one["id"])


async def test_polls(group: Group, door: Door) -> None:
    a, b, c = group.a, group.b, group.c
    ask = {"question": "Where?", "options": ["here", "there", "nowhere"]}
    poll = await door.ok(
        b, "message.send", dialog_id=group.id, type="poll", content=ask
    )
    assert poll["poll"]["counts"] == [0, 0, 0]
    for bad in (
        {"question": "?", "options": ["a"]},
        {"question": "?", "options": ["a", "a"]},
        {"question": "", "options": ["a", "b"]},
    ):
        await door.no(
            b,
            "message.send",
            400,
            "invalid-content",
            dialog_id=group.id,
            type="poll",
            content=bad,
        )
    id = poll["id"]
    voted = await door.ok(a, "poll.vote", message_id=id, options=[1])
    assert (voted["poll"]["counts"], voted["poll"]["voters"]) == ([0, 1, 0], 1)
    assert (await door.ok(a, "message.get", message_id=id))["poll"]["chosen"] == [1]
    for options in ([0, 1], [3], [-1], [99]):
        await door.no(a, "poll.vote", 400, "invalid", message_id=id, options=options)
    back = await door.ok(a, "poll.vote", message_id=id, options=[])
    assert back["poll"]["voters"] == 0
    await door.no(a, "message.edit", 403, "not-the-sender", message_id=id, content={})
    await door.no(b, "message.edit", 422, "not-editable", message_id=id, content=ask)
    await door.no(
        b, "message.forward", 422, "not-forwardable", message_id=id, dialog_id=group.id
    )
    text = (await group.say(b))["id"]
    await door.no(a, "poll.vote", 422, "not-a-poll", message_id=text, options=[0])
    await door.no(b, "poll.close", 422, "not-a-poll", message_id=text)
    await door.no(c, "poll.vote", 404, "message-not-found", message_id=id, options=[0])
    await door.no(c, "poll.close", 404, "message-not-found", message_id=id)
    for _ in range(2):
        closed = await door.ok(a, "poll.close", message_id=id)
        assert closed["poll"]["is_closed"] is True
    await door.no(a, "poll.vote", 409, "poll-closed", message_id=id, options=[0])
    mine = await door.ok(
        a, "message.send", dialog_id=group.id, type="poll", content=ask
    )
    await door.no(b, "poll.close", 403, "not-the-sender", message_id=mine["id"])
    await door.ok(a, "message.delete", message_id=mine["id"])
    await door.no(
        a, "poll.vote", 409, "message-deleted", message_id=mine["id"], options=[0]
    )


async def test_a_thread(group: Group, door: Door) -> None:
    a, b, c = group.a, group.b, group.c
    root = await group.say(b, "root")
    inner = [await group.say(a, f"{n}", thread_id=root["id"]) for n in range(3)]
    assert {m["thread_id"] for m in inner} == {root["id"]}
    thread = (await door.ok(b, "message.get", message_id=root["id"]))["thread"]
    assert thread["count"] == 3
    assert (thread["last_message_id"], thread["participants"]) == (
        inner[-1]["id"],
        [a.id],
    )
    page = await door.ok(b, "message.thread", message_id=root["id"], limit=2)
    assert [m["id"] for m in page["messages"]] == [inner[2]["id"], inner[1]["id"]]
    assert page["has_more"] is True
    rest = await door.ok(
        b, "message.thread", message_id=root["id"], before=inner[1]["id"]
    )
    assert [m["id"] for m in rest["messages"]] == [inner[0]["id"]]
    await door.no(c, "message.thread", 404, "message-not-found", message_id=root["id"])
    await door.no(b, "message.thread", 400, "invalid", message_id=root["id"], limit=101)
    say: Json = {"dialog_id": group.id, "type": "text", "content": {"text": "x"}}
    await door.no(
        a, "message.send", 422, "no-thread-here", **say, thread_id=inner[0]["id"]
    )
    await door.no(
        a, "message.send", 404, "message-not-found", **say, thread_id=str(uuid4())
    )
    await door.ok(b, "message.delete", message_id=root["id"])
    await door.no(
        a, "message.send", 409, "message-deleted", **say, thread_id=root["id"]
    )


async def test_a_forward(group: Group, door: Door) -> None:
    a, b, c = group.a, group.b, group.c
    message = await group.say(b, "look")
    other = await a.ok("POST", "/dialogs", {"type": "user", "participants": [c.id]})
    copy: Json = {
        "message_id": message["id"],
        "dialog_id": other["id"],
        "client_id": uuid7(),
    }
    first = await door.ok(a, "message.forward", **copy)
    assert (first["dialog_id"], first["content"]) == (other["id"], {"text": "look"})
    assert first["forward"] == {
        "sender_id": b.id,
        "sent_at": message["created_at"],
    }
    assert await door.ok(a, "message.forward", **copy) == first
    back = await door.ok(
        c, "message.forward", message_id=first["id"], dialog_id=other["id"]
    )
    assert back["forward"] == first["forward"]
    new = {"content": {"text": "not mine"}}
    await door.no(c, "message.edit", 422, "not-editable", message_id=back["id"], **new)
    await door.no(
        b,
        "message.forward",
        404,
        "dialog-not-found",
        message_id=message["id"],
        dialog_id=other["id"],
    )
    await door.no(
        c,
        "message.forward",
        404,
        "message-not-found",
        message_id=message["id"],
        dialog_id=other["id"],
    )
    await door.no(
        a, "message.forward", 400, "invalid", **(copy | {"client_id": str(uuid4())})
    )
    await door.ok(b, "message.delete", message_id=message["id"])
    assert await door.ok(a, "message.forward", **copy) == first
    del copy["client_id"]
    await door.no(a, "message.forward", 409, "message-deleted", **copy)


async def test_delivered(group: Group, door: Door) -> None:
    a, c = group.a, group.c
    message = await group.say(group.b)
    for _ in range(2):
        assert await door.ok(a, "message.delivered", message_id=message["id"]) == {}
    await door.no(
        c, "message.delivered", 404, "message-not-found", message_id=message["id"]
    )


async def test_a_mention_is_counted_until_it_is_read_or_gone(
    group: Group, door: Door
) -> None:
    a, b = group.a, group.b

    async def count() -> int:
        found: int = (await a.ok("GET", f"/dialogs/{group.id}"))["mention_count"]
        return found

    one, two, three = [await group.say(b, mentions=[a.id]) for _ in range(3)]
    assert await count() == 3
    edit = {"content": {"text": "x"}, "mentions": []}
    await door.ok(b, "message.edit", message_id=one["id"], **edit)
    assert await count() == 2
    await door.ok(b, "message.delete", message_id=two["id"])
    assert await count() == 1
    await door.ok(a, "message.delete", message_id=three["id"], **{"for": "me"})
    assert await count() == 0
    four = await group.say(b)
    edit = {"content": {"text": "y"}, "mentions": [a.id]}
    await door.ok(b, "message.edit", message_id=four["id"], **edit)
    assert await count() == 1
    await door.ok(a, "message.read", message_id=four["id"])
    assert await count() == 0


async def test_no_message_is_404_everywhere(group: Group, door: Door) -> None:
    more: dict[str, Json] = {
        "message.edit": {"content": {"text": "x"}},
        "message.react": {"emoji": "👍"},
        "message.unreact": {"emoji": "👍"},
        "poll.vote": {"options": []},
        "message.forward": {"dialog_id": group.id},
    }
    for op, (_, path) in ROUTES.items():
        if "{message_id}" not in path:
            continue
        rest = more.get(op, {})
        await door.no(
            group.a,
            op,
            404,
            "message-not-found",
            message_id=str(uuid4()),
            **rest,
        )
        await door.no(group.a, op, 400, "invalid", message_id="no-uuid", **rest)


async def test_who_asks_gets_the_event_of_a_change_too(group: Group) -> None:
    """Its reply has no seq; without the event there would be a hole."""
    a, b = group.a, group.b
    message = await group.say(b)
    async with a.socket() as asking, b.socket("tchat.msgpack.v1") as other:
        for op, fields, event in (
            ("message.react", {"emoji": "👍"}, "reaction.added"),
            ("message.unreact", {"emoji": "👍"}, "reaction.removed"),
            ("message.pin", {}, "message.pinned"),
            ("message.unpin", {}, "message.unpinned"),
            ("message.delete", {}, "message.deleted"),
        ):
            await asking.command(op, message_id=message["id"], **fields)
            seqs = {(await socket.event(event))["seq"] for socket in (asking, other)}
            assert len(seqs) == 1
