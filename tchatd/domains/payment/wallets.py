"""Owns a user's wallets: opening, looking, choosing, suspending, closing."""

from __future__ import annotations

from typing import Any, Protocol
from uuid import UUID

from msgspec import UNSET

from tchatd.domains.payment import views
from tchatd.domains.payment.answering import Answering, key_of
from tchatd.domains.payment.commands import AccountNow, Change
from tchatd.domains.payment.errors import WalletExists, WalletNotFound
from tchatd.domains.payment.known import KnownWallets
from tchatd.domains.payment.ledger.models import AccountStatus
from tchatd.domains.payment.models import (
    Balance,
    ChangeWallet,
    CloseWallet,
    GetWallet,
    ListWallets,
    OpenWallet,
    Wallet,
    WalletStatus,
    WalletUpdated,
)
from tchatd.domains.payment.rows import (
    SuspendedBy,
    WalletFacts,
    WalletState,
    facts_of,
)
from tchatd.domains.payment.rules import LimitTable, zone_of
from tchatd.domains.payment.store import Hub, People, Person, WalletStore
from tchatd.kernel.clock import Clock
from tchatd.kernel.deferred import Deferred
from tchatd.kernel.errors import DomainError, NotForBots, Unauthorized
from tchatd.kernel.ids import Ids
from tchatd.kernel.routing import Context


class OfWallet(Protocol):
    """A command that names a wallet."""

    @property
    def wallet_id(self) -> UUID: ...


class Wallets:
    """Handlers of the wallet operations but for their history."""

    def __init__(
        self,
        answering: Answering,
        store: WalletStore,
        known: KnownWallets,
        people: People,
        hub: Hub,
        clock: Clock,
        ids: Ids,
        limits: LimitTable,
    ) -> None:
        self._answering = answering
        self._store = store
        self._known = known
        self._people = people
        self._hub = hub
        self._clock = clock
        self._ids = ids
        self._limits = limits

    async def list(self, context: Context, command: ListWallets) -> list[Wallet]:
        """Raises: Unavailable."""
        person = await self._person(context)
        states = await self._store.of_user(person.number)
        states.sort(key=lambda state: (not state.row.is_primary, state.row.account))
        return [self._view(state, person) for state in states]

    async def balance(self, context: Context, command: GetWallet) -> Balance:
        """Raises: WalletNotFound, Unavailable."""
        state = await self._store.wallet(command.wallet_id)
        if state is None or state.row.user_number != context.user.user_number:
            raise WalletNotFound
        self._known.learn(state.row)
        return views.balance_view(state)

    async def get(self, context: Context, command: GetWallet) -> Wallet:
        """Raises: WalletNotFound, Unavailable."""
        person = await self._person(context)
        state = await self._store.wallet(command.wallet_id)
        if state is None or state.row.user_number != person.number:
            raise WalletNotFound
        return self._view(state, person)

    async def open(self, context: Context, command: OpenWallet) -> Any:
        """A Deferred of the new Wallet.

        Raises: NotForBots, WalletExists, Unavailable, InDoubt.
        """
        person = await self._person(context)
        try:
            if not person.is_payable:
                raise NotForBots
            row = await self._store.in_currency(person.number, command.currency)
            if row is not None and not row.closed_ms:
                raise WalletExists(fields={"currency": "has a wallet"})
        except DomainError as refusal:
            return self._answering.refused(context, refusal)

        def view(state: WalletState) -> Wallet:
            return self._view(state, person)

        opening = await self._known.opening(
            person.number,
            person.id,
            command.currency,
            is_asked=True,
            is_primary=command.is_primary,
            request_id=context.request_id,
            key=key_of(context, view),
        )
        return self._answering.submit(
            opening, view, lambda state: self._known.learn(state.row)
        )

    async def change(self, context: Context, command: ChangeWallet) -> Any:
        """A Deferred of the Wallet.

        Raises: WalletNotFound, WalletClosed, WalletSuspended, PrimaryStays.
        """
        person = await self._person(context)
        facts = await self.own(context, command)
        primary, status = command.is_primary, command.status
        return self._submit(
            context,
            person,
            Change(
                event_ids=(self._ids.v7(), self._ids.v7()),
                facts=facts,
                is_primary=None if primary is UNSET else primary,
                status=None if status is UNSET else status,
                request_id=context.request_id,
            ),
        )

    async def close(self, context: Context, command: CloseWallet) -> Any:
        """A Deferred of the closed Wallet.

        Raises: WalletNotFound, WalletNotEmpty, WalletSuspended.
        """
        person = await self._person(context)
        facts = await self.own(context, command)
        return self._submit(
            context,
            person,
            Change(
                event_ids=(self._ids.v7(), self._ids.v7()),
                facts=facts,
                status="closed",
                request_id=context.request_id,
            ),
        )

    def command_of(
        self, facts: WalletFacts, by: SuspendedBy, to: WalletStatus
    ) -> Change:
        """What an operator does to a wallet: freeze it, or let it go."""
        ids = self._ids.v7(), self._ids.v7()
        return Change(event_ids=ids, facts=facts, by=by, status=to)

    async def own(self, context: Context, command: OfWallet) -> WalletFacts:
        """The caller's wallet. Raises: WalletNotFound, Unavailable."""
        facts = self._known.by_id(command.wallet_id)
        if facts is None:
            facts = await self._known.load(command.wallet_id)
        if facts.user_number != context.user.user_number:
            raise WalletNotFound
        return facts

    def _submit(
        self, context: Context, person: Person, change: Change
    ) -> Deferred[Any]:
        def told(state: WalletState) -> None:
            if state.row.closed_ms:
                self._known.forget(change.facts)
            self.tell(state)

        return self._answering.submit(
            change, lambda state: self._view(state, person), told
        )

    def tell(self, state: WalletState) -> None:
        """Its owner's devices; whoever calls this flushes."""
        row = state.row
        if row.user_number not in self._hub.online:
            return
        status = {
            "active": AccountStatus.OPEN,
            "suspended": AccountStatus.SUSPENDED,
            "closed": AccountStatus.CLOSED,
        }[state.status]
        now = AccountNow(
            state.balance, state.held, status, state.version, row.updated_ms
        )
        event = WalletUpdated(views.wallet_of(facts_of(row), now))
        self._hub.deliver_user(row.user_number, event)

    def _view(self, state: WalletState, person: Person) -> Wallet:
        return views.wallet_view(
            state,
            self._limits.of(person.tier, state.row.currency),
            zone_of(person.country),
            self._clock.now_ms(),
        )

    async def _person(self, context: Context) -> Person:
        """Raises: Unauthorized, Unavailable."""
        number = context.user.user_number
        person = self._people.peek(number)
        if person is None:
            person = (await self._people.load((number,))).get(number)
        if person is None:
            raise Unauthorized
        return person
