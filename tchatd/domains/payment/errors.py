"""Owns why a payment is refused, beside what the ledger says."""

from __future__ import annotations

from tchatd.kernel.errors import Conflict, DomainError, ErrorKind, NotFound


class WalletNotFound(NotFound):
    code, title = "wallet-not-found", "No such wallet, or it is not yours to see"


class TransactionNotFound(NotFound):
    code = "transaction-not-found"
    title = "No such transaction, or it is not yours to see"


class RecipientNotFound(NotFound):
    """There is no such person, or nobody pays them: a bot, who is banned."""

    code, title = "recipient-not-found", "Nobody can be paid under this id"


class PaymentNotAllowed(DomainError):
    """One of the two does not let the other reach them; it is not said who."""

    code, kind = "payment-not-allowed", ErrorKind.FORBIDDEN
    title = "You cannot pay this person"


class DialogNotFound(NotFound):
    """Also where the recipient is not in it."""

    code, title = "dialog-not-found", "No such dialog with both of you in it"


class NotToOneself(DomainError):
    code, kind = "not-to-oneself", ErrorKind.UNPROCESSABLE
    title = "Money goes to somebody else"


class WrongCurrency(DomainError):
    code, kind = "wrong-currency", ErrorKind.INVALID
    title = "The wallet is of another currency"


class WalletExists(Conflict):
    code, title = "wallet-exists", "There is a wallet of this currency already"


class WalletClosed(Conflict):
    code, title = "wallet-closed", "The wallet is closed"


class WalletNotEmpty(Conflict):
    code, title = "wallet-not-empty", "The wallet still has money, or holds"


class WalletSuspended(DomainError):
    """By an operator; fields: nothing more is said."""

    code, kind = "wallet-suspended", ErrorKind.FORBIDDEN
    title = "The wallet is suspended; ask support"


class PrimaryStays(Conflict):
    code, title = "primary-stays", "Make another wallet the primary one instead"


class WrongState(Conflict):
    code, title = "wrong-state", "The transaction is not in a state for this"
