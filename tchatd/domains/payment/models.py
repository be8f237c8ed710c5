"""Owns what clients see of wallets and transactions, and what they may ask.

Amounts are whole minor units of the currency. A transaction is one side of a payment:
its owner sees it from their wallet. The two sides of a payment have ids that follow
from each other (`other_side`), so that each party finds its own side by either.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from tchatd.kernel.money import AMOUNT_MAX, Currency

PAGE_MAX: Final = 100
OFFSET_MAX: Final = 10_000
_TO_THE_END: Final = r"(?!\n)"
_NO_CONTROLS: Final = r"^[^\x00-\x1f\x7f]*$" + _TO_THE_END

WalletStatus: TypeAlias = Literal["active", "suspended", "closed"]
TransactionType: TypeAlias = Literal[
    "send",
    "receive",
    "topup",
    "withdraw",
    "purchase",
    "refund",
    "fee",
    "reward",
    "cashback",
]
TransactionStatus: TypeAlias = Literal[
    "pending", "processing", "completed", "failed", "cancelled", "expired"
]
CounterpartType: TypeAlias = Literal["user", "merchant", "system"]
Amount: TypeAlias = Annotated[int, Meta(ge=1, le=AMOUNT_MAX)]
Description: TypeAlias = Annotated[
    str,
    Meta(
        max_length=200,
        pattern=_NO_CONTROLS,
        description="text without control characters",
    ),
]
Reference: TypeAlias = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=100,
        pattern=_NO_CONTROLS,
        description="text without control characters",
    ),
]
KeyText: TypeAlias = Annotated[str, Meta(min_length=1, max_length=255)]
Cursor: TypeAlias = Annotated[str, Meta(min_length=1, max_length=200)]
_UUID_TEXT: Final = Meta(
    min_length=36, max_length=36, extra_json_schema={"format": "uuid"}
)
DialogIdText: TypeAlias = Annotated[str, _UUID_TEXT]


class Wallet(Struct, frozen=True, gc=False, kw_only=True):
    """frozen_balance: kept back by holds. available_balance: the balance without it.

    used_today, used_this_month: what was sent and paid in the owner's day and month,
    as it counts against the limits.
    """

    id: str
    user_id: str
    balance: int
    currency: Currency
    frozen_balance: int
    available_balance: int
    daily_limit: int
    monthly_limit: int
    used_today: int
    used_this_month: int
    status: WalletStatus
    is_primary: bool
    created_at: str
    updated_at: str


class Balance(Struct, frozen=True, gc=False):
    balance: int
    available_balance: int
    frozen_balance: int
    currency: Currency


class Counterpart(Struct, frozen=True, gc=False):
    """name: as it is now; empty of who is no more."""

    id: str
    name: str
    type: CounterpartType


class Transaction(Struct, frozen=True, gc=False, kw_only=True):
    """amount: what the other side gets or gave. fee: what this side pays for it.
    net_amount: by how much this side's balance changes, whichever way."""

    id: str
    wallet_id: str
    type: TransactionType
    amount: int
    currency: Currency
    fee: int
    net_amount: int
    status: TransactionStatus
    description: str
    reference: str | UnsetType = UNSET
    counterpart: Counterpart | UnsetType = UNSET
    metadata: dict[str, Any]
    balance_before: int | UnsetType = UNSET
    balance_after: int | UnsetType = UNSET
    created_at: str
    processed_at: str | UnsetType = UNSET
    completed_at: str | UnsetType = UNSET


class TransactionPage(Struct, frozen=True):
    """Newest first. total: of all pages. next_cursor: absent at the end."""

    transactions: list[Transaction]
    total: int
    has_more: bool
    next_cursor: str | UnsetType = UNSET


class Nothing(Struct, frozen=True):
    """A command without a member."""


class ListWallets(Struct, frozen=True):
    """All of the caller's, closed ones too; the primary one first."""


class OpenWallet(Struct, frozen=True, kw_only=True):
    """is_primary: the first wallet is, whatever is said here."""

    currency: Currency
    is_primary: bool = False


class GetWallet(Struct, frozen=True):
    wallet_id: UUID


class ChangeWallet(Struct, frozen=True, kw_only=True):
    """status: `suspended` lets nothing leave or come in but what was begun before;
    what an operator suspended only an operator makes active again. is_primary: true
    makes it the primary one; another one has to be made so to end it."""

    wallet_id: UUID
    is_primary: bool | UnsetType = UNSET
    status: Literal["active", "suspended"] | UnsetType = UNSET


class CloseWallet(Struct, frozen=True):
    """For good; it has to be empty, and holds to have ended."""

    wallet_id: UUID


class ListTransactions(Struct, frozen=True, kw_only=True):
    """cursor: of the page before; it stays right whatever comes in. offset: counts
    from the newest there is by then."""

    wallet_id: UUID
    limit: Annotated[int, Meta(ge=1, le=PAGE_MAX)] = 20
    offset: Annotated[int, Meta(ge=0, le=OFFSET_MAX)] = 0
    cursor: Cursor | UnsetType = UNSET
    type: TransactionType | UnsetType = UNSET


class SendMoney(Struct, frozen=True, kw_only=True):
    """recipient_id: a person. dialog_id: that both are in; the payment is shown there.

    idempotency_key, client_id: over WebSocket, what the header is over HTTP.
    """

    wallet_id: UUID
    recipient_id: UUID
    amount: Amount
    currency: Currency
    description: Description = ""
    reference: Reference | UnsetType = UNSET
    dialog_id: DialogIdText | UnsetType = UNSET
    idempotency_key: KeyText | UnsetType = UNSET
    client_id: UUID | UnsetType = UNSET


class GetTransaction(Struct, frozen=True):
    transaction_id: UUID


# What is told over WebSocket.


class TransactionUpdated(
    Struct, frozen=True, gc=False, tag="transaction.updated", tag_field="op"
):
    """To every device of the one whose transaction it is."""

    transaction: Transaction


class WalletNow(Struct, frozen=True, gc=False):
    """What changes of a wallet with a payment. version: rises with each; an event with
    a lower one than was seen is older."""

    id: str
    currency: Currency
    balance: int
    available_balance: int
    frozen_balance: int
    status: WalletStatus
    version: int
    updated_at: str


class WalletUpdated(
    Struct, frozen=True, gc=False, tag="wallet.updated", tag_field="op"
):
    wallet: WalletNow


# Ids of the two sides.

_SIDE: Final = 1 << 61
_FEE: Final = 1 << 60


def other_side(id: UUID) -> UUID:
    """The id of a payment's other side: one random bit is turned.

    It is the highest of a version 7 UUID's last 62, so that counting ids up, as is done
    within a millisecond, does not come to it.
    """
    return UUID(int=id.int ^ _SIDE)


def fee_transfer(id: UUID) -> UUID:
    """The id of the transfer of a transaction's fee."""
    return UUID(int=id.int ^ _FEE)
