"""Owns what the sandbox of payments keeps, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from tchatd.domains.payment.providers import Method
from tchatd.domains.payment.sandbox import EntryKind, EntryState, SandboxEntry
from tchatd.kernel.money import Currency
from tchatd.stores.postgres.connection import Connection
from tchatd.stores.postgres.pool import Pool

_ENTRIES: Final = (
    "SELECT id, kind, key, amount_minor, currency, country, method, state, created_ms,"
    ' updated_ms, expires_ms, description, return_url, "of" FROM sandbox_charges'
)
_INSERT: Final = (
    "INSERT INTO sandbox_charges (id, kind, key, amount_minor, currency, country,"
    " method, state, created_ms, updated_ms, expires_ms, description, return_url,"
    ' "of") VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)'
    " ON CONFLICT (kind, key) DO NOTHING"
)
_BY_KEY: Final = f"{_ENTRIES} WHERE kind = %s AND key = %s"
_REFUNDED: Final = (
    "SELECT coalesce(sum(amount_minor), 0)::bigint FROM sandbox_charges"
    " WHERE \"of\" = %s AND state <> 'failed'"
)


class PostgresSandboxStore:
    """A `SandboxStore`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add(self, entry: SandboxEntry) -> SandboxEntry:
        async with self._pool.transaction() as connection:
            return await _add(connection, entry)

    async def add_refund(self, entry: SandboxEntry) -> SandboxEntry | None:
        async with self._pool.transaction() as connection:
            # Refunds of one charge are made one after the other, so the sum holds.
            charge = await connection.fetch_one(
                "SELECT state, currency, amount_minor FROM sandbox_charges"
                " WHERE id = %s AND kind = 'charge' FOR NO KEY UPDATE",
                (entry.of,),
            )
            known = await connection.fetch_one(_BY_KEY, (entry.kind, entry.key))
            if known is not None:
                return _entry(known)
            if charge is None or charge[:2] != ("paid", entry.currency.value):
                return None
            refunded = await connection.fetch_value(_REFUNDED, (entry.of,))
            if refunded + entry.amount_minor > charge[2]:
                return None
            return await _add(connection, entry)

    async def entry(self, id: str) -> SandboxEntry | None:
        row = await self._pool.fetch_one(f"{_ENTRIES} WHERE id = %s", (id,))
        return None if row is None else _entry(row)

    async def by_key(self, kind: EntryKind, key: str) -> SandboxEntry | None:
        row = await self._pool.fetch_one(_BY_KEY, (kind, key))
        return None if row is None else _entry(row)

    async def refunded_minor(self, id: str) -> int:
        found: int = await self._pool.fetch_value(_REFUNDED, (id,))
        return found

    async def settle(
        self, id: str, state: EntryState, now_ms: int
    ) -> SandboxEntry | None:
        async with self._pool.transaction() as connection:
            changed = await connection.fetch_value(
                "UPDATE sandbox_charges SET state = %s, updated_ms = %s"
                " WHERE id = %s AND state = 'pending' RETURNING id",
                (state, now_ms, id),
            )
            if changed is None:
                return None
            row = await connection.fetch_one(f"{_ENTRIES} WHERE id = %s", (id,))
        assert row is not None
        return _entry(row)


async def _add(connection: Connection, entry: SandboxEntry) -> SandboxEntry:
    await connection.execute(
        _INSERT,
        (
            *(entry.id, entry.kind, entry.key, entry.amount_minor),
            *(entry.currency.value, entry.country, entry.method.value, entry.state),
            *(entry.created_at_ms, entry.updated_at_ms, entry.expires_at_ms),
            *(entry.description, entry.return_url, entry.of),
        ),
    )
    row = await connection.fetch_one(_BY_KEY, (entry.kind, entry.key))
    assert row is not None
    return _entry(row)


def _entry(row: Sequence[Any]) -> SandboxEntry:
    return SandboxEntry(
        id=row[0],
        kind=row[1],
        key=row[2],
        amount_minor=row[3],
        currency=Currency(row[4]),
        country=row[5],
        method=Method(row[6]),
        state=row[7],
        created_at_ms=row[8],
        updated_at_ms=row[9],
        expires_at_ms=row[10],
        description=row[11],
        return_url=row[12],
        of=row[13],
    )
