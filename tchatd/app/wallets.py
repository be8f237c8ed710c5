"""Owns how wallets are put together, and what payments see of people and dialogs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from tchatd.app.settings import Payment
from tchatd.domains.auth.models import User
from tchatd.domains.auth.service import AuthService
from tchatd.domains.messaging import errors as messaging_errors
from tchatd.domains.messaging import rules as messaging_rules
from tchatd.domains.messaging.access import DialogAccess
from tchatd.domains.messaging.content import PaymentContent
from tchatd.domains.messaging.reach import Blocks, may_reach
from tchatd.domains.messaging.scheduling import awaited
from tchatd.domains.messaging.service import MessagingService
from tchatd.domains.messaging.state import MessagingState
from tchatd.domains.messaging.store import CommandLog
from tchatd.domains.moderation.standing import Standing
from tchatd.domains.payment import routes
from tchatd.domains.payment.announcing import Announcing
from tchatd.domains.payment.answering import Answering
from tchatd.domains.payment.errors import DialogNotFound, PaymentNotAllowed
from tchatd.domains.payment.history import History
from tchatd.domains.payment.known import KnownWallets
from tchatd.domains.payment.ledger.models import AccountKind, Opening
from tchatd.domains.payment.rules import ChargeTable, LimitTable
from tchatd.domains.payment.sending import Sending
from tchatd.domains.payment.store import Person
from tchatd.domains.payment.wallets import Wallets as WalletService
from tchatd.edge.http import outcome
from tchatd.edge.hub import Hub
from tchatd.kernel.clock import Clock
from tchatd.kernel.deferred import Deferred
from tchatd.kernel.errors import DomainError, ErrorKind
from tchatd.kernel.events import EventDraft
from tchatd.kernel.ids import Ids
from tchatd.kernel.money import Currency
from tchatd.kernel.routing import Caller, Context, Operation
from tchatd.kernel.sagas import SagaBegun, Sagas
from tchatd.stores.postgres import transactions, wallets
from tchatd.stores.postgres.event_log import append_statement
from tchatd.stores.postgres.ledger import PostgresLedger
from tchatd.stores.postgres.ledger_store import PostgresLedgerStore
from tchatd.stores.postgres.pool import Pool
from tchatd.stores.postgres.sagas import begin_statement

FEES: Final = "fees"
"""Name of the accounts that our fees go to, one of each currency."""
_NO_SESSION: Final = UUID(int=0)


class PaidPeople:
    """The `People` of payments: sign-in's profiles, who is banned, who blocks whom."""

    def __init__(self, auth: AuthService, standing: Standing, blocks: Blocks) -> None:
        self._auth = auth
        self._standing = standing
        self._blocks = blocks

    def number_of(self, id: UUID) -> int | None:
        return self._auth.directory.cached_number(id)

    async def find(self, id: UUID) -> int | None:
        return (await self._auth.directory.numbers_of((id,))).get(id)

    def peek(self, number: int) -> Person | None:
        user = self._auth.profiles.peek(number)
        return None if user is None else self._person(number, user)

    async def load(self, numbers: Sequence[int]) -> Mapping[int, Person]:
        found = await self._auth.profiles.of(numbers)
        return {number: self._person(number, user) for number, user in found.items()}

    def check_reach(self, payer: int, payee: int) -> bool:
        is_blocked = self._blocks.is_blocked(payee, payer)
        if is_blocked:
            raise PaymentNotAllowed
        return is_blocked is not None

    async def load_reach(self, payer: int, payee: int) -> None:
        await self._blocks.load((payee,))

    def _person(self, number: int, user: User) -> Person:
        is_bot = user.is_bot is True
        return Person(
            number,
            UUID(user.id),
            user.name,
            user.kyc_tier,
            user.country,
            not is_bot and not self._standing.is_banned(number),
        )


