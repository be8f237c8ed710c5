"""Payments over a kill -9: nothing is lost, nothing happens twice."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
import trio

from tchatd.stores.postgres.pool import Pool
from tests.support.client import ANSWER_S, Json, Person, sign_in, uuid7
from tests.support.daemon import Daemon
from tests.support.funding import dsn_of, fund
from tests.support.ledgers import differences_in
from tests.support.settings import ROOMY

pytestmark = [pytest.mark.service, pytest.mark.slow]


@pytest.fixture
def own_daemon() -> Iterator[Daemon]:
    daemon = Daemon(ROOMY)
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.remove()


async def test_payments_under_way_at_a_kill_are_made_once_and_shown_once(
    own_daemon: Daemon,
) -> None:
    """Twenty at once, killed in the middle; each is then asked for again by its key."""
    daemon = own_daemon
    async with (
        sign_in(daemon, "+66812340001") as payer,
        sign_in(daemon, "+66812340002") as payee,
    ):
        wallet = await payer.ok("POST", "/wallets", {"currency": "THB"})
        await fund(daemon, wallet["id"], 10_000)
        dialog = await payer.ok(
            "POST", "/dialogs", {"type": "user", "participants": [payee.id]}
        )
        body: Json = {
            "wallet_id": wallet["id"],
            "recipient_id": payee.id,
            "amount": 7,
            "currency": "THB",
            "dialog_id": dialog["id"],
        }
        keys = [uuid7() for _ in range(20)]
        before = await attempted(payer, body, keys, kill=daemon)
        daemon.start()

        after = await attempted(payer, body, keys)

        assert all(after[key] is not None for key in keys)
        assert len({after[key]["id"] for key in keys if after[key]}) == 20  # type: ignore[index]
        for key, answer in before.items():
            assert answer is None or answer == after[key]
        told = await payer.ok("GET", f"/wallets/{wallet['id']}/balance")
        assert told["balance"] == 10_000 - 20 * 7
        shown = await messages(payee, dialog["id"], 20)
        paid = [m["content"]["transaction_id"] for m in shown]
        assert sorted(paid) == sorted(a["id"] for a in after.values() if a)
    pool = Pool(dsn_of(daemon), size=1)
    try:
        assert await differences_in(pool) == []
    finally:
        await pool.aclose()


async def attempted(
    payer: Person, body: Json, keys: list[str], kill: Daemon | None = None
) -> dict[str, Json | None]:
    """The answer to each; None where there was none. kill: after the first answer."""
    answers: dict[str, Json | None] = dict.fromkeys(keys)
    one = trio.Event()

    async def pay(key: str) -> None:
        try:
            answer = await payer.http.post(
                "/transactions/send", json=body, headers={"Idempotency-Key": key}
            )
        except httpx.TransportError:
            return
        if answer.status_code == 201:
            answers[key] = answer.json()
            one.set()

    async with trio.open_nursery() as nursery:
        for key in keys:
            nursery.start_soon(pay, key)
        if kill is not None:
            await one.wait()
            kill.kill()
    return answers


async def messages(person: Person, dialog_id: str, count: int) -> list[Json]:
    """Those of payments, once there are so many; sagas go on after the restart."""
    with trio.fail_after(ANSWER_S):
        while True:
            page = await person.ok(
                "GET", f"/dialogs/{dialog_id}/messages", params={"limit": 100}
            )
            found = [m for m in page["messages"] if m["type"] == "payment"]
            if len(found) >= count:
                return found
