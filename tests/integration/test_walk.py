"""The walk of two people: sign in, talk live, read, type, leave, come back."""

from __future__ import annotations

import os
from collections.abc import Callable

import httpx
import pytest
import trio

from tests.support.client import connect, sign_in, uuid7
from tests.support.daemon import Daemon

pytestmark = [pytest.mark.service, pytest.mark.slow]

NewPhone = Callable[[], str]
TEXT = {"type": "text", "content": {"text": "สวัสดีครับ"}}
SEARCHABLE_S = 20


async def test_two_people_sign_in_and_talk(daemon: Daemon, new_phone: NewPhone) -> None:
    async with (
        sign_in(daemon, new_phone()) as somchai,
        sign_in(daemon, new_phone()) as mei,
    ):
        await somchai.ok("PUT", "/users/profile", {"name": "Somchai"})
        assert (await somchai.ok("GET", "/users/profile"))["name"] == "Somchai"

        async with (
            somchai.socket() as left,
            mei.socket("tchat.msgpack.v1") as right,
        ):
            dialog = await somchai.ok(
                "POST", "/dialogs", {"type": "user", "participants": [mei.id]}
            )
            created = await right.event("dialog.created")
            assert created["dialog"]["id"] == dialog["id"]
            assert created["seq"] == 1

            sent = await left.command(
                "message.send", dialog_id=dialog["id"], client_id=uuid7(), **TEXT
            )
            heard = await right.event("message.new")
            assert heard["message"] == sent
            assert heard["seq"] == sent["seq"] == 2
            assert sent["sender_id"] == somchai.id
            assert sent["content"] == TEXT["content"]

            answer = await right.command(
                "message.send", dialog_id=dialog["id"], client_id=uuid7(), **TEXT
            )
            assert (await left.event("message.new"))["message"] == answer

            await right.command("typing.start", dialog_id=dialog["id"])
            typing = await left.event("typing.start")
            assert (typing["dialog_id"], typing["user_id"]) == (dialog["id"], mei.id)
            await right.command("typing.stop", dialog_id=dialog["id"])
            assert (await left.event("typing.stop"))["user_id"] == mei.id

            await left.command("message.read", message_id=answer["id"])
            read = await right.event("message.read")
            assert (read["user_id"], read["message_id"]) == (somchai.id, answer["id"])


async def test_unread_counts_are_exact_and_fall_when_read(
    daemon: Daemon, new_phone: NewPhone
) -> None:
    async with sign_in(daemon, new_phone()) as a, sign_in(daemon, new_phone()) as b:
        dialog = await a.ok(
            "POST", "/dialogs", {"type": "user", "participants": [b.id]}
        )
        messages = [
            await a.ok("POST", f"/dialogs/{dialog['id']}/messages", TEXT)
            for _ in range(5)
        ]

        async def unread(person: object) -> int:
            listed = await person.ok("GET", "/dialogs")  # type: ignore[attr-defined]
            count: int = listed["dialogs"][0]["unread_count"]
            return count

        assert (await unread(a), await unread(b)) == (0, 5)
        await b.ok("POST", f"/messages/{messages[2]['id']}/read")
        assert await unread(b) == 2
        await b.ok("POST", f"/messages/{messages[0]['id']}/read")
        assert await unread(b) == 2
        await b.ok("POST", f"/dialogs/{dialog['id']}/messages", TEXT)
        assert (await unread(a), await unread(b)) == (1, 0)


async def test_presence_is_told_to_who_watches(
    daemon: Daemon, new_phone: NewPhone
) -> None:
    async with (
        sign_in(daemon, new_phone()) as a,
        sign_in(daemon, new_phone()) as b,
        a.socket() as watcher,
    ):
        await watcher.command("presence.watch", user_ids=[b.id])
        async with b.socket() as other:
            assert (await watcher.event("presence.update"))["status"] == "online"
            await other.command("presence.set", status="busy")
            assert (await watcher.event("presence.update"))["status"] == "busy"
        gone = await watcher.event("presence.update")
        assert (gone["user_id"], gone["status"]) == (b.id, "offline")


