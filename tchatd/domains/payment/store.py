"""Owns what payments ask of others, as Protocols; implements none of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from uuid import UUID

from msgspec import Struct

from tchatd.domains.payment.ledger.models import Opening
from tchatd.domains.payment.models import TransactionType
from tchatd.domains.payment.rows import TransactionRow, WalletRow, WalletState
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.money import Currency
from tchatd.kernel.routing import Caller


class WalletStore(Protocol):
    async def of_user(self, user_number: int) -> list[WalletState]:
        """All of them, in order of account. Raises: Unavailable."""
        ...

    async def wallet(self, id: UUID) -> WalletState | None: ...

    async def in_currency(
        self, user_number: int, currency: Currency
    ) -> WalletRow | None:
        """The latest one, which may be closed."""
        ...


class Accounts(Protocol):
    """Of the ledger."""

    async def open(self, opening: Opening) -> int: ...


class Numbered(Struct, frozen=True, gc=False):
    """A transaction with its place in its wallet's history: it rises with postings."""

    number: int
    row: TransactionRow


class TransactionStore(Protocol):
    async def page(
        self,
        account: int,
        *,
        type: TransactionType | None,
        below: int | None,
        offset: int,
        limit: int,
    ) -> tuple[list[Numbered], int]:
        """Newest first: those with lower numbers than `below`, but for the first
        `offset`; and how many the account has, of this type, on all pages."""
        ...

    async def transaction(
        self, ids: Sequence[UUID], user_number: int
    ) -> TransactionRow | None:
        """The user's, which has one of these ids."""
        ...

    async def annotate(self, ids: Sequence[UUID], notes: Mapping[str, Any]) -> None:
        """Put these members into the metadata of each; a repeat changes nothing."""
        ...


class Person(Struct, frozen=True, gc=False):
    """tier: 1 to 3. country: whose day it is. payable: no bot, and not banned."""

    number: int
    id: UUID
    name: str
    tier: int
    country: str
    is_payable: bool


class People(Protocol):
    """Who is who, from memory where it can."""

    def number_of(self, id: UUID) -> int | None:
        """None: it has to be found."""
        ...

    async def find(self, id: UUID) -> int | None:
        """None: there is nobody. Raises: Unavailable."""
        ...

    def peek(self, number: int) -> Person | None:
        """None: they have to be loaded."""
        ...

    async def load(self, numbers: Sequence[int]) -> Mapping[int, Person]:
        """Those that there are, by number; afterwards `peek` has them, for a while."""
        ...

    def check_reach(self, payer: int, payee: int) -> bool:
        """False: it is not known, `load_reach` first.

        Raises: PaymentNotAllowed.
        """
        ...

    async def load_reach(self, payer: int, payee: int) -> None: ...


class Dialogs(Protocol):
    """Where payments are shown."""

    def check(self, payer: Caller, dialog_id: str, payee: int) -> bool:
        """False: it is not in memory, `load` first.

        Raises:
            DialogNotFound: one of the two is not in it.
            PaymentNotAllowed: the payer may not write there.
            RateLimited: not yet again.
        """
        ...

    async def load(self, payer: Caller, dialog_id: str, payee: int) -> None:
        """Raises: DialogNotFound, Invalid, Unavailable."""
        ...

    async def post(
        self,
        payer_number: int,
        payer_id: UUID,
        dialog_id: str,
        client_id: UUID,
        content: Mapping[str, Any],
    ) -> str:
        """Say the payment in the dialog, by the payer: the message's id; once, however
        often it is called with one client_id.

        Raises:
            DomainError: the dialog refuses it, for good unless it is UNAVAILABLE or
                RATE_LIMITED.
        """
        ...


class Hub(Protocol):
    @property
    def online(self) -> BitMap: ...

    def deliver_user(
        self, user_number: int, event: Any, *, except_connection: int | None = None
    ) -> None: ...

    def flush(self) -> None: ...
