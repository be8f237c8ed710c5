"""Owns a local Stripe: PaymentIntents and refunds of the documented shape, with its
idempotency (status and body kept by key, 400 for another body) and its errors."""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import Any

import msgspec

from tests.support.payment_server import (
    PaymentServer,
    Served,
    ServedRequest,
    json_of,
)

KEY = "sk_test_secret"
CREATED_S = 1_800_000_000


def failure(type: str, code: str | None = None, **more: Any) -> dict[str, Any]:
    """With a message that repeats what was sent, as Stripe's may."""
    return {
        "error": {
            "type": type,
            "code": code,
            "message": f"It was {KEY}, and pm_card_private.",
            "doc_url": f"https://stripe.com/docs/error-codes/{code}",
            **more,
        }
    }


class StripeServer(PaymentServer):
    """intents, refunds: by id. declines: (status, body) of the next creation."""

    def __init__(self) -> None:
        super().__init__()
        self.intents: dict[str, dict[str, Any]] = {}
        self.refunds: dict[str, dict[str, Any]] = {}
        self.declines: list[tuple[int, dict[str, Any]]] = []
        self._kept: dict[str, tuple[bytes, Served]] = {}

    def process(self, request: ServedRequest) -> Served:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return json_of(401, failure("invalid_request_error"))
        key = request.headers.get("idempotency-key")
        if request.method != "POST" or key is None:
            return self._done(request)
        asked = request.path.encode() + b"?" + request.body
        if key not in self._kept:
            self._kept[key] = (asked, self._done(request))
        first, answer = self._kept[key]
        if first != asked:
            return json_of(400, failure("idempotency_error"))
        return answer

    def rate_limited(self) -> Served:
        body = failure("invalid_request_error", "rate_limit")
        return json_of(429, body, **{"retry-after": "7"})

    def pay(self, id: str) -> None:
        intent = self.intents[id]
        intent |= {
            "status": "succeeded",
            "amount_received": intent["amount"],
            "next_action": None,
            "latest_charge": f"ch_{id}",
        }

    def fail(self, id: str, code: str) -> None:
        self.intents[id] |= {
            "status": "requires_payment_method",
            "next_action": None,
            "last_payment_error": {"type": "card_error", "code": code},
        }

    def _done(self, request: ServedRequest) -> Served:
        parts = request.path.strip("/").split("/")
        if parts[1] == "refunds":
            return self._refunds(request)
        if request.method == "GET" and len(parts) == 2:
            return self._list(request)
        if request.method == "POST" and len(parts) == 2:
            return self._create(request.form)
        intent = self.intents.get(parts[2])
        if intent is None:
            return json_of(404, failure("invalid_request_error", "resource_missing"))
        if parts[-1] == "cancel":
            if intent["status"] in ("succeeded", "canceled"):
                code = "payment_intent_unexpected_state"
                return json_of(400, failure("invalid_request_error", code))
            intent |= {"status": "canceled", "next_action": None}
        return json_of(200, self._shown(intent, request.query))

    def _create(self, form: dict[str, str]) -> Served:
        assert form["confirm"] == "true"
        if self.declines:
            status, body = self.declines.pop(0)
            return json_of(status, body)
        id = f"pi_{len(self.intents) + 1}"
        kind = form["payment_method_types[0]"]
        intent = {
            "id": id,
            "object": "payment_intent",
            "amount": int(form["amount"]),
            "amount_received": 0,
            "currency": form["currency"],
            "created": CREATED_S + len(self.intents),
            "client_secret": f"{id}_secret",
            "description": form.get("description"),
            "last_payment_error": None,
            "latest_charge": None,
            "livemode": False,
            "metadata": {"tchatd_key": form["metadata[tchatd_key]"]},
            "payment_method_types": [kind],
            **_next(kind, form),
        }
        self.intents[id] = intent
        return json_of(200, intent)

    def _list(self, request: ServedRequest) -> Served:
        """Newest first, as Stripe lists."""
        query = request.query
        least, most = int(query["created[gte]"]), int(query["created[lte]"])
        found = [i for i in self.intents.values() if least <= i["created"] <= most]
        return _page("/v1/payment_intents", found[::-1], query)

    def _refunds(self, request: ServedRequest) -> Served:
        if request.method == "GET":
            of = request.query["payment_intent"]
            found = [r for r in self.refunds.values() if r["payment_intent"] == of]
            return _page("/v1/refunds", found[::-1], request.query)
        form = request.form
        intent = self.intents[form["payment_intent"]]
        given = sum(
            r["amount"]
            for r in self.refunds.values()
            if r["payment_intent"] == intent["id"]
        )
        if given + int(form["amount"]) > intent["amount_received"]:
            code = "charge_already_refunded"
            return json_of(400, failure("invalid_request_error", code))
        id = f"re_{len(self.refunds) + 1}"
        self.refunds[id] = {
            "id": id,
            "object": "refund",
            "amount": int(form["amount"]),
            "currency": intent["currency"],
            "metadata": {"tchatd_key": form["metadata[tchatd_key]"]},
            "payment_intent": intent["id"],
            "reason": None,
            "status": "pending",
        }
        return json_of(200, self.refunds[id])

    def _shown(self, intent: dict[str, Any], query: dict[str, str]) -> dict[str, Any]:
        if query.get("expand[]") != "latest_charge" or not intent["latest_charge"]:
            return intent
        given = sum(
            r["amount"]
            for r in self.refunds.values()
            if r["payment_intent"] == intent["id"]
        )
        charge = {
            "id": intent["latest_charge"],
            "object": "charge",
            "amount_refunded": given,
        }
        return {**intent, "latest_charge": charge}


def _next(kind: str, form: dict[str, str]) -> dict[str, Any]:
    if kind == "card":
        if form["payment_method"] == "pm_3ds":
            redirect = {"url": "https://hooks.stripe.com/3ds", "return_url": "x"}
            action = {"type": "redirect_to_url", "redirect_to_url": redirect}
            return {"status": "requires_action", "next_action": action}
        amount = int(form["amount"])
        return {
            "status": "succeeded",
            "amount_received": amount,
            "next_action": None,
            "latest_charge": "ch_1",
        }
    name = f"{kind}_display_qr_code"
    code = {
        "data": "00020101021229370016A000000677010111",
        "hosted_instructions_url": "https://payments.stripe.com/qr/1",
        "image_url_png": "https://qr.stripe.com/1.png",
        "image_url_svg": "https://qr.stripe.com/1.svg",
    }
    return {"status": "requires_action", "next_action": {"type": name, name: code}}


def _page(url: str, found: list[dict[str, Any]], query: dict[str, str]) -> Served:
    limit = int(query.get("limit", "10"))
    if after := query.get("starting_after"):
        ids = [item["id"] for item in found]
        found = found[ids.index(after) + 1 :]
    body = {
        "object": "list",
        "url": url,
        "data": found[:limit],
        "has_more": len(found) > limit,
    }
    return json_of(200, body)


def event(type: str, item: dict[str, Any], id: str = "evt_1") -> bytes:
    return msgspec.json.encode(
        {
            "id": id,
            "object": "event",
            "api_version": "2024-06-20",
            "created": CREATED_S,
            "data": {"object": item},
            "livemode": False,
            "pending_webhooks": 1,
            "type": type,
        }
    )


def signed(body: bytes, secret: str, at_s: int) -> str:
    """By the documentation, and by no code of ours."""
    text = str(at_s).encode() + b"." + body
    digest = hmac.new(secret.encode(), text, sha256).hexdigest()
    return f"t={at_s},v1={digest},v0={'0' * 64}"
