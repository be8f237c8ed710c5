"""Stripe: what is asked, what each answer means, what is left after each failure."""

from __future__ import annotations

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
    ProviderFailure,
)
from tchatd.kernel.money import Currency
from tchatd.providers.payments import stripe
from tchatd.providers.payments.calls import CallSettings
from tchatd.providers.payments.stripe import AMOUNTS, StripeConnector
from tests.support import provider_faults as faults
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
from tests.support.stripe_server import KEY, StripeServer, event, failure, signed

SECRET, OLD_SECRET = "whsec_new_0123456789", "whsec_old_0123456789"
TOKEN = "pm_card_private"


def connector(
    origin: str, settings: CallSettings = PATIENT, country: str = "TH"
) -> StripeConnector:
    return StripeConnector(
        key=KEY,
        webhook_secrets=[SECRET, OLD_SECRET],
        country=country,
        billing_email="payments@tchat.example",
        settings=settings,
        metrics=call_metrics(),
        origin=origin,
    )


@asynccontextmanager
async def both(
    settings: CallSettings = PATIENT, country: str = "TH"
) -> AsyncIterator[tuple[StripeServer, StripeConnector]]:
    async with serving(StripeServer()) as server:
        made = connector(server.origin, settings, country)
        async with faults.closing(made):
            yield server, made


async def test_a_promptpay_topup_is_asked_for_as_documented() -> None:
    async with both() as (server, stripe):
        started = await stripe.start_topup(charge())

    [asked] = server.requests
    assert (asked.method, asked.path) == ("POST", "/v1/payment_intents")
    assert asked.headers["idempotency-key"] == "topup-1"
    assert asked.headers["stripe-version"] == "2024-06-20"
    assert asked.form == {
        "amount": "10050",
        "currency": "thb",
        "confirm": "true",
        "description": "Top-up",
        "metadata[tchatd_key]": "topup-1",
        "payment_method_types[0]": "promptpay",
        "payment_method_data[type]": "promptpay",
        "payment_method_data[billing_details][email]": "payments@tchat.example",
    }
    assert started.reference == "pi_1"
    assert started.state is ChargeState.PENDING
    assert started.qr_payload == "00020101021229370016A000000677010111"
    assert started.payment_url == "https://payments.stripe.com/qr/1"
    assert started.qr_image_url == "https://qr.stripe.com/1.svg"


async def test_paynow_is_the_qr_of_singapore() -> None:
    async with both(country="SG") as (server, stripe):
        await stripe.start_topup(
            charge(country="SG", currency=Currency.SGD, method=Method.QR_PAYMENT)
        )
    assert server.requests[0].form["payment_method_types[0]"] == "paynow"


@pytest.mark.parametrize(
    ("token", "state", "url"),
    [
        ("pm_1", ChargeState.PAID, None),
        ("pm_3ds", ChargeState.PENDING, "https://hooks.stripe.com/3ds"),
    ],
)
async def test_a_card_is_a_token_and_may_want_its_holder(
    token: str, state: ChargeState, url: str | None
) -> None:
    of = charge(
        method=Method.CREDIT_CARD, token=token, return_url="https://app.example/back"
    )
    async with both() as (server, stripe):
        started = await stripe.start_topup(of)
    form = server.requests[0].form
    assert form["payment_method"] == token
    assert form["return_url"] == "https://app.example/back"
    assert (started.state, started.payment_url) == (state, url)


@pytest.mark.parametrize(
    "changes",
    [
        {"method": Method.CREDIT_CARD},
        {"country": "ID", "currency": Currency.IDR, "method": Method.QR_PAYMENT},
        {"country": "SG", "currency": Currency.SGD},
        {"country": "SG", "currency": Currency.SGD, "method": Method.QR_PAYMENT},
        {"method": Method.BANK_TRANSFER},
        {"amount_minor": 999},
        {"amount_minor": 15_000_001},
    ],
)
async def test_what_stripe_cannot_do_is_not_asked(changes: dict[str, Any]) -> None:
    async with both() as (server, stripe):
        with pytest.raises(Declined):
            await stripe.start_topup(charge(**changes))
        with pytest.raises(Declined):
            await stripe.payout(payout())
        assert await stripe.find_payout(payout()) is None
    assert server.requests == []


def test_dong_have_no_decimals_at_stripe_and_rupiah_have_two() -> None:
    assert AMOUNTS.to_provider(50_000, Currency.VND) == 50_000
    assert AMOUNTS.to_provider(5_000_000, Currency.IDR) == 5_000_000
    assert AMOUNTS.to_minor(5_000_000, Currency.IDR) == 5_000_000