class PaidDialogs:
    """The `Dialogs` of payments, in messaging's words."""

    def __init__(
        self,
        messaging: MessagingService,
        state: MessagingState,
        log: CommandLog,
        blocks: Blocks,
        standing: Standing,
        clock: Clock,
    ) -> None:
        self._messaging = messaging
        self._access = DialogAccess(state, log)
        self._blocks = blocks
        self._standing = standing
        self._clock = clock

    def check(self, payer: Caller, dialog_id: str, payee: int) -> bool:
        number = payer.user_number
        try:
            dialog = self._access.find(number, dialog_id)
            if dialog is None:
                return False
            if payee not in dialog.members:
                raise DialogNotFound
            messaging_rules.check_room(dialog)
            member = dialog.by_number[number]
            messaging_rules.check_may_write(dialog, member, self._clock.now_ms())
            self._standing.check_send(number)
            return may_reach(self._blocks, dialog, number)
        except DomainError as refusal:
            raise _in_our_words(refusal) from None

    async def load(self, payer: Caller, dialog_id: str, payee: int) -> None:
        try:
            dialog = await self._access.open(payer.user_number, dialog_id)
        except DomainError as refusal:
            raise _in_our_words(refusal) from None
        members = dialog.members
        if payee in members and len(members) == 2:
            await self._blocks.load((payee,))

    async def post(
        self,
        payer_number: int,
        payer_id: UUID,
        dialog_id: str,
        client_id: UUID,
        content: Mapping[str, Any],
    ) -> str:
        caller = Caller(payer_id, payer_number, _NO_SESSION)
        context = Context(f"payment-{client_id}", "", caller)
        answer = await awaited(
            self._messaging.send_payment(
                context,
                dialog_id,
                client_id,
                msgspec.convert(content, PaymentContent),
            )
        )
        message = await outcome(answer) if isinstance(answer, Deferred) else answer
        id: str = message.id
        return id


def _in_our_words(refusal: DomainError) -> DomainError:
    """The refusal as payments say it; what passes, as it is."""
    if isinstance(refusal, messaging_errors.DialogNotFound):
        return DialogNotFound()
    if refusal.kind in (ErrorKind.FORBIDDEN, ErrorKind.UNPROCESSABLE):
        return PaymentNotAllowed(refusal.detail, fields=refusal.fields)
    return refusal


class Wallets:
    """Call `start` before the first payment."""

    def __init__(
        self,
        settings: Payment,
        pool: Pool,
        ledger: PostgresLedger,
        ledger_store: PostgresLedgerStore,
        sagas: Sagas,
        people: PaidPeople,
        dialogs: PaidDialogs,
        hub: Hub,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self._ledger_store = ledger_store
        tables = ledger.tables
        wallets.register(tables)
        transactions.register(tables)
        tables.writers.setdefault(EventDraft, append_statement)
        tables.writers.setdefault(SagaBegun, begin_statement)
        self.store = wallets.PostgresWalletStore(pool)
        self.transactions = transactions.PostgresTransactionStore(pool)
        self.answering = Answering(ledger, hub.flush)
        self.limits = LimitTable(settings.limits)
        self.charges = ChargeTable(settings.fees)
        self.known = KnownWallets(
            self.store,
            ledger_store,
            ledger,
            outcome,
            ids,
            settings.limits.wallets_known_max,
        )
        self.announcing = Announcing(dialogs, self.transactions)
        self.service = WalletService(
            self.answering,
            self.store,
            self.known,
            people,
            hub,
            clock,
            ids,
            self.limits,
        )
        self.sending = Sending(
            self.answering,
            self.known,
            people,
            dialogs,
            hub,
            sagas,
            self.announcing.saga,
            ids,
            self.limits,
            self.charges,
        )
        self.history = History(self.service, self.transactions, people)

    @property
    def operations(self) -> list[Operation]:
        return routes.operations(self.service, self.sending, self.history)

    async def start(self) -> None:
        """Have an account for the fees of each currency. Raises: Unavailable."""
        self.sending.fees_accounts = {
            currency: await self._ledger_store.open(
                Opening(currency, AccountKind.FEES, name=FEES)
            )
            for currency in Currency
        }
