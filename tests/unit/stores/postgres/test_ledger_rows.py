"""Which months a key is written to; statements of no rows, and of many."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from tchatd.domains.payment.ledger.deciding import KeptAnswer
from tchatd.domains.payment.ledger.models import (
    Account,
    AccountKind,
    AccountStatus,
    Hold,
    HoldState,
)
from tchatd.kernel.clock import moment_ms
from tchatd.kernel.money import NUMERIC, Currency
from tchatd.stores.postgres import ledger_rows as rows
from tchatd.stores.postgres.pool import Pool


def ms(year: int, month: int, day: int = 1) -> int:
    return moment_ms(datetime(year, month, day, tzinfo=UTC))


@pytest.mark.parametrize(
    ("now_ms", "months"),
    [
        (ms(2027, 2, 14), [ms(2027, 2)]),
        (ms(2027, 2) + rows.KEYS_OVERLAP_MS - 1, [ms(2027, 1), ms(2027, 2)]),
        (ms(2027, 2) + rows.KEYS_OVERLAP_MS, [ms(2027, 2)]),
        (ms(2027, 1) - rows.KEYS_OVERLAP_MS, [ms(2026, 12), ms(2027, 1)]),
        (ms(2027, 1) - rows.KEYS_OVERLAP_MS - 1, [ms(2026, 12)]),
    ],
)
def test_a_key_is_of_its_month_and_at_its_turn_of_both(
    now_ms: int, months: list[int]
) -> None:
    assert rows.key_months(now_ms) == months


def test_clocks_that_differ_by_the_overlap_share_a_month() -> None:
    turn_ms = ms(2027, 3)
    for off_ms in range(-rows.KEYS_OVERLAP_MS, rows.KEYS_OVERLAP_MS + 1, 60_000):
        one = set(rows.key_months(turn_ms + off_ms))
        other = set(rows.key_months(turn_ms + off_ms + rows.KEYS_OVERLAP_MS))
        assert one & other


def test_rows_become_what_they_are_of() -> None:
    for currency in Currency:
        row = (7, NUMERIC[currency], 5, None, 3, 2, 1, 0, 4, 5, 6, 7, 8, 9)
        account = rows.account_of(row)
        assert (account.currency, account.kind) == (currency, AccountKind.CLEARING)
        assert account.status is AccountStatus.SUSPENDED
        assert (account.floor, account.ceiling, account.month_spent) == (None, 3, 9)
    id, transfer = uuid4(), uuid4()
    assert rows.hold_of((id, 1, 2, 9, 50, 3, 2, 8, transfer)) == Hold(
        id, 1, 2, 9, 50, 3, HoldState.POSTED, 8, transfer
    )


@pytest.mark.service
async def test_statements_take_no_rows_too(pool: Pool) -> None:
    for sql, parameters in (
        rows.lock_accounts([]),
        rows.load_holds([]),
        rows.load_keys([]),
        rows.store_accounts([]),
        rows.store_postings([], 0),
        rows.store_new_holds([], 0),
        rows.store_ended_holds([]),
        rows.store_keys([], 0),
    ):
        assert await pool.execute(sql, parameters) == 0


@pytest.mark.service
async def test_an_account_is_stored_as_it_is(pool: Pool) -> None:
    await pool.execute(
        "INSERT INTO accounts (currency, kind, created_ms) VALUES (764, 1, 0)"
    )
    account = Account(
        *(1, Currency.THB, AccountKind.WALLET, None, None, AccountStatus.CLOSED),
        *(20, 3, 4, 5, 6, 7, 8, 9),
    )

    assert await pool.execute(*rows.store_accounts([account])) == 1

    [row] = await pool.fetch(*rows.lock_accounts([1]))
    stored = rows.account_of(row)
    for name in Account.__slots__:
        assert getattr(stored, name) == getattr(account, name)


@pytest.mark.service
async def test_keys_are_stored_in_order(pool: Pool) -> None:
    sql, parameters = rows.store_keys(
        [KeptAnswer(bytes([n]) * 32, bytes(32), b"") for n in (3, 1, 2)], ms(2027, 2)
    )

    found = await pool.fetch_value(
        "SELECT array_agg(get_byte(d, 0)) FROM unnest(%(digest)b::bytea[]) d",
        parameters,
    )

    assert "ledger_keys" in sql
    assert found == [1, 1, 2, 2, 3, 3]
