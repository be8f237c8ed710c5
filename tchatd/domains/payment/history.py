"""Owns reading transactions: a wallet's history in pages, and one by its id."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET, UnsetType

from tchatd.domains.payment import views
from tchatd.domains.payment.errors import TransactionNotFound
from tchatd.domains.payment.models import (
    GetTransaction,
    ListTransactions,
    Transaction,
    TransactionPage,
    other_side,
)
from tchatd.domains.payment.rows import TransactionRow
from tchatd.domains.payment.store import People, TransactionStore
from tchatd.domains.payment.wallets import Wallets
from tchatd.kernel.errors import Invalid
from tchatd.kernel.routing import Context


class History:
    """A page goes on below the last number that was shown. Numbers of one wallet rise
    with its postings, so what comes in meanwhile is above every page that follows."""

    def __init__(
        self, wallets: Wallets, store: TransactionStore, people: People
    ) -> None:
        self._wallets = wallets
        self._store = store
        self._people = people

    async def page(
        self, context: Context, command: ListTransactions
    ) -> TransactionPage:
        """Raises: Invalid, WalletNotFound, Unavailable."""
        below = number_of(command.cursor)
        if below is not None and command.offset:
            raise Invalid(fields={"offset": "goes without a cursor only"})
        facts = await self._wallets.own(context, command)
        found, total = await self._store.page(
            facts.account,
            type=None if command.type is UNSET else command.type,
            below=below,
            offset=command.offset,
            limit=command.limit + 1,
        )
        shown = found[: command.limit]
        has_more = len(found) > command.limit
        return TransactionPage(
            await self.views([numbered.row for numbered in shown]),
            total,
            has_more,
            cursor_of(shown[-1].number) if has_more else UNSET,
        )

    async def status(self, context: Context, command: GetTransaction) -> Transaction:
        """Raises: TransactionNotFound, Unavailable."""
        id = command.transaction_id
        row = await self._store.transaction(
            (id, other_side(id)), context.user.user_number
        )
        if row is None:
            raise TransactionNotFound
        return (await self.views([row]))[0]

    async def views(self, rows: Sequence[TransactionRow]) -> list[Transaction]:
        numbers = {row.counterpart_number for row in rows} - {0}
        people = await self._people.load(sorted(numbers)) if numbers else {}
        names = {number: person.name for number, person in people.items()}
        return [views.transaction_view(row, names) for row in rows]


def cursor_of(number: int) -> str:
    return f"t{number:x}"


def number_of(cursor: str | UnsetType) -> int | None:
    """Raises: Invalid."""
    if cursor is UNSET:
        return None
    try:
        number = int(cursor[1:], 16) if cursor[0] == "t" else 0
    except ValueError:
        number = 0
    if not 0 < number < 1 << 63:
        raise Invalid(fields={"cursor": "is not one of ours"})
    return number
