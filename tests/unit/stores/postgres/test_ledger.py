"""The contract of the ledger on PostgreSQL; what becomes of a batch that fails."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest
import trio

from tchatd.domains.payment.ledger.books import Books
from tchatd.domains.payment.ledger.deciding import Replayed
from tchatd.domains.payment.ledger.errors import InDoubt, InsufficientFunds
from tchatd.kernel.clock import ManualClock
from tchatd.kernel.errors import Unavailable
from tchatd.observe.metrics import Metrics
from tchatd.stores.postgres.connection import Connection
from tchatd.stores.postgres.errors import (
    ConnectionLost,
    QueryRefused,
)
from tchatd.stores.postgres.pool import Pool
from tests.support.ledger import (
    WALLET,
    WORLD,
    Do,
    LedgerContract,
    answer,
    key_of,
    move,
    outcome_of,
    outcomes_of,
)
from tests.support.ledgers import (
    Book,
    Note,
    connecting,
    differences_in,
    made,
    running,
)
from tests.support.postgres import until

pytestmark = pytest.mark.service
LOCKED = """SELECT FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'"""


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def ledger(database: str, pool: Pool, clock: ManualClock) -> AsyncIterator[Book]:
    async with running(made(database, pool, clock)) as book:
        yield book
    assert await differences_in(pool) == []


class TestPostgresLedger(LedgerContract):
    pass


async def funded(book: Book, *amounts: int) -> tuple[int, ...]:
    """The world, and wallets with these amounts. The ledger runs."""
    world = await book.open(WORLD)
    wallets = [await book.open(WALLET) for _ in amounts]
    for wallet, amount in zip(wallets, amounts, strict=True):
        if amount:
            await answer(book.submit(move(world, wallet, amount)))
    return world, *wallets


async def balance(pool: Pool, number: int) -> int:
    found: int = await pool.fetch_value(
        "SELECT balance FROM accounts WHERE number = %s", (number,)
    )
    return found


# A batch.


async def test_what_comes_while_a_batch_is_on_its_way_is_the_next_one(
    database: str, pool: Pool, clock: ManualClock
) -> None:
    metrics = Metrics(process=False)
    async with running(made(database, pool, clock, metrics=metrics)) as book:
        world, wallet = await funded(book, 0)
        sizes = book.ledger._sizes
        before = sum(sizes.counts)
        first = book.submit(move(world, wallet, 1))
        await trio.testing.wait_all_tasks_blocked()
        others = [book.submit(move(world, wallet, 1)) for _ in range(100)]

        await outcomes_of([first, *others])

        assert sum(sizes.counts) - before == 2
    assert b'tchatd_ledger_commands_total{answer="done"} 101.0' in metrics.render()


async def test_a_batch_has_its_most(
    database: str, pool: Pool, clock: ManualClock
) -> None:
    async with running(made(database, pool, clock, batch_max=10)) as book:
        world, wallet = await funded(book, 0)

        await outcomes_of([book.submit(move(world, wallet, 1)) for _ in range(25)])

        assert book.ledger._sizes.cumulative()[-1][1] == 3


async def test_too_many_that_wait_are_told_so(
    database: str, pool: Pool, clock: ManualClock
) -> None:
    book = made(database, pool, clock, waiting_max=2)
    taken = [book.submit(move(1, 2, 1)) for _ in range(3)]

    assert [one.done for one in taken] == [False, False, True]
    with pytest.raises(Unavailable):
        taken[2].result()
    async with running(book):
        await outcomes_of(taken)


async def test_what_was_taken_is_answered_before_it_closes(
    database: str, pool: Pool, clock: ManualClock
) -> None:
    async with running(made(database, pool, clock, batch_max=10)) as book:
        world, wallet = await funded(book, 0)
        taken = [book.submit(move(world, wallet, 1)) for _ in range(50)]
    assert all(isinstance(one.result(), UUID) for one in taken)
    with pytest.raises(Unavailable):
        await answer(book.submit(move(world, wallet, 1)))
    assert await balance(pool, wallet) == 50
    assert await pool.fetch_value("SELECT count(*) FROM ledger_batchers") == 0


