"""Omise: what is asked, what each answer means, and how what is in doubt is found."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

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
from tchatd.kernel.money import Currency
from tchatd.providers.payments import omise
from tchatd.providers.payments.calls import CallSettings
from tchatd.providers.payments.omise import AMOUNTS, OmiseConnector
from tests.support import provider_faults as faults
from tests.support.omise_server import KEY, OmiseServer, event, failure, signed
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

SECRET = base64.b64encode(b"new secret of 24 bytes!!").decode()
OLD_SECRET = base64.b64encode(b"old secret of 24 bytes!!").decode()
TOKEN = "tokn_private"


def connector(
    origin: str, settings: CallSettings = PATIENT, country: str = "TH"
) -> OmiseConnector:
    return OmiseConnector(
        key=KEY,
        webhook_secrets=[base64.b64decode(SECRET), base64.b64decode(OLD_SECRET)],
        country=country,
        settings=settings,
        metrics=call_metrics(),
        origin=origin,
    )


@asynccontextmanager
async def both(
    country: str = "TH",
) -> AsyncIterator[tuple[OmiseServer, OmiseConnector]]:
    async with serving(OmiseServer()) as server:
        made = connector(server.origin, country=country)
        async with faults.closing(made):
            yield server, made


async def test_a_promptpay_topup_is_a_source_and_a_charge_in_one() -> None:
    async with both() as (server, omise):
        started = await omise.start_topup(charge())

    [asked] = server.requests
    assert (asked.method, asked.path) == ("POST", "/charges")
    assert asked.headers["idempotency-key"] == "topup-1"
    assert asked.form == {
        "amount": "10050",
        "currency": "THB",
        "description": "Top-up",
        "expires_at": "2027-01-15T08:15:00Z",
        "metadata[tchatd_key]": "topup-1",
        "source[type]": "promptpay",
    }
    assert (started.reference, started.state) == ("chrg_test_1", ChargeState.PENDING)
    assert started.expires_at_ms == NOW_MS + 900_000
    assert started.qr_payload is None
    assert started.qr_image_url is not None
    assert started.qr_image_url.startswith("https://api.omise.co/charges/")
    assert started.payment_url == started.qr_image_url


@pytest.mark.parametrize(
    ("country", "currency", "kind"),
    [
        ("TH", Currency.THB, "promptpay"),
        ("SG", Currency.SGD, "paynow"),
        ("MY", Currency.MYR, "duitnow_qr"),
    ],
)
async def test_a_qr_payment_is_by_the_scheme_of_the_country(
    country: str, currency: Currency, kind: str
) -> None:
    of = charge(country=country, currency=currency, method=Method.QR_PAYMENT)
    async with both(country) as (server, omise):
        await omise.start_topup(of)
    assert server.requests[0].form["source[type]"] == kind


@pytest.mark.parametrize(
    ("token", "state", "has_url"),
    [("tokn_1", ChargeState.PAID, False), ("tokn_3ds", ChargeState.PENDING, True)],
)
async def test_a_card_is_a_token_and_may_want_its_holder(
    token: str, state: ChargeState, has_url: bool
) -> None:
    of = charge(
        method=Method.CREDIT_CARD, token=token, return_url="https://app.example/back"
    )
    async with both() as (server, omise):
        started = await omise.start_topup(of)
    assert server.requests[0].form["card"] == token
    assert server.requests[0].form["return_uri"] == "https://app.example/back"
    assert started.state is state
    assert (started.payment_url is not None) is has_url


@pytest.mark.parametrize(
    "changes",
    [
        {"method": Method.CREDIT_CARD},
        {"method": Method.CREDIT_CARD, "token": "t", "currency": Currency.VND},
        {"country": "SG", "currency": Currency.SGD},
        {"country": "ID", "currency": Currency.IDR, "method": Method.QR_PAYMENT},
        {"country": "SG", "currency": Currency.SGD, "method": Method.QR_PAYMENT},
        {"method": Method.BANK_TRANSFER},
        {"amount_minor": 1_999},
        {"amount_minor": 15_000_001},
    ],
)
async def test_what_omise_cannot_do_is_not_asked(changes: dict[str, Any]) -> None:
    async with both() as (server, omise):
        with pytest.raises(Declined):
            await omise.start_topup(charge(**changes))
        with pytest.raises(Declined):
            await omise.payout(payout())
        assert await omise.find_payout(payout()) is None
    assert server.requests == []


def test_only_yen_have_no_decimals_at_omise() -> None:
    assert AMOUNTS.to_provider(10_050, Currency.THB) == 10_050
    # Nobody charges dong there; if somebody did, this is what would be sent.
    assert AMOUNTS.to_provider(50_000, Currency.VND) == 5_000_000
    assert AMOUNTS.to_minor(5_000_000, Currency.VND) == 50_000
    with pytest.raises(ValueError, match="not whole"):
        AMOUNTS.to_minor(5_000_001, Currency.VND)


def test_rupiah_pesos_and_dong_are_not_offered() -> None:
    offers = omise.capabilities("TH").topups
    offered = {offer.currency for offer in offers}
    assert offered == {Currency.THB, Currency.SGD, Currency.MYR, Currency.USD}
    assert omise.capabilities("TH").same_key_s == 0


@pytest.mark.parametrize("fault", faults.DOUBTS)
async def test_a_failure_is_in_doubt_and_is_found_without_asking_again(
    fault: Fault,
) -> None:
    async with serving(OmiseServer()) as server:
        server.faults.append(fault)
        impatient = connector(server.origin, faults.settings_of(fault))
        with faults.nothing_said(KEY, TOKEN):
            async with faults.closing(impatient):
                with pytest.raises(InDoubt) as failed:
                    await impatient.start_topup(charge())
        assert faults.is_in_doubt(failed.value, faults.DOUBTS[fault])
        was_done = fault.name.endswith("_AFTER")
        if was_done:
            await server.until_processed(1)

        patient = connector(server.origin)
        async with faults.closing(patient):
            found = await patient.find(charge(), NOW_MS)
    if was_done:
        assert found is not None
        assert (found.reference, found.state) == ("chrg_test_1", ChargeState.PENDING)
        assert (found.amount_minor, found.currency) == (10_050, Currency.THB)
    else:
        assert found is None
    assert len(server.charges) == was_done


@pytest.mark.parametrize("fault", faults.DOUBTS)
async def test_a_refund_in_doubt_is_found_by_its_key(fault: Fault) -> None:
    async with serving(OmiseServer()) as server:
        first = connector(server.origin, faults.settings_of(fault))
        second = connector(server.origin)
        async with faults.closing(first), faults.closing(second):
            reference = (await second.start_topup(charge())).reference
            server.pay(reference)
            server.faults.append(fault)
            with pytest.raises(InDoubt):
                await first.refund(refund(reference))
            was_done = fault.name.endswith("_AFTER")
            if was_done:
                await server.until_processed(2)
            found = await second.find_refund(refund(reference))
            assert (found is not None) is was_done
            assert await second.find_refund(refund(reference, key="other")) is None
    assert len(server.refunds) == was_done


async def test_one_among_hundreds_is_found_by_its_key() -> None:
    async with both() as (_, omise):
        for index in range(250):
            await omise.start_topup(charge(key=f"k{index}"))
        found = await omise.find(charge(key="k249"), NOW_MS)
        nothing = await omise.find(charge(key="never"), NOW_MS)
    assert found is not None
    assert found.reference == "chrg_test_250"
    assert nothing is None


async def test_another_amount_than_was_asked_is_in_doubt() -> None:
    async with both() as (server, omise):
        server.faults.append(Fault.OTHER_AMOUNT_AFTER)
        with pytest.raises(InDoubt) as failed:
            await omise.start_topup(charge())
    assert faults.is_in_doubt(failed.value, DoubtReason.MISMATCH)


async def test_nobody_there_has_not_processed_it() -> None:
    omise = connector(await faults.a_port_that_refuses())
    async with faults.closing(omise):
        with pytest.raises(NotProcessed) as failed:
            await omise.start_topup(charge())
    assert faults.is_not_processed(failed.value, NotProcessedReason.UNREACHABLE)


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (429, "too_many_requests", NotProcessedReason.BUSY),
        (401, "authentication_failure", NotProcessedReason.NOT_AUTHORISED),
        (403, "not_authorized", NotProcessedReason.NOT_AUTHORISED),
    ],
)
async def test_what_omise_did_not_begin_may_go_elsewhere(
    status: int, code: str, reason: NotProcessedReason
) -> None:
    async with both() as (server, omise):
        server.answers.append(json_of(status, failure(code)))
        with pytest.raises(NotProcessed) as failed:
            await omise.start_topup(charge())
    assert faults.is_not_processed(failed.value, reason)
    assert failed.value.code == code


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (400, "bad_request", DeclineReason.INVALID_DETAILS),
        (400, "invalid_charge", DeclineReason.INVALID_DETAILS),
        (400, "used_token", DeclineReason.WRONG_STATE),
        (400, "brand_not_supported", DeclineReason.NOT_SUPPORTED),
        (400, "failed_fraud_check", DeclineReason.SUSPECTED_FRAUD),
        (404, "not_found", DeclineReason.NOT_FOUND),
        (422, "something_new", DeclineReason.OTHER),
    ],
)
async def test_a_refusal_is_one_and_says_why(
    status: int, code: str, reason: DeclineReason
) -> None:
    async with both() as (server, omise):
        server.declines.append((status, failure(code)))
        with pytest.raises(Declined) as refused:
            await omise.start_topup(charge())
    assert (refused.value.reason, refused.value.code) == (reason, code)


@pytest.mark.parametrize("code", ["backend_error", "internal_error"])
async def test_an_error_of_the_bank_behind_omise_is_in_doubt(code: str) -> None:
    async with both() as (server, omise):
        server.declines.append((400, failure(code)))
        with pytest.raises(InDoubt) as failed:
            await omise.start_topup(charge())
    assert faults.is_in_doubt(failed.value, DoubtReason.SERVER_ERROR)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("insufficient_fund", DeclineReason.INSUFFICIENT_FUNDS),
        ("stolen_or_lost_card", DeclineReason.SUSPECTED_FRAUD),
        ("invalid_security_code", DeclineReason.INVALID_DETAILS),
        ("payment_rejected", DeclineReason.AUTHENTICATION_FAILED),
        ("failed_processing", DeclineReason.OTHER),
    ],
)
async def test_a_charge_that_was_made_and_failed_is_a_refusal(
    code: str, reason: DeclineReason
) -> None:
    async with both() as (server, omise):
        server.fails.append(code)
        with pytest.raises(Declined) as refused:
            await omise.start_topup(charge(method=Method.CREDIT_CARD, token=TOKEN))
        state = await omise.status("chrg_test_1")
    assert (refused.value.reason, refused.value.code) == (reason, code)
    assert refused.value.reference == "chrg_test_1"
    assert (state.state, state.failure) == (ChargeState.FAILED, reason)


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, ChargeState.PENDING),
        ({"status": "successful", "paid": True}, ChargeState.PAID),
        ({"status": "successful"}, ChargeState.PROCESSING),
        ({"status": "failed"}, ChargeState.FAILED),
        ({"status": "expired"}, ChargeState.EXPIRED),
        ({"expired": True}, ChargeState.EXPIRED),
        ({"status": "reversed"}, ChargeState.CANCELLED),
        # Paid at the last moment: what came in goes before what is said of it.
        ({"status": "successful", "paid": True, "expired": True}, ChargeState.PAID),
    ],
)
async def test_each_state_is_read(changes: dict[str, Any], state: ChargeState) -> None:
    async with both() as (server, omise):
        await omise.start_topup(charge())
        server.charges["chrg_test_1"] |= changes
        assert (await omise.status("chrg_test_1")).state is state


async def test_a_state_that_nobody_knows_is_in_doubt() -> None:
    async with both() as (server, omise):
        await omise.start_topup(charge())
        server.charges["chrg_test_1"]["status"] = "levitating"
        with pytest.raises(InDoubt):
            await omise.status("chrg_test_1")


async def test_cancelling_expires_and_tells_if_the_payer_was_quicker() -> None:
    async with both() as (server, omise):
        for key in ("a", "b"):
            await omise.start_topup(charge(key=key))
        server.pay("chrg_test_2")
        cancelled = await omise.cancel("chrg_test_1")
        paid = await omise.cancel("chrg_test_2")
    assert cancelled.state is ChargeState.EXPIRED
    assert paid.state is ChargeState.PAID


async def test_more_than_was_paid_is_not_refunded() -> None:
    async with both() as (server, omise):
        await omise.start_topup(charge())
        server.pay("chrg_test_1")
        part = await omise.refund(refund("chrg_test_1", key="a", amount_minor=4_000))
        with pytest.raises(Declined) as refused:
            await omise.refund(refund("chrg_test_1", key="b", amount_minor=6_051))
        state = await omise.status("chrg_test_1")
    assert (part.state, part.amount_minor) == (MoveState.DONE, 4_000)
    assert refused.value.reason is DeclineReason.WRONG_STATE
    assert state.refunded_minor == 4_000


PAID = event(
    "charge.complete",
    {"object": "charge", "id": "chrg_test_1", "status": "successful", "paid": True},
)


def webhook(
    body: bytes, signatures: str, at: str = str(NOW_S), now_ms: int = NOW_MS
) -> tuple[ProviderEvent, ...]:
    headers = {"omise-signature": signatures, "omise-signature-timestamp": at}
    return connector("http://127.0.0.1:1").verify_webhook(headers, body, now_ms)


def test_an_event_is_a_hint_and_the_charge_is_to_be_fetched() -> None:
    [told] = webhook(PAID, signed(PAID, SECRET, NOW_S))
    assert (told.id, told.kind) == ("evnt_test_1", "charge.complete")
    assert (told.about, told.reference) == (EventAbout.CHARGE, "chrg_test_1")
    assert told.needs_refetch
    assert told.state is None
    assert told.created_at_ms == NOW_MS


def test_a_rotation_signs_with_both_secrets_and_either_is_enough() -> None:
    new, old = signed(PAID, SECRET, NOW_S), signed(PAID, OLD_SECRET, NOW_S)
    other = signed(PAID, base64.b64encode(b"of somebody else").decode(), NOW_S)
    assert webhook(PAID, f"{new},{old}") == webhook(PAID, old)
    assert webhook(PAID, f"{other}, {new}") == webhook(PAID, new)


@pytest.mark.parametrize(
    ("body", "signatures", "at", "now_ms"),
    [
        (PAID, "", str(NOW_S), NOW_MS),
        (PAID, signed(PAID, SECRET, NOW_S), "", NOW_MS),
        (PAID, "0" * 64, str(NOW_S), NOW_MS),
        (PAID + b" ", signed(PAID, SECRET, NOW_S), str(NOW_S), NOW_MS),
        (PAID, signed(PAID, SECRET, NOW_S), str(NOW_S + 1), NOW_MS),
        (PAID, signed(PAID, SECRET, NOW_S), str(NOW_S), NOW_MS + 301_000),
        (PAID, signed(PAID, SECRET, NOW_S), str(NOW_S), NOW_MS - 301_000),
        (PAID, ",".join(["0" * 64] * 9), str(NOW_S), NOW_MS),
    ],
)
def test_what_omise_did_not_sign_now_is_refused(
    body: bytes, signatures: str, at: str, now_ms: int
) -> None:
    with pytest.raises(BadSignature):
        webhook(body, signatures, at, now_ms)


@pytest.mark.parametrize(
    ("key", "item", "about", "reference"),
    [
        (
            "refund.create",
            {"object": "refund", "id": "rfnd_1", "charge": "chrg_9"},
            EventAbout.REFUND,
            "chrg_9",
        ),
        (
            "dispute.create",
            {"object": "dispute", "id": "dspt_1", "charge": {"id": "chrg_9"}},
            EventAbout.DISPUTE,
            "",
        ),
        ("card.update", {"object": "card", "id": "card_1"}, EventAbout.OTHER, ""),
    ],
)
def test_events_say_what_they_are_about(
    key: str, item: dict[str, Any], about: EventAbout, reference: str
) -> None:
    body = event(key, item)
    [told] = webhook(body, signed(body, SECRET, NOW_S))
    assert (told.about, told.reference) == (about, reference)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'{"object":"event"}'])
def test_signed_nonsense_is_no_event(body: bytes) -> None:
    with pytest.raises(BadSignature):
        webhook(body, signed(body, SECRET, NOW_S))