def test_what_is_offered_follows_from_where_the_account_is() -> None:
    def methods(of: str, payer: str) -> set[Method]:
        offers = stripe.capabilities(of).topups
        return {offer.method for offer in offers if offer.country == payer}

    card = {Method.CREDIT_CARD}
    assert methods("TH", "TH") == card | {Method.PROMPTPAY, Method.QR_PAYMENT}
    assert methods("SG", "SG") == card | {Method.QR_PAYMENT}
    assert methods("SG", "TH") == methods("other", "VN") == card


@pytest.mark.parametrize("fault", faults.DOUBTS)
async def test_a_failure_is_in_doubt_and_the_same_key_makes_no_second_charge(
    fault: Fault,
) -> None:
    async with serving(StripeServer()) as server:
        server.faults.append(fault)
        impatient = connector(server.origin, faults.settings_of(fault))
        with faults.nothing_said(KEY, TOKEN, "payments@tchat.example"):
            async with faults.closing(impatient):
                with pytest.raises(ProviderFailure) as failed:
                    await impatient.start_topup(charge())
        assert faults.is_in_doubt(failed.value, faults.DOUBTS[fault])
        assert KEY not in str(failed.value)
        if fault.name.endswith("_AFTER"):
            await server.until_processed(1)

        patient = connector(server.origin)
        async with faults.closing(patient):
            started = await patient.start_topup(charge())
    assert started.reference == "pi_1"
    assert list(server.intents) == ["pi_1"]


@pytest.mark.parametrize("fault", faults.DOUBTS)
async def test_a_refund_in_doubt_is_made_once(fault: Fault) -> None:
    async with serving(StripeServer()) as server:
        first = connector(server.origin, faults.settings_of(fault))
        second = connector(server.origin)
        async with faults.closing(first), faults.closing(second):
            reference = (await second.start_topup(charge())).reference
            server.pay(reference)
            server.faults.append(fault)
            with pytest.raises(InDoubt) as failed:
                await first.refund(refund(reference))
            assert faults.is_in_doubt(failed.value, faults.DOUBTS[fault])
            if fault.name.endswith("_AFTER"):
                await server.until_processed(2)
                found = await second.find_refund(refund(reference))
                assert found is not None
                assert found.reference == "re_1"
            made = await second.refund(refund(reference))
            state = await second.status(reference)
    assert (made.reference, made.state) == ("re_1", MoveState.PENDING)
    assert list(server.refunds) == ["re_1"]
    assert state.refunded_minor == 10_050


async def test_another_amount_than_was_asked_is_in_doubt() -> None:
    async with both() as (server, stripe):
        server.faults.append(Fault.OTHER_AMOUNT_AFTER)
        with pytest.raises(InDoubt) as failed:
            await stripe.start_topup(charge())
    assert faults.is_in_doubt(failed.value, DoubtReason.MISMATCH)


async def test_nobody_there_has_not_processed_it() -> None:
    stripe = connector(await faults.a_port_that_refuses())
    async with faults.closing(stripe):
        with pytest.raises(NotProcessed) as failed:
            await stripe.start_topup(charge())
    assert faults.is_not_processed(failed.value, NotProcessedReason.UNREACHABLE)


async def test_the_rate_limiter_is_in_front_of_everything() -> None:
    async with both() as (server, stripe):
        server.faults.append(Fault.RATE_LIMITED)
        with pytest.raises(NotProcessed) as failed:
            await stripe.start_topup(charge())
    assert faults.is_not_processed(failed.value, NotProcessedReason.BUSY)
    assert failed.value.retry_after_s == 7
    assert server.intents == {}


async def test_a_key_that_is_not_good_is_our_affair_and_not_the_payers() -> None:
    async with both() as (server, stripe):
        server.answers.append(json_of(401, failure("invalid_request_error")))
        with pytest.raises(NotProcessed) as failed:
            await stripe.start_topup(charge())
    assert faults.is_not_processed(failed.value, NotProcessedReason.NOT_AUTHORISED)


