"""Owns putting money into wallets of a real daemon, as a second process on its ledger.

What a test gives away comes from an account of the world, so that the books stay right.
"""

from __future__ import annotations

from uuid import UUID, uuid4

from tchatd.app.embedded_postgres import DATABASE
from tchatd.app.postgres_folder import PORT, ROLE
from tchatd.domains.payment.ledger.models import AccountKind, Opening, Transfer
from tchatd.kernel.clock import SystemClock
from tchatd.stores.postgres.pool import Pool
from tchatd.stores.postgres.wallets import PostgresWalletStore
from tests.support.daemon import Daemon
from tests.support.ledger import Do, answer
from tests.support.ledgers import made, running


def dsn_of(daemon: Daemon) -> str:
    """Of its private PostgreSQL; the fifth line of the pid file is the socket's
    folder."""
    found = next((daemon.data / "postgres").rglob("postmaster.pid"))
    folder = found.read_text().splitlines()[4]
    return f"host={folder} port={PORT} user={ROLE} dbname={DATABASE}"


async def fund(daemon: Daemon, wallet_id: str, amount: int) -> None:
    """So much more is in the wallet."""
    dsn = dsn_of(daemon)
    pool = Pool(dsn, size=2)
    try:
        state = await PostgresWalletStore(pool).wallet(UUID(wallet_id))
        assert state is not None, "there is no such wallet"
        async with running(made(dsn, pool, SystemClock())) as book:
            world = await book.open(
                Opening(
                    state.row.currency, AccountKind.WORLD, floor=None, name="world:test"
                )
            )
            transfer = Transfer(uuid4(), world, state.row.account, amount)
            await answer(
                book.submit(
                    Do(
                        lambda books: books.transfer(transfer),
                        (world, state.row.account),
                    )
                )
            )
    finally:
        await pool.aclose()
