"""Owns payments over memory: ledger, people, dialogs and sagas that a test drives."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec
import trio

from tchatd.app.configuration import default_path
from tchatd.domains.payment import rules
from tchatd.domains.payment.announcing import Announcing
from tchatd.domains.payment.answering import Answering
from tchatd.domains.payment.commands import Send
from tchatd.domains.payment.errors import DialogNotFound, PaymentNotAllowed
from tchatd.domains.payment.history import History
from tchatd.domains.payment.known import KnownWallets
from tchatd.domains.payment.ledger.models import AccountKind, Opening, Transfer
from tchatd.domains.payment.models import OpenWallet, SendMoney, Wallet
from tchatd.domains.payment.rows import WalletFacts
from tchatd.domains.payment.sending import Sending
from tchatd.domains.payment.store import Person
from tchatd.domains.payment.wallets import Wallets
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.clock import ManualClock
from tchatd.kernel.deferred import Deferred
from tchatd.kernel.errors import DomainError
from tchatd.kernel.events import EventDraft
from tchatd.kernel.ids import Ids
from tchatd.kernel.money import Currency
from tchatd.kernel.routing import Caller, Context, RequestKey
from tchatd.kernel.sagas import SagaBegun, SagaType
from tchatd.stores.memory.ledger import MemoryLedger
from tchatd.stores.memory.transactions import MemoryTransactionStore
from tchatd.stores.memory.wallets import MemoryWalletStore
from tests.support.ledger import Do, answer, differences
from tests.support.messaging import FakeHub, seeded_bytes, user_id

THB = Currency.THB
NOON_MS = 1_800_000_000_000
"""2027-01-15 08:00 UTC: 15:00 in Bangkok, the 15th of the month."""
DIALOG = "019a0000-0000-7000-8000-00000000d1a1"

LIMITS: Final = msgspec.convert(
    tomllib.loads(default_path().read_text())["payment"]["limits"], rules.LimitSettings
)
"""As they are by default."""


class OnlineHub(FakeHub):
    """Everybody is here."""

    @property
    def online(self) -> BitMap:
        return BitMap(range(1, 1_000))

    def events_of(self, user_number: int) -> list[Any]:
        return [event for users, event, _ in self.told if user_number in users]


class FakePeople:
    """Users 1 to `count`, loaded when asked; `blocks` are pairs (by, user)."""

    def __init__(self, count: int = 50) -> None:
        self.people = {
            number: Person(number, user_id(number), f"Person {number}", 2, "TH", True)
            for number in range(1, count + 1)
        }
        self.known: set[int] = set()
        self.reach_known: set[tuple[int, int]] = set()
        self.blocks: set[tuple[int, int]] = set()
        self.loads = 0

    def change(self, number: int, **changes: Any) -> None:
        self.people[number] = msgspec.structs.replace(self.people[number], **changes)

    def number_of(self, id: UUID) -> int | None:
        return next((n for n in self.known if self.people[n].id == id), None)

    async def find(self, id: UUID) -> int | None:
        await trio.lowlevel.checkpoint()
        return next((n for n, p in self.people.items() if p.id == id), None)

    def peek(self, number: int) -> Person | None:
        return self.people[number] if number in self.known else None

    async def load(self, numbers: Sequence[int]) -> Mapping[int, Person]:
        await trio.lowlevel.checkpoint()
        self.loads += 1
        self.known.update(number for number in numbers if number in self.people)
        return {n: self.people[n] for n in numbers if n in self.people}

    def check_reach(self, payer: int, payee: int) -> bool:
        if (payer, payee) not in self.reach_known:
            return False
        if (payee, payer) in self.blocks:
            raise PaymentNotAllowed
        return True

    async def load_reach(self, payer: int, payee: int) -> None:
        await trio.lowlevel.checkpoint()
        self.reach_known.add((payer, payee))


class FakeDialogs:
    """One dialog, `DIALOG`, of `members`. refusing: what a post is refused with."""

    def __init__(self) -> None:
        self.members: set[int] = {1, 2}
        self.is_loaded = False
        self.refusal: DomainError | None = None
        self.refusing: DomainError | None = None
        self.posted: dict[UUID, Mapping[str, Any]] = {}

    def check(self, payer: Caller, dialog_id: str, payee: int) -> bool:
        if not self.is_loaded:
            return False
        if dialog_id != DIALOG or not {payer.user_number, payee} <= self.members:
            raise DialogNotFound
        if self.refusal is not None:
            raise self.refusal
        return True

    async def load(self, payer: Caller, dialog_id: str, payee: int) -> None:
        await trio.lowlevel.checkpoint()
        self.is_loaded = True

    async def post(
        self,
        payer_number: int,
        payer_id: UUID,
        dialog_id: str,
        client_id: UUID,
        content: Mapping[str, Any],
    ) -> str:
        await trio.lowlevel.checkpoint()
        if self.refusing is not None:
            raise self.refusing
        self.posted.setdefault(client_id, content)
        return str(client_id)


class FakeSagas:
    """Begins in others' commits; remembers what was launched."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.launched: list[SagaBegun] = []

    async def begin(self, saga_type: SagaType[Any], data: Any, id: UUID) -> bool:
        await trio.lowlevel.checkpoint()
        self.launched.append(self.begun(saga_type, data, id))
        return True

    def begun(self, saga_type: SagaType[Any], data: Any, id: UUID) -> SagaBegun:
        now_ms = self._clock.now_ms()
        return SagaBegun(
            id,
            saga_type.name,
            saga_type.version,
            len(saga_type.steps),
            saga_type.encoded(data),
            None,
            now_ms,
            now_ms + round(1_000 * saga_type.deadline_s),
            now_ms,
        )

    def launch(self, begun: SagaBegun) -> None:
        self.launched.append(begun)

    async def signal(self, id: UUID, name: str, body: Any = None) -> bool:
        await trio.lowlevel.checkpoint()
        return False


