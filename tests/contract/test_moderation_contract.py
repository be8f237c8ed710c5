"""Reports, sanctions and removals as docs/moderation.md says, through both doors."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import uuid4

import pytest
import trio

from tests.contract.conftest import Site
from tests.contract.test_auth_contract import People, refused
from tests.contract.test_bots_contract import as_bot, dialog_with, new_bot, say
from tests.support.client import Json, Person, sign_in, uuid7
from tests.support.daemon import Daemon
from tests.support.settings import ROOMY

pytestmark = [pytest.mark.service, pytest.mark.slow]
SPAM = {"reason": "spam", "comment": "look at this"}


async def console(site: Site, *words: str) -> Any:
    return await trio.to_thread.run_sync(site.daemon.console, *words)


async def send(person: Person, dialog_id: str, text: str = "hello") -> Json:
    path = f"/dialogs/{dialog_id}/messages"
    message: Json = await person.ok("POST", path, say(text))
    return message


async def reports_about(site: Site, id: str) -> list[Json]:
    listed = await console(site, "reports", "list")
    return [row for row in listed["rows"] if row["about"].endswith(id)]


async def test_a_message_is_reported_as_it_was_and_removed(
    people: People, site: Site
) -> None:
    bad, good = await people(), await people()
    dialog_id = await dialog_with(bad, good.id)
    message = await send(bad, dialog_id, "buy drugs")
    path = f"/messages/{message['id']}"
    reported = await good.ok("POST", f"{path}/report", SPAM)
    assert reported["success"]
    await bad.ok("PUT", path, {"content": {"text": "buy flowers"}})
    [row] = await reports_about(site, message["id"])
    shown = await console(site, "reports", "show", str(row["number"]))
    assert (shown["accused"], shown["by"]) == (bad.id, good.id)
    assert shown["comment"] == "look at this"
    assert "buy drugs" in shown["evidence"]
    async with good.socket() as socket:
        resolve = ("reports", "resolve", str(row["number"]), "--action", "remove")
        await console(site, *resolve, "--reason", "illegal")
        event = await socket.event("message.deleted")
    assert (event["message_id"], event["reason"]) == (message["id"], "illegal")
    assert "user_id" not in event
    page = (await bad.ok("GET", f"/dialogs/{dialog_id}/messages"))["messages"]
    assert page[0]["content"] == {}
    assert await reports_about(site, message["id"]) == []
    log = (await console(site, "moderation", "log", "2"))["rows"]
    assert [entry["action"] for entry in log] == ["resolve: remove", "remove"]
    assert all(entry["reason"] == "illegal" and entry["who"] for entry in log)


async def test_each_thing_is_reported_once_by_each(people: People, site: Site) -> None:
    bad, good = await people(), await people()
    dialog_id = await dialog_with(bad, good.id, (await people()).id)
    for path, id in (
        (f"/users/{bad.id}/report", bad.id),
        (f"/dialogs/{dialog_id}/report", dialog_id),
    ):
        await good.ok("POST", path, SPAM)
        await good.ok("POST", path, {"reason": "fraud"})
        [row] = await reports_about(site, id)
        assert (row["reason"], row["accused"]) == ("fraud", bad.id)
        number = str(row["number"])
        await console(
            *(site, "reports", "resolve", number, "--action", "none"),
            *("--reason", "nothing there"),
        )


async def test_what_is_not_there_to_see_cannot_be_reported(people: People) -> None:
    a, b, outsider = await people(), await people(), await people()
    dialog_id = await dialog_with(a, b.id)
    message = await send(a, dialog_id)
    for path in (
        f"/messages/{message['id']}/report",
        f"/messages/{uuid4()}/report",
        f"/dialogs/{dialog_id}/report",
        f"/dialogs/{uuid4()}/report",
        f"/users/{uuid4()}/report",
    ):
        refused(await outsider.http.post(path, json=SPAM), 404)
    refused(await a.http.post(f"/messages/{message['id']}/report", json=SPAM), 422)
    refused(await a.http.post(f"/users/{a.id}/report", json=SPAM), 422)
    wrong: list[Json] = [
        *({}, {"reason": "boring"}, {"reason": "spam", "comment": ""}),
        {"reason": "spam", "comment": "x" * 1_001},
    ]
    for body in wrong:
        refused(await b.http.post(f"/messages/{message['id']}/report", json=body), 400)
    refused(await b.http.post("/dialogs/no-id/report", json=SPAM), 400)


async def test_reports_are_limited(people: People) -> None:
    a, b = await people(), await people()
    path = f"/users/{b.id}/report"
    statuses = [(await a.http.post(path, json=SPAM)).status_code for _ in range(21)]
    assert statuses == [200] * 20 + [429]


async def test_a_banned_user_is_out_at_once_and_stays_out(
    people: People, site: Site
) -> None:
    bad, good = await people(), await people()
    await dialog_with(bad, good.id)
    bot = await new_bot(bad)
    async with bad.socket() as socket, as_bot(site, bot) as client:
        await client.ok("GET", "/dialogs")
        done = await console(site, "user", "ban", bad.id, "--reason", "scams")
        assert done["sessions_ended"] == 1
        assert (await socket.wait_closed())[0] == 4002
        refused(await bad.http.get("/dialogs"), 401)
        refused(await client.http.get("/dialogs"), 401)
        token = {"refresh_token": bad.refresh_token}
        told = refused(await bad.http.post("/auth/token/refresh", json=token), 403)
        assert told["type"].endswith(":banned")
        assert told["details"] == {"scope": "account"}
        ended = await console(site, "user", "unban", bad.id, "--reason", "was not")
        assert ended["was_sanctioned"]
        await client.ok("GET", "/dialogs")


async def test_a_banned_user_cannot_sign_in_again() -> None:
    """By a daemon of its own, which sends another code at once."""
    daemon = Daemon(ROOMY | {"AUTH_CODE_RESEND_S": "1"})
    phone = "+66810000003"
    try:
        await trio.to_thread.run_sync(daemon.start)
        async with sign_in(daemon, phone) as person:
            ask = partial(trio.to_thread.run_sync, daemon.console)
            await ask("user", "ban", phone, "--reason", "scams", "--for", "1h")
            await trio.sleep(1.1)
            sent = await person.http.post(
                "/auth/otp/send", json={"identifier": phone, "type": "phone"}
            )
            code = (await ask("otp", phone))["code"]
            verify = {"session_id": sent.json()["session_id"], "code": code}
            problem = refused(
                await person.http.post("/auth/otp/verify", json=verify), 403
            )
            assert problem["type"].endswith(":banned")
            assert problem["details"]["banned_until"] in problem["detail"]
            await trio.to_thread.run_sync(daemon.kill)
            await trio.to_thread.run_sync(daemon.start)
            assert (await ask("moderation", "sanctions"))["total"] == 1
            await ask("user", "unban", phone, "--reason", "mistake")
            await trio.sleep(1.1)
            async with sign_in(daemon, phone) as again:
                assert again.id == person.id
    finally:
        await trio.to_thread.run_sync(daemon.remove)


async def test_a_silenced_user_reads_and_does_not_write(
    people: People, site: Site
) -> None:
    loud, other = await people(), await people()
    dialog_id = await dialog_with(loud, other.id)
    message = await send(loud, dialog_id)
    await console(
        *(site, "user", "silence", loud.id, "--for", "1h", "--reason", "noise")
    )
    path = f"/dialogs/{dialog_id}/messages"
    problem = refused(await loud.http.post(path, json=say("more")), 403)
    assert problem["type"].endswith(":silenced")
    edit = {"content": {"text": "edited"}}
    refused(await loud.http.put(f"/messages/{message['id']}", json=edit), 403)
    assert len((await loud.ok("GET", path))["messages"]) == 1
    async with loud.socket() as socket:
        answer = await socket.ask(
            "message.send", dialog_id=dialog_id, client_id=uuid7(), **say("more")
        )
        assert answer["problem"]["type"].endswith(":silenced")
    await console(site, "user", "unsilence", loud.id, "--reason", "enough")
    await send(loud, dialog_id)


async def test_words_links_and_rates_of_a_daemon_that_has_them() -> None:
    """One daemon of its own: the list and the limits are settings."""
    daemon = Daemon(
        ROOMY
        | {
            "MESSAGING_USER_MESSAGES_PER_MINUTE": "6",
            "MODERATION_LINKS": "flag",
            "MODERATION_LINK_HOSTS_ALLOWED": "shop.example",
        }
    )
    words = daemon.folder / "words"
    words.write_text("refuse: casino\nflag: lottery\n")
    daemon.settings["MODERATION_WORDS_FILE"] = str(words)
    try:
        await trio.to_thread.run_sync(daemon.start)
        async with (
            sign_in(daemon, "+66810000001") as a,
            sign_in(daemon, "+66810000002") as b,
        ):
            dialog_id = await dialog_with(a, b.id)
            path = f"/dialogs/{dialog_id}/messages"
            problem = refused(await a.http.post(path, json=say("CASINO")), 422)
            assert problem["type"].endswith(":content-refused")
            flagged = await send(a, dialog_id, "Lottery!")
            linked = await send(a, dialog_id, "see https://evil.example")
            await send(a, dialog_id, "see https://shop.example")
            edit = {"content": {"text": "casino"}}
            refused(await a.http.put(f"/messages/{flagged['id']}", json=edit), 422)
            listed = await reported(daemon, 2)
            assert [row["about"] for row in listed["rows"]] == [
                f"message {flagged['id']}",
                f"message {linked['id']}",
            ]
            assert {row["by"] for row in listed["rows"]} == {"filter"}
            await send(a, dialog_id)
            await send(a, dialog_id)
            problem = refused(await a.http.post(path, json=say("one more")), 429)
            assert problem["type"].endswith(":too-many-messages")
            assert problem["retry_after"] >= 1
            plain = await send(b, dialog_id)
            edit = {"content": {"text": "my lottery"}}
            await b.ok("PUT", f"/messages/{plain['id']}", edit)
            listed = await reported(daemon, 3)
            assert listed["rows"][2]["about"] == f"message {plain['id']}"
            words.write_text("flag: nothing\n")
            reloaded = await trio.to_thread.run_sync(
                daemon.console, "moderation", "reload"
            )
            assert reloaded == {"patterns": 1}
            await send(b, dialog_id, "casino")
    finally:
        await trio.to_thread.run_sync(daemon.remove)


async def reported(daemon: Daemon, count: int) -> Any:
    """The list of reports, once it has so many: filters report a moment later."""
    for _ in range(200):
        listed = await trio.to_thread.run_sync(daemon.console, "reports")
        if listed["total"] == count:
            break
        await trio.sleep(0.05)
    return listed
