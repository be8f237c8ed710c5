"""Owns the decisions about wallets and payments, as commands of the ledger.

A decision is pure: ids, names and limits come in with the command, the time and the
rows with the books. What it writes is stored in one commit: transfers, what was spent,
the transactions of both sides, events, a saga that follows, the idempotency key.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import Struct, structs

from tchatd.domains.payment import rules
from tchatd.domains.payment.errors import (
    PrimaryStays,
    WalletClosed,
    WalletExists,
    WalletNotEmpty,
    WalletNotFound,
    WalletSuspended,
)
from tchatd.domains.payment.ledger.books import Books
from tchatd.domains.payment.ledger.deciding import Key
from tchatd.domains.payment.ledger.errors import AccountNotEmpty
from tchatd.domains.payment.ledger.models import (
    Account,
    AccountStatus,
    Transfer,
)
from tchatd.domains.payment.models import (
    TransactionType,
    WalletStatus,
    fee_transfer,
    other_side,
)
from tchatd.domains.payment.rows import (
    TYPES,
    SuspendedBy,
    TransactionChanged,
    TransactionOf,
    TransactionRow,
    WalletChanged,
    WalletFacts,
    WalletOpened,
    WalletRow,
    WalletsOf,
    WalletState,
    status_of,
)
from tchatd.kernel.errors import DomainError
from tchatd.kernel.events import EventDraft, EventMetadata
from tchatd.kernel.money import Currency
from tchatd.kernel.sagas import SagaBegun

DOMAIN: Final = "payment"
_json: Final = msgspec.json.Encoder().encode


def code_of(type: TransactionType) -> int:
    """Of the transfers of a transaction of this type."""
    return TYPES.index(type) + 1


class AccountNow(Struct, frozen=True, gc=False):
    """What an account had when a decision was through with it."""

    balance: int
    held: int
    status: AccountStatus
    version: int
    at_ms: int


class Sent(Struct, frozen=True):
    """Both sides of a payment, and their accounts after it."""

    send: TransactionRow
    receive: TransactionRow
    sender: AccountNow
    recipient: AccountNow


class _Decision(Struct, frozen=True, kw_only=True):
    """What every command here has. key: None where nobody repeats it."""

    key: Key | None = None

    @property
    def accounts(self) -> Sequence[int]:
        return ()

    @property
    def holds(self) -> Sequence[UUID]:
        return ()

    @property
    def reads(self) -> Sequence[Hashable]:
        return ()


class Refuse(_Decision, frozen=True, kw_only=True):
    """Keeps a refusal as the answer of its key, unless the key has another."""

    refusal: DomainError

    def decide(self, books: Books) -> Any:
        raise self.refusal


class Send(_Decision, frozen=True, kw_only=True):
    """From one wallet to another of its currency, the fee on top.

    id: of the sender's transaction. event_ids: of the two events. fees_account: needed
    where there is a fee. saga: follows from it. zone_ms: the sender's.
    """

    id: UUID
    event_ids: tuple[UUID, UUID]
    sender: WalletFacts
    recipient: WalletFacts
    amount: int
    limits: rules.Limits
    zone_ms: int
    fee: int = 0
    fees_account: int = 0
    description: str = ""
    reference: str | None = None
    details: Mapping[str, Any] = {}
    saga: SagaBegun | None = None
    request_id: str | None = None

    @property
    def accounts(self) -> Sequence[int]:
        if self.fee:
            return self.sender.account, self.recipient.account, self.fees_account
        return self.sender.account, self.recipient.account

    def decide(self, books: Books) -> Sent:
        """
        Raises:
            LimitExceeded, InsufficientFunds, AccountSuspended, AccountClosed,
            BalanceTooHigh
        """
        payer, payee = self.sender.account, self.recipient.account
        spending = rules.spending_of(
            self.amount, self.limits, self.zone_ms, books.now_ms
        )
        before = books.account(payer).balance
        got_before = books.account(payee).balance
        books.spend(payer, spending)
        books.transfer(Transfer(self.id, payer, payee, self.amount, code_of("send")))
        if self.fee:
            books.transfer(
                Transfer(
                    fee_transfer(self.id),
                    payer,
                    self.fees_account,
                    self.fee,
                    code_of("fee"),
                )
            )
        sent = Sent(
            self._row(books, before),
            self._other_row(books, got_before),
            account_now(books, payer),
            account_now(books, payee),
        )
        books.write(sent.send)
        books.write(sent.receive)
        metadata = EventMetadata(actor=self.sender.user_id, request_id=self.request_id)
        for row, now, event_id in (
            (sent.send, sent.sender, self.event_ids[0]),
            (sent.receive, sent.recipient, self.event_ids[1]),
        ):
            books.write(
                transaction_event("completed", row, event_id, now.version, metadata)
            )
        if self.saga is not None:
            books.write(self.saga)
        return sent

    def _row(self, books: Books, before: int) -> TransactionRow:
        return TransactionRow(
            id=self.id,
            wallet_id=self.sender.id,
            account=self.sender.account,
            user_number=self.sender.user_number,
            user_id=self.sender.user_id,
            type="send",
            status="completed",
            currency=self.sender.currency,
            amount=self.amount,
            fee=self.fee,
            net_amount=self.amount + self.fee,
            created_ms=books.now_ms,
            balance_before=before,
            balance_after=before - self.amount - self.fee,
            counterpart_type="user",
            counterpart_number=self.recipient.user_number,
            counterpart_id=self.recipient.user_id,
            description=self.description,
            reference=self.reference,
            metadata=dict(self.details),
            processed_ms=books.now_ms,
            completed_ms=books.now_ms,
        )

    def _other_row(self, books: Books, before: int) -> TransactionRow:
        return TransactionRow(
            id=other_side(self.id),
            wallet_id=self.recipient.id,
            account=self.recipient.account,
            user_number=self.recipient.user_number,
            user_id=self.recipient.user_id,
            type="receive",
            status="completed",
            currency=self.recipient.currency,
            amount=self.amount,
            fee=0,
            net_amount=self.amount,
            created_ms=books.now_ms,
            balance_before=before,
            balance_after=before + self.amount,
            counterpart_type="user",
            counterpart_number=self.sender.user_number,
            counterpart_id=self.sender.user_id,
            description=self.description,
            reference=self.reference,
            metadata=dict(self.details),
            processed_ms=books.now_ms,
            completed_ms=books.now_ms,
        )


class Open(_Decision, frozen=True, kw_only=True):
    """A new wallet. account: a new one of the ledger, which is nobody's if this is
    refused. is_asked: an existing wallet is a refusal; else it is the answer, also a
    closed one (a wallet is opened for who is paid and never had one).

    event_ids: of this wallet's event, and of that of another that changes with it.
    """

    id: UUID
    event_ids: tuple[UUID, UUID]
    account: int
    user_number: int
    user_id: UUID
    currency: Currency
    is_primary: bool = False
    is_asked: bool = True
    request_id: str | None = None

    @property
    def reads(self) -> Sequence[Hashable]:
        return (WalletsOf(self.user_number),)

    def decide(self, books: Books) -> WalletState:
        """Raises WalletExists."""
        there = wallets_in(books, self.user_number)
        known = [row for row in there if row.currency is self.currency]
        if known and not self.is_asked:
            return WalletState(known[-1], status_of(known[-1]))
        if any(not row.closed_ms for row in known):
            raise WalletExists
        actor = self.user_id if self.is_asked else None
        metadata = EventMetadata(actor=actor, request_id=self.request_id)
        is_primary = self.is_primary or all(row.closed_ms for row in there)
        if is_primary:
            demote(books, there, self.event_ids[1], metadata)
        row = WalletRow(
            id=self.id,
            account=self.account,
            user_number=self.user_number,
            user_id=self.user_id,
            currency=self.currency,
            is_primary=is_primary,
            created_ms=books.now_ms,
            updated_ms=books.now_ms,
        )
        books.write(WalletOpened(row))
        books.put(
            WalletsOf(self.user_number), (*wallets_in(books, self.user_number), row)
        )
        books.write(wallet_event("created", row, self.event_ids[0], metadata))
        return WalletState(row, "active")


class Change(_Decision, frozen=True, kw_only=True):
    """Make it the primary one, suspend it, make it active again, or close it.

    by: who asks. What an operator suspended the owner does not make active. event_ids:
    as `Open`.
    """

    event_ids: tuple[UUID, UUID]
    facts: WalletFacts
    by: SuspendedBy = "owner"
    is_primary: bool | None = None
    status: WalletStatus | None = None
    request_id: str | None = None

    @property
    def accounts(self) -> Sequence[int]:
        return (self.facts.account,)

    @property
    def reads(self) -> Sequence[Hashable]:
        return (WalletsOf(self.facts.user_number),)

    def decide(self, books: Books) -> WalletState:
        """
        Raises:
            WalletNotFound, WalletClosed, WalletSuspended, WalletNotEmpty, PrimaryStays
        """
        there = wallets_in(books, self.facts.user_number)
        row = next((row for row in there if row.id == self.facts.id), None)
        if row is None:
            raise WalletNotFound
        account = books.account(row.account)
        if row.closed_ms:
            if self.status == "closed":
                return state_of(row, account)
            raise WalletClosed
        if self.is_primary is False and row.is_primary:
            raise PrimaryStays
        metadata = EventMetadata(
            actor=row.user_id if self.by == "owner" else None,
            request_id=self.request_id,
        )
        changed = row
        if self.is_primary and not row.is_primary:
            demote(books, there, self.event_ids[1], metadata)
            changed = structs.replace(changed, is_primary=True)
        if self.status == "closed":
            changed = self._closed(books, changed, metadata)
        elif self.status is not None:
            changed = self._with_status(books, changed)
        if changed != row:
            changed = replace(books, changed, self.event_ids[0], metadata)
        return state_of(changed, account)

    def _with_status(self, books: Books, row: WalletRow) -> WalletRow:
        if self.by == "owner" and row.suspended_by == "operator":
            raise WalletSuspended
        if self.status == "active":
            books.set_status(row.account, AccountStatus.OPEN)
            return structs.replace(row, suspended_by=None)
        books.set_status(row.account, AccountStatus.SUSPENDED)
        return structs.replace(row, suspended_by=self.by)

    def _closed(
        self, books: Books, row: WalletRow, metadata: EventMetadata
    ) -> WalletRow:
        """Its being the primary one goes to the oldest that is open."""
        if self.by == "owner" and row.suspended_by == "operator":
            raise WalletSuspended
        try:
            books.set_status(row.account, AccountStatus.CLOSED)
        except AccountNotEmpty:
            raise WalletNotEmpty from None
        if row.is_primary:
            for other in wallets_in(books, row.user_number):
                if other.id != row.id and not other.closed_ms:
                    heir = structs.replace(other, is_primary=True)
                    replace(books, heir, self.event_ids[1], metadata)
                    break
        return structs.replace(
            row, is_primary=False, suspended_by=None, closed_ms=books.now_ms
        )


class Move(_Decision, frozen=True, kw_only=True):
    """A transaction that moves no money by itself goes on to another state."""

    id: UUID
    account: int
    event_id: UUID
    to: Any

    @property
    def accounts(self) -> Sequence[int]:
        return (self.account,)

    @property
    def reads(self) -> Sequence[Hashable]:
        return (TransactionOf(self.id),)

    def decide(self, books: Books) -> TransactionRow:
        """Raises: WrongState."""
        row: TransactionRow = books.found(TransactionOf(self.id))
        return moved(books, row, self.to, self.event_id)


def moved(
    books: Books,
    row: TransactionRow,
    to: Any,
    event_id: UUID,
    metadata: EventMetadata | None = None,
    **changes: Any,
) -> TransactionRow:
    """Write that it is in another state, with its event. Raises: WrongState."""
    rules.check_move(row.status, to)
    times = {"processed_ms": row.processed_ms or books.now_ms}
    if to != "processing":
        times["completed_ms"] = books.now_ms
    new = structs.replace(
        row, status=to, version=row.version + 1, **{**times, **changes}
    )
    books.write(TransactionChanged(new))
    books.put(TransactionOf(row.id), new)
    version = books.account(row.account).version
    books.write(
        transaction_event(to, new, event_id, version, metadata or EventMetadata())
    )
    return new


# The working set.


def wallets_in(books: Books, user_number: int) -> tuple[WalletRow, ...]:
    """All wallets of a user, as earlier decisions of the batch left them."""
    found: tuple[WalletRow, ...] = books.found(WalletsOf(user_number)) or ()
    return found


def replace(
    books: Books, row: WalletRow, event_id: UUID, metadata: EventMetadata
) -> WalletRow:
    """Write a changed wallet, with its event; as it is written."""
    new = structs.replace(row, version=row.version + 1, updated_ms=books.now_ms)
    books.write(WalletChanged(new))
    rows = wallets_in(books, row.user_number)
    books.put(
        WalletsOf(row.user_number),
        tuple(new if known.id == row.id else known for known in rows),
    )
    books.write(wallet_event("updated", new, event_id, metadata))
    return new


def demote(
    books: Books, rows: Sequence[WalletRow], event_id: UUID, metadata: EventMetadata
) -> None:
    """There is no primary one among them any more; one there is at most."""
    for row in rows:
        if row.is_primary:
            plain = structs.replace(row, is_primary=False)
            replace(books, plain, event_id, metadata)


def account_now(books: Books, number: int) -> AccountNow:
    account = books.account(number)
    return AccountNow(
        account.balance,
        account.held,
        account.status,
        account.version,
        books.now_ms,
    )


def state_of(row: WalletRow, account: Account) -> WalletState:
    return WalletState(
        row,
        status_of(row),
        account.balance,
        account.held,
        account.day,
        account.day_spent,
        account.month,
        account.month_spent,
        account.version,
    )


# Events.


class TransactionFacts(Struct, frozen=True, omit_defaults=True):
    """Data of `transaction.*`: nothing that a person wrote. account_version: of the
    wallet's postings, so that whoever follows a balance knows the order."""

    wallet_id: str
    user_id: str
    type: str
    status: str
    amount: int
    currency: str
    fee: int
    net_amount: int
    account_version: int
    balance_after: int | None = None
    counterpart_id: str | None = None
    reference: str | None = None


