"""Owns how clients reach wallets and transactions."""

from __future__ import annotations

from typing import Final

from tchatd.domains.payment import models as of
from tchatd.domains.payment.errors import (
    DialogNotFound,
    NotToOneself,
    PaymentNotAllowed,
    PrimaryStays,
    RecipientNotFound,
    TransactionNotFound,
    WalletClosed,
    WalletExists,
    WalletNotEmpty,
    WalletNotFound,
    WalletSuspended,
    WrongCurrency,
)
from tchatd.domains.payment.history import History
from tchatd.domains.payment.ledger.errors import (
    AccountClosed,
    AccountSuspended,
    BalanceTooHigh,
    InDoubt,
    InsufficientFunds,
    KeyReused,
    LimitExceeded,
)
from tchatd.domains.payment.sending import Sending
from tchatd.domains.payment.wallets import Wallets
from tchatd.kernel.errors import (
    DomainError,
    Invalid,
    NotForBots,
    RateLimited,
    Unavailable,
)
from tchatd.kernel.routing import Limit, Operation

_TAG: Final = "payment"
_WRITES: Final = Limit("user", per_minute=60, burst=30)
MONEY_BYTES_MAX: Final = 16_384
MOVED: Final[tuple[type[DomainError], ...]] = (
    InsufficientFunds,
    LimitExceeded,
    AccountSuspended,
    AccountClosed,
    BalanceTooHigh,
    KeyReused,
    InDoubt,
    Unavailable,
)
"""What the ledger says to whoever moves money."""


def operations(wallets: Wallets, sending: Sending, history: History) -> list[Operation]:
    return [
        *_wallet_operations(wallets),
        Operation(
            name="wallet.transactions",
            summary="The history of a wallet, newest first",
            tag=_TAG,
            command=of.ListTransactions,
            result=of.TransactionPage,
            handler=history.page,
            verb="GET",
            path="/wallets/{wallet_id}/transactions",
            errors=(Invalid, WalletNotFound, Unavailable),
        ),
        Operation(
            name="transaction.send",
            summary="Send money to a person, in a dialog or not",
            tag=_TAG,
            command=of.SendMoney,
            result=of.Transaction,
            handler=sending.send,
            verb="POST",
            path="/transactions/send",
            status=201,
            errors=(
                *(Invalid, WalletNotFound, RecipientNotFound, DialogNotFound),
                *(WrongCurrency, NotToOneself, PaymentNotAllowed, NotForBots),
                RateLimited,
                *MOVED,
            ),
            websocket="payment.send",
            body_bytes_max=MONEY_BYTES_MAX,
            keeps_keys=True,
        ),
        Operation(
            name="transaction.status",
            summary="A transaction of the caller's, by its id or its other side's",
            tag=_TAG,
            command=of.GetTransaction,
            result=of.Transaction,
            handler=history.status,
            verb="GET",
            path="/transactions/{transaction_id}/status",
            errors=(Invalid, TransactionNotFound, Unavailable),
        ),
    ]


def _wallet_operations(wallets: Wallets) -> list[Operation]:
    return [
        Operation(
            name="wallet.list",
            summary="The caller's wallets, the primary one first",
            tag=_TAG,
            command=of.ListWallets,
            result=list[of.Wallet],
            handler=wallets.list,
            verb="GET",
            path="/wallets",
            errors=(Unavailable,),
        ),
        Operation(
            name="wallet.open",
            summary="Open a wallet; one of each currency",
            tag=_TAG,
            command=of.OpenWallet,
            result=of.Wallet,
            handler=wallets.open,
            verb="POST",
            path="/wallets",
            status=201,
            limits=(_WRITES,),
            errors=(Invalid, NotForBots, WalletExists, KeyReused, InDoubt, Unavailable),
            body_bytes_max=MONEY_BYTES_MAX,
            keeps_keys=True,
        ),
        Operation(
            name="wallet.get",
            summary="One of the caller's wallets",
            tag=_TAG,
            command=of.GetWallet,
            result=of.Wallet,
            handler=wallets.get,
            verb="GET",
            path="/wallets/{wallet_id}",
            errors=(Invalid, WalletNotFound, Unavailable),
        ),
        Operation(
            name="wallet.change",
            summary="Make it the primary one, suspend it, or make it active again",
            tag=_TAG,
            command=of.ChangeWallet,
            result=of.Wallet,
            handler=wallets.change,
            verb="PUT",
            path="/wallets/{wallet_id}",
            limits=(_WRITES,),
            errors=(
                *(Invalid, WalletNotFound, WalletClosed, WalletSuspended),
                *(PrimaryStays, InDoubt, Unavailable),
            ),
            body_bytes_max=MONEY_BYTES_MAX,
        ),
        Operation(
            name="wallet.close",
            summary="Close an empty wallet for good",
            tag=_TAG,
            command=of.CloseWallet,
            result=of.Wallet,
            handler=wallets.close,
            verb="DELETE",
            path="/wallets/{wallet_id}",
            limits=(_WRITES,),
            errors=(
                *(Invalid, WalletNotFound, WalletNotEmpty, WalletSuspended),
                *(InDoubt, Unavailable),
            ),
        ),
        Operation(
            name="wallet.balance",
            summary="What is in a wallet, and what of it can be spent",
            tag=_TAG,
            command=of.GetWallet,
            result=of.Balance,
            handler=wallets.balance,
            verb="GET",
            path="/wallets/{wallet_id}/balance",
            errors=(Invalid, WalletNotFound, Unavailable),
        ),
    ]
