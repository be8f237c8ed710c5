"""Owns a local Omise: charges and refunds of the documented shape (2019-05-29), without
idempotency, as its reference promises none, and with its errors."""

from __future__ import annotations

import base64
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

KEY = "skey_test_secret"
CREATED_AT = "2027-01-15T08:00:00Z"


def failure(code: str) -> dict[str, Any]:
    return {
        "object": "error",
        "location": f"https://www.omise.co/api-errors#{code.replace('_', '-')}",
        "code": code,
        "message": f"it was {KEY} and tokn_private",
    }


class OmiseServer(PaymentServer):
    """charges, refunds: by id. declines: (status, body) of the next creation. fails:
    the failure_code with which the next charge is made."""

    def __init__(self) -> None:
        super().__init__()
        self.charges: dict[str, dict[str, Any]] = {}
        self.refunds: dict[str, dict[str, Any]] = {}
        self.declines: list[tuple[int, dict[str, Any]]] = []
        self.fails: list[str] = []

    def process(self, request: ServedRequest) -> Served:
        expected = base64.b64encode(f"{KEY}:".encode()).decode()
        if request.headers.get("authorization") != f"Basic {expected}":
            return json_of(401, failure("authentication_failure"))
        assert request.headers["omise-version"] == "2019-05-29"
        parts = request.path.strip("/").split("/")
        if len(parts) == 1:
            if request.method == "GET":
                return self._list(request.query)
            return self._create(request.form)
        charge = self.charges.get(parts[1])
        if charge is None:
            return json_of(404, failure("not_found"))
        if parts[-1] == "refunds":
            return self._refunds(request, charge)
        if parts[-1] == "expire":
            if charge["status"] != "pending" or charge["expired"]:
                return json_of(400, failure("failed_expire"))
            charge |= {"expired": True}
        return json_of(200, charge)

    def rate_limited(self) -> Served:
        return json_of(429, failure("too_many_requests"))

    def pay(self, id: str) -> None:
        self.charges[id] |= {"status": "successful", "paid": True}

    def fail(self, id: str, code: str) -> None:
        self.charges[id] |= {"status": "failed", "failure_code": code}

    def _create(self, form: dict[str, str]) -> Served:
        if self.declines:
            status, body = self.declines.pop(0)
            return json_of(status, body)
        id = f"chrg_test_{len(self.charges) + 1}"
        charge = {
            "object": "charge",
            "id": id,
            "livemode": False,
            "location": f"/charges/{id}",
            "amount": int(form["amount"]),
            "currency": form["currency"],
            "description": form.get("description"),
            "metadata": {"tchatd_key": form["metadata[tchatd_key]"]},
            "status": "pending",
            "paid": False,
            "expired": False,
            "reversed": False,
            "refunded_amount": 0,
            "failure_code": None,
            "failure_message": None,
            "created_at": CREATED_AT,
            "expires_at": form["expires_at"],
            "card": None,
            "source": None,
            "authorize_uri": None,
            **_means(id, form),
        }
        self.charges[id] = charge
        if self.fails:
            self.fail(id, self.fails.pop(0))
        return json_of(200, charge)

    def _list(self, query: dict[str, str]) -> Served:
        found = [
            charge
            for charge in self.charges.values()
            if query["from"] <= charge["created_at"] <= query["to"]
        ]
        return _page("/charges", found, query)

    def _refunds(self, request: ServedRequest, charge: dict[str, Any]) -> Served:
        mine = [r for r in self.refunds.values() if r["charge"] == charge["id"]]
        if request.method == "GET":
            return _page(f"{charge['location']}/refunds", mine, request.query)
        amount = int(request.form["amount"])
        if not charge["paid"] or charge["refunded_amount"] + amount > charge["amount"]:
            return json_of(400, failure("failed_refund"))
        charge["refunded_amount"] += amount
        id = f"rfnd_test_{len(self.refunds) + 1}"
        self.refunds[id] = {
            "object": "refund",
            "id": id,
            "location": f"{charge['location']}/refunds/{id}",
            "amount": amount,
            "currency": charge["currency"],
            "charge": charge["id"],
            "metadata": {"tchatd_key": request.form["metadata[tchatd_key]"]},
            "status": "closed",
            "voided": False,
            "created_at": CREATED_AT,
        }
        return json_of(200, self.refunds[id])


def _means(id: str, form: dict[str, str]) -> dict[str, Any]:
    if "card" in form:
        if form["card"] == "tokn_3ds":
            return {"authorize_uri": f"https://api.omise.co/payments/{id}/authorize"}
        return {"status": "successful", "paid": True}
    image = {
        "object": "document",
        "filename": "qrcode.svg",
        "kind": "qr",
        "download_uri": f"https://api.omise.co/charges/{id}/documents/d/downloads/x",
    }
    source = {
        "object": "source",
        "id": f"src_{id}",
        "type": form["source[type]"],
        "flow": "offline",
        "scannable_code": {"object": "barcode", "type": "qr", "image": image},
    }
    return {"source": source}


def _page(location: str, found: list[dict[str, Any]], query: dict[str, str]) -> Served:
    limit, offset = int(query.get("limit", "20")), int(query.get("offset", "0"))
    body = {
        "object": "list",
        "location": location,
        "limit": limit,
        "offset": offset,
        "total": len(found),
        "data": found[offset : offset + limit],
    }
    return json_of(200, body)


def event(key: str, item: dict[str, Any], id: str = "evnt_test_1") -> bytes:
    return msgspec.json.encode(
        {
            "object": "event",
            "id": id,
            "livemode": False,
            "location": f"/events/{id}",
            "webhook_deliveries": [],
            "data": item,
            "key": key,
            "created_at": CREATED_AT,
        }
    )


def signed(body: bytes, secret: str, at_s: int) -> str:
    """By the documentation, and by no code of ours. secret: in base64."""
    text = str(at_s).encode() + b"." + body
    return hmac.new(base64.b64decode(secret), text, sha256).hexdigest()
