"""Owns what tests of the ledger share: commands, what always holds, the suite."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Protocol
from uuid import UUID, uuid4

import msgspec
import pytest
import trio

from tchatd.domains.payment.ledger.books import Books
from tchatd.domains.payment.ledger.deciding import Key, Ledger, Replayed
from tchatd.domains.payment.ledger.errors import (
    AccountClosed,
    AccountUnknown,
    HoldEnded,
    HoldUnknown,
    InsufficientFunds,
    KeyReused,
)
from tchatd.domains.payment.ledger.models import (
    Account,
    AccountKind,
    AccountStatus,
    Hold,
    HoldState,
    Opening,
    Posting,
    Spending,
    Transfer,
)
from tchatd.domains.payment.ledger.store import LedgerStore
from tchatd.kernel.clock import ManualClock
from tchatd.kernel.deferred import Deferred
from tchatd.kernel.errors import DomainError
from tchatd.kernel.money import Currency

THB = Currency.THB
WALLET = Opening(THB, AccountKind.WALLET)
WORLD = Opening(THB, AccountKind.WORLD, floor=None, name="world:test")
HOUR_MS = 3_600_000


class Do(msgspec.Struct, frozen=True):
    """A command of whatever a test wants done to the books."""

    run: Callable[[Books], Any]
    accounts: tuple[int, ...] = ()
    holds: tuple[UUID, ...] = ()
    reads: tuple[Hashable, ...] = ()
    key: Key | None = None

    def decide(self, books: Books) -> Any:
        return self.run(books)


def encode(said: Any) -> bytes:
    """An answer as it is kept: what came of it, by its name."""
    name = said.code if isinstance(said, DomainError) else str(said)
    return str(name).encode()


def key_of(name: str, body: str = "body") -> Key:
    digest, fingerprint = (hashlib.sha256(t.encode()).digest() for t in (name, body))
    return Key(digest, fingerprint, encode)


def move(
    debit: int,
    credit: int,
    amount: int,
    key: Key | None = None,
    *,
    id: UUID | None = None,
    settles: bool = False,
) -> Do:
    """A transfer; its result is its id."""
    transfer = Transfer(id or uuid4(), debit, credit, amount, settles=settles)

    def run(books: Books) -> UUID:
        books.transfer(transfer)
        return transfer.id

    return Do(run, (debit, credit), key=key)


def keep_back(
    debit: int, credit: int, amount: int, expires_ms: int, id: UUID | None = None
) -> Do:
    """A hold; its result is its id."""
    hold = Hold(id or uuid4(), debit, credit, amount, expires_ms)

    def run(books: Books) -> UUID:
        books.hold(hold)
        return hold.id

    return Do(run, (debit, credit))


def post(hold: Hold, amount: int | None = None, key: Key | None = None) -> Do:
    id = uuid4()
    return Do(
        lambda books: books.post(hold.id, id, amount)[1].amount_minor,
        (hold.debit, hold.credit),
        (hold.id,),
        key=key,
    )


def void(hold: Hold) -> Do:
    return Do(
        lambda books: books.void(hold.id).id, (hold.debit, hold.credit), (hold.id,)
    )


async def answer(deferred: Deferred[Any]) -> Any:
    """Wait for it. Raises what it failed with."""
    done = trio.Event()
    deferred.on_done(lambda _: done.set())
    await done.wait()
    return deferred.result()


def differences(
    accounts: Iterable[Account], holds: Iterable[Hold], postings: Iterable[Posting]
) -> list[str]:
    """What is not as it always has to be; recomputed from the postings alone."""
    found: list[str] = []
    history: dict[int, list[Posting]] = defaultdict(list)
    sides: dict[UUID, list[Posting]] = defaultdict(list)
    for posting in postings:
        history[posting.account].append(posting)
        sides[posting.transfer_id].append(posting)
    kept: dict[int, int] = defaultdict(int)
    for hold in holds:
        if hold.state is HoldState.PENDING:
            kept[hold.debit] += hold.amount_minor
        if hold.transfer_id is not None:
            moved = [p.amount_minor for p in sides[hold.transfer_id]]
            if sorted(moved) != [-hold.posted_minor, hold.posted_minor]:
                found.append(f"hold {hold.id} posted {moved}")
    sums: dict[Currency, int] = defaultdict(int)
    for account in accounts:
        sums[account.currency] += account.balance
        found += _of_account(account, history.pop(account.number, []), kept)
    found += [
        f"sum of {currency} is {total}" for currency, total in sums.items() if total
    ]
    found += [f"postings of no account {number}" for number in history]
    for id, pair in sides.items():
        amounts = [posting.amount_minor for posting in pair]
        if len(pair) != 2 or sum(amounts) != 0 or pair[0].counter != pair[1].account:
            found.append(f"transfer {id} has {amounts}")
    return found


def _of_account(
    account: Account, history: list[Posting], kept: dict[int, int]
) -> list[str]:
    found, balance = [], 0
    for version, posting in enumerate(
        sorted(history, key=lambda posting: posting.version), 1
    ):
        balance += posting.amount_minor
        if (posting.version, posting.balance) != (version, balance):
            found.append(f"posting {posting} is not {version}, {balance}")
    if (account.version, account.balance) != (len(history), balance):
        found.append(f"account {account.number} is not {len(history)}, {balance}")
    if account.held != kept[account.number]:
        found.append(f"account {account.number} holds not {kept[account.number]}")
    if account.floor is not None and account.available < account.floor:
        found.append(f"account {account.number} is below its floor")
    return found


class Book(Ledger, LedgerStore, Protocol):
    """Both ports, as both implementations have them."""


class LedgerContract:
    """The suite of both ports. Fixtures: `ledger` (running), `clock`."""

    async def opened(self, ledger: Book, funds: int, *more: int) -> tuple[int, ...]:
        """The world and wallets with so much in each."""
        world = await ledger.open(WORLD)
        numbers = []
        for amount in (funds, *more):
            number = await ledger.open(WALLET)
            if amount:
                await answer(ledger.submit(move(world, number, amount)))
            numbers.append(number)
        return world, *numbers

    async def test_a_transfer_moves_and_is_in_both_histories(
        self, ledger: Book, clock: ManualClock
    ) -> None:
        _, payer, payee = await self.opened(ledger, 500, 0)

        id = await answer(ledger.submit(move(payer, payee, 200)))

        one, other = await ledger.accounts([payee, payer])
        assert (one.number, one.balance, one.version) == (payer, 300, 2)
        assert (other.number, other.balance, other.version) == (payee, 200, 1)
        [newest, _] = await ledger.postings(payer)
        assert newest.at_ms == clock.now_ms()
        assert newest.posting == Posting(payer, 2, id, -200, 300, payee, 0)
        [only] = await ledger.postings(payee)
        assert only.posting == Posting(payee, 1, id, 200, 200, payer, 0)

    async def test_a_history_is_read_from_a_version_on_down(self, ledger: Book) -> None:
        _, payer, payee = await self.opened(ledger, 100, 0)
        for _ in range(5):
            await answer(ledger.submit(move(payer, payee, 1)))

        page = await ledger.postings(payee, below_version=5, count_max=2)

        assert [at.posting.version for at in page] == [4, 3]
        assert await ledger.postings(payee, below_version=1) == []

    async def test_a_refused_transfer_changes_nothing(self, ledger: Book) -> None:
        _, payer, payee = await self.opened(ledger, 100, 0)

        with pytest.raises(InsufficientFunds):
            await answer(ledger.submit(move(payer, payee, 101)))

        [account] = await ledger.accounts([payer])
        assert (account.balance, account.version) == (100, 1)
        assert await ledger.postings(payee) == []

    async def test_an_account_that_is_not_there_is_unknown(self, ledger: Book) -> None:
        _, payer = await self.opened(ledger, 100)

        with pytest.raises(AccountUnknown):
            await answer(ledger.submit(move(payer, 10**12, 1)))
        assert await ledger.accounts([10**12]) == []

    async def test_an_account_with_a_name_is_opened_once_for_each_currency(
        self, ledger: Book
    ) -> None:
        fees = Opening(THB, AccountKind.FEES, name="fees")
        number = await ledger.open(fees)

        assert await ledger.open(fees) == number
        other = await ledger.open(msgspec.structs.replace(fees, currency=Currency.VND))

        assert other != number
        found = {a.number: a.currency for a in await ledger.named("fees")}
        assert found == {number: THB, other: Currency.VND}
        assert await ledger.open(WALLET) != await ledger.open(WALLET)

    async def test_what_an_account_was_opened_with_is_kept(self, ledger: Book) -> None:
        opening = Opening(Currency.PHP, AccountKind.HOUSE, -50, 900, "house:test")

        number = await ledger.open(opening)

        [account] = await ledger.accounts([number])
        assert (account.currency, account.kind) == (Currency.PHP, AccountKind.HOUSE)
        assert (account.floor, account.ceiling) == (-50, 900)
        assert account.status is AccountStatus.OPEN

    async def test_a_hold_keeps_back_until_it_is_posted_in_part(
        self, ledger: Book, clock: ManualClock
    ) -> None:
        _, payer, payee = await self.opened(ledger, 100, 0)
        expires_ms = clock.now_ms() + HOUR_MS
        id = await answer(ledger.submit(keep_back(payer, payee, 80, expires_ms)))
        with pytest.raises(InsufficientFunds):
            await answer(ledger.submit(move(payer, payee, 21)))
        hold = await ledger.hold(id)
        assert hold == Hold(id, payer, payee, 80, expires_ms)

        assert await answer(ledger.submit(post(hold, 50))) == 50

        one, other = await ledger.accounts([payer, payee])
        assert (one.balance, one.held, other.balance) == (50, 0, 50)
        ended = await ledger.hold(id)
        assert ended is not None
        assert (ended.state, ended.posted_minor) == (HoldState.POSTED, 50)
        assert ended.transfer_id is not None
        for again in (post(hold, 1), void(hold)):
            with pytest.raises(HoldEnded):
                await answer(ledger.submit(again))

    async def test_holds_that_are_over_are_found_and_let_go(
        self, ledger: Book, clock: ManualClock
    ) -> None:
        _, payer, payee = await self.opened(ledger, 100, 0)
        now_ms = clock.now_ms()
        later, sooner = [
            await answer(ledger.submit(keep_back(payer, payee, 10, now_ms + wait_ms)))
            for wait_ms in (2_000, 1_000)
        ]
        assert await ledger.due_holds(now_ms, 10) == []
        clock.advance(2_000)

        due = await ledger.due_holds(clock.now_ms(), 10)

        assert [hold.id for hold in due] == [sooner, later]
        assert await ledger.due_holds(clock.now_ms(), 1) == due[:1]
        for hold in due:
            with pytest.raises(HoldEnded):
                await answer(ledger.submit(post(hold)))
            await answer(ledger.submit(void(hold)))
        assert await ledger.due_holds(clock.now_ms(), 10) == []
        kept = await ledger.hold(sooner)
        assert kept is not None
        assert kept.state is HoldState.EXPIRED
        [account] = await ledger.accounts([payer])
        assert (account.balance, account.held) == (100, 0)

    async def test_a_hold_that_is_not_there_is_unknown(self, ledger: Book) -> None:
        _, payer, payee = await self.opened(ledger, 100, 0)
        missing = Hold(uuid4(), payer, payee, 1, 1)

        with pytest.raises(HoldUnknown):
            await answer(ledger.submit(void(missing)))
        assert await ledger.hold(missing.id) is None

    async def test_a_key_has_its_effect_once_and_tells_the_first_answer(
        self, ledger: Book
    ) -> None:
        _, payer, payee = await self.opened(ledger, 100, 0)
        first = await answer(ledger.submit(move(payer, payee, 30, key_of("k"))))

        again = await answer(ledger.submit(move(payer, payee, 30, key_of("k"))))

        assert again == Replayed(str(first).encode())
        with pytest.raises(KeyReused):
            await answer(ledger.submit(move(payer, payee, 30, key_of("k", "other"))))
        [account] = await ledger.accounts([payee])
        assert account.balance == 30

    async def test_a_refusal_is_kept_under_its_key_too(self, ledger: Book) -> None:
        world, payer, payee = await self.opened(ledger, 0, 0)
        with pytest.raises(InsufficientFunds):
            await answer(ledger.submit(move(payer, payee, 30, key_of("k"))))
        await answer(ledger.submit(move(world, payer, 30)))

        again = await answer(ledger.submit(move(payer, payee, 30, key_of("k"))))

        assert again == Replayed(b"insufficient-funds")

    async def test_a_status_and_what_was_spent_are_kept(self, ledger: Book) -> None:
        _, payer = await self.opened(ledger, 0)
        spending = Spending(5, 20_000, 24_000, 100, 10, 1_000)
        await answer(
            ledger.submit(Do(lambda books: books.spend(payer, spending), (payer,)))
        )
        await answer(
            ledger.submit(
                Do(
                    lambda books: books.set_status(payer, AccountStatus.CLOSED),
                    (payer,),
                )
            )
        )

        [account] = await ledger.accounts([payer])
        assert account.status is AccountStatus.CLOSED
        assert (account.day, account.day_spent, account.day_count) == (20_000, 5, 1)
        assert (account.month, account.month_spent) == (24_000, 5)
        with pytest.raises(AccountClosed):
            await answer(ledger.submit(move(payer, await ledger.open(WALLET), 1)))

    async def test_commands_are_decided_in_the_order_of_their_submission(
        self, ledger: Book
    ) -> None:
        world, payer, payee = await self.opened(ledger, 0, 0)

        answers = [
            ledger.submit(command)
            for command in (
                move(payer, payee, 1),
                move(world, payer, 10),
                move(payer, payee, 10),
                move(payer, payee, 1),
            )
        ]

        outcomes = [await outcome_of(one) for one in answers]
        assert [type(outcome) for outcome in outcomes] == [
            *(InsufficientFunds, UUID, UUID, InsufficientFunds),
        ]

    async def test_a_mistake_of_one_command_is_its_own(self, ledger: Book) -> None:
        _, payer, payee = await self.opened(ledger, 100, 0)

        def stumble(books: Books) -> None:
            books.transfer(Transfer(uuid4(), payer, payee, 50))
            raise ZeroDivisionError

        answers = [
            ledger.submit(command)
            for command in (
                move(payer, payee, 1),
                Do(stumble, (payer, payee)),
                move(payer, payee, 1),
            )
        ]

        first, wrong, last = [await outcome_of(one) for one in answers]
        assert isinstance(first, UUID)
        assert isinstance(wrong, ZeroDivisionError)
        assert isinstance(last, UUID)
        [account] = await ledger.accounts([payee])
        assert account.balance == 2


async def outcome_of(deferred: Deferred[Any]) -> Any:
    """What was answered: the value, or the error."""
    try:
        return await answer(deferred)
    except Exception as error:  # noqa: BLE001  # to be looked at
        return error


async def outcomes_of(deferreds: Sequence[Deferred[Any]]) -> list[Any]:
    return [await outcome_of(deferred) for deferred in deferreds]
