"""Owns what is remembered of wallets, so that a payment needs no query before it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from tchatd.domains.payment.commands import Open
from tchatd.domains.payment.errors import WalletNotFound
from tchatd.domains.payment.ledger.deciding import Key, Ledger
from tchatd.domains.payment.ledger.models import AccountKind, Opening
from tchatd.domains.payment.rows import WalletFacts, WalletRow, WalletState, facts_of
from tchatd.domains.payment.store import Accounts, WalletStore
from tchatd.kernel.deferred import Deferred
from tchatd.kernel.ids import Ids
from tchatd.kernel.lru import Lru
from tchatd.kernel.money import Currency

Settle = Callable[[Deferred[Any]], Awaitable[Any]]
"""Waits for it, and raises what it failed with: a domain has no events of its own."""


class KnownWallets:
    """Facts of wallets, by id and by owner and currency. size: of each.

    Facts never change; only which of an owner's wallets is the one of a currency does,
    once the old one is closed: then `forget` it.
    """

    def __init__(
        self,
        store: WalletStore,
        accounts: Accounts,
        ledger: Ledger,
        settle: Settle,
        ids: Ids,
        size: int,
    ) -> None:
        self._store = store
        self._accounts = accounts
        self._ledger = ledger
        self._settle = settle
        self._ids = ids
        self._by_id: Lru[UUID, WalletFacts] = Lru(size)
        self._by_owner: Lru[tuple[int, Currency], WalletFacts] = Lru(size)

    def by_id(self, id: UUID) -> WalletFacts | None:
        """None: `load` it."""
        return self._by_id.get(id)

    def of_owner(self, user_number: int, currency: Currency) -> WalletFacts | None:
        """None: `open` it, or find it."""
        return self._by_owner.get((user_number, currency))

    def learn(self, row: WalletRow) -> WalletFacts:
        facts = facts_of(row)
        self._by_id.put(row.id, facts)
        key = row.user_number, row.currency
        known = self._by_owner.peek(key)
        if known is None or known.account <= facts.account:
            self._by_owner.put(key, facts)
        return facts

    def forget(self, facts: WalletFacts) -> None:
        """Its owner may have another one of the currency."""
        self._by_owner.pop((facts.user_number, facts.currency))

    async def load(self, id: UUID) -> WalletFacts:
        """Raises: WalletNotFound, Unavailable."""
        state = await self._store.wallet(id)
        if state is None:
            raise WalletNotFound
        return self.learn(state.row)

    async def of_person(self, number: int, id: UUID, currency: Currency) -> WalletFacts:
        """The person's wallet of the currency, opened if they never had one.

        Raises: Unavailable.
        """
        row = await self._store.in_currency(number, currency)
        if row is None:
            command = await self.opening(number, id, currency, is_asked=False)
            state: WalletState = await self._settle(self._ledger.submit(command))
            row = state.row
        return self.learn(row)

    async def opening(
        self,
        number: int,
        id: UUID,
        currency: Currency,
        *,
        is_asked: bool,
        is_primary: bool = False,
        request_id: str | None = None,
        key: Key | None = None,
    ) -> Open:
        """The command, with an account of its own. Raises: Unavailable."""
        account = await self._accounts.open(Opening(currency, AccountKind.WALLET))
        return Open(
            key=key,
            id=self._ids.v4(),
            event_ids=(self._ids.v7(), self._ids.v7()),
            account=account,
            user_number=number,
            user_id=id,
            currency=currency,
            is_primary=is_primary,
            is_asked=is_asked,
            request_id=request_id,
        )
