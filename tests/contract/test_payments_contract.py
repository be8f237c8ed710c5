"""Wallets and payments as CONTRACT and docs/payments.md say, through both doors."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx
import pytest
import trio

from tests.contract.test_auth_contract import People, refused
from tests.support.client import Json, Person, uuid7
from tests.support.funding import fund

pytestmark = [pytest.mark.service, pytest.mark.slow]

WALLET = {
    *("id", "user_id", "balance", "currency", "frozen_balance", "available_balance"),
    *("daily_limit", "monthly_limit", "used_this_month", "status", "is_primary"),
    *("created_at", "updated_at"),
}
TRANSACTION = {
    *("id", "wallet_id", "type", "amount", "currency", "fee", "net_amount", "status"),
    *("description", "metadata", "created_at"),
}


async def wallet_of(person: Person, currency: str = "THB", funds: int = 0) -> Json:
    answer = await person.http.post("/wallets", json={"currency": currency})
    assert answer.status_code == 201, answer.text
    wallet: Json = answer.json()
    if funds:
        await fund(person.daemon, wallet["id"], funds)
    return wallet


def asked(wallet: Json, recipient: Person, amount: int = 100, **more: Any) -> Json:
    return {
        "wallet_id": wallet["id"],
        "recipient_id": recipient.id,
        "amount": amount,
        "currency": wallet["currency"],
    } | more


async def balance(person: Person, wallet: Json) -> int:
    told = await person.ok("GET", f"/wallets/{wallet['id']}/balance")
    assert told.keys() == {
        "balance",
        "available_balance",
        "frozen_balance",
        "currency",
    }
    found: int = told["balance"]
    return found


async def tier(person: Person, level: int) -> None:
    await trio.to_thread.run_sync(
        person.daemon.console, "user", "tier", person.id, str(level), "--reason", "test"
    )


async def test_wallets_are_opened_and_listed(people: People) -> None:
    person = await people()
    assert await person.ok("GET", "/wallets") == []

    first = await wallet_of(person)
    second = await wallet_of(person, "VND")

    assert first.keys() >= WALLET
    assert (first["is_primary"], second["is_primary"]) == (True, False)
    assert (first["balance"], first["status"]) == (0, "active")
    assert (first["daily_limit"], first["monthly_limit"]) == (100_000, 500_000)
    assert second["daily_limit"] == 2_300_000
    assert await person.ok("GET", "/wallets") == [first, second]
    assert await person.ok("GET", f"/v1/wallets/{first['id']}") == first
    refused(await person.http.post("/wallets", json={"currency": "THB"}), 409)
    for body in ({}, {"currency": "EUR"}, {"currency": "THB", "is_primary": 1}):
        refused(await person.http.post("/wallets", json=body), 400)


async def test_another_wallet_becomes_the_primary_one(people: People) -> None:
    person = await people()
    first, second = await wallet_of(person), await wallet_of(person, "USD")

    changed = await person.ok("PUT", f"/wallets/{second['id']}", {"is_primary": True})

    assert changed["is_primary"]
    listed = await person.ok("GET", "/wallets")
    assert [(w["id"], w["is_primary"]) for w in listed] == [
        (second["id"], True),
        (first["id"], False),
    ]
    body = {"is_primary": False}
    refused(await person.http.put(f"/wallets/{second['id']}", json=body), 409)


async def test_a_wallet_is_suspended_made_active_and_closed(people: People) -> None:
    person, other = await people(), await people()
    wallet = await wallet_of(person, funds=500)
    path = f"/wallets/{wallet['id']}"

    told = await person.ok("PUT", path, {"status": "suspended"})
    assert told["status"] == "suspended"
    answer = await person.http.post("/transactions/send", json=asked(wallet, other))
    refused(answer, 422)
    assert (await person.ok("PUT", path, {"status": "active"}))["status"] == "active"
    refused(await person.http.delete(path), 409)
    await person.ok("POST", "/transactions/send", asked(wallet, other, 500))
    assert (await person.ok("DELETE", path))["status"] == "closed"
    refused(await person.http.put(path, json={"status": "active"}), 409)
    answer = await person.http.post("/transactions/send", json=asked(wallet, other))
    refused(answer, 422)
    assert (await wallet_of(person))["id"] != wallet["id"]
    for body in ({"status": "closed"}, {"status": "frozen"}, {"is_primary": "yes"}):
        refused(await person.http.put(path, json=body), 400)


async def test_what_is_anothers_is_not_there(people: People) -> None:
    person, other = await people(), await people()
    wallet = await wallet_of(person, funds=100)
    sent = await person.ok("POST", "/transactions/send", asked(wallet, other))
    third = await people()
    answers: list[httpx.Response] = []
    for id in (wallet["id"], str(uuid4())):
        answers += [
            await third.http.get(f"/wallets/{id}"),
            await third.http.get(f"/wallets/{id}/balance"),
            await third.http.get(f"/wallets/{id}/transactions"),
            await third.http.put(f"/wallets/{id}", json={"is_primary": True}),
            await third.http.delete(f"/wallets/{id}"),
        ]
    answers.append(
        await third.http.post("/transactions/send", json=asked(wallet, other))
    )
    for id in (sent["id"], str(uuid4())):
        answers.append(await third.http.get(f"/transactions/{id}/status"))
    for answer in answers:
        refused(answer, 404)
    for path in ("/wallets/x", "/wallets/x/balance", "/transactions/x/status"):
        refused(await third.http.get(path), 400)


async def test_money_is_sent_and_both_see_it(people: People) -> None:
    payer, payee = await people(), await people()
    wallet = await wallet_of(payer, funds=10_000)

    answer = await payer.http.post(
        "/transactions/send",
        json=asked(wallet, payee, 2_500, description="ค่าข้าว", reference="r-1"),
    )

    assert answer.status_code == 201
    sent = answer.json()
    assert sent.keys() >= TRANSACTION
    assert (sent["type"], sent["status"]) == ("send", "completed")
    assert (sent["amount"], sent["fee"], sent["net_amount"]) == (2_500, 0, 2_500)
    assert (sent["balance_before"], sent["balance_after"]) == (10_000, 7_500)
    assert sent["counterpart"] == {
        "id": payee.id,
        "name": payee.user["name"],
        "type": "user",
    }
    assert await payer.ok("GET", f"/transactions/{sent['id']}/status") == sent
    received = await payee.ok("GET", f"/transactions/{sent['id']}/status")
    assert (received["type"], received["amount"]) == ("receive", 2_500)
    assert (received["balance_before"], received["balance_after"]) == (0, 2_500)
    assert received["counterpart"]["id"] == payer.id
    assert (received["description"], received["reference"]) == ("ค่าข้าว", "r-1")
    [theirs] = await payee.ok("GET", "/wallets")
    assert (theirs["balance"], theirs["is_primary"]) == (2_500, True)
    assert await balance(payer, wallet) == 7_500


@pytest.mark.parametrize(
    "change",
    [
        {"amount": 0},
        {"amount": -5},
        {"amount": 1.5},
        {"amount": "100"},
        {"currency": "EUR"},
        {"currency": "USD"},
        {"recipient_id": "x"},
        {"wallet_id": None},
        {"description": "x" * 201},
        {"reference": "x" * 101},
        {"dialog_id": "x"},
        {"amount": 10_001},
    ],
)
async def test_a_payment_that_cannot_be_is_refused(
    people: People, change: Json
) -> None:
    payer, payee = await people(), await people()
    wallet = await wallet_of(payer, funds=10_000)

    answer = await payer.http.post(
        "/transactions/send", json=asked(wallet, payee) | change
    )

    refused(answer, 400)
    assert await balance(payer, wallet) == 10_000


async def test_nobody_pays_themselves_a_stranger_or_who_blocks_them(
    people: People,
) -> None:
    payer, payee = await people(), await people()
    wallet = await wallet_of(payer, funds=1_000)
    post = payer.http.post
    refused(await post("/transactions/send", json=asked(wallet, payer)), 422)
    nobody = asked(wallet, payee) | {"recipient_id": str(uuid4())}
    refused(await post("/transactions/send", json=nobody), 404)
    await payee.ok("POST", "/users/blocks", {"user_ids": [payer.id]})
    refused(await post("/transactions/send", json=asked(wallet, payee)), 403)
    assert await balance(payer, wallet) == 1_000
    assert await payee.ok("GET", "/wallets") == []


# Limits, each at its edge. Tier 1: 1,000 baht a day, 5,000 a month.


async def test_the_daily_limit_and_what_a_tier_makes_of_it(people: People) -> None:
    payer, payee = await people(), await people()
    wallet = await wallet_of(payer, funds=20_000_000)

    await payer.ok("POST", "/transactions/send", asked(wallet, payee, 99_999))
    await payer.ok("POST", "/transactions/send", asked(wallet, payee, 1))
    answer = await payer.http.post("/transactions/send", json=asked(wallet, payee, 1))
    problem = refused(answer, 402)
    assert problem["error"] == "limit_exceeded"
    assert problem["details"] == {"limit": "daily", "left": "0"}
    await tier(payer, 2)
    left = 10_000_000 - 100_000
    await payer.ok("POST", "/transactions/send", asked(wallet, payee, left))
    answer = await payer.http.post("/transactions/send", json=asked(wallet, payee, 1))
    refused(answer, 402)
    [shown] = await payer.ok("GET", "/wallets")
    assert shown["daily_limit"] == 10_000_000
    assert shown["used_this_month"] == 10_000_000


async def test_a_hundred_payments_a_day(people: People) -> None:
    payer, payee = await people(), await people()
    wallet = await wallet_of(payer, funds=1_000)

    for _ in range(100):
        await payer.ok("POST", "/transactions/send", asked(wallet, payee, 1))
    answer = await payer.http.post("/transactions/send", json=asked(wallet, payee, 1))

    assert refused(answer, 402)["details"]["limit"] == "count"


async def test_history_in_pages_while_more_comes_in(people: People) -> None:
    payer, payee = await people(), await people()
    wallet, theirs = await wallet_of(payer, funds=500), await wallet_of(payee, funds=50)
    for amount in range(1, 6):
        await payer.ok("POST", "/transactions/send", asked(wallet, payee, amount))
    path = f"/wallets/{wallet['id']}/transactions"

    first = await payer.ok("GET", path, params={"limit": 2})
    await payee.ok("POST", "/transactions/send", asked(theirs, payer, 7))
    second = await payer.ok(
        "GET", path, params={"limit": 10, "cursor": first["next_cursor"]}
    )

    assert first.keys() >= {"transactions", "total", "has_more"}
    assert [t["amount"] for t in first["transactions"]] == [5, 4]
    assert (first["total"], first["has_more"]) == (5, True)
    assert [t["amount"] for t in second["transactions"]] == [3, 2, 1]
    assert (second["total"], second["has_more"]) == (6, False)
    found = await payer.ok("GET", path, params={"type": "receive"})
    assert [t["amount"] for t in found["transactions"]] == [7]
    found = await payer.ok("GET", path, params={"offset": 4, "limit": 1})
    assert [t["amount"] for t in found["transactions"]] == [2]
    for params in ({"limit": 0}, {"limit": 101}, {"type": "gift"}, {"cursor": "x"}):
        refused(await payer.http.get(path, params=params), 400)


# Once.


async def test_a_repeated_key_gets_the_first_answer(people: People) -> None:
    payer, payee = await people(), await people()
    wallet = await wallet_of(payer, funds=1_000)
    headers = {"Idempotency-Key": uuid7()}
    body = asked(wallet, payee)

    first = await payer.http.post("/transactions/send", json=body, headers=headers)
    again = await payer.http.post("/v1/transactions/send", json=body, headers=headers)
    other = asked(wallet, payee, 101)
    clash = await payer.http.post("/transactions/send", json=other, headers=headers)

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert refused(clash, 409)["type"].endswith("idempotency-key-reused")
    assert await balance(payer, wallet) == 900


async def test_a_hundred_with_one_key_at_once_pay_once(people: People) -> None:
    payer, payee = await people(), await people()
    wallet = await wallet_of(payer, funds=10_000)
    headers = {"Idempotency-Key": uuid7()}
    answers: list[httpx.Response] = []

    async def pay() -> None:
        answers.append(
            await payer.http.post(
                "/transactions/send", json=asked(wallet, payee), headers=headers
            )
        )

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(pay)

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert await balance(payer, wallet) == 9_900


async def test_a_refusal_is_repeated_too(people: People) -> None:
    payer, payee = await people(), await people()
    wallet = await wallet_of(payer)
    headers = {"Idempotency-Key": uuid7()}
    body = asked(wallet, payee)

    first = await payer.http.post("/transactions/send", json=body, headers=headers)
    await fund(payer.daemon, wallet["id"], 1_000)
    again = await payer.http.post("/transactions/send", json=body, headers=headers)

    refused(first, 400)
    assert (again.status_code, again.content) == (400, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    assert await balance(payer, wallet) == 1_000


async def test_opening_a_wallet_with_a_key(people: People) -> None:
    person = await people()
    headers = {"Idempotency-Key": uuid7()}
    body = {"currency": "SGD"}

    first = await person.http.post("/wallets", json=body, headers=headers)
    again = await person.http.post("/wallets", json=body, headers=headers)

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert len(await person.ok("GET", "/wallets")) == 1


# Over WebSocket.


@pytest.mark.parametrize("protocol", ["tchat.json.v1", "tchat.msgpack.v1"])
async def test_payment_send_over_websocket(people: People, protocol: str) -> None:
    payer, payee = await people(), await people()
    wallet, theirs = await wallet_of(payer, funds=1_000), await wallet_of(payee)
    body = asked(wallet, payee, 300, client_id=uuid7())
    async with (
        payer.socket(protocol) as mine,
        payer.socket(protocol) as also_mine,
        payee.socket(protocol) as his,
    ):
        sent = await mine.command("payment.send", **body)
        again = await mine.command("payment.send", **body)
        assert again == sent
        told = await also_mine.event("transaction.updated")
        assert told["transaction"] == sent
        for socket, id, left in ((mine, wallet["id"], 700), (his, theirs["id"], 300)):
            now = (await socket.event("wallet.updated"))["wallet"]
            assert (now["id"], now["balance"]) == (id, left)
            assert now["available_balance"] == left
        error = await mine.ask("payment.send", **body | {"amount": 301})
        assert error["problem"]["status"] == 409
        error = await mine.ask("payment.send", **asked(wallet, payee, 701))
        assert error["problem"]["status"] == 400
    assert await balance(payer, wallet) == 700


async def test_the_recipient_is_told_of_their_side(people: People) -> None:
    payer, payee = await people(), await people()
    wallet = await wallet_of(payer, funds=1_000)
    async with payee.socket() as socket:
        sent = await payer.ok("POST", "/transactions/send", asked(wallet, payee))
        told = (await socket.event("transaction.updated"))["transaction"]
    assert told["type"] == "receive"
    assert told == await payee.ok("GET", f"/transactions/{sent['id']}/status")


# In a dialog.


async def dialog_of(person: Person, *others: Person) -> str:
    kind = "user" if len(others) == 1 else "group"
    body: Json = {"type": kind, "participants": [other.id for other in others]}
    if kind == "group":
        body["name"] = "Team"
    id: str = (await person.ok("POST", "/dialogs", body))["id"]
    return id


async def test_a_payment_in_a_dialog_is_shown_there_once(people: People) -> None:
    payer, payee, third = await people(), await people(), await people()
    wallet = await wallet_of(payer, funds=1_000)
    dialog_id = await dialog_of(payer, payee, third)
    headers = {"Idempotency-Key": uuid7()}
    body = asked(wallet, payee, 250, dialog_id=dialog_id, description="ชา")
    async with third.socket() as socket:
        for _ in range(3):
            answer = await payer.http.post(
                "/transactions/send", json=body, headers=headers
            )
            assert answer.status_code == 201
        message = (await socket.event("message.new"))["message"]
    sent = answer.json()
    assert message["type"] == "payment"
    assert message["sender_id"] == payer.id
    assert message["content"] == {
        "amount": 250,
        "currency": "THB",
        "transaction_id": sent["id"],
        "description": "ชา",
    }
    listed = await third.ok("GET", f"/dialogs/{dialog_id}/messages")
    assert [m["type"] for m in listed["messages"]] == ["payment"]
    assert sent["metadata"]["dialog_id"] == dialog_id
    refused(await third.http.get(f"/transactions/{sent['id']}/status"), 404)


async def test_both_have_to_be_in_the_dialog_and_the_payer_to_write(
    people: People,
) -> None:
    payer, payee, third = await people(), await people(), await people()
    wallet = await wallet_of(payer, funds=1_000)
    elsewhere = await dialog_of(payer, third)
    foreign = await dialog_of(payee, third)
    channel = await payee.ok(
        "POST",
        "/dialogs",
        {"type": "channel", "name": "News", "participants": [payer.id]},
    )
    for dialog_id, status in (
        (elsewhere, 404),
        (foreign, 404),
        (str(uuid4()), 404),
        (channel["id"], 403),
    ):
        answer = await payer.http.post(
            "/transactions/send", json=asked(wallet, payee, dialog_id=dialog_id)
        )
        refused(answer, status)
    assert await balance(payer, wallet) == 1_000


async def test_a_client_makes_no_payment_message(people: People) -> None:
    payer, payee = await people(), await people()
    dialog_id = await dialog_of(payer, payee)
    content = {"amount": 1, "currency": "THB", "transaction_id": uuid7()}

    answer = await payer.http.post(
        f"/dialogs/{dialog_id}/messages", json={"type": "payment", "content": content}
    )

    refused(answer, 400)
