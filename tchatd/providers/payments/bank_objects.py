"""Owns the shapes of the interface that we ask banks to speak
(docs/payments-bank-connector.md). Amounts are in minor units by ISO 4217."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from tchatd.kernel.money import AMOUNT_MAX, Currency

Id = Annotated[str, Meta(min_length=1, max_length=255)]
Amount = Annotated[int, Meta(ge=1, le=AMOUNT_MAX)]
Moment = Annotated[datetime, Meta(tz=True)]


class Credit(Struct, frozen=True):
    """Money that came in."""

    id: Id
    amount_minor: Amount
    currency: Currency
    received_at: Moment


class Credits(Struct, frozen=True):
    credits: Annotated[list[Credit], Meta(max_length=1_000)]


class NewPayout(Struct, frozen=True, kw_only=True):
    key: str
    amount_minor: int
    currency: Currency
    from_account: str
    bank: str
    account_number: str
    account_name: str
    description: str = ""


class Payout(Struct, frozen=True, kw_only=True):
    id: Id
    key: Id
    amount_minor: Amount
    currency: Currency
    state: Literal["accepted", "sent", "rejected", "returned"]
    reason: str | None = None


class ApiError(Struct, frozen=True):
    code: str


class Failure(Struct, frozen=True):
    error: ApiError


class Event(Struct, frozen=True, kw_only=True):
    """reference: what the payer wrote, of a credit; the key, of a payout."""

    id: Id
    type: Literal["credit", "payout"]
    reference: Annotated[str, Meta(max_length=255)]
    created_at: Moment


class Callback(Struct, frozen=True):
    events: Annotated[list[Event], Meta(min_length=1, max_length=100)]
