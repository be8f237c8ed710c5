"""Owns sending money to a person: who may, to whom, and who is told.

    checks in memory -> one decision in the ledger's batch -> answer -> both are told

Everything that a payment needs to know (whose wallet it is, who the recipient is, whom
they block, who is in the dialog) is in memory for whoever was seen lately, and is
loaded first for others; so a payment waits for one commit and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec import UNSET

from tchatd.domains.payment import views
from tchatd.domains.payment.announcing import PaymentShown
from tchatd.domains.payment.answering import Answering, key_of
from tchatd.domains.payment.commands import Send, Sent
from tchatd.domains.payment.errors import (
    NotToOneself,
    RecipientNotFound,
    WalletNotFound,
    WrongCurrency,
)
from tchatd.domains.payment.known import KnownWallets
from tchatd.domains.payment.ledger.errors import AccountClosed
from tchatd.domains.payment.models import (
    SendMoney,
    Transaction,
    TransactionUpdated,
    WalletUpdated,
)
from tchatd.domains.payment.rows import WalletFacts
from tchatd.domains.payment.rules import ChargeTable, LimitTable, zone_of
from tchatd.domains.payment.store import Dialogs, Hub, People, Person
from tchatd.kernel.deferred import Deferred
from tchatd.kernel.errors import DomainError, NotForBots, Unavailable
from tchatd.kernel.ids import Ids
from tchatd.kernel.money import Currency
from tchatd.kernel.routing import Context
from tchatd.kernel.sagas import SagaBegun, Sagas, SagaType

ATTEMPTS_MAX: Final = 5
"""How often something that was loaded may be forgotten again before it is used."""
_SEEMS_NEW: Final = object()
"""All is known, but that the recipient has a wallet."""


class Sending:
    """fees_accounts: by currency; filled before the first payment."""

    def __init__(
        self,
        answering: Answering,
        known: KnownWallets,
        people: People,
        dialogs: Dialogs,
        hub: Hub,
        sagas: Sagas,
        message_saga: SagaType[PaymentShown],
        ids: Ids,
        limits: LimitTable,
        charges: ChargeTable,
    ) -> None:
        self._answering = answering
        self._known = known
        self._people = people
        self._dialogs = dialogs
        self._hub = hub
        self._sagas = sagas
        self._message_saga = message_saga
        self._ids = ids
        self._limits = limits
        self._charges = charges
        self.fees_accounts: Mapping[Currency, int] = {}

    def send(
        self,
        context: Context,
        command: SendMoney,
        details: Mapping[str, Any] | None = None,
    ) -> Any:
        """A Deferred of the sender's Transaction, or an awaitable of one.

        details: for its metadata.

        Raises:
            WalletNotFound, WrongCurrency, NotToOneself, RecipientNotFound and the
            others of the route.
        """
        try:
            found = self._attempt(context, command, details)
        except DomainError as refusal:
            return self._answering.refused(context, refusal)
        if isinstance(found, Deferred):
            return found
        return self._later(context, command, details)

    def _attempt(
        self,
        context: Context,
        command: SendMoney,
        details: Mapping[str, Any] | None,
    ) -> Any:
        """The answer, None if something has to be loaded, or _SEEMS_NEW."""
        caller, people = context.user, self._people
        facts = self._known.by_id(command.wallet_id)
        if facts is None:
            return None
        if facts.user_number != caller.user_number:
            raise WalletNotFound
        if facts.currency is not command.currency:
            raise WrongCurrency(fields={"currency": "is not the wallet's"})
        if command.recipient_id == caller.user_id:
            raise NotToOneself
        number = people.number_of(command.recipient_id)
        payer = people.peek(caller.user_number)
        payee = None if number is None else people.peek(number)
        if payer is None or payee is None:
            return None
        if not payer.is_payable:
            raise NotForBots
        if not payee.is_payable:
            raise RecipientNotFound
        if not people.check_reach(payer.number, payee.number):
            return None
        if command.dialog_id is not UNSET and not self._dialogs.check(
            caller, command.dialog_id, payee.number
        ):
            return None
        theirs = self._known.of_owner(payee.number, command.currency)
        if theirs is None:
            return _SEEMS_NEW
        return self._submit(context, command, facts, theirs, (payer, payee), details)

    async def _later(
        self,
        context: Context,
        command: SendMoney,
        details: Mapping[str, Any] | None,
    ) -> Any:
        """As `send`, loading what is not in memory."""
        try:
            for _ in range(ATTEMPTS_MAX):
                await self._load(context, command)
                found = self._attempt(context, command, details)
                if found is _SEEMS_NEW:
                    number = self._people.number_of(command.recipient_id)
                    assert number is not None
                    await self._known.of_person(
                        number, command.recipient_id, command.currency
                    )
                    found = self._attempt(context, command, details)
                if isinstance(found, Deferred):
                    return found
            raise Unavailable("Too much is being loaded.")
        except DomainError as refusal:
            return self._answering.refused(context, refusal)

    async def _load(self, context: Context, command: SendMoney) -> None:
        """Raises: WalletNotFound, RecipientNotFound, DialogNotFound, Unavailable."""
        caller, people = context.user, self._people
        if self._known.by_id(command.wallet_id) is None:
            await self._known.load(command.wallet_id)
        number = people.number_of(command.recipient_id)
        if number is None:
            number = await people.find(command.recipient_id)
        if number is None:
            raise RecipientNotFound
        found = await people.load((caller.user_number, number))
        if number not in found:
            raise RecipientNotFound
        await people.load_reach(caller.user_number, number)
        if command.dialog_id is not UNSET:
            await self._dialogs.load(caller, command.dialog_id, number)

    def _submit(
        self,
        context: Context,
        command: SendMoney,
        ours: WalletFacts,
        theirs: WalletFacts,
        people: tuple[Person, Person],
        details: Mapping[str, Any] | None,
    ) -> Deferred[Any]:
        payer, payee = people
        currency, ids = command.currency, self._ids
        id = ids.v7()
        fee = self._charges.fee("send", command.amount, currency)
        saga = self._saga(context, command, id)
        metadata: dict[str, Any] = dict(details or {})
        if command.dialog_id is not UNSET:
            metadata["dialog_id"] = command.dialog_id
        names = {payee.number: payee.name}

        def view(sent: Sent) -> Transaction:
            return views.transaction_view(sent.send, names)

        def told(sent: Sent) -> None:
            if saga is not None:
                self._sagas.launch(saga)
            self._tell(context, ours, theirs, people, sent)

        send = Send(
            key=key_of(context, view),
            id=id,
            event_ids=(ids.v7(), ids.v7()),
            sender=ours,
            recipient=theirs,
            amount=command.amount,
            limits=self._limits.of(payer.tier, currency),
            zone_ms=zone_of(payer.country),
            fee=fee,
            fees_account=self.fees_accounts[currency] if fee else 0,
            description=command.description,
            reference=command.reference or None,
            details=metadata,
            saga=saga,
            request_id=context.request_id,
        )

        def refused(error: Exception) -> None:
            if isinstance(error, AccountClosed):  # its owner may have another one
                self._known.forget(theirs)

        return self._answering.submit(send, view, told, refused)

    def _saga(self, context: Context, command: SendMoney, id: Any) -> SagaBegun | None:
        if command.dialog_id is UNSET:
            return None
        caller = context.user
        data = PaymentShown(
            transaction_id=id,
            payer_number=caller.user_number,
            payer_id=caller.user_id,
            dialog_id=command.dialog_id,
            client_id=self._ids.v7(),
            amount=command.amount,
            currency=command.currency.value,
            description=command.description,
        )
        return self._sagas.begun(self._message_saga, data, self._ids.v7())

    def _tell(
        self,
        context: Context,
        ours: WalletFacts,
        theirs: WalletFacts,
        people: tuple[Person, Person],
        sent: Sent,
    ) -> None:
        """Both, on every device; the one that asked has its answer."""
        payer, payee = people
        hub, online = self._hub, self._hub.online
        if payer.number in online:
            view = views.transaction_view(sent.send, {payee.number: payee.name})
            hub.deliver_user(
                payer.number,
                TransactionUpdated(view),
                except_connection=context.connection,
            )
            wallet = views.wallet_of(ours, sent.sender)
            hub.deliver_user(payer.number, WalletUpdated(wallet))
        if payee.number in online:
            view = views.transaction_view(sent.receive, {payer.number: payer.name})
            hub.deliver_user(payee.number, TransactionUpdated(view))
            wallet = views.wallet_of(theirs, sent.recipient)
            hub.deliver_user(payee.number, WalletUpdated(wallet))