async def test_a_batch_of_refusals_and_replays_writes_nothing(ledger: Book) -> None:
    world, wallet = await funded(ledger, 0)
    await answer(ledger.submit(move(world, wallet, 5, key_of("k"))))
    pool = ledger.store._pool
    count = "SELECT count(*) FROM ledger_keys"
    before = await pool.fetch_value(count)

    refused = ledger.submit(move(wallet, world, 9))
    again = ledger.submit(move(world, wallet, 5, key_of("k")))

    assert isinstance(await outcome_of(refused), InsufficientFunds)
    assert isinstance(await outcome_of(again), Replayed)
    assert await pool.fetch_value(count) == before


async def test_a_listener_that_fails_stops_nobody(ledger: Book) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError

    ledger.ledger.on_committed.append(fail)
    world, wallet = await funded(ledger, 0)
    deferred = ledger.submit(move(world, wallet, 1))
    deferred.on_done(fail)

    assert isinstance(await outcome_of(ledger.submit(move(world, wallet, 1))), UUID)
    assert deferred.done


# The turn of a month.


async def test_a_partition_that_is_missing_is_made(
    ledger: Book, pool: Pool, clock: ManualClock
) -> None:
    world, wallet = await funded(ledger, 5)
    clock.advance(300 * 86_400_000)

    await answer(ledger.submit(move(world, wallet, 1, key_of("k"))))

    assert [at.posting.version for at in await ledger.postings(wallet)] == [2, 1]


async def test_a_partition_that_somebody_dropped_is_made_again(
    ledger: Book, pool: Pool
) -> None:
    world, wallet = await funded(ledger, 0)
    await answer(ledger.submit(move(world, wallet, 1, key_of("k"))))
    for table in await pool.fetch(
        "SELECT relname FROM pg_class WHERE relkind = 'r'"
        " AND relname LIKE 'ledger\\_keys\\_2%'"
    ):
        await pool.execute(f"DROP TABLE {table[0]}")

    outcomes = [
        await outcome_of(ledger.submit(move(world, wallet, 1, key_of(name))))
        for name in ("a", "b")
    ]

    assert isinstance(outcomes[-1], UUID)


async def test_a_key_is_known_across_the_turn_of_a_month(
    database: str, pool: Pool
) -> None:
    """Two nodes, whose clocks are on both sides of it."""
    turn_ms = 1_801_440_000_000  # 2027-02-01
    before, after = ManualClock(turn_ms - 60_000), ManualClock(turn_ms + 60_000)
    async with (
        running(made(database, pool, before)) as one,
        running(made(database, pool, after)) as other,
    ):
        world, first, second = await funded(one, 0, 0)
        outcomes = await outcomes_of(
            [
                book.submit(move(world, wallet, 1, key_of("k", str(wallet))))
                for book, wallet in ((one, first), (other, second))
            ]
        )

    assert sorted(type(outcome).__name__ for outcome in outcomes) == [
        "KeyReused",
        "UUID",
    ]
    assert await balance(pool, world) == -1


# Connections that are lost. What is cut, and when, is `tests/faults`.


class Cut:
    """Opens connections, and keeps them to be broken; or refuses to open any."""

    def __init__(self, dsn: str) -> None:
        self._connect = connecting(dsn)
        self.opened: list[Connection] = []
        self.refusing = False

    async def __call__(self) -> Connection:
        if self.refusing:
            raise ConnectionLost
        connection: Connection = await self._connect()
        self.opened.append(connection)
        return connection


async def test_a_connection_lost_between_batches_is_opened_anew(
    database: str, pool: Pool, clock: ManualClock
) -> None:
    cut = Cut(database)
    async with running(made(database, pool, clock, cut)) as book:
        world, wallet = await funded(book, 1)
        pid = cut.opened[-1].backend_pid
        await pool.fetch_value("SELECT pg_terminate_backend(%s, 5000)", (pid,))

        await answer(book.submit(move(world, wallet, 3)))

    assert len(cut.opened) == 2
    assert await balance(pool, wallet) == 4


async def test_a_store_that_stays_away_is_told_within_the_time(
    database: str, pool: Pool, clock: ManualClock
) -> None:
    cut = Cut(database)
    async with running(made(database, pool, clock, cut, retry_s=0.2)) as book:
        world, wallet = await funded(book, 1)
        cut.refusing = True
        cut.opened[-1].close()

        outcomes = await outcomes_of(
            [book.submit(move(world, wallet, 3)) for _ in range(3)]
        )

        assert [type(outcome) for outcome in outcomes] == [Unavailable] * 3
        cut.refusing = False
        await answer(book.submit(move(world, wallet, 3)))
    assert await balance(pool, wallet) == 4


