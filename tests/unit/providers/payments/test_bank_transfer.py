"""Transfers to and from a bank, by the interface that we ask it to speak."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from tchatd.domains.payment.providers import (
    BadSignature,
    ChargeState,
    Declined,
    DeclineReason,
    DoubtReason,
    EventAbout,
    InDoubt,
    Method,
    MoveState,
    NotProcessed,
    NotProcessedReason,
    ProviderEvent,
)
from tchatd.domains.payment.transfer_references import reference_of
from tchatd.kernel.money import Currency
from tchatd.providers.payments.bank_transfer import (
    BankTransferConnector,
    account_of,
)
from tchatd.providers.payments.calls import CallSettings
from tests.support import provider_faults as faults
from tests.support.bank_server import KEY, BankServer, callback, failure
from tests.support.payment_server import Fault, json_of, serving
from tests.support.payments import (
    NOW_MS,
    NOW_S,
    PATIENT,
    call_metrics,
    charge,
    payout,
    refund,
)
from tests.support.stripe_server import signed

SECRET, OLD_SECRET = "new-secret-of-the-bank", "old-secret-of-the-bank"
TOPUP = charge(method=Method.BANK_TRANSFER)
REFERENCE = reference_of("topup-1")


def connector(origin: str, settings: CallSettings = PATIENT) -> BankTransferConnector:
    return BankTransferConnector(
        origin=origin,
        key=KEY,
        webhook_secrets=[SECRET, OLD_SECRET],
        accounts=[account_of("TH THB KBANK 0123456789 Tchat Company Limited")],
        settings=settings,
        metrics=call_metrics(),
    )


@asynccontextmanager
async def both() -> AsyncIterator[tuple[BankServer, BankTransferConnector]]:
    async with serving(BankServer()) as server:
        made = connector(server.origin)
        async with faults.closing(made):
            yield server, made


async def test_a_topup_tells_where_to_transfer_to_and_asks_nobody() -> None:
    async with both() as (server, bank):
        started = await bank.start_topup(TOPUP)
        again = await bank.start_topup(TOPUP)
    assert started.instructions == {
        "bank": "KBANK",
        "account_number": "0123456789",
        "account_name": "Tchat Company Limited",
        "reference": REFERENCE,
    }
    assert (started.reference, started.state) == (REFERENCE, ChargeState.PENDING)
    assert again == started
    assert server.requests == []


@pytest.mark.parametrize(
    "changes",
    [{"method": Method.PROMPTPAY}, {"country": "SG"}, {"currency": Currency.USD}],
)
async def test_where_we_have_no_account_nobody_can_transfer_to(
    changes: dict[str, Any],
) -> None:
    of = charge(**({"method": Method.BANK_TRANSFER} | changes))
    async with both() as (_, bank):
        with pytest.raises(Declined):
            await bank.start_topup(of)


async def test_what_came_in_is_summed_whatever_was_asked() -> None:
    async with both() as (server, bank):
        nothing = await bank.status(REFERENCE)
        server.credit(REFERENCE, 10_000)
        server.credit(REFERENCE, 50)
        found = await bank.find(TOPUP, NOW_MS)
        state = await bank.cancel(REFERENCE)
        server.credit(REFERENCE, 1, "SGD")
        with pytest.raises(InDoubt) as mixed:
            await bank.status(REFERENCE)
    assert (nothing.state, nothing.amount_minor) == (ChargeState.PENDING, 0)
    assert found == state
    assert state.state is ChargeState.PAID
    assert (state.amount_minor, state.currency) == (10_050, Currency.THB)
    assert mixed.value.reason is DoubtReason.MISMATCH


async def test_what_nobody_paid_is_cancelled() -> None:
    async with both() as (_, bank):
        assert (await bank.cancel(REFERENCE)).state is ChargeState.CANCELLED


async def test_a_payout_is_asked_for_as_documented() -> None:
    async with both() as (server, bank):
        made = await bank.payout(payout(description="Withdrawal"))
    [asked] = server.requests
    assert (asked.method, asked.path) == ("POST", "/v1/payouts")
    assert asked.headers["idempotency-key"] == "payout-1"
    assert asked.headers["content-type"] == "application/json"
    assert msgspec.json.decode(asked.body) == {
        "key": "payout-1",
        "amount_minor": 50_000,
        "currency": "THB",
        "from_account": "0123456789",
        "bank": "KBANK",
        "account_number": "9876543210",
        "account_name": "Somchai P.",
        "description": "Withdrawal",
    }
    assert (made.reference, made.state) == ("po_1", MoveState.PENDING)
    assert (made.amount_minor, made.currency) == (50_000, Currency.THB)


@pytest.mark.parametrize("fault", faults.DOUBTS)
async def test_a_payout_in_doubt_goes_out_once(fault: Fault) -> None:
    async with serving(BankServer()) as server:
        server.faults.append(fault)
        impatient = connector(server.origin, faults.settings_of(fault))
        with faults.nothing_said(KEY, "9876543210", "Somchai"):
            async with faults.closing(impatient):
                with pytest.raises(InDoubt) as failed:
                    await impatient.payout(payout())
        assert faults.is_in_doubt(failed.value, faults.DOUBTS[fault])
        was_done = fault.name.endswith("_AFTER")
        if was_done:
            await server.until_processed(1)
        patient = connector(server.origin)
        async with faults.closing(patient):
            found = await patient.find_payout(payout())
            again = await patient.payout(payout())
    assert (found is not None) is was_done
    assert again.reference == "po_1"
    assert len(server.payouts) == 1


@pytest.mark.parametrize(
    ("state", "reason", "expected", "why"),
    [
        ("accepted", None, MoveState.PENDING, None),
        ("sent", None, MoveState.DONE, None),
        (
            "rejected",
            "invalid_account",
            MoveState.FAILED,
            DeclineReason.INVALID_DETAILS,
        ),
        ("returned", "whatever", MoveState.FAILED, DeclineReason.OTHER),
    ],
)
async def test_each_state_of_a_payout_is_read(
    state: str, reason: str | None, expected: MoveState, why: DeclineReason | None
) -> None:
    async with both() as (server, bank):
        await bank.payout(payout())
        server.payouts["payout-1"] |= {"state": state, "reason": reason}
        found = await bank.find_payout(payout())
    assert found is not None
    assert (found.state, found.failure) == (expected, why)


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (422, "insufficient_funds", DeclineReason.INSUFFICIENT_FUNDS),
        (422, "name_mismatch", DeclineReason.INVALID_DETAILS),
        (422, "limit_exceeded", DeclineReason.LIMIT_EXCEEDED),
        (400, "something_new", DeclineReason.OTHER),
    ],
)
async def test_a_refused_payout_says_why(
    status: int, code: str, reason: DeclineReason
) -> None:
    async with both() as (server, bank):
        server.declines.append((status, failure(code)))
        with pytest.raises(Declined) as refused:
            await bank.payout(payout())
    assert (refused.value.reason, refused.value.code) == (reason, code)


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (503, "not_processed", NotProcessedReason.BUSY),
        (429, "busy", NotProcessedReason.BUSY),
        (401, "unauthorized", NotProcessedReason.NOT_AUTHORISED),
    ],
)
async def test_what_the_bank_says_it_did_not_begin_may_go_elsewhere(
    status: int, code: str, reason: NotProcessedReason
) -> None:
    async with both() as (server, bank):
        server.answers.append(json_of(status, failure(code)))
        with pytest.raises(NotProcessed) as failed:
            await bank.payout(payout())
    assert faults.is_not_processed(failed.value, reason)


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (503, "down", DoubtReason.SERVER_ERROR),
        (409, "key_in_use", DoubtReason.IN_PROGRESS),
        (409, "key_reused", DoubtReason.MISMATCH),
    ],
)
async def test_the_rest_is_in_doubt(
    status: int, code: str, reason: DoubtReason
) -> None:
    async with both() as (server, bank):
        server.answers.append(json_of(status, failure(code)))
        with pytest.raises(InDoubt) as failed:
            await bank.payout(payout())
    assert faults.is_in_doubt(failed.value, reason)


async def test_an_answer_about_another_payout_is_in_doubt() -> None:
    async with both() as (server, bank):
        await bank.payout(payout())
        server.payouts["payout-1"]["amount_minor"] = 1
        with pytest.raises(InDoubt):
            await bank.find_payout(payout())
        with pytest.raises(InDoubt):
            await bank.payout(payout())


async def test_it_gives_nothing_back_by_itself() -> None:
    async with both() as (_, bank):
        with pytest.raises(Declined):
            await bank.refund(refund(REFERENCE))
        assert await bank.find_refund(refund(REFERENCE)) is None
        with pytest.raises(Declined):
            await bank.payout(payout(country="SG", currency=Currency.SGD))


def told(reference: str, type: str = "credit", id: str = "cr_1") -> dict[str, Any]:
    return {
        "id": id,
        "type": type,
        "reference": reference,
        "created_at": "2027-01-15T15:00:00+07:00",
    }


def webhook(
    body: bytes, header: str, now_ms: int = NOW_MS
) -> tuple[ProviderEvent, ...]:
    headers = {"tchat-bank-signature": header}
    return connector("http://127.0.0.1:1").verify_webhook(headers, body, now_ms)


@pytest.mark.parametrize("secret", [SECRET, OLD_SECRET])
def test_a_callback_tells_of_credits_and_payouts(secret: str) -> None:
    typed = f"{REFERENCE[:4]}-{REFERENCE[4:]}".lower()
    body = callback(
        told(typed), told("payout-1", "payout", "po_1"), told("thanks!", id="cr_2")
    )
    credit, sent, unknown = webhook(body, signed(body, secret, NOW_S))
    assert (credit.about, credit.reference) == (EventAbout.CHARGE, REFERENCE)
    assert credit.created_at_ms == NOW_MS
    assert (sent.about, sent.reference) == (EventAbout.PAYOUT, "payout-1")
    assert (unknown.about, unknown.reference) == (EventAbout.OTHER, "")
    assert all(event.needs_refetch for event in (credit, sent, unknown))


@pytest.mark.parametrize(
    ("header", "now_ms"),
    [
        ("", NOW_MS),
        (signed(callback(told("x")), "another secret", NOW_S), NOW_MS),
        (signed(callback(told("y")), SECRET, NOW_S), NOW_MS),
        (signed(callback(told("x")), SECRET, NOW_S), NOW_MS + 301_000),
    ],
)
def test_what_the_bank_did_not_sign_now_is_refused(header: str, now_ms: int) -> None:
    with pytest.raises(BadSignature):
        webhook(callback(told("x")), header, now_ms)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"events":[]}', b"\xff"])
def test_signed_nonsense_is_no_callback(body: bytes) -> None:
    with pytest.raises(BadSignature):
        webhook(body, signed(body, SECRET, NOW_S))


@pytest.mark.parametrize(
    "text", ["", "TH THB KBANK 1", "th THB KBANK 1 Name", "TH XXX KBANK 1 Name"]
)
def test_an_account_that_is_none_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="'"):
        account_of(text)
