"""Owns the shapes of the ledger; refuses nothing itself (see `books`).

An account's `balance` is what was posted; `held` is what pending holds keep back of
it. The sum of all balances of a currency is zero, always: money comes in from, and
goes out to, accounts of the world outside, which alone may be below zero.
"""

from __future__ import annotations

import enum
from typing import Final
from uuid import UUID

import msgspec

from tchatd.kernel.money import AMOUNT_MAX, Currency

BALANCE_MAX: Final = 2**62
"""No account may hold more, either way: sums of two still fit in 64 bits."""
NAME_MAX: Final = 64
CODE_MAX: Final = 2**15 - 1
"""Of what transfers are for, as the store keeps it."""


class AccountKind(enum.IntEnum):
    """The value is the one in the store."""

    WALLET = 1
    FEES = 2
    WORLD = 3
    """Outside of us, by provider: minus what it owes us."""
    HOUSE = 4
    """Our own: exchange, rewards, losses."""
    CLEARING = 5
    """Money on its way from one to another, by purpose."""


class AccountStatus(enum.IntEnum):
    """OPEN: all. SUSPENDED: only what settles what was begun before. CLOSED: none."""

    OPEN = 1
    SUSPENDED = 2
    CLOSED = 3


class HoldState(enum.IntEnum):
    PENDING = 1
    POSTED = 2
    VOIDED = 3
    EXPIRED = 4


class Account:
    """The working copy of an account's row while its lock is held; changed by `Books`.

    number: dense, from 1. floor, ceiling: the least and the most that may be there,
    in minor units; None for no bound. available = balance - held, at least the floor.
    version: the count of its postings. day, month: what `day_spent`, `day_count` and
    `month_spent` are of (see `Spending`); each is as its owner numbers it.
    """

    __slots__ = (
        "balance",
        "ceiling",
        "currency",
        "day",
        "day_count",
        "day_spent",
        "floor",
        "held",
        "kind",
        "month",
        "month_spent",
        "number",
        "status",
        "version",
    )

    def __init__(
        self,
        number: int,
        currency: Currency,
        kind: AccountKind,
        floor: int | None = 0,
        ceiling: int | None = None,
        status: AccountStatus = AccountStatus.OPEN,
        balance: int = 0,
        held: int = 0,
        version: int = 0,
        day: int = 0,
        day_spent: int = 0,
        day_count: int = 0,
        month: int = 0,
        month_spent: int = 0,
    ) -> None:
        self.number = number
        self.currency = currency
        self.kind = kind
        self.floor = floor
        self.ceiling = ceiling
        self.status = status
        self.balance = balance
        self.held = held
        self.version = version
        self.day = day
        self.day_spent = day_spent
        self.day_count = day_count
        self.month = month
        self.month_spent = month_spent

    @property
    def available(self) -> int:
        return self.balance - self.held

    def copy(self) -> Account:
        return Account(
            self.number,
            self.currency,
            self.kind,
            self.floor,
            self.ceiling,
            self.status,
            self.balance,
            self.held,
            self.version,
            self.day,
            self.day_spent,
            self.day_count,
            self.month,
            self.month_spent,
        )


class Opening(msgspec.Struct, frozen=True):
    """What an account is opened with; see `Account`.

    name: of the accounts that there are one of for each currency ("world:stripe",
    "fees"); None for a wallet's, which is a new one each time. 1 to 64 characters.
    """

    currency: Currency
    kind: AccountKind
    floor: int | None = 0
    ceiling: int | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        assert self.name is None or 1 <= len(self.name) <= NAME_MAX
        for bound in (self.floor, self.ceiling):
            assert bound is None or abs(bound) <= BALANCE_MAX


class Transfer(msgspec.Struct, frozen=True):
    """Moves an amount from one account to another of the same currency.

    amount_minor: 1 to `AMOUNT_MAX`. code: what it is for, as its owner numbers it.
    settles: it ends something begun before (a refund, a payment that came in), and
    so is let through to and from a suspended account, and over a ceiling.
    """

    id: UUID
    debit: int
    credit: int
    amount_minor: int
    code: int = 0
    settles: bool = False

    def __post_init__(self) -> None:
        assert 1 <= self.amount_minor <= AMOUNT_MAX


class Posting(msgspec.Struct, frozen=True):
    """One side of a transfer, for ever. amount_minor: below zero for the debit.

    balance: after it. version: its number within the account, from 1 without a hole.
    counter: the account of the other side.
    """

    account: int
    version: int
    transfer_id: UUID
    amount_minor: int
    balance: int
    counter: int
    code: int


class Hold(msgspec.Struct, frozen=True):
    """Keeps an amount of `debit` back for `credit`, until posted, voided or expired.

    It ends once: at its first posting, whatever is not posted is free again.
    expires_ms: no posting from then on, also before somebody voids it.
    posted_minor, transfer_id: 0 and None unless POSTED.
    """

    id: UUID
    debit: int
    credit: int
    amount_minor: int
    expires_ms: int
    code: int = 0
    state: HoldState = HoldState.PENDING
    posted_minor: int = 0
    transfer_id: UUID | None = None

    def __post_init__(self) -> None:
        assert 1 <= self.amount_minor <= AMOUNT_MAX
        assert 0 <= self.posted_minor <= self.amount_minor
        assert (self.state is HoldState.POSTED) == (self.posted_minor > 0)
        assert (self.state is HoldState.POSTED) == (self.transfer_id is not None)


class Spending(msgspec.Struct, frozen=True):
    """What a payment counts against the limits of its account.

    day, month: numbers that only ever grow, in the owner's time zone (days since 1970;
    months since year 0); an earlier one than the account has counts as the account's.
    """

    amount_minor: int
    day: int
    month: int
    day_minor_max: int
    day_count_max: int
    month_minor_max: int
