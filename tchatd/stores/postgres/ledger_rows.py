"""Owns the statements of a batch of the ledger, and rows as the domain's objects.

Arrays are encoded in C (`arrays`), for a batch has some 10,000 values. Every statement
takes any number of rows, also none.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final
from uuid import UUID

from tchatd.domains.payment.ledger.deciding import KeptAnswer
from tchatd.domains.payment.ledger.models import (
    Account,
    AccountKind,
    AccountStatus,
    Hold,
    HoldState,
    Posting,
)
from tchatd.domains.payment.ledger.store import PostedAt
from tchatd.kernel.money import NUMERIC
from tchatd.stores.postgres.arrays import array
from tchatd.stores.postgres.driver import Row
from tchatd.stores.postgres.partitions import month_of

Statement = tuple[str, Mapping[str, Any]]

KEYS_OVERLAP_MS: Final = 15 * 60_000
"""Before and after the turn of a month, keys are written to both months: more than the
clocks of two nodes differ."""

ACCOUNT: Final = (
    "number, currency, kind, floor, ceiling, status, balance, held, version, day,"
    " day_spent, day_count, month, month_spent"
)
HOLD: Final = (
    "id, debit, credit, amount_minor, expires_ms, code, state, posted_minor,"
    " transfer_id"
)
POSTING: Final = (
    "account, version, transfer_id, amount_minor, balance, counter, code, created_ms"
)

# FOR NO KEY UPDATE: rows of other tables that refer to an account are not held up.
LOCK_ACCOUNTS: Final = (
    f"SELECT {ACCOUNT} FROM accounts WHERE number = ANY(%(numbers)b::bigint[])"  # noqa: S608
    " ORDER BY number FOR NO KEY UPDATE"
)
LOAD_HOLDS: Final = f"SELECT {HOLD} FROM holds WHERE id = ANY(%(ids)b::uuid[])"  # noqa: S608
LOAD_KEYS: Final = (
    "SELECT digest, fingerprint, answer FROM ledger_keys"
    " WHERE digest = ANY(%(digests)b::bytea[])"
)

_CURRENCY: Final = {number: currency for currency, number in NUMERIC.items()}
_KIND: Final = {int(kind): kind for kind in AccountKind}
_STATUS: Final = {int(status): status for status in AccountStatus}
_STATE: Final = {int(state): state for state in HoldState}


def account_of(row: Row) -> Account:
    """row: of `ACCOUNT`."""
    number, currency, kind, floor, ceiling, status, *moved = row
    return Account(
        number,
        _CURRENCY[currency],
        _KIND[kind],
        floor,
        ceiling,
        _STATUS[status],
        *moved,
    )


def hold_of(row: Row) -> Hold:
    """row: of `HOLD`."""
    id, debit, credit, amount, expires_ms, code, state, posted, transfer_id = row
    return Hold(
        *(id, debit, credit, amount, expires_ms, code),
        state=_STATE[state],
        posted_minor=posted,
        transfer_id=transfer_id,
    )


def posting_of(row: Row) -> PostedAt:
    """row: of `POSTING`."""
    return PostedAt(Posting(*row[:-1]), row[-1])


def lock_accounts(numbers: Collection[int]) -> Statement:
    return LOCK_ACCOUNTS, {"numbers": array("bigint", sorted(numbers))}


def load_holds(ids: Collection[UUID]) -> Statement:
    return LOAD_HOLDS, {"ids": array("uuid", [id.bytes for id in ids])}


def load_keys(digests: Collection[bytes]) -> Statement:
    return LOAD_KEYS, {"digests": array("bytea", list(digests))}


class _Table:
    """A statement over `unnest`, and how its arrays come from objects.

    columns: of each, its SQL type and its value from an object.
    """

    def __init__(
        self, sql: str, columns: Mapping[str, tuple[str, Callable[[Any], Any]]]
    ) -> None:
        arrays = [f"%({name})b::{type}[]" for name, (type, _) in columns.items()]
        self.sql = sql.format(
            columns=", ".join(columns), rows=f"unnest({', '.join(arrays)})"
        )
        self._columns = [(name, type, of) for name, (type, of) in columns.items()]

    def statement(self, objects: Sequence[Any]) -> Statement:
        return self.sql, {
            name: array(type, [of(one) for one in objects])
            for name, type, of in self._columns
        }


def _same(type: str, name: str) -> tuple[str, Callable[[Any], Any]]:
    return type, attrgetter(name)


def _bytes_or_none(id: UUID | None) -> bytes | None:
    return None if id is None else id.bytes


_ACCOUNTS: Final = _Table(
    "UPDATE accounts AS a SET balance = c.balance, held = c.held,"
    " version = c.version, status = c.status, day = c.day, day_spent = c.day_spent,"
    " day_count = c.day_count, month = c.month, month_spent = c.month_spent"
    " FROM {rows} AS c ({columns}) WHERE a.number = c.number",
    {
        "number": _same("bigint", "number"),
        "balance": _same("bigint", "balance"),
        "held": _same("bigint", "held"),
        "version": _same("bigint", "version"),
        "status": _same("smallint", "status"),
        "day": _same("integer", "day"),
        "day_spent": _same("bigint", "day_spent"),
        "day_count": _same("integer", "day_count"),
        "month": _same("integer", "month"),
        "month_spent": _same("bigint", "month_spent"),
    },
)
_POSTINGS: Final = _Table(
    "INSERT INTO postings ({columns}, created_ms)"
    " SELECT *, %(now)s::bigint FROM {rows}",
    {
        "account": _same("bigint", "account"),
        "version": _same("bigint", "version"),
        "amount_minor": _same("bigint", "amount_minor"),
        "balance": _same("bigint", "balance"),
        "counter": _same("bigint", "counter"),
        "transfer_id": ("uuid", attrgetter("transfer_id.bytes")),
        "code": _same("smallint", "code"),
    },
)
_NEW_HOLDS: Final = _Table(
    "INSERT INTO holds ({columns}, created_ms) SELECT *, %(now)s::bigint FROM {rows}",
    {
        "id": ("uuid", attrgetter("id.bytes")),
        "debit": _same("bigint", "debit"),
        "credit": _same("bigint", "credit"),
        "amount_minor": _same("bigint", "amount_minor"),
        "expires_ms": _same("bigint", "expires_ms"),
        "code": _same("smallint", "code"),
        "state": _same("smallint", "state"),
        "posted_minor": _same("bigint", "posted_minor"),
        "transfer_id": ("uuid", lambda hold: _bytes_or_none(hold.transfer_id)),
    },
)
_ENDED_HOLDS: Final = _Table(
    "UPDATE holds AS h SET state = c.state, posted_minor = c.posted_minor,"
    " transfer_id = c.transfer_id FROM {rows} AS c ({columns})"
    " WHERE h.id = c.id",
    {
        "id": ("uuid", attrgetter("id.bytes")),
        "state": _same("smallint", "state"),
        "posted_minor": _same("bigint", "posted_minor"),
        "transfer_id": ("uuid", lambda hold: _bytes_or_none(hold.transfer_id)),
    },
)
_KEYS: Final = (
    "INSERT INTO ledger_keys (digest, fingerprint, answer, created_ms)"
    " SELECT * FROM unnest(%(digest)b::bytea[], %(fingerprint)b::bytea[],"
    " %(answer)b::bytea[], %(created_ms)b::bigint[])"
)


def store_accounts(accounts: Iterable[Account]) -> Statement:
    return _ACCOUNTS.statement(list(accounts))


def store_postings(postings: Sequence[Posting], now_ms: int) -> Statement:
    sql, parameters = _POSTINGS.statement(postings)
    return sql, {**parameters, "now": now_ms}


def store_new_holds(holds: Iterable[Hold], now_ms: int) -> Statement:
    sql, parameters = _NEW_HOLDS.statement(list(holds))
    return sql, {**parameters, "now": now_ms}


def store_ended_holds(holds: Iterable[Hold]) -> Statement:
    return _ENDED_HOLDS.statement(list(holds))


def store_keys(answers: Iterable[KeptAnswer], now_ms: int) -> Statement:
    """In order of their digests, so that two nodes that write the same ones meet at
    the first and wait, instead of each having what the other wants."""
    months = key_months(now_ms)
    rows = [
        (kept, month_ms)
        for kept in sorted(answers, key=attrgetter("digest"))
        for month_ms in months
    ]
    return _KEYS, {
        "digest": array("bytea", [kept.digest for kept, _ in rows]),
        "fingerprint": array("bytea", [kept.fingerprint for kept, _ in rows]),
        "answer": array("bytea", [kept.answer for kept, _ in rows]),
        "created_ms": array("bigint", [month_ms for _, month_ms in rows]),
    }


def key_months(now_ms: int) -> list[int]:
    """The starts of the months that a key of this time is written to, one or two."""
    months = {
        month_of(now_ms + offset_ms).start_ms
        for offset_ms in (-KEYS_OVERLAP_MS, 0, KEYS_OVERLAP_MS)
    }
    return sorted(months)