async def test_history_pages_newest_first(daemon: Daemon, new_phone: NewPhone) -> None:
    async with sign_in(daemon, new_phone()) as a, sign_in(daemon, new_phone()) as b:
        dialog = await a.ok(
            "POST", "/dialogs", {"type": "user", "participants": [b.id]}
        )
        path = f"/dialogs/{dialog['id']}/messages"
        sent = [(await a.ok("POST", path, TEXT))["id"] for _ in range(7)]
        first = await b.ok("GET", path, params={"limit": 4})
        assert [m["id"] for m in first["messages"]] == sent[:2:-1]
        assert first["has_more"] is True
        rest = await b.ok(
            "GET", path, params={"limit": 4, "before": first["messages"][-1]["id"]}
        )
        assert [m["id"] for m in rest["messages"]] == sent[2::-1]
        assert rest["has_more"] is False
        events = await b.ok("GET", f"/dialogs/{dialog['id']}/events?after=0")
        assert [e["seq"] for e in events["events"]] == list(range(1, 9))
        assert events["last_seq"] == 8


async def test_a_device_that_was_away_syncs_every_event_once(
    daemon: Daemon, new_phone: NewPhone
) -> None:
    async with sign_in(daemon, new_phone()) as a, sign_in(daemon, new_phone()) as b:
        one = await a.ok("POST", "/dialogs", {"type": "user", "participants": [b.id]})
        group = await a.ok(
            "POST",
            "/dialogs",
            {"type": "group", "name": "Lunch", "participants": [b.id]},
        )
        async with b.socket() as socket:
            cursor = (await socket.command("sync"))["cursor"]
        sent = [
            await a.ok("POST", f"/dialogs/{dialog['id']}/messages", TEXT)
            for dialog in (one, group) * 40
        ]
        async with b.socket("tchat.msgpack.v1") as socket:
            got = []
            for _ in range(100):
                page = await socket.command("sync", cursor=cursor, limit=7)
                got += page["events"]
                cursor = page["cursor"]
                if not page["has_more"]:
                    break
            else:
                pytest.fail("sync never ends")
        for dialog in (one, group):
            want = [m["id"] for m in sent if m["dialog_id"] == dialog["id"]]
            have = [e for e in got if e["dialog_id"] == dialog["id"]]
            assert [e["message"]["id"] for e in have] == want
            seqs = [e["seq"] for e in have]
            assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))


async def test_a_repeated_client_id_gets_the_first_answer(
    daemon: Daemon, new_phone: NewPhone
) -> None:
    async with sign_in(daemon, new_phone()) as a, sign_in(daemon, new_phone()) as b:
        dialog = await a.ok(
            "POST", "/dialogs", {"type": "user", "participants": [b.id]}
        )
        path = f"/dialogs/{dialog['id']}/messages"
        body = TEXT | {"client_id": uuid7()}
        first = await a.ok("POST", path, body)
        assert await a.ok("POST", path, body) == first
        async with a.socket() as socket:
            again = await socket.command("message.send", dialog_id=dialog["id"], **body)
        assert again == first
        assert len((await b.ok("GET", path))["messages"]) == 1


async def test_tokens_refresh_and_a_reused_one_ends_the_session(
    daemon: Daemon, new_phone: NewPhone
) -> None:
    async with sign_in(daemon, new_phone()) as a:
        old = a.refresh_token
        async with a.socket() as socket:
            fresh = await a.ok("POST", "/auth/token/refresh", {"refresh_token": old})
            assert fresh["refresh_token"] != old
            again = await a.ok("POST", "/auth/token/refresh", {"refresh_token": old})
            assert again["refresh_token"] == fresh["refresh_token"]
            newer = await a.ok(
                "POST", "/auth/token/refresh", {"refresh_token": again["refresh_token"]}
            )
            assert newer["refresh_token"] not in (old, again["refresh_token"])
            reused = await a.http.post(
                "/auth/token/refresh", json={"refresh_token": old}
            )
            assert reused.status_code == 401
            assert (await socket.wait_closed())[0] == 4002
        assert (await a.http.get("/users/profile")).status_code == 401


