"""Owns the rules of the ledger: which transfers and holds are let through.

Pure: it works on copies of the accounts and holds whose rows the caller has locked,
and says what is to be stored. Several decisions may be made on the same books one
after the other, each all or nothing (`begin`, then `keep` or `undo`); so a whole batch
is decided in memory, in the order of arrival, and stored in one commit.

    balance + amount        within floor and ceiling
    available               never below the floor by a debit or a hold
    postings                two for each transfer, summing to zero; versions dense
    hold                    PENDING -> POSTED | VOIDED | EXPIRED, once
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any
from uuid import UUID

from msgspec import structs

from tchatd.domains.payment.ledger.errors import (
    AccountClosed,
    AccountNotEmpty,
    AccountSuspended,
    AccountUnknown,
    BalanceTooHigh,
    CurrencyMismatch,
    HoldEnded,
    HoldExceeded,
    HoldUnknown,
    InsufficientFunds,
    LimitExceeded,
    SameAccount,
)
from tchatd.domains.payment.ledger.models import (
    BALANCE_MAX,
    Account,
    AccountStatus,
    Hold,
    HoldState,
    Posting,
    Spending,
    Transfer,
)

_FIELDS = (
    "balance",
    "held",
    "version",
    "status",
    "day",
    "day_spent",
    "day_count",
    "month",
    "month_spent",
)


class Books:
    """The working set of one batch.

    accounts, holds: loaded under their locks. found: other rows loaded for the
    decisions, by the key that was asked for (see `deciding.Command.reads`).
    now_ms: of the whole batch.
    """

    def __init__(
        self,
        accounts: Iterable[Account],
        holds: Iterable[Hold],
        now_ms: int,
        found: Mapping[Hashable, Any] | None = None,
    ) -> None:
        self.now_ms = now_ms
        self.postings: list[Posting] = []
        self.records: list[Any] = []
        self.changed: dict[int, Account] = {}
        self.changed_holds: dict[UUID, Hold] = {}
        self.new_holds: dict[UUID, Hold] = {}
        self._accounts = {account.number: account for account in accounts}
        self._holds = {hold.id: hold for hold in holds}
        self._found: dict[Hashable, Any] = dict(found or {})
        self._undo: list[Any] = []
        self._saved: dict[int, tuple[Any, ...]] = {}
        self._marks = (0, 0)

    # One decision after the other.

    def begin(self) -> None:
        """From here on `undo` undoes."""
        self._undo.clear()
        self._saved.clear()
        self._marks = len(self.postings), len(self.records)

    def keep(self) -> None:
        self._undo.clear()
        self._saved.clear()

    def undo(self) -> None:
        """As it was at `begin`."""
        for number, values in self._saved.items():
            account = self._accounts[number]
            for name, value in zip(_FIELDS, values[1:], strict=True):
                setattr(account, name, value)
            if not values[0]:
                del self.changed[number]
        for mapping, key, was in reversed(self._undo):
            if was is None:
                del mapping[key]
            else:
                mapping[key] = was
        del self.postings[self._marks[0] :]
        del self.records[self._marks[1] :]
        self._undo.clear()
        self._saved.clear()

    # What is there.

    def account(self, number: int) -> Account:
        """To look at. Raises AccountUnknown."""
        account = self._accounts.get(number)
        if account is None:
            raise AccountUnknown
        return account

    def held(self, id: UUID) -> Hold:
        """The hold as it is now. Raises HoldUnknown."""
        hold = self._holds.get(id)
        if hold is None:
            raise HoldUnknown
        return hold

    def found(self, key: Hashable) -> Any:
        """What a read of this decision found, as earlier decisions left it, or None."""
        return self._found.get(key)

    def put(self, key: Hashable, value: Any) -> None:
        """Let later decisions of the batch find this."""
        self._remember(self._found, key)
        self._found[key] = value

    def write(self, record: Any) -> None:
        """Store this too, in the same commit; by its type (see the store)."""
        self.records.append(record)

    # What moves.

    def transfer(self, transfer: Transfer) -> tuple[Posting, Posting]:
        """Post a transfer: the debit's and the credit's posting.

        Raises:
            SameAccount, AccountUnknown, CurrencyMismatch: it makes no sense.
            AccountClosed, AccountSuspended: one of the two takes no part.
            InsufficientFunds: less is available above the debit's floor.
            BalanceTooHigh: the credit's ceiling.
        """
        debit, credit = self._pair(transfer.debit, transfer.credit)
        amount = transfer.amount_minor
        self._check_open(debit, credit, settles=transfer.settles)
        self._check_funds(debit, amount)
        self._check_ceiling(credit, amount, settles=transfer.settles)
        return self._moved(debit, credit, amount, transfer.id, transfer.code)

    def hold(self, hold: Hold) -> None:
        """Keep an amount back. Raises as `transfer`, and HoldEnded if it has expired.

        The credit's ceiling is looked at now and not again: what was begun is let
        through when it is posted.
        """
        assert hold.state is HoldState.PENDING
        assert hold.id not in self._holds, "a hold's id is made anew each time"
        debit, credit = self._pair(hold.debit, hold.credit)
        self._check_open(debit, credit, settles=False)
        if hold.expires_ms <= self.now_ms:
            raise HoldEnded
        self._check_funds(debit, hold.amount_minor)
        self._check_ceiling(credit, hold.amount_minor, settles=False)
        self._change(debit).held += hold.amount_minor
        for mapping in (self._holds, self.new_holds):
            self._remember(mapping, hold.id)
            mapping[hold.id] = hold

    def post(
        self, hold_id: UUID, transfer_id: UUID, amount_minor: int | None = None
    ) -> tuple[Posting, Posting]:
        """Move what is held, or a part; what is left of the hold is free again.

        Raises:
            HoldUnknown, HoldEnded, HoldExceeded: of the hold.
            AccountClosed: of the credit. BalanceTooHigh: past `BALANCE_MAX`.
        """
        hold = self.held(hold_id)
        amount = hold.amount_minor if amount_minor is None else amount_minor
        assert amount >= 1
        if hold.state is not HoldState.PENDING or hold.expires_ms <= self.now_ms:
            raise HoldEnded
        if amount > hold.amount_minor:
            raise HoldExceeded
        debit, credit = self._pair(hold.debit, hold.credit)
        self._check_open(debit, credit, settles=True)
        self._check_ceiling(credit, amount, settles=True)
        self._end(hold, HoldState.POSTED, amount, transfer_id)
        return self._moved(debit, credit, amount, transfer_id, hold.code)

    def void(self, hold_id: UUID) -> Hold:
        """Let go of what is held; EXPIRED if its time is over. The hold as it was.

        Raises:
            HoldUnknown, HoldEnded: it was posted or let go before.
        """
        hold = self.held(hold_id)
        if hold.state is not HoldState.PENDING:
            raise HoldEnded
        is_over = hold.expires_ms <= self.now_ms
        self._end(hold, HoldState.EXPIRED if is_over else HoldState.VOIDED)
        return hold

    def spend(self, number: int, spending: Spending) -> None:
        """Count a payment against the account's limits. Raises LimitExceeded."""
        account = self.account(number)
        amount = spending.amount_minor
        assert amount >= 0
        is_new_day = spending.day > account.day
        is_new_month = spending.month > account.month
        day_spent = amount + (0 if is_new_day else account.day_spent)
        day_count = 1 + (0 if is_new_day else account.day_count)
        month_spent = amount + (0 if is_new_month else account.month_spent)
        if day_count > spending.day_count_max:
            raise LimitExceeded(fields={"limit": "count", "left": "0"})
        if day_spent > spending.day_minor_max:
            raise _over("daily", spending.day_minor_max - day_spent + amount)
        if month_spent > spending.month_minor_max:
            raise _over("monthly", spending.month_minor_max - month_spent + amount)
        account = self._change(account)
        account.day = max(account.day, spending.day)
        account.month = max(account.month, spending.month)
        account.day_spent, account.day_count = day_spent, day_count
        account.month_spent = month_spent

    def unspend(self, number: int, spending: Spending) -> None:
        """Give back what `spend` took, as far as its day and month still count."""
        account = self._change(self.account(number))
        if account.day == spending.day:
            account.day_spent = max(0, account.day_spent - spending.amount_minor)
            account.day_count = max(0, account.day_count - 1)
        if account.month == spending.month:
            account.month_spent = max(0, account.month_spent - spending.amount_minor)

    def set_status(self, number: int, status: AccountStatus) -> None:
        """Open, suspend or close. Raises AccountClosed, AccountNotEmpty."""
        account = self.account(number)
        if account.status is AccountStatus.CLOSED:
            raise AccountClosed
        if status is AccountStatus.CLOSED and (account.balance or account.held):
            raise AccountNotEmpty
        self._change(account).status = status

    # How.

    def _pair(self, debit: int, credit: int) -> tuple[Account, Account]:
        if debit == credit:
            raise SameAccount
        one, other = self.account(debit), self.account(credit)
        if one.currency is not other.currency:
            raise CurrencyMismatch
        return one, other

    @staticmethod
    def _check_open(debit: Account, credit: Account, *, settles: bool) -> None:
        for account in (debit, credit):
            if account.status is AccountStatus.OPEN:
                continue
            if account.status is AccountStatus.CLOSED:
                raise AccountClosed
            if not settles:
                raise AccountSuspended

    @staticmethod
    def _check_funds(debit: Account, amount: int) -> None:
        floor = -BALANCE_MAX if debit.floor is None else debit.floor
        if debit.balance - debit.held - amount < floor:
            raise InsufficientFunds

    @staticmethod
    def _check_ceiling(credit: Account, amount: int, *, settles: bool) -> None:
        ceiling = credit.ceiling
        if ceiling is None or settles:
            ceiling = BALANCE_MAX
        if credit.balance + amount > ceiling:
            raise BalanceTooHigh

    def _moved(
        self, debit: Account, credit: Account, amount: int, id: UUID, code: int
    ) -> tuple[Posting, Posting]:
        self._change(debit)
        self._change(credit)
        debit.balance -= amount
        credit.balance += amount
        debit.version += 1
        credit.version += 1
        out = Posting(
            debit.number, debit.version, id, -amount, debit.balance, credit.number, code
        )
        into = Posting(
            credit.number,
            credit.version,
            id,
            amount,
            credit.balance,
            debit.number,
            code,
        )
        self.postings.append(out)
        self.postings.append(into)
        return out, into

    def _end(
        self,
        hold: Hold,
        state: HoldState,
        posted: int = 0,
        transfer_id: UUID | None = None,
    ) -> None:
        debit = self._change(self.account(hold.debit))
        debit.held -= hold.amount_minor
        assert debit.held >= 0, "held is the sum of the pending holds"
        ended = structs.replace(
            hold, state=state, posted_minor=posted, transfer_id=transfer_id
        )
        is_new = hold.id in self.new_holds
        changes = self.new_holds if is_new else self.changed_holds
        for mapping in (self._holds, changes):
            self._remember(mapping, hold.id)
            mapping[hold.id] = ended

    def _change(self, account: Account) -> Account:
        """To be changed: what it was is kept for `undo`."""
        number = account.number
        if number not in self._saved:
            self._saved[number] = (
                number in self.changed,
                account.balance,
                account.held,
                account.version,
                account.status,
                account.day,
                account.day_spent,
                account.day_count,
                account.month,
                account.month_spent,
            )
            self.changed[number] = account
        return account

    def _remember(self, mapping: dict[Any, Any], key: Hashable) -> None:
        self._undo.append((mapping, key, mapping.get(key)))


def _over(limit: str, left: int) -> LimitExceeded:
    return LimitExceeded(fields={"limit": limit, "left": str(max(0, left))})
