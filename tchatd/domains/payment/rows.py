"""Owns what is stored of wallets and transactions, as records of the ledger's commits.

A record is written in the commit of the decision that made it (`Books.write`); a read
is a key under which a decision finds rows (`Books.found`). Stores know them by type.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias, get_args
from uuid import UUID

from msgspec import Struct

from tchatd.domains.payment.models import (
    CounterpartType,
    TransactionStatus,
    TransactionType,
    WalletStatus,
)
from tchatd.kernel.money import Currency

SuspendedBy: TypeAlias = Literal["owner", "operator"]
TYPES: Final[tuple[TransactionType, ...]] = get_args(TransactionType)
STATUSES: Final[tuple[TransactionStatus, ...]] = get_args(TransactionStatus)
COUNTERPARTS: Final[tuple[CounterpartType, ...]] = get_args(CounterpartType)
"""Stored as their index, so new ones go to the end."""


class WalletRow(Struct, frozen=True, gc=False, kw_only=True):
    """account: of the ledger; balance and status are there. version: of its events,
    which are those of the wallet itself, not of its money. closed_ms: 0 until then;
    after it its owner may open another one of the currency."""

    id: UUID
    account: int
    user_number: int
    user_id: UUID
    currency: Currency
    is_primary: bool
    created_ms: int
    updated_ms: int
    suspended_by: SuspendedBy | None = None
    closed_ms: int = 0
    version: int = 1


class WalletFacts(Struct, frozen=True, gc=False):
    """What never changes of a wallet, so that it can be remembered anywhere."""

    id: UUID
    account: int
    user_number: int
    user_id: UUID
    currency: Currency


class WalletState(Struct, frozen=True, gc=False):
    """A wallet with what the ledger says of its account. day, month: see Account.
    version: of its postings."""

    row: WalletRow
    status: WalletStatus
    balance: int = 0
    held: int = 0
    day: int = 0
    day_spent: int = 0
    month: int = 0
    month_spent: int = 0
    version: int = 0


class WalletsOf(Struct, frozen=True, gc=False):
    """Read: a tuple of all WalletRows of a user, locked, by account number."""

    user_number: int


class WalletOpened(Struct, frozen=True, gc=False):
    """Record: a new wallet, and with it its account."""

    row: WalletRow


class WalletChanged(Struct, frozen=True, gc=False):
    """Record: is_primary, suspended_by, closed_ms, version and updated_ms are as
    here."""

    row: WalletRow


class TransactionRow(Struct, frozen=True, kw_only=True):
    """One side of a payment; what it is in the ledger has transfers of this id.

    net_amount: by how much the balance changes. balance_before, balance_after: None
    until it is posted. counterpart_number: 0 for who is no user. Times: milliseconds
    since 1970, 0 for not yet. metadata: what clients may see.
    """

    id: UUID
    wallet_id: UUID
    account: int
    user_number: int
    user_id: UUID
    type: TransactionType
    status: TransactionStatus
    currency: Currency
    amount: int
    fee: int
    net_amount: int
    created_ms: int
    balance_before: int | None = None
    balance_after: int | None = None
    counterpart_type: CounterpartType | None = None
    counterpart_number: int = 0
    counterpart_id: UUID | None = None
    counterpart_name: str | None = None
    description: str = ""
    reference: str | None = None
    metadata: dict[str, Any] = {}
    processed_ms: int = 0
    completed_ms: int = 0
    version: int = 1


class TransactionOf(Struct, frozen=True, gc=False):
    """Read: the TransactionRow with this id, locked; None if there is none."""

    id: UUID


class TransactionChanged(Struct, frozen=True):
    """Record: the row is as here; what never changes of it (whose, what, how much,
    when it was made) is not looked at."""

    row: TransactionRow


def status_of(row: WalletRow) -> WalletStatus:
    """As the account's, which is changed with it."""
    if row.closed_ms:
        return "closed"
    return "active" if row.suspended_by is None else "suspended"


def facts_of(row: WalletRow) -> WalletFacts:
    return WalletFacts(row.id, row.account, row.user_number, row.user_id, row.currency)
