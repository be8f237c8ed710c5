"""Owns the port beside `deciding.Ledger`: opening accounts, and looking at rows.

What is read here is read without a lock and may be old when it is used: to be shown,
never to be decided on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

import msgspec

from tchatd.domains.payment.ledger.models import Account, Hold, Opening, Posting


class PostedAt(msgspec.Struct, frozen=True):
    """A posting with its time, of the batch, in milliseconds since 1970."""

    posting: Posting
    at_ms: int


class LedgerStore(Protocol):
    async def open(self, opening: Opening) -> int:
        """The number of a new account, or of the one that has this name and currency.

        Raises:
            Unavailable: it is not known whether a new one was opened. One with a name
                is found by the next call; one without is empty and nobody's.
        """
        ...

    async def accounts(self, numbers: Sequence[int]) -> list[Account]:
        """Copies, those that exist, in order of number."""
        ...

    async def named(self, name: str) -> list[Account]:
        """One for each currency that it was opened in."""
        ...

    async def hold(self, id: UUID) -> Hold | None: ...

    async def postings(
        self, account: int, *, below_version: int | None = None, count_max: int = 100
    ) -> list[PostedAt]:
        """Of an account, the newest first, keyset by version."""
        ...

    async def due_holds(self, now_ms: int, count_max: int) -> list[Hold]:
        """Pending ones whose time is over, the longest overdue first."""
        ...