class WalletEventFacts(Struct, frozen=True):
    user_id: str
    currency: str
    status: str
    is_primary: bool


def transaction_event(
    happened: str,
    row: TransactionRow,
    event_id: UUID,
    account_version: int,
    metadata: EventMetadata,
) -> EventDraft:
    facts = TransactionFacts(
        wallet_id=str(row.wallet_id),
        user_id=str(row.user_id),
        type=row.type,
        status=row.status,
        amount=row.amount,
        currency=row.currency.value,
        fee=row.fee,
        net_amount=row.net_amount,
        account_version=account_version,
        balance_after=row.balance_after,
        counterpart_id=None if row.counterpart_id is None else str(row.counterpart_id),
        reference=row.reference,
    )
    return EventDraft(
        id=event_id,
        aggregate_id=row.id,
        domain=DOMAIN,
        type=f"transaction.{happened}",
        version=row.version,
        data=_json(facts),
        created_ms=row.completed_ms or row.processed_ms or row.created_ms,
        metadata=metadata,
    )


def wallet_event(
    happened: str,
    row: WalletRow,
    event_id: UUID,
    metadata: EventMetadata,
) -> EventDraft:
    facts = WalletEventFacts(
        str(row.user_id), row.currency.value, status_of(row), row.is_primary
    )
    return EventDraft(
        id=event_id,
        aggregate_id=row.id,
        domain=DOMAIN,
        type=f"wallet.{happened}",
        version=row.version,
        data=_json(facts),
        created_ms=row.updated_ms,
        metadata=metadata,
    )
