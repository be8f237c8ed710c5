"""Owns the ledger's rows beside its batches: opening, looking, partitions, pruning."""
# Statements are put together of this module's own column names, never of values.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from tchatd.domains.payment.ledger.models import Account, Hold, Opening
from tchatd.domains.payment.ledger.store import PostedAt
from tchatd.kernel.clock import Clock
from tchatd.kernel.money import NUMERIC
from tchatd.stores.postgres.ledger_rows import (
    ACCOUNT,
    HOLD,
    POSTING,
    Statement,
    account_of,
    hold_of,
    posting_of,
)
from tchatd.stores.postgres.partitions import drop_partitions, ensure_partitions
from tchatd.stores.postgres.pool import Pool

PARTITIONED: Final = ("postings", "ledger_keys")
BATCHER_MS_MAX: Final = 7 * 86_400_000
"""A batcher that has committed nothing for so long is gone: its process was killed."""

_OPEN: Final = (
    "INSERT INTO accounts (currency, kind, floor, ceiling, name, created_ms)"
    " VALUES (%(currency)s, %(kind)s, %(floor)s, %(ceiling)s, %(name)s, %(now)s)"
)
_NAMED: Final = "SELECT number FROM accounts WHERE name = %s AND currency = %s"
_POSTINGS: Final = (
    f"SELECT {POSTING} FROM postings"
    " WHERE account = %s AND version < %s ORDER BY version DESC LIMIT %s"
)
_DUE: Final = (
    f"SELECT {HOLD} FROM holds WHERE state = 1 AND expires_ms <= %s"
    " ORDER BY expires_ms, id LIMIT %s"
)
_VERSION_MAX: Final = 2**63 - 1


def open_statement(opening: Opening, now_ms: int) -> Statement:
    """Opens an account without a name and returns its `number`; to be run in any
    transaction, also as the WITH part of another statement."""
    assert opening.name is None, "of accounts with a name there is one each: see `open`"
    return f"{_OPEN} RETURNING number", _parameters(opening, now_ms)


def _parameters(opening: Opening, now_ms: int) -> dict[str, object]:
    return {
        "currency": NUMERIC[opening.currency],
        "kind": int(opening.kind),
        "floor": opening.floor,
        "ceiling": opening.ceiling,
        "name": opening.name,
        "now": now_ms,
    }


class PostgresLedgerStore:
    """A `LedgerStore`."""

    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock

    async def open(self, opening: Opening) -> int:
        now_ms = self._clock.now_ms()
        if opening.name is None:
            sql, parameters = open_statement(opening, now_ms)
            number: int = await self._pool.fetch_value(sql, parameters)
            return number
        named = opening.name, NUMERIC[opening.currency]
        found = await self._pool.fetch_value(_NAMED, named)
        if found is None:
            await self._pool.execute(
                f"{_OPEN} ON CONFLICT (name, currency) WHERE name IS NOT NULL"
                " DO NOTHING",
                _parameters(opening, now_ms),
            )
            found = await self._pool.fetch_value(_NAMED, named)
        assert isinstance(found, int)
        return found

    async def accounts(self, numbers: Sequence[int]) -> list[Account]:
        rows = await self._pool.fetch(
            f"SELECT {ACCOUNT} FROM accounts WHERE number = ANY(%b) ORDER BY number",
            (list(numbers),),
        )
        return [account_of(row) for row in rows]

    async def named(self, name: str) -> list[Account]:
        rows = await self._pool.fetch(
            f"SELECT {ACCOUNT} FROM accounts WHERE name = %s ORDER BY number", (name,)
        )
        return [account_of(row) for row in rows]

    async def hold(self, id: UUID) -> Hold | None:
        row = await self._pool.fetch_one(
            f"SELECT {HOLD} FROM holds WHERE id = %s", (id,)
        )
        return None if row is None else hold_of(row)

    async def postings(
        self, account: int, *, below_version: int | None = None, count_max: int = 100
    ) -> list[PostedAt]:
        below = _VERSION_MAX if below_version is None else below_version
        rows = await self._pool.fetch(_POSTINGS, (account, below, count_max))
        return [posting_of(row) for row in rows]

    async def due_holds(self, now_ms: int, count_max: int) -> list[Hold]:
        rows = await self._pool.fetch(_DUE, (now_ms, count_max))
        return [hold_of(row) for row in rows]

    # The daemon's chores.

    async def ensure_partitions(self, now_ms: int) -> list[str]:
        """Make the partitions of a time and of the months after it; their names.

        Raises: Unavailable.
        """
        made = []
        for table in PARTITIONED:
            made += await ensure_partitions(self._pool, table, now_ms)
        return made

    async def drop_keys(self, before_ms: int) -> list[str]:
        """Forget keys of months that ended before a time; postings are kept.

        Raises: Unavailable.
        """

        async def is_over(name: str) -> bool:
            return True

        return await drop_partitions(self._pool, "ledger_keys", before_ms, is_over)

    async def prune_batchers(self) -> int:
        """Forget batchers that are gone. Raises: Unavailable."""
        return await self._pool.execute(
            "DELETE FROM ledger_batchers WHERE active_ms < %s",
            (self._clock.now_ms() - BATCHER_MS_MAX,),
        )