@pytest.mark.parametrize(
    ("status", "body", "reason", "code"),
    [
        (
            402,
            failure("card_error", "card_declined", decline_code="insufficient_funds"),
            DeclineReason.INSUFFICIENT_FUNDS,
            "insufficient_funds",
        ),
        (
            402,
            failure("card_error", "card_declined", decline_code="generic_decline"),
            DeclineReason.OTHER,
            "generic_decline",
        ),
        (
            402,
            failure("card_error", "expired_card"),
            DeclineReason.EXPIRED_METHOD,
            "expired_card",
        ),
        (
            402,
            failure("card_error", "card_declined", decline_code="stolen_card"),
            DeclineReason.SUSPECTED_FRAUD,
            "stolen_card",
        ),
        (
            402,
            failure("card_error", "authentication_required"),
            DeclineReason.AUTHENTICATION_FAILED,
            "authentication_required",
        ),
        (
            400,
            failure("invalid_request_error", "amount_too_small"),
            DeclineReason.LIMIT_EXCEEDED,
            "amount_too_small",
        ),
        (
            400,
            failure("invalid_request_error", "parameter_missing"),
            DeclineReason.INVALID_DETAILS,
            "parameter_missing",
        ),
        (
            404,
            failure("invalid_request_error", "resource_missing"),
            DeclineReason.NOT_FOUND,
            "resource_missing",
        ),
    ],
)
async def test_a_refusal_is_one_and_says_why(
    status: int, body: dict[str, Any], reason: DeclineReason, code: str
) -> None:
    async with both() as (server, stripe):
        body["error"]["payment_intent"] = {"id": "pi_refused", "object": "x"}
        server.declines.append((status, body))
        with pytest.raises(Declined) as refused:
            await stripe.start_topup(charge(method=Method.CREDIT_CARD, token=TOKEN))
    assert (refused.value.reason, refused.value.code) == (reason, code)
    assert refused.value.reference == "pi_refused"
    assert TOKEN not in str(refused.value)


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (
            409,
            failure("invalid_request_error", "idempotency_key_in_use"),
            DoubtReason.IN_PROGRESS,
        ),
        (400, failure("idempotency_error"), DoubtReason.MISMATCH),
        (400, failure("api_error"), DoubtReason.SERVER_ERROR),
        (424, failure("invalid_request_error"), DoubtReason.SERVER_ERROR),
        (502, failure("api_error"), DoubtReason.SERVER_ERROR),
    ],
)
async def test_an_error_that_does_not_say_what_was_done_is_in_doubt(
    status: int, body: dict[str, Any], reason: DoubtReason
) -> None:
    async with both() as (server, stripe):
        server.answers.append(json_of(status, body))
        with pytest.raises(InDoubt) as failed:
            await stripe.start_topup(charge())
    assert failed.value.reason is reason


async def test_a_saved_500_is_answered_again_and_the_charge_is_found_by_listing() -> (
    None
):
    async with both() as (server, stripe):
        of = charge(key="kept")
        for index in range(150):
            await stripe.start_topup(charge(key=f"other-{index}"))
        await stripe.start_topup(of)
        server.answers.append(json_of(500, failure("api_error")))
        with pytest.raises(InDoubt):
            await stripe.start_topup(of)
        found = await stripe.find(of, NOW_MS + 60_000)
        nothing = await stripe.find(charge(key="never"), NOW_MS + 60_000)
    assert found is not None
    assert (found.reference, found.state) == ("pi_151", ChargeState.PENDING)
    assert nothing is None


@pytest.mark.parametrize(
    ("status", "error", "state", "failure"),
    [
        ("requires_payment_method", None, ChargeState.PENDING, None),
        ("requires_confirmation", None, ChargeState.PENDING, None),
        ("requires_action", None, ChargeState.PENDING, None),
        ("processing", None, ChargeState.PROCESSING, None),
        ("requires_capture", None, ChargeState.PROCESSING, None),
        ("succeeded", None, ChargeState.PAID, None),
        ("canceled", None, ChargeState.CANCELLED, None),
        (
            "requires_payment_method",
            {"type": "card_error", "code": "expired_card"},
            ChargeState.FAILED,
            DeclineReason.EXPIRED_METHOD,
        ),
        (
            "requires_payment_method",
            {"type": "x", "code": "payment_intent_payment_attempt_expired"},
            ChargeState.EXPIRED,
            DeclineReason.OTHER,
        ),
    ],
)
async def test_each_state_is_read(
    status: str,
    error: dict[str, Any] | None,
    state: ChargeState,
    failure: DeclineReason | None,
) -> None:
    async with both() as (server, stripe):
        await stripe.start_topup(charge())
        server.intents["pi_1"] |= {
            "status": status,
            "amount_received": 10_050,
            "last_payment_error": error,
        }
        found = await stripe.status("pi_1")
    assert (found.state, found.failure) == (state, failure)
    assert (found.amount_minor, found.currency) == (10_050, Currency.THB)


async def test_a_state_that_nobody_knows_is_in_doubt() -> None:
    async with both() as (server, stripe):
        await stripe.start_topup(charge())
        server.intents["pi_1"]["status"] = "requires_a_miracle"
        with pytest.raises(InDoubt):
            await stripe.status("pi_1")
        with pytest.raises(Declined) as refused:
            await stripe.status("pi_of/another")
    assert refused.value.reason is DeclineReason.NOT_FOUND


async def test_cancelling_tells_if_the_payer_was_quicker() -> None:
    async with both() as (server, stripe):
        for key in ("a", "b"):
            await stripe.start_topup(charge(key=key))
        server.pay("pi_2")
        cancelled = await stripe.cancel("pi_1")
        paid = await stripe.cancel("pi_2")
    assert cancelled.state is ChargeState.CANCELLED
    assert (paid.state, paid.amount_minor) == (ChargeState.PAID, 10_050)


