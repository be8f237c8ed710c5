"""Owns the rows of transactions in PostgreSQL, and how the ledger's commits write them.

A row is inserted once and, unless it was complete at once, changed a few times. Its
place in its wallet's history (`number`) is given while the account is locked, so it
rises with the account's postings, whichever process wrote them.
"""
# Statements are put together of this module's own column names, never of values.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from tchatd.domains.payment.models import TransactionType
from tchatd.domains.payment.rows import (
    COUNTERPARTS,
    STATUSES,
    TYPES,
    TransactionChanged,
    TransactionOf,
    TransactionRow,
)
from tchatd.domains.payment.store import Numbered
from tchatd.kernel.money import NUMERIC
from tchatd.stores.postgres.arrays import array
from tchatd.stores.postgres.driver import Row
from tchatd.stores.postgres.ledger_batch import Reader, Tables
from tchatd.stores.postgres.ledger_rows import Statement
from tchatd.stores.postgres.pool import Pool
from tchatd.stores.postgres.wallets import CURRENCY_OF

_json: Final = msgspec.json.Encoder().encode
_read: Final = msgspec.json.Decoder(dict[str, Any]).decode
_TYPE_NUMBER: Final = {type: number for number, type in enumerate(TYPES)}
_STATUS_NUMBER: Final = {status: number for number, status in enumerate(STATUSES)}
_COUNTERPART_NUMBER: Final = {of: number for number, of in enumerate(COUNTERPARTS)}
_NO_DETAILS: Final = "{}"


_NONE: Final = -(2**15)
"""Stands for NULL, which arrays of numbers do not have: no type, and no balance that a
wallet can have."""


def _counterpart_type(row: TransactionRow) -> int:
    of = row.counterpart_type
    return _NONE if of is None else _COUNTERPART_NUMBER[of]


def _or_none(balance: int | None) -> int:
    assert balance is None or balance >= 0, "a wallet has no debts"
    return _NONE if balance is None else balance


_COLUMNS: Final[dict[str, tuple[str, Callable[[TransactionRow], Any]]]] = {
    "id": ("uuid", lambda row: row.id.bytes),
    "wallet_id": ("uuid", lambda row: row.wallet_id.bytes),
    "account": ("bigint", lambda row: row.account),
    "user_number": ("integer", lambda row: row.user_number),
    "user_id": ("uuid", lambda row: row.user_id.bytes),
    "type": ("smallint", lambda row: _TYPE_NUMBER[row.type]),
    "status": ("smallint", lambda row: _STATUS_NUMBER[row.status]),
    "currency": ("smallint", lambda row: NUMERIC[row.currency]),
    "amount": ("bigint", lambda row: row.amount),
    "fee": ("bigint", lambda row: row.fee),
    "net_amount": ("bigint", lambda row: row.net_amount),
    "created_ms": ("bigint", lambda row: row.created_ms),
    "balance_before": ("bigint", lambda row: _or_none(row.balance_before)),
    "balance_after": ("bigint", lambda row: _or_none(row.balance_after)),
    "counterpart_type": ("smallint", _counterpart_type),
    "counterpart_number": ("integer", lambda row: row.counterpart_number),
    "counterpart_id": (
        "uuid",
        lambda row: None if row.counterpart_id is None else row.counterpart_id.bytes,
    ),
    "counterpart_name": ("text", lambda row: row.counterpart_name),
    "description": ("text", lambda row: row.description),
    "reference": ("text", lambda row: row.reference),
    "metadata": (
        "text",
        lambda row: _json(row.metadata).decode() if row.metadata else _NO_DETAILS,
    ),
    "processed_ms": ("bigint", lambda row: row.processed_ms),
    "completed_ms": ("bigint", lambda row: row.completed_ms),
    "version": ("integer", lambda row: row.version),
}
assert tuple(_COLUMNS) == TransactionRow.__struct_fields__
_NAMES: Final = ", ".join(_COLUMNS)
_SPECIAL: Final = {
    "metadata": "c.metadata::jsonb",
    **{
        name: f"nullif(c.{name}, {_NONE})"
        for name in ("balance_before", "balance_after", "counterpart_type")
    },
}
_VALUES: Final = ", ".join(_SPECIAL.get(name, f"c.{name}") for name in _COLUMNS)
_ARRAYS: Final = ", ".join(
    f"%({name})b::{type}[]" for name, (type, _) in _COLUMNS.items()
)
# unnest keeps the order, and an identity is given row by row.
_INSERT: Final = (
    f"INSERT INTO transactions ({_NAMES})"
    f" SELECT {_VALUES} FROM unnest({_ARRAYS}) AS c ({_NAMES})"
)
_CHANGED: Final = (
    *("status", "balance_before", "balance_after", "fee", "net_amount"),
    *("counterpart_name", "processed_ms", "completed_ms", "version"),
)
_CHANGE: Final = f"""
UPDATE transactions t SET
    {", ".join(f"{name} = {_SPECIAL.get(name, f'c.{name}')}" for name in _CHANGED)},
    metadata = t.metadata || c.metadata::jsonb
FROM unnest({_ARRAYS}) AS c ({_NAMES}) WHERE t.id = c.id
"""
_SHOWN: Final = ", ".join(
    "t.metadata::text" if name == "metadata" else f"t.{name}" for name in _COLUMNS
)
_OF: Final = (
    f"SELECT {_SHOWN} FROM transactions t WHERE id = ANY(%(ids)b::uuid[])"
    " ORDER BY id FOR NO KEY UPDATE"
)
_PAGE: Final = f"""
SELECT t.number, {_SHOWN} FROM unnest(%(types)b::smallint[]) AS kind (type)
CROSS JOIN LATERAL (
    SELECT * FROM transactions o
    WHERE o.account = %(account)s AND o.type = kind.type AND o.number < %(below)s
    ORDER BY o.number DESC LIMIT %(most)s
) t
ORDER BY t.number DESC LIMIT %(limit)s OFFSET %(offset)s
"""
_COUNT: Final = """
SELECT count(*) FROM transactions
WHERE account = %(account)s AND type = ANY(%(types)b::smallint[])
"""
_ANNOTATE: Final = (
    "UPDATE transactions SET metadata = metadata || %s::jsonb WHERE id = ANY(%b)"
)
_ALL: Final = tuple(range(len(TYPES)))
_NUMBER_MAX: Final = 2**63 - 1


