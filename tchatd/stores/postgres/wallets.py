"""Owns the rows of wallets in PostgreSQL, and how the ledger's commits write them."""
# Statements are put together of this module's own column names, never of values.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from tchatd.domains.payment.commands import state_of
from tchatd.domains.payment.rows import (
    SuspendedBy,
    WalletChanged,
    WalletOpened,
    WalletRow,
    WalletsOf,
    WalletState,
)
from tchatd.kernel.money import NUMERIC, Currency
from tchatd.stores.postgres.arrays import array
from tchatd.stores.postgres.driver import Row
from tchatd.stores.postgres.ledger_batch import Reader, Tables
from tchatd.stores.postgres.ledger_rows import ACCOUNT, Statement, account_of
from tchatd.stores.postgres.pool import Pool

CURRENCY_OF: Final = {number: currency for currency, number in NUMERIC.items()}
_SUSPENDED_BY: Final[tuple[SuspendedBy | None, ...]] = (None, "owner", "operator")
_COLUMNS: Final = (
    "id, account, user_number, user_id, currency, is_primary, created_ms, updated_ms,"
    " suspended_by, closed_ms, version"
)
assert tuple(_COLUMNS.split(", ")) == WalletRow.__struct_fields__
_WALLET: Final = ", ".join(f"w.{name}" for name in _COLUMNS.split(", "))
_WALLET_COLUMNS: Final = len(_COLUMNS.split(", "))
_ACCOUNT: Final = ", ".join(f"a.{name.strip()}" for name in ACCOUNT.split(","))
_STATES: Final = (
    f"SELECT {_WALLET}, {_ACCOUNT} FROM wallets w JOIN accounts a"
    " ON a.number = w.account"
)
_TYPES: Final = {
    "id": "uuid",
    "account": "bigint",
    "user_number": "integer",
    "user_id": "uuid",
    "currency": "smallint",
    "is_primary": "boolean",
    "created_ms": "bigint",
    "updated_ms": "bigint",
    "suspended_by": "smallint",
    "closed_ms": "bigint",
    "version": "integer",
}
_ROWS: Final = "unnest(" + ", ".join(f"%({n})b::{t}[]" for n, t in _TYPES.items()) + ")"
# Arrays of numbers have no NULL: 0 stands for nobody who suspended it.
_VALUES: Final = _COLUMNS.replace("suspended_by", "nullif(suspended_by, 0)")
_OPEN: Final = (
    f"INSERT INTO wallets ({_COLUMNS}) SELECT {_VALUES} FROM {_ROWS} AS c ({_COLUMNS})"
)
# A row may be changed more than once in a batch: its last version is what it is.
_CHANGE: Final = f"""
UPDATE wallets w SET is_primary = c.is_primary, updated_ms = c.updated_ms,
    suspended_by = nullif(c.suspended_by, 0), closed_ms = c.closed_ms,
    version = c.version
FROM {_ROWS} AS c ({_COLUMNS}) WHERE w.account = c.account
"""
_OF_USERS: Final = (
    f"SELECT {_COLUMNS} FROM wallets WHERE user_number = ANY(%(users)b::integer[])"
    " ORDER BY account FOR NO KEY UPDATE"
)


class PostgresWalletStore:
    """See the port, `tchatd.domains.payment.store.WalletStore`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def of_user(self, user_number: int) -> list[WalletState]:
        query = f"{_STATES} WHERE w.user_number = %s ORDER BY w.account"
        return [_state(row) for row in await self._pool.fetch(query, (user_number,))]

    async def wallet(self, id: UUID) -> WalletState | None:
        row = await self._pool.fetch_one(f"{_STATES} WHERE w.id = %s", (id,))
        return None if row is None else _state(row)

    async def in_currency(
        self, user_number: int, currency: Currency
    ) -> WalletRow | None:
        query = (
            f"SELECT {_COLUMNS} FROM wallets WHERE user_number = %s AND currency = %s"
            " ORDER BY account DESC LIMIT 1"
        )
        row = await self._pool.fetch_one(query, (user_number, NUMERIC[currency]))
        return None if row is None else _wallet(row)


def register(tables: Tables) -> None:
    """Have the ledger write and read wallets."""
    tables.writers[WalletOpened] = _opened
    tables.writers[WalletChanged] = _changed
    tables.readers[WalletsOf] = Reader(_of_users, _by_user)


def _opened(records: list[WalletOpened]) -> Statement:
    return _OPEN, _arrays([record.row for record in records])


def _changed(records: list[WalletChanged]) -> Statement:
    last = {record.row.account: record.row for record in records}
    return _CHANGE, _arrays([last[account] for account in sorted(last)])


def _of_users(keys: list[WalletsOf]) -> Statement:
    numbers = sorted(key.user_number for key in keys)
    return _OF_USERS, {"users": array("integer", numbers)}


def _by_user(rows: Sequence[Row]) -> Mapping[Any, Any]:
    found: dict[WalletsOf, tuple[WalletRow, ...]] = {}
    for row in map(_wallet, rows):
        key = WalletsOf(row.user_number)
        found[key] = (*found.get(key, ()), row)
    return found


def _arrays(rows: Sequence[WalletRow]) -> dict[str, Any]:
    values = {name: [getattr(row, name) for row in rows] for name in _TYPES}
    values["id"] = [row.id.bytes for row in rows]
    values["user_id"] = [row.user_id.bytes for row in rows]
    values["currency"] = [NUMERIC[row.currency] for row in rows]
    values["suspended_by"] = [_SUSPENDED_BY.index(row.suspended_by) for row in rows]
    return {name: array(_TYPES[name], column) for name, column in values.items()}


def _wallet(row: Row) -> WalletRow:
    """row: of `_COLUMNS`."""
    id, account, user_number, user_id, currency, is_primary, *others = row
    created_ms, updated_ms, suspended_by, closed_ms, version = others
    return WalletRow(
        id=id,
        account=account,
        user_number=user_number,
        user_id=user_id,
        currency=CURRENCY_OF[currency],
        is_primary=is_primary,
        created_ms=created_ms,
        updated_ms=updated_ms,
        suspended_by=_SUSPENDED_BY[suspended_by or 0],
        closed_ms=closed_ms,
        version=version,
    )


def _state(row: Row) -> WalletState:
    account = account_of(row[_WALLET_COLUMNS:])
    return state_of(_wallet(row[:_WALLET_COLUMNS]), account)
