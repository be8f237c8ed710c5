"""Measures the ledger's batcher in this process, on a PostgreSQL of its own.

100,000 wallets, payer and payee by Zipf 1.0, funds checked, two postings a transfer;
fsync and synchronous_commit on. The baseline is pgbench on the same server and a
database of the same shape, in turn with each run: a transfer a transaction by 16
clients, and as one call of a PL/pgSQL function. At the end the ledger is verified.
"""

from __future__ import annotations

import gc
import hashlib
import itertools
import os
import random
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import trio

from bench import processes
from bench.generator import Failed
from bench.plan import Plan
from bench.report import Report
from tchatd.app.embedded_postgres import EmbeddedPostgres
from tchatd.domains.payment.ledger.books import Books
from tchatd.domains.payment.ledger.deciding import Key
from tchatd.domains.payment.ledger.models import Transfer
from tchatd.kernel.clock import SystemClock
from tchatd.kernel.deferred import Deferred
from tchatd.kernel.ids import Ids
from tchatd.observe.metrics import Metrics
from tchatd.stores.postgres import migrations
from tchatd.stores.postgres.connection import Connection
from tchatd.stores.postgres.ledger import LedgerSettings, PostgresLedger
from tchatd.stores.postgres.ledger_store import PostgresLedgerStore
from tchatd.stores.postgres.ledger_verify import verify
from tchatd.stores.postgres.pool import Pool

WALLETS = 100_000
FUNDS = 1_000_000_000
OUTSTANDING = 800
CLIENTS = 16
ZIPF = 1.001  # pgbench takes nothing nearer to 1
RATE_MAX, ALONE_MAX = 45_000, 4_000  # commands made before a run, a second of it
SETTINGS = LedgerSettings(
    batch_max=1_000,
    waiting_max=20_000,
    attempts_max=8,
    trip_s=10,
    retry_s=10,
    in_doubt_s=10,
)
TARGETS = {"transfers": 20_000.0, "p99": 60.0, "of pgbench": 5.0, "merchant": 0.9}

_ACCOUNTS = """
INSERT INTO accounts (currency, kind, floor, created_ms)
    SELECT 764, 1, 0, 0 FROM generate_series(1, {wallets});
INSERT INTO accounts (currency, kind, floor, name, created_ms)
    VALUES (764, 3, NULL, 'world:bench', 0);
"""
_FUNDS = """
UPDATE accounts SET balance = {funds}, version = 1 WHERE kind = 1;
UPDATE accounts SET balance = -{funds} * {wallets}::bigint, version = {wallets}
    WHERE kind = 3;
INSERT INTO postings (account, version, created_ms, amount_minor, balance, counter,
    transfer_id, code)
SELECT side.account, side.version, {now}, side.amount, side.balance, side.counter,
    lpad(to_hex(n), 32, '0')::uuid, 0
FROM generate_series(1, {wallets}) AS n, LATERAL (VALUES
    (n, 1::bigint, {funds}::bigint, {funds}::bigint, {wallets} + 1),
    ({wallets} + 1, n, -{funds}::bigint, -{funds}::bigint * n, n)
) AS side (account, version, amount, balance, counter);
"""
_MANY = """
\\set a 1 + permute(random_zipfian(1, {wallets}, {zipf}) - 1, {wallets})
\\set b 1 + permute(random_zipfian(1, {wallets}, {zipf}) - 1, {wallets})
\\if :a <> :b
\\set least least(:a, :b)
\\set most greatest(:a, :b)
\\set amount random(1, 100)
BEGIN;
SELECT number, balance FROM accounts WHERE number IN (:least, :most)
    ORDER BY number FOR UPDATE;
UPDATE accounts SET balance = balance - :amount, version = version + 1
    WHERE number = :a AND balance - held >= :amount
    RETURNING balance AS ab, version AS av \\gset
UPDATE accounts SET balance = balance + :amount, version = version + 1
    WHERE number = :b RETURNING balance AS bb, version AS bv \\gset
WITH t AS MATERIALIZED (SELECT gen_random_uuid() AS id)
INSERT INTO postings (account, version, created_ms, amount_minor, balance, counter,
    transfer_id, code)
SELECT side.*, t.id, 0 FROM t, (VALUES
    (:a::bigint, :av::bigint, {now}::bigint, -:amount::bigint, :ab::bigint, :b::bigint),
    (:b, :bv, {now}, :amount, :bb, :a)) AS side;
COMMIT;
\\endif
"""
_ONE = """
\\set a 1 + permute(random_zipfian(1, {wallets}, {zipf}) - 1, {wallets})
\\set b 1 + permute(random_zipfian(1, {wallets}, {zipf}) - 1, {wallets})
\\set amount random(1, 100)
SELECT move(:a, :b, :amount, {now});
"""
_FUNCTION = """
CREATE FUNCTION move(a bigint, b bigint, amount bigint, now bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    id uuid := gen_random_uuid();
    ab bigint; av bigint; bb bigint; bv bigint;
BEGIN
    IF a = b THEN RETURN false; END IF;
    PERFORM number FROM accounts WHERE number IN (a, b) ORDER BY number FOR UPDATE;
    UPDATE accounts SET balance = balance - amount, version = version + 1
        WHERE number = a AND balance - held >= amount
        RETURNING balance, version INTO ab, av;
    IF NOT FOUND THEN RETURN false; END IF;
    UPDATE accounts SET balance = balance + amount, version = version + 1
        WHERE number = b RETURNING balance, version INTO bb, bv;
    INSERT INTO postings (account, version, created_ms, amount_minor, balance, counter,
        transfer_id, code)
    VALUES (a, av, now, -amount, ab, b, id, 0), (b, bv, now, amount, bb, a, id, 0);
    RETURN true;
END $$;
"""