class PostgresTransactionStore:
    """See the port, `tchatd.domains.payment.store.TransactionStore`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def page(
        self,
        account: int,
        *,
        type: TransactionType | None,
        below: int | None,
        offset: int,
        limit: int,
    ) -> tuple[list[Numbered], int]:
        types = _ALL if type is None else (_TYPE_NUMBER[type],)
        asked = {"account": account, "types": array("smallint", list(types))}
        page = {
            "below": _NUMBER_MAX if below is None else below,
            "most": offset + limit,
            "limit": limit,
            "offset": offset,
        }
        async with self._pool.connection() as connection:
            async with connection.pipeline() as pipeline:
                shown = await connection.execute(_PAGE, {**asked, **page})
                counted = await connection.execute(_COUNT, asked)
                await pipeline.sync()
            rows, [[total]] = await shown.fetchall(), await counted.fetchall()
        return [Numbered(row[0], _transaction(row[1:])) for row in rows], total

    async def transaction(
        self, ids: Sequence[UUID], user_number: int
    ) -> TransactionRow | None:
        query = (
            f"SELECT {_SHOWN} FROM transactions t"
            " WHERE id = ANY(%b) AND user_number = %s"
        )
        row = await self._pool.fetch_one(query, (list(ids), user_number))
        return None if row is None else _transaction(row)

    async def annotate(self, ids: Sequence[UUID], notes: Mapping[str, Any]) -> None:
        await self._pool.execute(_ANNOTATE, (_json(notes).decode(), list(ids)))


def register(tables: Tables) -> None:
    """Have the ledger write and read transactions."""
    tables.writers[TransactionRow] = _inserted
    tables.writers[TransactionChanged] = _changed
    tables.readers[TransactionOf] = Reader(_of, _by_id)


def _inserted(rows: list[TransactionRow]) -> Statement:
    return _INSERT, _arrays(rows)


def _changed(records: list[TransactionChanged]) -> Statement:
    """A row that changes more than once in a batch is as it was the last time."""
    last = {record.row.id: record.row for record in records}
    return _CHANGE, _arrays([last[id] for id in sorted(last)])


def _of(keys: list[TransactionOf]) -> Statement:
    return _OF, {"ids": array("uuid", [key.id.bytes for key in keys])}


def _by_id(rows: Sequence[Row]) -> Mapping[Any, Any]:
    found = map(_transaction, rows)
    return {TransactionOf(row.id): row for row in found}


def _arrays(rows: Sequence[TransactionRow]) -> dict[str, Any]:
    return {
        name: array(type, [of(row) for row in rows])
        for name, (type, of) in _COLUMNS.items()
    }


def _transaction(row: Row) -> TransactionRow:
    """row: of `_SHOWN`."""
    values = dict(zip(_COLUMNS, row, strict=True))
    values["type"] = TYPES[values["type"]]
    values["status"] = STATUSES[values["status"]]
    values["currency"] = CURRENCY_OF[values["currency"]]
    counterpart = values["counterpart_type"]
    if counterpart is not None:
        values["counterpart_type"] = COUNTERPARTS[counterpart]
    values["metadata"] = _read(values["metadata"])
    return TransactionRow(**values)
