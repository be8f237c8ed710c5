"""Owns what every store of wallets and transactions has to do, through a ledger; run
over memory and over PostgreSQL."""

from __future__ import annotations

from typing import Any, Protocol
from uuid import UUID, uuid4

import pytest
from msgspec import structs

from tchatd.domains.payment import rules
from tchatd.domains.payment.commands import Change, Move, Open, Send
from tchatd.domains.payment.errors import WalletExists, WrongState
from tchatd.domains.payment.ledger.books import Books
from tchatd.domains.payment.ledger.models import AccountKind, Opening, Transfer
from tchatd.domains.payment.models import other_side
from tchatd.domains.payment.rows import (
    TransactionRow,
    WalletFacts,
    WalletState,
    facts_of,
)
from tchatd.domains.payment.store import TransactionStore, WalletStore
from tchatd.kernel.clock import ManualClock
from tchatd.kernel.ids import Ids
from tchatd.kernel.money import Currency
from tests.support.ledger import Book, Do, answer

THB, VND = Currency.THB, Currency.VND
LIMITS = rules.Limits(10**12, 10**12, 10**6)


class Stores(Protocol):
    """users: numbers and ids of people that there are, at least four."""

    @property
    def ledger(self) -> Book: ...
    @property
    def wallets(self) -> WalletStore: ...
    @property
    def transactions(self) -> TransactionStore: ...
    @property
    def users(self) -> list[tuple[int, UUID]]: ...