def run(plan: Plan) -> Report:
    report = Report(
        "ledger",
        seed=plan.seed,
        settings=plan.settings(
            wallets=WALLETS, outstanding=OUTSTANDING, clients=CLIENTS, zipf=1.0
        ),
    )
    with open_folder_on_disk() as folder:
        trio.run(_measure, plan, report, folder)
    return report


def open_folder_on_disk() -> Any:
    """Where fsync means something: not in memory."""
    folder = tempfile.TemporaryDirectory(prefix="tchatd-bench-", dir="/tmp")
    Path(folder.name).chmod(0o755)
    return folder


class Pay:
    """One transfer, made before it is timed."""

    __slots__ = ("accounts", "key", "transfer")
    holds: tuple[UUID, ...] = ()
    reads: tuple[Any, ...] = ()

    def __init__(self, transfer: Transfer, key: Key | None) -> None:
        self.transfer = transfer
        self.accounts = (transfer.debit, transfer.credit)
        self.key = key

    def decide(self, books: Books) -> UUID:
        books.transfer(self.transfer)
        return self.transfer.id


class Commands:
    """Pays between wallets by Zipf, or all into one; each with an id of its own."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self._weights = list(
            itertools.accumulate(1 / rank for rank in range(1, WALLETS + 1))
        )
        self._numbers = list(range(1, WALLETS + 1))
        self._dice.shuffle(self._numbers)

    def make(self, count: int, *, merchant: bool, keys: bool) -> list[Pay]:
        dice = self._dice
        picked = dice.choices(self._numbers, cum_weights=self._weights, k=2 * count)
        made = []
        for debit, credit in zip(picked[::2], picked[1::2], strict=True):
            if merchant:
                credit = WALLETS // 2
            if debit == credit:
                debit = debit % WALLETS + 1
            id = UUID(int=dice.getrandbits(128))
            key = Key(hashlib.sha256(id.bytes).digest(), bytes(32), _kept)
            transfer = Transfer(id, debit, credit, dice.randint(1, 100))
            made.append(Pay(transfer, key if keys else None))
        return made


def _kept(said: object) -> bytes:
    """As large as an answer of the contract, sealed."""
    return bytes(600)


class Loop:
    """A closed loop of so many commands outstanding."""

    def __init__(self, ledger: PostgresLedger, commands: Sequence[Pay]) -> None:
        self._ledger = ledger
        self._commands = iter(commands)
        self._stopping = False
        self._outstanding = 0
        self._done = trio.Event()
        self.latencies: list[float] = []
        self.refused = 0

    async def run(self, outstanding: int, warmup_s: float, seconds: float) -> float:
        """Answers a second; the latencies are of the measured time."""
        for _ in range(outstanding):
            self._next()
        await trio.sleep(warmup_s)
        self.latencies.clear()
        began_s = time.perf_counter()
        await trio.sleep(seconds)
        took_s, count = time.perf_counter() - began_s, len(self.latencies)
        self._stopping = True
        await self._done.wait()
        del self.latencies[count:]
        if self.refused:
            raise Failed(f"ledger: {self.refused} transfers were refused")
        return count / took_s

    def _next(self) -> None:
        command = next(self._commands, None)
        if command is None:
            raise Failed("ledger: faster than commands were made")
        self._outstanding += 1
        began_s = time.perf_counter()

        def told(deferred: Deferred[Any]) -> None:
            self.latencies.append(time.perf_counter() - began_s)
            self.refused += deferred.error is not None
            self._outstanding -= 1
            if not self._stopping:
                self._next()
            elif not self._outstanding:
                self._done.set()

        self._ledger.submit(command).on_done(told)


async def _measure(plan: Plan, report: Report, folder: str) -> None:
    server = EmbeddedPostgres(Path(folder) / "postgres")
    async with trio.open_nursery() as nursery:
        dsn = await nursery.start(server.run)
        clock = SystemClock()
        await trio.to_thread.run_sync(_create, dsn, "baseline")
        baseline = psycopg.conninfo.make_conninfo(dsn, dbname="baseline")
        pool, other = Pool(dsn, size=2), Pool(baseline, size=1)
        store = PostgresLedgerStore(pool, clock)
        for where, its_store in (
            (dsn, store),
            (baseline, PostgresLedgerStore(other, clock)),
        ):
            await migrations.apply(where)
            await its_store.ensure_partitions(clock.now_ms())
            await trio.to_thread.run_sync(_fill, where, clock.now_ms())
        await other.aclose()
        ledger = PostgresLedger(
            partial(Connection.connect, dsn, prepare_threshold=0),
            store.ensure_partitions,
            clock,
            Ids(clock),
            SETTINGS,
            Metrics(process=False),
        )
        await nursery.start(ledger.run)
        commands = Commands(plan.seed)
        pgbench = partial(_pgbench, server.binaries / "pgbench", baseline, plan, folder)
        for _ in range(plan.runs):
            await _one_run(plan, report, ledger, commands, pgbench)
        ledger.close()
        async with pool.connection() as connection:
            found = await verify(connection)
        if found.differences:
            raise Failed(f"ledger: {found.differences[:3]}")
        await pool.aclose()
        server.close()


def _create(dsn: str, name: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")


def _fill(dsn: str, now_ms: int) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(_ACCOUNTS.format(wallets=WALLETS))
        connection.execute(_FUNDS.format(wallets=WALLETS, funds=FUNDS, now=now_ms))
        connection.execute(_FUNCTION)
        connection.execute("VACUUM (ANALYZE) accounts, postings")
        connection.execute("CHECKPOINT")


async def _one_run(
    plan: Plan,
    report: Report,
    ledger: PostgresLedger,
    commands: Commands,
    pgbench: Callable[[str], float],
) -> None:
    async def loop(
        name: str, outstanding: int, **kind: bool
    ) -> tuple[float, list[float]]:
        seconds = plan.warmup_s + plan.seconds
        count = round((RATE_MAX if outstanding > 1 else ALONE_MAX) * seconds)
        began = Loop(
            ledger, commands.make(count, **{"merchant": False, "keys": False, **kind})
        )
        gc.collect()
        gc.freeze()  # As the daemon does with what is there for good.
        before, busy_s = _cpu_s(), processes.machine_busy_s()
        started_s = time.perf_counter()
        rate = await began.run(outstanding, plan.warmup_s, plan.seconds)
        used = [after - b for after, b in zip(_cpu_s(), before, strict=True)]
        machine_s = (time.perf_counter() - started_s) * (os.cpu_count() or 1)
        others_s = processes.machine_busy_s() - busy_s - sum(used)
        report.keep(
            what=name,
            rate=rate,
            cpu_us=[1e6 * s / (seconds * rate) for s in used],
            others_share=max(0.0, others_s / machine_s),
        )
        gc.unfreeze()
        return rate, sorted(began.latencies)

    rate, latencies = await loop("zipf", OUTSTANDING)
    report.add("transfers", rate, "a second", at_least=TARGETS["transfers"])
    report.add("p50", _ms(latencies, 0.5), "ms", higher_is_better=False)
    report.add("p99", _ms(latencies, 0.99), "ms", at_most=TARGETS["p99"])
    client, database = report._runs[-1]["cpu_us"]
    for name, used in (("this process", client), ("PostgreSQL", database)):
        report.add(f"CPU of {name}", used, "us/transfer", higher_is_better=False)
    many = await trio.to_thread.run_sync(pgbench, _MANY)
    one = await trio.to_thread.run_sync(pgbench, _ONE)
    report.add("pgbench, a transaction each", many, "a second")
    report.add("pgbench, a call of PL/pgSQL each", one, "a second")
    report.add("of pgbench", rate / many, "times", at_least=TARGETS["of pgbench"])
    report.add("of PL/pgSQL", rate / one, "times")
    again, _ = await loop("zipf again", OUTSTANDING)
    merchant, _ = await loop("merchant", OUTSTANDING, merchant=True)
    share = merchant / ((rate + again) / 2)
    report.add("into one merchant", merchant, "a second")
    report.add("merchant, of the rate", share, "of it", at_least=TARGETS["merchant"])
    kept, _ = await loop("with keys", OUTSTANDING, keys=True)
    report.add("each with a key", kept, "a second")
    alone, latencies = await loop("one at a time", 1)
    report.add("one at a time", alone, "a second")
    report.add("one at a time: p50", _ms(latencies, 0.5), "ms", at_most=3.0)
    report.add("one at a time: p99", _ms(latencies, 0.99), "ms", at_most=8.0)


def _ms(latencies: Sequence[float], share: float) -> float:
    return 1e3 * latencies[min(len(latencies) - 1, int(share * len(latencies)))]


def _cpu_s() -> tuple[float, float]:
    """Of this process, and of its PostgreSQL."""
    servers = [
        pid
        for pid in processes.descendants(os.getpid())
        if processes.name_of(pid).startswith("postgres")
    ]
    own = os.times()
    return own.user + own.system, processes.cpu_s(servers, with_ended_children=True)


def _pgbench(binary: Path, dsn: str, plan: Plan, folder: str, script: str) -> float:
    """Transactions a second of 16 clients with prepared statements."""
    path = Path(folder) / "script.sql"
    now_ms = SystemClock().now_ms()
    path.write_text(script.format(wallets=WALLETS, zipf=ZIPF, now=now_ms))
    parts = psycopg.conninfo.conninfo_to_dict(dsn)
    environment = {**os.environ, "PGUSER": str(parts["user"])}
    done = subprocess.run(
        [
            *(binary, "--no-vacuum", "--protocol=prepared", f"--file={path}"),
            *(
                f"--client={CLIENTS}",
                "--jobs=2",
                f"--time={max(2, round(plan.seconds))}",
            ),
            *(
                f"--host={parts['host']}",
                f"--port={parts['port']}",
                str(parts["dbname"]),
            ),
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    found = re.search(r"tps = ([0-9.]+)", done.stdout)
    if done.returncode or found is None:
        raise Failed(f"pgbench: {done.stderr[-500:]}")
    return float(found[1])