async def test_logging_out_ends_live_sockets_and_the_token(
    daemon: Daemon, new_phone: NewPhone
) -> None:
    async with sign_in(daemon, new_phone()) as a, a.socket() as socket:
        assert (await a.http.post("/auth/logout")).is_success
        assert (await socket.event("session.revoked"))["op"] == "session.revoked"
        assert (await socket.wait_closed())[0] == 4002
        refused = await a.http.get("/users/profile")
        assert refused.status_code == 401
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["error"] == "unauthorized"


async def test_an_outsider_neither_sees_nor_writes(
    daemon: Daemon, new_phone: NewPhone
) -> None:
    async with (
        sign_in(daemon, new_phone()) as a,
        sign_in(daemon, new_phone()) as b,
        sign_in(daemon, new_phone()) as outsider,
    ):
        dialog = await a.ok(
            "POST", "/dialogs", {"type": "user", "participants": [b.id]}
        )
        path = f"/dialogs/{dialog['id']}"
        message = await a.ok("POST", f"{path}/messages", TEXT)
        for verb, target in (
            ("GET", path),
            ("GET", f"{path}/messages"),
            ("GET", f"{path}/events?after=0"),
            ("POST", f"{path}/messages"),
            ("POST", f"/messages/{message['id']}/read"),
        ):
            body = TEXT if target.endswith("messages") and verb == "POST" else None
            answer = await outsider.http.request(verb, target, json=body)
            assert answer.status_code in (403, 404), (verb, target, answer.text)
        async with outsider.socket() as socket:
            refused = await socket.ask(
                "message.send", dialog_id=dialog["id"], client_id=uuid7(), **TEXT
            )
            assert refused["op"] == "error"
            assert refused["problem"]["status"] in (403, 404)
        assert len((await b.ok("GET", f"{path}/messages"))["messages"]) == 1


async def test_a_socket_may_say_hello_instead_of_a_header(
    daemon: Daemon, new_phone: NewPhone
) -> None:
    async with sign_in(daemon, new_phone()) as a:
        async with connect(daemon, None) as socket:
            await socket.send({"op": "hello", "id": 0, "token": a.access_token})
            assert (await socket.command("ping")) is not None
        async with connect(
            daemon, None, path=f"/websocket?token={a.access_token}"
        ) as socket:
            assert (await socket.command("ping")) is not None


async def test_a_bad_token_is_refused(daemon: Daemon) -> None:
    async with httpx.AsyncClient(base_url=daemon.url) as http:
        answer = await http.get(
            "/users/profile", headers={"authorization": "Bearer a.b.c"}
        )
        assert answer.status_code == 401
        assert answer.json()["status"] == 401


async def test_what_is_in_the_data_folder_is_for_nobody_else(
    daemon: Daemon, new_phone: NewPhone
) -> None:
    async with sign_in(daemon, new_phone()) as a, sign_in(daemon, new_phone()) as b:
        dialog = await a.ok(
            "POST", "/dialogs", {"type": "user", "participants": [b.id]}
        )
        await a.ok("POST", f"/dialogs/{dialog['id']}/messages", TEXT)
        with trio.fail_after(SEARCHABLE_S):
            while not (await a.ok("GET", "/messages/search?q=สวัสดี"))["hits"]:
                await trio.sleep(0.2)
    data = daemon.data
    passed_through = {data, data / "postgres"} if os.geteuid() == 0 else set()
    public = {f"postgres/{name}" for name in ("pg_hba.conf", "pg_ident.conf")}
    opened = {
        str(path.relative_to(data))
        for path in (data, *data.rglob("*"))
        if path.lstat().st_mode & 0o077 and not path.is_symlink()
        if path not in passed_through
    }
    binaries = {path for path in opened if path.startswith("postgres/server-")}
    assert opened - binaries <= public
