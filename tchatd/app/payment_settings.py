"""Owns the settings of payment providers: their shape and their relations.

What they are by default: `tchatd.toml`. Their keys are secrets (`tchatd.app.secrets`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from tchatd.domains.payment.fees import FeeSchedule, fixed_parts
from tchatd.domains.payment.routing import preferences
from tchatd.providers.breaker import BreakerSettings
from tchatd.providers.payments.bank_transfer import Account, account_of
from tchatd.providers.payments.calls import CallSettings

PREFIX: Final = "providers.payments"
NAMES: Final = ("stripe", "omise", "bank_transfer", "sandbox")
Seconds = Annotated[float, Meta(gt=0, le=600)]
Percent = Annotated[int, Meta(ge=0, le=10_000)]


class Stripe(msgspec.Struct, frozen=True):
    enabled: bool
    country: Literal["TH", "SG", "MY", "other"]
    billing_email: str
    origin: str
    fee_percent_hundredths: Percent
    fee_fixed_minor: list[str]


class Omise(msgspec.Struct, frozen=True):
    enabled: bool
    country: Literal["TH", "SG", "MY"]
    origin: str
    fee_percent_hundredths: Percent
    fee_fixed_minor: list[str]


class BankTransfer(msgspec.Struct, frozen=True):
    enabled: bool
    origin: str
    accounts: list[str]
    fee_percent_hundredths: Percent
    fee_fixed_minor: list[str]


class Sandbox(msgspec.Struct, frozen=True):
    enabled: bool
    page_url: str


class PaymentProviders(msgspec.Struct, frozen=True):
    prefer: list[str]
    connect_s: Seconds
    read_s: Seconds
    total_s: Seconds
    answer_bytes_max: Annotated[int, Meta(ge=1_024, le=1 << 26)]
    connections_max: Annotated[int, Meta(ge=1, le=10_000)]
    breaker_window_s: Seconds
    breaker_calls_min: Annotated[int, Meta(ge=1, le=100_000)]
    breaker_failure_percent: Annotated[int, Meta(ge=1, le=100)]
    breaker_open_s: Seconds
    breaker_trials_max: Annotated[int, Meta(ge=1, le=1_000)]
    stripe: Stripe
    omise: Omise
    bank_transfer: BankTransfer
    sandbox: Sandbox


def call_settings(of: PaymentProviders) -> CallSettings:
    return CallSettings(
        connect_s=of.connect_s,
        read_s=of.read_s,
        total_s=of.total_s,
        answer_bytes_max=of.answer_bytes_max,
        connections_max=of.connections_max,
        breaker=BreakerSettings(
            window_s=of.breaker_window_s,
            calls_min=of.breaker_calls_min,
            failure_percent=of.breaker_failure_percent,
            open_s=of.breaker_open_s,
            trials_max=of.breaker_trials_max,
        ),
    )


def fee_schedule(of: Stripe | Omise | BankTransfer) -> FeeSchedule:
    return FeeSchedule(of.fee_percent_hundredths, fixed_parts(of.fee_fixed_minor))


def accounts(of: BankTransfer) -> list[Account]:
    return [account_of(text) for text in of.accounts]


def enabled(of: PaymentProviders) -> list[str]:
    return [name for name in NAMES if getattr(of, name).enabled]


def broken_relations(of: PaymentProviders) -> Iterator[tuple[str, str]]:
    """Every relation that does not hold: the key to change, and a sentence."""
    yield from _broken_in_routing(of)
    if of.total_s < of.connect_s + of.read_s:
        yield f"{PREFIX}.total_s", "is less than connect_s + read_s"
    for name in ("stripe", "omise", "bank_transfer"):
        section: Stripe | Omise | BankTransfer = getattr(of, name)
        try:
            fee_schedule(section)
        except ValueError as error:
            yield f"{PREFIX}.{name}.fee_fixed_minor", str(error)
        if section.enabled and not _is_origin(section.origin):
            yield f"{PREFIX}.{name}.origin", "is not https://HOST or https://HOST:PORT"
    try:
        found = accounts(of.bank_transfer)
    except ValueError as error:
        yield f"{PREFIX}.bank_transfer.accounts", str(error)
        return
    if len({(a.country, a.currency) for a in found}) < len(found):
        yield f"{PREFIX}.bank_transfer.accounts", "has two of a country and currency"
    if of.bank_transfer.enabled and not found:
        yield f"{PREFIX}.bank_transfer.accounts", "has none, and it is enabled"
    if of.stripe.enabled and of.stripe.country in ("TH", "SG"):
        email = of.stripe.billing_email
        if "@" not in email:
            yield f"{PREFIX}.stripe.billing_email", "is needed for QR payments"


def unsafe_in_production(of: PaymentProviders) -> Iterator[tuple[str, str]]:
    if of.sandbox.enabled:
        yield f"{PREFIX}.sandbox.enabled", "the sandbox gives money to whoever asks"
    for name in ("stripe", "omise", "bank_transfer"):
        section = getattr(of, name)
        if section.enabled and not _is_private_or_tls(section.origin):
            yield f"{PREFIX}.{name}.origin", "is http:// to another machine"


def _broken_in_routing(of: PaymentProviders) -> Iterator[tuple[str, str]]:
    try:
        names = set(preferences(of.prefer).values())
    except ValueError as error:
        yield f"{PREFIX}.prefer", str(error)
        return
    for name in sorted(names - set(NAMES)):
        yield f"{PREFIX}.prefer", f"{name!r} is none of {', '.join(NAMES)}"


def _is_origin(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    is_plain = not (parts.path.strip("/") or parts.query or parts.fragment)
    has_host = bool(parts.hostname) and parts.username is None and port != 0
    return parts.scheme in ("http", "https") and has_host and is_plain


def _is_private_or_tls(text: str) -> bool:
    """http:// is for a program on this machine."""
    parts = urlsplit(text)
    if parts.scheme == "https" or parts.hostname == "localhost":
        return True
    try:
        return ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False