class World:
    """Everything that payments are made of, over memory."""

    def __init__(self, *, send_fees: Sequence[str] = (), users: int = 50) -> None:
        self.clock = ManualClock(NOON_MS)
        self.ids = Ids(self.clock, seeded_bytes(7))
        self.ledger = MemoryLedger(self.clock)
        self.events: list[EventDraft] = []
        self.sagas_begun: list[SagaBegun] = []
        self.ledger.writers[EventDraft] = self.events.extend
        self.ledger.writers[SagaBegun] = self.sagas_begun.extend
        self.wallet_rows = MemoryWalletStore(self.ledger)
        self.transactions = MemoryTransactionStore(self.ledger)
        self.people = FakePeople(users)
        self.dialogs = FakeDialogs()
        self.hub = OnlineHub()
        self.sagas = FakeSagas(self.clock)
        self.announcing = Announcing(self.dialogs, self.transactions)
        self.limits = rules.LimitTable(LIMITS)
        self.answering = Answering(self.ledger, self.hub.flush)
        self.known = KnownWallets(
            self.wallet_rows, self.ledger, self.ledger, answer, self.ids, 1_000
        )
        self.wallets = Wallets(
            self.answering,
            self.wallet_rows,
            self.known,
            self.people,
            self.hub,
            self.clock,
            self.ids,
            self.limits,
        )
        self.sending = Sending(
            self.answering,
            self.known,
            self.people,
            self.dialogs,
            self.hub,
            self.sagas,
            self.announcing.saga,
            self.ids,
            self.limits,
            rules.ChargeTable(rules.ChargeSettings(send=list(send_fees))),
        )
        self.sending.fees_accounts = {
            currency: self.ledger.open_now(
                Opening(currency, AccountKind.FEES, name="fees")
            )
            for currency in Currency
        }
        self.history = History(self.wallets, self.transactions, self.people)

    def context(
        self, number: int, key: str | None = None, connection: int | None = None
    ) -> Context:
        """The digest is of who asks and the key; the fingerprint is set by `ask`."""
        caller = Caller(user_id(number), number, user_id(900 + number))
        context = Context("test-1", "203.0.113.7", caller, connection)
        if key is not None:
            context.key = RequestKey(_digest(f"{number} {key}"), _digest(""), _kept)
        return context

    async def ask(self, handler: Any, context: Context, command: Any) -> Any:
        """What the handler answers in the end. Raises what it refuses with."""
        if context.key is not None:
            asked = _digest(str(msgspec.to_builtins(command)))
            context.key = msgspec.structs.replace(context.key, fingerprint=asked)
        result = handler(context, command)
        while hasattr(type(result), "__await__") or isinstance(result, Deferred):
            if isinstance(result, Deferred):
                result = await answer(result)
            else:
                result = await result
        return result

    async def open(
        self, number: int, funds: int = 0, currency: Currency = THB
    ) -> Wallet:
        """A wallet of the user's with so much in it."""
        opened: Wallet = await self.ask(
            self.wallets.open, self.context(number), OpenWallet(currency=currency)
        )
        if funds:
            self.fund(self.facts(opened), funds)
        return opened

    def facts(self, wallet: Wallet) -> WalletFacts:
        facts = self.known.by_id(UUID(wallet.id))
        assert facts is not None
        return facts

    def fund(self, facts: WalletFacts, amount: int) -> None:
        world = self.ledger.open_now(
            Opening(facts.currency, AccountKind.WORLD, floor=None, name="world:test")
        )
        transfer = Transfer(self.ids.v7(), world, facts.account, amount)
        funded = self.ledger.submit(
            Do(lambda books: books.transfer(transfer), (world, facts.account))
        )
        assert funded.error is None

    async def send(
        self, number: int, wallet: Wallet, to: int, amount: int, **more: Any
    ) -> Any:
        """key, connection: of the context; the rest is the command's."""
        context = self.context(
            number, more.pop("key", None), more.pop("connection", None)
        )
        asked: dict[str, Any] = {"currency": THB} | more
        command = SendMoney(
            wallet_id=UUID(wallet.id), recipient_id=user_id(to), amount=amount, **asked
        )
        return await self.ask(self.sending.send, context, command)

    def balance(self, wallet: Wallet) -> int:
        return self.ledger.stored[self.facts(wallet).account].balance

    def check(self) -> None:
        """The books are right."""
        postings = [at.posting for at in self.ledger.log]
        accounts = self.ledger.stored.values()
        assert not differences(accounts, self.ledger.holds.values(), postings)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _kept(said: Any) -> bytes:
    """An answer as it is kept: a refusal's code, or the answer as JSON."""
    if isinstance(said, DomainError):
        return said.code.encode()
    return msgspec.json.encode(said)


def command_of(world: World, sender: Wallet, recipient: Wallet, amount: int) -> Send:
    """A payment, decided without the service."""
    return Send(
        id=world.ids.v7(),
        event_ids=(world.ids.v7(), world.ids.v7()),
        sender=world.facts(sender),
        recipient=world.facts(recipient),
        amount=amount,
        limits=world.limits.of(2, THB),
        zone_ms=rules.zone_of("TH"),
    )