class PaymentStoresContract:
    """Subclasses give a `stores` fixture (its ledger running) and `clock`."""

    @pytest.fixture
    def ids(self, clock: ManualClock) -> Ids:
        return Ids(clock)

    async def opening(
        self,
        stores: Stores,
        user: int = 0,
        currency: Currency = THB,
        **more: Any,
    ) -> Open:
        number, id = stores.users[user]
        account = await stores.ledger.open(Opening(currency, AccountKind.WALLET))
        return Open(
            id=uuid4(),
            event_ids=(uuid4(), uuid4()),
            account=account,
            user_number=number,
            user_id=id,
            currency=currency,
            **more,
        )

    async def open(
        self, stores: Stores, user: int = 0, funds: int = 0, currency: Currency = THB
    ) -> WalletFacts:
        command = await self.opening(stores, user, currency)
        state: WalletState = await answer(stores.ledger.submit(command))
        if funds:
            world = await stores.ledger.open(
                Opening(currency, AccountKind.WORLD, floor=None, name="world:test")
            )
            transfer = Transfer(uuid4(), world, state.row.account, funds)
            await answer(
                stores.ledger.submit(
                    Do(
                        lambda books: books.transfer(transfer),
                        (world, state.row.account),
                    )
                )
            )
        return facts_of(state.row)

    def sending(
        self, ids: Ids, sender: WalletFacts, recipient: WalletFacts, amount: int
    ) -> Send:
        return Send(
            id=ids.v7(),
            event_ids=(ids.v7(), ids.v7()),
            sender=sender,
            recipient=recipient,
            amount=amount,
            limits=LIMITS,
            zone_ms=0,
            description="ค่าข้าว",
            reference="r-1",
            details={"dialog_id": "d"},
        )

    async def test_a_wallet_is_found_by_its_id_its_owner_and_its_currency(
        self, stores: Stores
    ) -> None:
        first = await self.open(stores, funds=500)
        second = await self.open(stores, currency=VND)
        await self.open(stores, user=1)
        number = stores.users[0][0]

        states = await stores.wallets.of_user(number)

        assert [facts_of(state.row) for state in states] == [first, second]
        assert [state.row.is_primary for state in states] == [True, False]
        assert (states[0].balance, states[0].held, states[0].version) == (500, 0, 1)
        assert await stores.wallets.wallet(first.id) == states[0]
        assert await stores.wallets.in_currency(number, VND) == states[1].row
        assert await stores.wallets.wallet(uuid4()) is None
        assert await stores.wallets.in_currency(number, Currency.USD) is None
        assert await stores.wallets.of_user(stores.users[2][0]) == []

    async def test_a_second_wallet_of_a_currency_is_refused_also_at_once(
        self, stores: Stores
    ) -> None:
        commands = [await self.opening(stores) for _ in range(5)]

        answers = [stores.ledger.submit(command) for command in commands]

        outcomes = []
        for deferred in answers:
            try:
                outcomes.append(await answer(deferred))
            except WalletExists:
                outcomes.append(None)
        assert sum(outcome is not None for outcome in outcomes) == 1
        assert len(await stores.wallets.of_user(stores.users[0][0])) == 1

    async def test_a_change_is_kept(self, stores: Stores, clock: ManualClock) -> None:
        first, second = await self.open(stores), await self.open(stores, currency=VND)
        clock.advance(1_000)

        for change in (
            Change(event_ids=(uuid4(), uuid4()), facts=second, is_primary=True),
            Change(
                event_ids=(uuid4(), uuid4()),
                facts=first,
                by="operator",
                status="suspended",
            ),
            Change(event_ids=(uuid4(), uuid4()), facts=second, status="closed"),
        ):
            told = await answer(stores.ledger.submit(change))
            assert await stores.wallets.wallet(change.facts.id) == told

        one, two = await stores.wallets.of_user(stores.users[0][0])
        assert (one.status, one.row.suspended_by) == ("suspended", "operator")
        assert (two.status, two.row.closed_ms) == ("closed", clock.now_ms())
        assert (one.row.is_primary, two.row.is_primary) == (True, False)
        # Primary no more, suspended, primary again; primary, closed.
        assert (one.row.version, two.row.version) == (4, 3)
        assert one.row.updated_ms == clock.now_ms()
        await self.open(stores, currency=VND)
        latest = await stores.wallets.in_currency(stores.users[0][0], VND)
        assert latest is not None
        assert latest.id != second.id

    async def test_both_sides_are_kept_as_they_were_decided(
        self, stores: Stores, ids: Ids
    ) -> None:
        payer, payee = await self.open(stores, funds=500), await self.open(stores, 1)

        sent = await answer(stores.ledger.submit(self.sending(ids, payer, payee, 120)))

        mine, theirs = stores.users[0][0], stores.users[1][0]
        both = (sent.send.id, sent.receive.id)
        assert sent.receive.id == other_side(sent.send.id)
        assert await stores.transactions.transaction(both, mine) == sent.send
        assert await stores.transactions.transaction(both, theirs) == sent.receive
        assert await stores.transactions.transaction(both, 99_999) is None
        assert await stores.transactions.transaction((uuid4(),), mine) is None

    async def test_history_is_in_the_order_of_postings(
        self, stores: Stores, ids: Ids
    ) -> None:
        payer = await self.open(stores, funds=500)
        payee = await self.open(stores, 1, funds=500)
        commands = [
            self.sending(ids, payer, payee, amount)
            if amount % 3
            else self.sending(ids, payee, payer, amount)
            for amount in range(1, 10)
        ]
        for deferred in [stores.ledger.submit(command) for command in commands]:
            await answer(deferred)

        rows, total = await self.page(stores, payer)

        assert total == 9
        assert [row.amount for row in rows] == [9, 8, 7, 6, 5, 4, 3, 2, 1]
        balance = 500
        for row in reversed(rows):
            assert row.balance_before == balance
            balance = row.balance_after or 0

    async def test_pages_of_history(self, stores: Stores, ids: Ids) -> None:
        payer = await self.open(stores, funds=500)
        payee = await self.open(stores, 1, funds=500)
        for amount in range(1, 8):
            await answer(stores.ledger.submit(self.sending(ids, payer, payee, amount)))
        await answer(stores.ledger.submit(self.sending(ids, payee, payer, 50)))

        numbered, total = await stores.transactions.page(
            payer.account, type="send", below=None, offset=1, limit=2
        )
        assert [n.row.amount for n in numbered] == [6, 5]
        assert total == 7
        rest, total = await stores.transactions.page(
            payer.account, type=None, below=numbered[-1].number, offset=0, limit=10
        )
        assert [n.row.amount for n in rest] == [4, 3, 2, 1]
        assert total == 8
        none, total = await stores.transactions.page(
            payer.account, type="refund", below=None, offset=0, limit=10
        )
        assert (none, total) == ([], 0)

    async def test_notes_are_put_into_the_metadata(
        self, stores: Stores, ids: Ids
    ) -> None:
        payer, payee = await self.open(stores, funds=500), await self.open(stores, 1)
        sent = await answer(stores.ledger.submit(self.sending(ids, payer, payee, 1)))
        both = (sent.send.id, sent.receive.id)

        for _ in range(2):
            await stores.transactions.annotate(both, {"why": "ก", "n": 1})
        await stores.transactions.annotate((uuid4(),), {"no": "one"})

        for user in (0, 1):
            row = await stores.transactions.transaction(both, stores.users[user][0])
            assert row is not None
            assert row.metadata == {"dialog_id": "d", "why": "ก", "n": 1}

    async def test_a_transaction_moves_from_state_to_state(
        self, stores: Stores, ids: Ids, clock: ManualClock
    ) -> None:
        wallet = await self.open(stores)
        row = TransactionRow(
            id=ids.v7(),
            wallet_id=wallet.id,
            account=wallet.account,
            user_number=wallet.user_number,
            user_id=wallet.user_id,
            type="topup",
            status="pending",
            currency=THB,
            amount=100,
            fee=0,
            net_amount=100,
            created_ms=clock.now_ms(),
            counterpart_type="system",
            counterpart_name="Stripe",
        )

        def write(books: Books) -> None:
            books.write(row)

        await answer(stores.ledger.submit(Do(write, (wallet.account,))))
        clock.advance(5)
        for to in ("processing", "completed"):
            moved = await answer(
                stores.ledger.submit(
                    Move(id=row.id, account=wallet.account, event_id=uuid4(), to=to)
                )
            )
            number = stores.users[0][0]
            assert await stores.transactions.transaction((row.id,), number) == moved
        assert moved == structs.replace(
            row,
            status="completed",
            version=3,
            processed_ms=clock.now_ms(),
            completed_ms=clock.now_ms(),
        )
        again = stores.ledger.submit(
            Move(id=row.id, account=wallet.account, event_id=uuid4(), to="failed")
        )
        with pytest.raises(WrongState):
            await answer(again)

    async def page(
        self, stores: Stores, wallet: WalletFacts
    ) -> tuple[list[TransactionRow], int]:
        numbered, total = await stores.transactions.page(
            wallet.account, type=None, below=None, offset=0, limit=100
        )
        return [one.row for one in numbered], total