async def _held_up(
    book: Book,
    pool: Pool,
    lose: Callable[[Connection], Awaitable[None]],
    *,
    commits: bool,
) -> Any:
    """A batch whose COMMIT waits (for a deferred check) while `lose` is done."""
    await pool.execute("CREATE TABLE gate (open boolean)")
    await pool.execute("INSERT INTO gate VALUES (true)")
    await pool.execute("CREATE TABLE slow (n bigint)")
    await pool.execute(
        """CREATE FUNCTION wait_for_gate() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM open FROM gate FOR UPDATE;
            IF NOT FOUND THEN RAISE EXCEPTION 'no gate'; END IF;
            RETURN NULL;
        END $$"""
    )
    await pool.execute(
        "CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT ON slow"
        " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait_for_gate()"
    )
    book.ledger.tables.writers[Note] = lambda notes: (
        "INSERT INTO slow SELECT unnest(%(n)b::bigint[])",
        {"n": [note.number for note in notes]},
    )
    world, wallet = await book.open(WORLD), await book.open(WALLET)
    transfer = move(world, wallet, 5)

    def run(books: Books) -> Any:
        books.write(Note(1))
        return transfer.run(books)

    async with pool.transaction() as other, pool.connection() as watcher:
        await other.execute("SELECT open FROM gate FOR UPDATE")
        if not commits:
            await other.execute("DELETE FROM gate")
        waiting = book.submit(Do(run, (world, wallet)))
        await until(watcher, f"EXISTS ({LOCKED} AND query = 'COMMIT')")
        await lose(watcher)
    return wallet, waiting


@pytest.mark.parametrize("commits", [True, False])
async def test_an_answer_to_commit_that_was_lost_is_found_out(
    database: str, pool: Pool, clock: ManualClock, commits: bool
) -> None:
    """The server goes on with what it was sent; whoever asks waits for it."""
    cut = Cut(database)
    async with running(made(database, pool, clock, cut)) as book:

        async def lose(watcher: Connection) -> None:
            _drop_socket(cut.opened[-1])
            await until(watcher, f"EXISTS ({LOCKED} AND query LIKE '%%batchers%%')")

        wallet, waiting = await _held_up(book, pool, lose, commits=commits)
        if commits:
            assert isinstance(await outcome_of(waiting), UUID)
        else:  # Not committed: it was tried again, and failed for a reason of its own.
            assert isinstance(await outcome_of(waiting), QueryRefused)

    assert len(cut.opened) >= 2
    assert await balance(pool, wallet) == (5 if commits else 0)
    assert await pool.fetch_value("SELECT count(*) FROM slow") == (1 if commits else 0)
    assert await differences_in(pool) == []


async def test_nobody_knows_in_time_and_is_told_so(
    database: str, pool: Pool, clock: ManualClock
) -> None:
    cut = Cut(database)
    async with running(made(database, pool, clock, cut, in_doubt_s=0.1)) as book:

        async def lose(_: Connection) -> None:
            cut.refusing = True
            _drop_socket(cut.opened[-1])
            while not book.ledger._answered["in-doubt"].value:
                await trio.sleep(0.01)

        wallet, waiting = await _held_up(book, pool, lose, commits=True)
        assert isinstance(await outcome_of(waiting), InDoubt)
        cut.refusing = False

        await answer(book.submit(move(wallet, (await book.open(WALLET)), 5)))
    assert await differences_in(pool) == []


def _drop_socket(connection: Connection) -> None:
    """As if the network was gone: the server is not told that it is."""
    fd = connection._driver.pgconn.socket
    with socket.socket(fileno=fd) as alias:
        alias.shutdown(socket.SHUT_RD)
        alias.detach()


async def test_a_cancelled_batcher_leaves_nobody_without_an_answer(
    database: str, pool: Pool, clock: ManualClock
) -> None:
    book = made(database, pool, clock)
    world, wallet = await book.open(WORLD), await book.open(WALLET)
    async with trio.open_nursery() as nursery:
        await nursery.start(book.ledger.run)
        async with pool.transaction() as other, pool.connection() as watcher:
            await other.execute("SELECT FROM accounts FOR UPDATE")
            first = book.submit(move(world, wallet, 1))
            await until(watcher, f"EXISTS ({LOCKED})")
            second = book.submit(move(world, wallet, 1))
            nursery.cancel_scope.cancel()
    for left in (first, second):
        with pytest.raises(Unavailable):
            left.result()
    assert await balance(pool, wallet) == 0
