"""Transactions in PostgreSQL beyond the contract (test_wallets.py)."""

from __future__ import annotations

from tchatd.domains.payment.rows import COUNTERPARTS, STATUSES, TYPES


def test_the_numbers_in_the_table_never_change() -> None:
    assert (
        *("send", "receive", "topup", "withdraw", "purchase"),
        *("refund", "fee", "reward", "cashback"),
    ) == TYPES
    assert (
        *("pending", "processing", "completed"),
        *("failed", "cancelled", "expired"),
    ) == STATUSES
    assert COUNTERPARTS == ("user", "merchant", "system")
