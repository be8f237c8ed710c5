"""Owns recomputing the ledger from its postings, and comparing it with what is stored.

Read only, in one REPEATABLE READ transaction: what runs beside it is neither held up
nor seen. The server does the work, in memory that `work_mem` bounds (what does not fit
goes through temporary files); only differences come back, of each check at most
`differences_max`. While it runs, vacuum keeps what changes meanwhile.
"""

from __future__ import annotations

from typing import Final

import msgspec

from tchatd.kernel.money import NUMERIC
from tchatd.stores.postgres.connection import Connection

DIFFERENCES_MAX: Final = 100

# Each finds what is wrong: which row it is, and how it is.
_HISTORY: Final = """
SELECT 'account ' || account || ' version ' || version,
    CASE WHEN version <> before + 1 THEN 'comes after version ' || before
    ELSE 'balance ' || balance || ', not ' || was || ' and ' || amount_minor END
FROM (
    SELECT account, version, amount_minor, balance,
        coalesce(lag(version) OVER history, 0) AS before,
        coalesce(lag(balance) OVER history, 0) AS was
    FROM postings WINDOW history AS (PARTITION BY account ORDER BY version)
) AS p
WHERE version <> before + 1 OR balance <> was::numeric + amount_minor
"""
_ACCOUNTS: Final = """
SELECT 'account ' || coalesce(a.number, p.account),
    CASE WHEN a.number IS NULL THEN 'has postings and is not there'
    ELSE 'balance ' || balance || ' version ' || version || ', its postings '
        || coalesce(total, 0) || ' and ' || coalesce(postings, 0) END
FROM accounts a FULL JOIN (
    SELECT account, sum(amount_minor) AS total, count(*) AS postings
    FROM postings GROUP BY account
) AS p ON p.account = a.number
WHERE a.number IS NULL OR balance <> coalesce(total, 0)
    OR version <> coalesce(postings, 0)
"""
_TRANSFERS: Final = """
SELECT 'transfer ' || transfer_id,
    count(*) || ' postings, their sum ' || sum(amount_minor)
        || ', between ' || min(account) || ' and ' || max(account)
FROM postings GROUP BY transfer_id
HAVING count(*) <> 2 OR sum(amount_minor) <> 0
    OR min(counter) <> min(account) OR max(counter) <> max(account)
    OR min(account) = max(account) OR min(code) <> max(code)
    OR min(created_ms) <> max(created_ms)
"""
_CURRENCIES: Final = """
SELECT 'transfer ' || p.transfer_id, 'from currency ' || a.currency || ' to '
    || c.currency
FROM postings p JOIN accounts a ON a.number = p.account
    JOIN accounts c ON c.number = p.counter
WHERE p.amount_minor < 0 AND a.currency <> c.currency
"""
_SUMS: Final = """
SELECT 'currency ' || currency, 'the sum of its balances is ' || sum(balance)
FROM accounts GROUP BY currency HAVING sum(balance) <> 0
"""
_HELD: Final = """
SELECT 'account ' || coalesce(a.number, h.debit),
    'holds ' || coalesce(a.held, 0) || ', its pending holds '
        || coalesce(h.total, 0)
FROM accounts a FULL JOIN (
    SELECT debit, sum(amount_minor) AS total FROM holds WHERE state = 1 GROUP BY debit
) AS h ON h.debit = a.number
WHERE coalesce(a.held, 0) <> coalesce(h.total, 0)
"""
_FLOORS: Final = """
SELECT 'account ' || number, 'available ' || balance - held || ', its floor ' || floor
FROM accounts WHERE balance - held < floor
"""
_HOLDS: Final = """
SELECT 'hold ' || h.id, CASE WHEN h.posted_minor NOT BETWEEN 0 AND h.amount_minor
    THEN 'posted ' || h.posted_minor || ' of ' || h.amount_minor
    WHEN h.state <> 2 THEN 'ended otherwise, and has a posting'
    ELSE 'posted ' || h.posted_minor || ', its posting '
        || coalesce(-p.amount_minor, 0) END
FROM holds h LEFT JOIN postings p
    ON p.transfer_id = h.transfer_id AND p.account = h.debit
WHERE h.posted_minor NOT BETWEEN 0 AND h.amount_minor
    OR h.state <> 2 AND (h.transfer_id IS NOT NULL OR h.posted_minor <> 0)
    OR h.state = 2 AND (p.amount_minor IS DISTINCT FROM -h.posted_minor
        OR p.counter <> h.credit)
"""
_ONCE: Final = """
SELECT 'transfer ' || transfer_id, count(*) || ' holds were posted by it'
FROM holds WHERE transfer_id IS NOT NULL GROUP BY transfer_id HAVING count(*) > 1
"""
CHECKS: Final = {
    "history": _HISTORY,
    "accounts": _ACCOUNTS,
    "transfers": _TRANSFERS,
    "currencies": _CURRENCIES,
    "sums": _SUMS,
    "held": _HELD,
    "floors": _FLOORS,
    "holds": _HOLDS,
    "holds-once": _ONCE,
}
"""By name, as it is reported and explained in docs/ledger.md."""

_COUNTS: Final = (
    "SELECT (SELECT count(*) FROM accounts), (SELECT count(*) FROM postings),"
    " (SELECT count(*) FROM holds WHERE state = 1)"
)
_TOTALS: Final = (
    "SELECT currency, sum(balance) FILTER (WHERE balance > 0)::bigint"
    " FROM accounts GROUP BY currency ORDER BY currency"
)


class Difference(msgspec.Struct, frozen=True):
    """check: of `CHECKS`. what: the row. how: what it is, and what it should be."""

    check: str
    what: str
    how: str


class Report(msgspec.Struct, frozen=True):
    """totals: what accounts above zero have together, by currency, in minor units.

    more: the checks that found more differences than are listed.
    """

    accounts: int
    postings: int
    pending_holds: int
    totals: dict[str, int]
    differences: list[Difference]
    more: list[str]


async def verify(
    connection: Connection, differences_max: int = DIFFERENCES_MAX
) -> Report:
    """Recompute and compare; takes as long as reading all postings a few times.

    connection: without a timeout of statements, in no transaction.

    Raises:
        Unavailable: the store went away, and nothing is known.
    """
    names = {number: currency.value for currency, number in NUMERIC.items()}
    differences: list[Difference] = []
    more = []
    async with connection.transaction(isolation="REPEATABLE READ"):
        await connection.execute("SET TRANSACTION READ ONLY")
        counts = await connection.fetch_one(_COUNTS)
        assert counts is not None
        totals = await connection.fetch(_TOTALS)
        for check, query in CHECKS.items():
            rows = await connection.fetch(f"{query} LIMIT %s", (differences_max + 1,))
            differences += [Difference(check, *row) for row in rows[:differences_max]]
            if len(rows) > differences_max:
                more.append(check)
    accounts, postings, pending = counts
    return Report(
        accounts=accounts,
        postings=postings,
        pending_holds=pending,
        totals={names.get(number, str(number)): total or 0 for number, total in totals},
        differences=differences,
        more=more,
    )
