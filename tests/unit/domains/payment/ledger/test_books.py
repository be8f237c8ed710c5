"""Each rule of the ledger at its edge; and whatever is done, what always holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tchatd.domains.payment.ledger.books import Books
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
    AccountKind,
    AccountStatus,
    Hold,
    HoldState,
    Posting,
    Spending,
    Transfer,
)
from tchatd.kernel.errors import DomainError
from tchatd.kernel.money import Currency
from tests.support.ledger import THB, differences

WORLD, ALICE, BOB, SHOP = 1, 2, 3, 4
NOW_MS = 10_000


def made(**alice: Any) -> Books:
    """Alice has 100; the shop may have 50 at most."""
    return Books(
        [
            Account(WORLD, THB, AccountKind.WORLD, floor=None, balance=-100, version=1),
            Account(
                *(ALICE, THB, AccountKind.WALLET),
                **{"balance": 100, "version": 1} | alice,
            ),
            Account(BOB, THB, AccountKind.WALLET),
            Account(SHOP, THB, AccountKind.WALLET, ceiling=50),
            Account(9, Currency.SGD, AccountKind.WALLET),
        ],
        [],
        NOW_MS,
    )


def transfer(debit: int, credit: int, amount: int, **more: Any) -> Transfer:
    return Transfer(uuid4(), debit, credit, amount, **more)


def held(books: Books, amount: int = 60, wait_ms: int = 1, credit: int = BOB) -> Hold:
    hold = Hold(uuid4(), ALICE, credit, amount, NOW_MS + wait_ms, code=3)
    books.hold(hold)
    return hold


def test_a_transfer_has_two_postings_that_sum_to_zero() -> None:
    books = made()
    asked = transfer(ALICE, BOB, 100, code=7)

    out, into = books.transfer(asked)

    assert out == Posting(ALICE, 2, asked.id, -100, 0, BOB, 7)
    assert into == Posting(BOB, 1, asked.id, 100, 100, ALICE, 7)
    assert books.postings == [out, into]
    assert set(books.changed) == {ALICE, BOB}


def test_the_last_of_it_may_be_spent_and_no_more() -> None:
    books = made()

    with pytest.raises(InsufficientFunds):
        books.transfer(transfer(ALICE, BOB, 101))
    books.transfer(transfer(ALICE, BOB, 100))
    with pytest.raises(InsufficientFunds):
        books.transfer(transfer(ALICE, BOB, 1))


@pytest.mark.parametrize(("floor", "most"), [(30, 70), (-20, 120), (0, 100)])
def test_a_floor_is_reached_and_not_passed(floor: int, most: int) -> None:
    books = made(floor=floor)

    with pytest.raises(InsufficientFunds):
        books.transfer(transfer(ALICE, BOB, most + 1))
    books.transfer(transfer(ALICE, BOB, most))
    assert books.account(ALICE).balance == floor


def test_without_a_floor_64_bits_are_the_floor() -> None:
    books = made(floor=None, balance=-BALANCE_MAX + 5)

    with pytest.raises(InsufficientFunds):
        books.transfer(transfer(ALICE, BOB, 6))
    books.transfer(transfer(ALICE, BOB, 5))


def test_a_ceiling_is_reached_and_not_passed() -> None:
    books = made()

    with pytest.raises(BalanceTooHigh):
        books.transfer(transfer(ALICE, SHOP, 51))
    books.transfer(transfer(ALICE, SHOP, 50))
    with pytest.raises(BalanceTooHigh):
        books.transfer(transfer(ALICE, SHOP, 1))


def test_what_settles_goes_over_a_ceiling_but_not_over_64_bits() -> None:
    books = made()

    books.transfer(transfer(ALICE, SHOP, 51, settles=True))
    assert books.account(SHOP).balance == 51
    books.account(SHOP).balance = BALANCE_MAX - 1
    with pytest.raises(BalanceTooHigh):
        books.transfer(transfer(ALICE, SHOP, 2, settles=True))
    books.transfer(transfer(ALICE, SHOP, 1, settles=True))


def test_a_transfer_that_makes_no_sense_is_refused() -> None:
    books = made()

    with pytest.raises(SameAccount):
        books.transfer(transfer(ALICE, ALICE, 1))
    with pytest.raises(CurrencyMismatch):
        books.transfer(transfer(ALICE, 9, 1))
    for debit, credit in ((ALICE, 77), (77, ALICE)):
        with pytest.raises(AccountUnknown):
            books.transfer(transfer(debit, credit, 1))
    assert (books.postings, books.changed) == ([], {})


@pytest.mark.parametrize("who", [ALICE, BOB])
def test_a_suspended_account_takes_part_only_in_what_settles(who: int) -> None:
    books = made()
    books.set_status(who, AccountStatus.SUSPENDED)

    with pytest.raises(AccountSuspended):
        books.transfer(transfer(ALICE, BOB, 1))
    with pytest.raises(AccountSuspended):
        held(books)
    books.transfer(transfer(ALICE, BOB, 1, settles=True))
    books.set_status(who, AccountStatus.OPEN)
    books.transfer(transfer(ALICE, BOB, 1))


def test_a_closed_account_takes_part_in_nothing_and_stays_closed() -> None:
    books = made()
    books.set_status(BOB, AccountStatus.CLOSED)

    for settles in (False, True):
        with pytest.raises(AccountClosed):
            books.transfer(transfer(ALICE, BOB, 1, settles=settles))
    with pytest.raises(AccountClosed):
        held(books)
    for status in AccountStatus:
        with pytest.raises(AccountClosed):
            books.set_status(BOB, status)


def test_only_an_empty_account_is_closed() -> None:
    books = made()

    with pytest.raises(AccountNotEmpty):
        books.set_status(ALICE, AccountStatus.CLOSED)
    held(books, 100)
    books.account(ALICE).balance = 0
    with pytest.raises(AccountNotEmpty):
        books.set_status(ALICE, AccountStatus.CLOSED)
    with pytest.raises(AccountUnknown):
        books.set_status(77, AccountStatus.CLOSED)


def test_a_hold_takes_from_what_is_available_and_not_from_the_balance() -> None:
    books = made()

    hold = held(books)

    account = books.account(ALICE)
    assert (account.balance, account.held, account.available) == (100, 60, 40)
    assert books.new_holds == {hold.id: hold}
    with pytest.raises(InsufficientFunds):
        held(books, 41)
    with pytest.raises(InsufficientFunds):
        books.transfer(transfer(ALICE, BOB, 41))
    held(books, 40)


def test_a_hold_for_an_account_that_may_not_have_it_is_refused() -> None:
    books = made()

    with pytest.raises(BalanceTooHigh):
        held(books, 51, credit=SHOP)
    with pytest.raises(CurrencyMismatch):
        held(books, 1, credit=9)
    with pytest.raises(HoldEnded):
        held(books, 1, wait_ms=0)
    assert books.account(ALICE).held == 0


def test_what_was_held_is_let_through_when_the_ceiling_was_reached_meanwhile() -> None:
    books = made()
    hold = held(books, 50, credit=SHOP)
    books.transfer(transfer(ALICE, SHOP, 50))

    books.post(hold.id, uuid4())

    assert books.account(SHOP).balance == 100


@pytest.mark.parametrize(("asked", "posted"), [(None, 60), (60, 60), (1, 1)])
def test_a_hold_is_posted_once_and_the_rest_is_free(
    asked: int | None, posted: int
) -> None:
    books = made()
    hold, id = held(books), uuid4()

    out, into = books.post(hold.id, id, asked)

    assert (out.amount_minor, into.amount_minor) == (-posted, posted)
    assert (out.transfer_id, out.code) == (id, 3)
    account = books.account(ALICE)
    assert (account.balance, account.held) == (100 - posted, 0)
    ended = books.held(hold.id)
    assert (ended.state, ended.posted_minor) == (HoldState.POSTED, posted)
    assert ended.transfer_id == id
    for again in (lambda: books.post(hold.id, uuid4()), lambda: books.void(hold.id)):
        with pytest.raises(HoldEnded):
            again()


def test_no_more_than_was_held_is_posted() -> None:
    books = made()
    hold = held(books)

    with pytest.raises(HoldExceeded):
        books.post(hold.id, uuid4(), 61)
    assert books.held(hold.id) == hold


def test_a_hold_is_not_posted_from_its_end_on_but_let_go() -> None:
    books = made()
    hold = held(books)
    books.now_ms = hold.expires_ms - 1
    other = held(books, 1)
    books.post(other.id, uuid4())
    books.now_ms = hold.expires_ms

    with pytest.raises(HoldEnded):
        books.post(hold.id, uuid4())
    assert books.void(hold.id) == hold

    assert books.held(hold.id).state is HoldState.EXPIRED
    assert books.account(ALICE).held == 0


def test_a_hold_voided_before_its_end_is_voided() -> None:
    books = made()
    hold = held(books)

    books.void(hold.id)

    assert books.held(hold.id).state is HoldState.VOIDED
    assert books.account(ALICE).available == 100
    for again in (lambda: books.post(hold.id, uuid4()), lambda: books.void(hold.id)):
        with pytest.raises(HoldEnded):
            again()


def test_a_hold_that_is_not_there_is_unknown() -> None:
    books = made()

    for ask in (
        books.held,
        books.void,
        lambda id: books.post(id, uuid4()),
    ):
        with pytest.raises(HoldUnknown):
            ask(uuid4())


def test_a_hold_of_an_account_that_was_not_loaded_is_left_alone() -> None:
    hold = Hold(uuid4(), ALICE, BOB, 5, NOW_MS + 1)
    books = Books([], [hold], NOW_MS)

    for ask in (
        lambda: books.void(hold.id),
        lambda: books.post(hold.id, uuid4()),
    ):
        with pytest.raises(AccountUnknown):
            ask()
    assert (books.changed_holds, books.held(hold.id)) == ({}, hold)


def test_a_pending_hold_is_posted_though_its_payer_is_suspended() -> None:
    books = made()
    hold = held(books)
    books.set_status(ALICE, AccountStatus.SUSPENDED)

    books.post(hold.id, uuid4())

    assert books.account(BOB).balance == 60


def test_a_hold_of_a_closed_payee_is_let_go_but_not_posted() -> None:
    books = made()
    hold = held(books)
    books.set_status(BOB, AccountStatus.CLOSED)

    with pytest.raises(AccountClosed):
        books.post(hold.id, uuid4())
    books.void(hold.id)
    assert books.account(ALICE).available == 100


def spending(amount: int, day: int = 5, month: int = 2) -> Spending:
    """100 a day, 3 times a day, 150 a month."""
    return Spending(amount, day, month, 100, 3, 150)


def left_of(books: Books, asked: Spending) -> dict[str, str]:
    with pytest.raises(LimitExceeded) as refused:
        books.spend(ALICE, asked)
    return refused.value.fields


def test_a_day_has_its_limit() -> None:
    books = made()

    assert left_of(books, spending(101)) == {"limit": "daily", "left": "100"}
    books.spend(ALICE, spending(60))
    assert left_of(books, spending(41)) == {"limit": "daily", "left": "40"}
    books.spend(ALICE, spending(40))
    assert left_of(books, spending(1)) == {"limit": "daily", "left": "0"}


def test_a_new_day_starts_at_nothing_and_a_month_goes_on() -> None:
    books = made()
    books.spend(ALICE, spending(100))

    assert left_of(books, spending(51, day=6)) == {"limit": "monthly", "left": "50"}
    books.spend(ALICE, spending(50, day=6))
    assert left_of(books, spending(1, day=7)) == {"limit": "monthly", "left": "0"}
    books.spend(ALICE, spending(100, day=8, month=3))
    account = books.account(ALICE)
    assert (account.day, account.day_spent, account.day_count) == (8, 100, 1)
    assert (account.month, account.month_spent) == (3, 100)


def test_payments_are_counted() -> None:
    books = made()
    for _ in range(3):
        books.spend(ALICE, spending(0))

    assert left_of(books, spending(0)) == {"limit": "count", "left": "0"}


def test_an_earlier_day_counts_as_the_one_that_is() -> None:
    books = made()
    books.spend(ALICE, spending(90))

    assert left_of(books, spending(11, day=4, month=1)) == {
        "limit": "daily",
        "left": "10",
    }
    books.spend(ALICE, spending(10, day=4, month=1))
    assert books.account(ALICE).day == 5


def test_a_lowered_limit_leaves_nothing() -> None:
    books = made()
    books.spend(ALICE, spending(90))

    assert left_of(books, Spending(1, 5, 2, 50, 3, 150))["left"] == "0"


def test_what_was_spent_is_given_back_while_its_day_and_month_count() -> None:
    books = made()
    books.spend(ALICE, spending(60))
    books.unspend(ALICE, spending(60))
    account = books.account(ALICE)
    assert (account.day_spent, account.day_count, account.month_spent) == (0, 0, 0)

    books.spend(ALICE, spending(60))
    books.spend(ALICE, spending(10, day=6))
    books.unspend(ALICE, spending(60))
    assert (account.day_spent, account.day_count, account.month_spent) == (10, 1, 10)

    books.unspend(ALICE, spending(99, day=6))
    assert (account.day_spent, account.day_count, account.month_spent) == (0, 0, 0)


def test_undo_restores_everything_that_was_there_at_begin() -> None:
    books = made()
    old = held(books, 10)
    books.put("known", 1)
    books.write("first")
    books.transfer(transfer(ALICE, BOB, 10))
    before = seen(books)

    books.begin()
    books.transfer(transfer(ALICE, SHOP, 10))
    books.post(held(books, 10).id, uuid4())
    books.void(old.id)
    books.spend(ALICE, spending(5))
    books.set_status(BOB, AccountStatus.SUSPENDED)
    books.put("known", 2)
    books.put("new", 2)
    books.write("second")
    books.undo()

    assert seen(books) == before
    assert (books.found("known"), books.found("new")) == (1, None)


def test_undo_goes_back_to_the_last_begin_alone() -> None:
    books = made()
    books.begin()
    books.transfer(transfer(ALICE, BOB, 10))
    books.keep()
    books.begin()
    books.transfer(transfer(ALICE, SHOP, 10))

    books.undo()

    assert books.account(ALICE).balance == 90
    assert set(books.changed) == {ALICE, BOB}
    assert len(books.postings) == 2


def seen(books: Books) -> Any:
    """Everything that would be stored, and all that later decisions would see."""
    return (
        {
            number: [getattr(account, name) for name in Account.__slots__]
            for number, account in books._accounts.items()
        },
        dict(books._holds),
        dict(books.new_holds),
        dict(books.changed_holds),
        set(books.changed),
        list(books.postings),
        list(books.records),
        dict(books._found),
    )


# Any sequence.

AMOUNTS = st.integers(1, 120)
WALLETS = st.sampled_from([WORLD, ALICE, BOB, SHOP, 9, 77])


class AnySequence(RuleBasedStateMachine):
    """Whatever is asked for in whatever order, kept, refused or undone.

    A model that knows no more than sums says what each account has to have.
    """

    def __init__(self) -> None:
        super().__init__()
        self.books = made()
        self.first = Posting(WORLD, 1, UUID(int=1), -100, -100, ALICE, 0)
        self.other = Posting(ALICE, 1, UUID(int=1), 100, 100, WORLD, 0)
        self.holds: list[Hold] = []
        self.posted: dict[UUID, int] = {}

    def attempt(self, do: Callable[[], Any], undo: bool) -> bool:
        """Whether it was done, and kept. Refused or undone, nothing is different."""
        before = seen(self.books)
        self.books.begin()
        try:
            do()
        except DomainError:
            self.books.undo()
            assert seen(self.books) == before
            return False
        if undo:
            self.books.undo()
            assert seen(self.books) == before
            return False
        self.books.keep()
        return True

    @rule(
        debit=WALLETS,
        credit=WALLETS,
        amount=AMOUNTS,
        settles=st.booleans(),
        undo=st.booleans(),
    )
    def transfer(
        self, debit: int, credit: int, amount: int, settles: bool, undo: bool
    ) -> None:
        asked = transfer(debit, credit, amount, settles=settles)
        self.attempt(lambda: self.books.transfer(asked), undo)

    @rule(legs=st.lists(st.tuples(WALLETS, WALLETS, AMOUNTS), min_size=2, max_size=4))
    def linked(self, legs: list[tuple[int, int, int]]) -> None:
        def do() -> None:
            for debit, credit, amount in legs:
                self.books.transfer(transfer(debit, credit, amount))

        self.attempt(do, undo=False)

    @rule(
        debit=WALLETS,
        credit=WALLETS,
        amount=AMOUNTS,
        wait_ms=st.integers(0, 30),
        undo=st.booleans(),
    )
    def hold(
        self, debit: int, credit: int, amount: int, wait_ms: int, undo: bool
    ) -> None:
        hold = Hold(uuid4(), debit, credit, amount, self.books.now_ms + wait_ms)
        if self.attempt(lambda: self.books.hold(hold), undo):
            self.holds.append(hold)

    @rule(data=st.data(), amount=st.none() | AMOUNTS, undo=st.booleans())
    def post(self, data: st.DataObject, amount: int | None, undo: bool) -> None:
        if not self.holds:
            return
        hold = data.draw(st.sampled_from(self.holds))
        state = self.books.held(hold.id).state
        if self.attempt(lambda: self.books.post(hold.id, uuid4(), amount), undo):
            assert state is HoldState.PENDING
            assert hold.id not in self.posted
            assert self.books.now_ms < hold.expires_ms
            self.posted[hold.id] = hold.amount_minor if amount is None else amount
            assert self.posted[hold.id] <= hold.amount_minor

    @rule(data=st.data(), undo=st.booleans())
    def void(self, data: st.DataObject, undo: bool) -> None:
        if not self.holds:
            return
        hold = data.draw(st.sampled_from(self.holds))
        state = self.books.held(hold.id).state
        if self.attempt(lambda: self.books.void(hold.id), undo):
            assert state is HoldState.PENDING
            assert hold.id not in self.posted

    @rule(wait_ms=st.integers(1, 20))
    def wait(self, wait_ms: int) -> None:
        self.books.now_ms += wait_ms

    @rule(who=WALLETS, status=st.sampled_from(list(AccountStatus)), undo=st.booleans())
    def status(self, who: int, status: AccountStatus, undo: bool) -> None:
        closes = status is AccountStatus.CLOSED and who in (WORLD, ALICE)
        if not closes:  # or nothing would happen any more
            self.attempt(lambda: self.books.set_status(who, status), undo)

    @rule(amount=AMOUNTS, day=st.integers(1, 4), undo=st.booleans())
    def spend(self, amount: int, day: int, undo: bool) -> None:
        asked = spending(amount, day, day // 3)
        before = self.books.account(ALICE).day_count
        if self.attempt(lambda: self.books.spend(ALICE, asked), undo):
            account = self.books.account(ALICE)
            assert 1 <= account.day_count <= min(3, before + 1)
            assert account.day_spent <= 100
            assert account.month_spent <= 150

    @invariant()
    def nothing_is_wrong(self) -> None:
        books = self.books
        assert not differences(
            books._accounts.values(),
            books._holds.values(),
            [self.first, self.other, *books.postings],
        )
        ceiling = books.account(SHOP).ceiling
        assert ceiling == 50

    @invariant()
    def what_is_to_be_stored_is_what_is_there(self) -> None:
        books = self.books
        fresh = made()
        for number, account in books._accounts.items():
            if number not in books.changed:
                untouched = fresh.account(number)
                for name in Account.__slots__:
                    assert getattr(account, name) == getattr(untouched, name)
            else:
                assert books.changed[number] is account
        assert books._holds == books.new_holds | books.changed_holds
        posted = {id: h.posted_minor for id, h in books._holds.items() if h.transfer_id}
        assert posted == self.posted


TestAnySequence = AnySequence.TestCase
TestAnySequence.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None
)
