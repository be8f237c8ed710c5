"""Owns why the ledger refuses a transfer."""

from __future__ import annotations

from tchatd.kernel.errors import Conflict, DomainError, ErrorKind, NotFound


class InsufficientFunds(DomainError):
    """What is available (balance less holds) does not cover the amount."""

    code, kind = "insufficient-funds", ErrorKind.INVALID
    title = "There is not enough money in the wallet"


class BalanceTooHigh(DomainError):
    code, kind = "balance-too-high", ErrorKind.UNPROCESSABLE
    title = "The receiving wallet may not hold that much"


class AccountSuspended(DomainError):
    code, kind = "account-suspended", ErrorKind.UNPROCESSABLE
    title = "A wallet of this transfer is suspended"


class AccountClosed(DomainError):
    code, kind = "account-closed", ErrorKind.UNPROCESSABLE
    title = "A wallet of this transfer is closed"


class AccountUnknown(NotFound):
    code, title = "account-unknown", "There is no such account"


class AccountNotEmpty(Conflict):
    code, title = "account-not-empty", "The account still has money or holds"


class CurrencyMismatch(DomainError):
    code, kind = "currency-mismatch", ErrorKind.INVALID
    title = "The accounts are of different currencies"


class SameAccount(DomainError):
    code, kind = "same-account", ErrorKind.INVALID
    title = "Money cannot go from an account to itself"


class HoldUnknown(NotFound):
    code, title = "hold-unknown", "There is no such hold"


class HoldEnded(Conflict):
    """It was posted or voided before, or its time is over."""

    code, title = "hold-ended", "This hold has ended"


class HoldExceeded(DomainError):
    code, kind = "hold-exceeded", ErrorKind.UNPROCESSABLE
    title = "This is more than was held"


class LimitExceeded(DomainError):
    """fields: `limit` ("daily", "monthly" or "count") and what is left of it."""

    code, kind = "limit-exceeded", ErrorKind.LIMIT_EXCEEDED
    title = "This is more than the wallet may spend now"


class KeyReused(Conflict):
    code, title = "idempotency-key-reused", "This key belongs to another request"


class InDoubt(DomainError):
    """The connection was lost at the commit: it happened, or it did not.

    A repeat with the same Idempotency-Key finds out, and does it if it did not.
    """

    code, kind = "in-doubt", ErrorKind.UNAVAILABLE
    title = "It is not known whether this happened"
