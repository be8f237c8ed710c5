"""The sandbox: a provider like any other, without money."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tchatd.domains.payment.providers import (
    BadSignature,
    ChargeState,
    Declined,
    DeclineReason,
    Destination,
    DoubtReason,
    EventAbout,
    InDoubt,
    Method,
    MoveState,
)
from tchatd.domains.payment.sandbox import EntryState
from tchatd.kernel.clock import ManualClock
from tchatd.kernel.errors import Unavailable
from tchatd.kernel.money import Currency
from tchatd.providers.payments.sandbox import COUNTRIES, SandboxConnector
from tchatd.stores.memory.sandbox import MemorySandboxStore
from tests.support.payments import NOW_MS, call_metrics, charge, payout, refund


class Webhook:
    """Keeps what it is told; lost: how many of the next ones are not."""

    def __init__(self) -> None:
        self.told: list[tuple[Mapping[str, str], bytes]] = []
        self.lost = 0

    async def __call__(self, headers: Mapping[str, str], body: bytes) -> None:
        if self.lost:
            self.lost -= 1
            raise Unavailable
        self.told.append((headers, body))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW_MS)


@pytest.fixture
def webhook() -> Webhook:
    return Webhook()


@pytest.fixture
def store() -> MemorySandboxStore:
    return MemorySandboxStore()


def connector(store: MemorySandboxStore, clock: ManualClock) -> SandboxConnector:
    return SandboxConnector(
        store, clock, call_metrics(), webhook_secret=b"secret of the sandbox"
    )


@pytest.fixture
def sandbox(
    store: MemorySandboxStore, clock: ManualClock, webhook: Webhook
) -> SandboxConnector:
    made = connector(store, clock)
    made.on_event = webhook
    return made


async def test_a_topup_is_a_page_and_its_key_makes_one(
    sandbox: SandboxConnector,
) -> None:
    started = await sandbox.start_topup(charge())
    assert started.state is ChargeState.PENDING
    assert started.payment_url == f"/sandbox/pay/{started.reference}"
    assert started.expires_at_ms == NOW_MS + 900_000
    assert await sandbox.start_topup(charge()) == started
    found = await sandbox.find(charge(), NOW_MS)
    assert found is not None
    assert found.reference == started.reference
    assert await sandbox.find(charge(key="never"), NOW_MS) is None
    with pytest.raises(InDoubt) as reused:
        await sandbox.start_topup(charge(amount_minor=1))
    assert reused.value.reason is DoubtReason.MISMATCH


@pytest.mark.parametrize(
    ("decision", "state"),
    [
        ("paid", ChargeState.PAID),
        ("failed", ChargeState.FAILED),
        ("expired", ChargeState.EXPIRED),
    ],
)
async def test_what_is_decided_is_told_by_a_signed_webhook(
    sandbox: SandboxConnector,
    webhook: Webhook,
    decision: EntryState,
    state: ChargeState,
) -> None:
    started = await sandbox.start_topup(charge())
    decided = await sandbox.decide(started.reference, decision)
    assert decided is not None
    assert decided.state == decision
    again = await sandbox.decide(started.reference, "paid")
    assert again == decided

    [(headers, body)] = webhook.told
    [event] = sandbox.verify_webhook(headers, body, NOW_MS)
    assert (event.about, event.reference) == (EventAbout.CHARGE, started.reference)
    assert event.kind == f"charge.{decision}"
    assert event.needs_refetch
    assert (await sandbox.status(started.reference)).state is state


async def test_a_changed_or_old_webhook_is_refused(
    sandbox: SandboxConnector, webhook: Webhook
) -> None:
    started = await sandbox.start_topup(charge())
    await sandbox.decide(started.reference, "paid")
    [(headers, body)] = webhook.told
    with pytest.raises(BadSignature):
        sandbox.verify_webhook(headers, body + b" ", NOW_MS)
    with pytest.raises(BadSignature):
        sandbox.verify_webhook(headers, body, NOW_MS + 301_000)
    with pytest.raises(BadSignature):
        sandbox.verify_webhook({}, body, NOW_MS)


async def test_a_lost_webhook_changes_nothing_of_the_payment(
    sandbox: SandboxConnector, webhook: Webhook
) -> None:
    webhook.lost = 1
    started = await sandbox.start_topup(charge())
    await sandbox.decide(started.reference, "paid")
    assert webhook.told == []
    assert (await sandbox.status(started.reference)).state is ChargeState.PAID


async def test_time_expires_it_whoever_looks_first(
    sandbox: SandboxConnector, webhook: Webhook, clock: ManualClock
) -> None:
    first = await sandbox.start_topup(charge())
    second = await sandbox.start_topup(charge(key="second"))
    clock.advance(900_000)
    assert (await sandbox.status(first.reference)).state is ChargeState.EXPIRED
    late = await sandbox.decide(second.reference, "paid")
    assert late is not None
    assert late.state == "expired"
    assert len(webhook.told) == 2


async def test_cancelling_tells_if_the_payer_was_quicker(
    sandbox: SandboxConnector,
) -> None:
    first = await sandbox.start_topup(charge())
    second = await sandbox.start_topup(charge(key="second"))
    await sandbox.decide(second.reference, "paid")
    assert (await sandbox.cancel(first.reference)).state is ChargeState.CANCELLED
    assert (await sandbox.cancel(second.reference)).state is ChargeState.PAID
    with pytest.raises(Declined) as nothing:
        await sandbox.status("sbx_none")
    assert nothing.value.reason is DeclineReason.NOT_FOUND


async def test_a_refund_is_made_once_and_of_what_was_paid(
    sandbox: SandboxConnector,
) -> None:
    started = await sandbox.start_topup(charge())
    of = refund(started.reference, amount_minor=4_000)
    with pytest.raises(Declined):
        await sandbox.refund(of)
    await sandbox.decide(started.reference, "paid")
    made = await sandbox.refund(of)
    assert (made.state, made.amount_minor) == (MoveState.DONE, 4_000)
    assert await sandbox.refund(of) == await sandbox.find_refund(of) == made
    with pytest.raises(Declined) as refused:
        await sandbox.refund(refund(started.reference, key="rest", amount_minor=6_051))
    assert refused.value.reason is DeclineReason.WRONG_STATE
    assert (await sandbox.status(started.reference)).refunded_minor == 4_000


async def test_a_payout_is_made_once_and_an_account_of_zeros_takes_none(
    sandbox: SandboxConnector,
) -> None:
    made = await sandbox.payout(payout())
    assert made.state is MoveState.DONE
    assert await sandbox.payout(payout()) == made
    assert await sandbox.find_payout(payout()) == made
    nobody = Destination(bank="X", account_number="000", account_name="N")
    failed = await sandbox.payout(payout(key="zeros", destination=nobody))
    assert (failed.state, failed.failure) == (
        MoveState.FAILED,
        DeclineReason.INVALID_DETAILS,
    )
    assert await sandbox.find_payout(payout(key="never")) is None


async def test_what_it_has_outlives_the_connector(
    sandbox: SandboxConnector, store: MemorySandboxStore, clock: ManualClock
) -> None:
    started = await sandbox.start_topup(charge())
    await sandbox.decide(started.reference, "paid")
    await sandbox.aclose()
    after = connector(store, clock)
    assert (await after.status(started.reference)).state is ChargeState.PAID


async def test_a_store_that_is_away_leaves_it_in_doubt(
    clock: ManualClock,
) -> None:
    class Away(MemorySandboxStore):
        async def add(self, entry: object) -> object:  # type: ignore[override]
            raise Unavailable

    with pytest.raises(InDoubt):
        await connector(Away(), clock).start_topup(charge())


def test_it_offers_everything_everywhere(sandbox: SandboxConnector) -> None:
    offers = sandbox.capabilities.topups
    assert {o.country for o in offers} == set(COUNTRIES)
    assert {o.method for o in offers} == set(Method)
    assert {o.currency for o in offers} == set(Currency)
    assert sandbox.health().breaker == "closed"