async def test_more_than_was_paid_is_not_refunded() -> None:
    async with both() as (server, stripe):
        await stripe.start_topup(charge())
        server.pay("pi_1")
        await stripe.refund(refund("pi_1", key="part", amount_minor=4_000))
        with pytest.raises(Declined) as refused:
            await stripe.refund(refund("pi_1", key="rest", amount_minor=6_051))
        assert await stripe.find_refund(refund("pi_1", key="rest")) is None
    assert refused.value.reason is DeclineReason.WRONG_STATE


def webhook(
    body: bytes, header: str, now_ms: int = NOW_MS
) -> tuple[ProviderEvent, ...]:
    made = connector("http://127.0.0.1:1")
    return made.verify_webhook({"stripe-signature": header}, body, now_ms)


PAID = event(
    "payment_intent.succeeded",
    {
        "id": "pi_1",
        "object": "payment_intent",
        "status": "succeeded",
        "amount": 10_050,
        "amount_received": 10_050,
        "currency": "thb",
    },
)


@pytest.mark.parametrize("secret", [SECRET, OLD_SECRET])
def test_a_signed_event_is_believed_with_each_secret_of_a_rotation(
    secret: str,
) -> None:
    [told] = webhook(PAID, signed(PAID, secret, NOW_S))
    assert (told.id, told.kind) == ("evt_1", "payment_intent.succeeded")
    assert (told.about, told.reference) == (EventAbout.CHARGE, "pi_1")
    assert told.state is not None
    assert told.state.state is ChargeState.PAID
    assert told.state.amount_minor == 10_050
    assert not told.needs_refetch


def test_a_doubled_event_has_its_id_again_and_an_early_one_is_not_believed() -> None:
    waiting = event(
        "payment_intent.requires_action",
        {"id": "pi_1", "status": "requires_action", "amount": 5, "currency": "thb"},
        id="evt_2",
    )
    header = signed(PAID, SECRET, NOW_S)
    assert webhook(PAID, header) == webhook(PAID, header)
    # What came late, after the payment, is looked up before it is believed.
    [late] = webhook(waiting, signed(waiting, SECRET, NOW_S))
    assert late.id == "evt_2"
    assert late.needs_refetch


@pytest.mark.parametrize(
    ("header", "now_ms"),
    [
        ("", NOW_MS),
        ("t=1800000000", NOW_MS),
        ("v1=" + "0" * 64, NOW_MS),
        (signed(PAID, "whsec_of_somebody_else", NOW_S), NOW_MS),
        (signed(PAID + b" ", SECRET, NOW_S), NOW_MS),
        (signed(PAID, SECRET, NOW_S).replace(str(NOW_S), str(NOW_S + 1)), NOW_MS),
        (signed(PAID, SECRET, NOW_S).replace("v1=", "v0="), NOW_MS),
        (signed(PAID, SECRET, NOW_S), NOW_MS + 301_000),
        (signed(PAID, SECRET, NOW_S), NOW_MS - 301_000),
    ],
)
def test_what_stripe_did_not_sign_now_is_refused(header: str, now_ms: int) -> None:
    with pytest.raises(BadSignature):
        webhook(PAID, header, now_ms)


@pytest.mark.parametrize("offset_s", [-300, 0, 300])
def test_clocks_may_be_five_minutes_apart(offset_s: int) -> None:
    assert webhook(PAID, signed(PAID, SECRET, NOW_S + offset_s))


@pytest.mark.parametrize(
    ("type", "item", "about", "reference"),
    [
        (
            "charge.dispute.created",
            {"id": "dp_1", "payment_intent": "pi_9"},
            EventAbout.DISPUTE,
            "pi_9",
        ),
        (
            "refund.updated",
            {"id": "re_1", "payment_intent": "pi_9"},
            EventAbout.REFUND,
            "pi_9",
        ),
        (
            "charge.refunded",
            {"id": "ch_1", "payment_intent": None},
            EventAbout.REFUND,
            "",
        ),
        ("customer.created", {"id": "cus_1"}, EventAbout.OTHER, ""),
    ],
)
def test_events_say_what_they_are_about(
    type: str, item: dict[str, Any], about: EventAbout, reference: str
) -> None:
    body = event(type, item)
    [told] = webhook(body, signed(body, SECRET, NOW_S))
    assert (told.about, told.reference) == (about, reference)
    assert told.needs_refetch


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'{"id":"evt_1"}'])
def test_signed_nonsense_is_no_event(body: bytes) -> None:
    with pytest.raises(BadSignature):
        webhook(body, signed(body, SECRET, NOW_S))
