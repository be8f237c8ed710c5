"""Owns a local program that speaks docs/payments-bank-connector.md for a bank."""

from __future__ import annotations

from typing import Any

import msgspec

from tests.support.payment_server import (
    PaymentServer,
    Served,
    ServedRequest,
    json_of,
)

KEY = "bank-api-key"


def failure(code: str) -> dict[str, Any]:
    return {"error": {"code": code}}


class BankServer(PaymentServer):
    """credits: by reference. payouts: by key. declines: as in `StripeServer`."""

    def __init__(self) -> None:
        super().__init__()
        self.credits: dict[str, list[dict[str, Any]]] = {}
        self.payouts: dict[str, dict[str, Any]] = {}
        self.declines: list[tuple[int, dict[str, Any]]] = []

    def process(self, request: ServedRequest) -> Served:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return json_of(401, failure("unauthorized"))
        parts = request.path.strip("/").split("/", 2)
        if parts[1] == "credits":
            return json_of(200, {"credits": self.credits.get(parts[2], [])})
        if request.method == "GET":
            found = self.payouts.get(parts[2])
            return (
                json_of(404, failure("not_found"))
                if found is None
                else (json_of(200, found))
            )
        return self._payout(request)

    def rate_limited(self) -> Served:
        return json_of(429, failure("busy"))

    def credit(
        self, reference: str, amount_minor: int, currency: str = "THB"
    ) -> dict[str, Any]:
        items = self.credits.setdefault(reference, [])
        items.append(
            {
                "id": f"cr_{reference}_{len(items)}",
                "amount_minor": amount_minor,
                "currency": currency,
                "received_at": "2027-01-15T08:00:00+07:00",
            }
        )
        return items[-1]

    def _payout(self, request: ServedRequest) -> Served:
        asked = msgspec.json.decode(request.body)
        assert request.headers["idempotency-key"] == asked["key"]
        known = self.payouts.get(asked["key"])
        same = ("amount_minor", "currency")
        if known is not None:
            if any(known[name] != asked[name] for name in same):
                return json_of(409, failure("key_reused"))
            return json_of(200, known)
        if self.declines:
            status, body = self.declines.pop(0)
            return json_of(status, body)
        made = {
            "id": f"po_{len(self.payouts) + 1}",
            "key": asked["key"],
            "amount_minor": asked["amount_minor"],
            "currency": asked["currency"],
            "state": "accepted",
        }
        self.payouts[asked["key"]] = made
        return json_of(201, made)


def callback(*events: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"events": events})
