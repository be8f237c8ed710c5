"""Owns the storm: 5,000 clients connect at once, each with its own valid token.

The first storm meets users that the daemon has not seen since its start (it looks
them up, many in one query), the second one users that it knows: no query may be made
for those. A connect counts when the server has answered a `ping` command on it, so
that an edge which checks tokens late does not look fast. Queries are transactions
counted by pg_stat_database and, without them, rows: see `queries`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.daemon import MeasuredDaemon
from bench.generator import Failed, Generator
from bench.plan import Plan
from bench.report import Report
from bench.seed import seed_users, warm_up

CLIENTS = 5_000
CONNECTS_A_SECOND_AT_LEAST = 4_000.0
CPU_MS_AT_MOST = 0.25
PING = '{"op":"ping","id":1}'


def run(plan: Plan) -> Report:
    report = Report("connect", seed=plan.seed, settings=plan.settings(clients=CLIENTS))
    for _ in range(plan.runs):
        with MeasuredDaemon() as daemon, tempfile.TemporaryDirectory() as folder:
            users = seed_users(daemon, CLIENTS + 50, seed=plan.seed)
            warm_up(daemon, users[CLIENTS:])
            # Fresh tokens each time: their signatures are checked in the storm.
            for storm in ("first seen", "seen before"):
                users = seed_users(daemon, CLIENTS, seed=plan.seed)
                tokens = Path(folder) / "tokens"
                tokens.write_text("\n".join(user.token for user in users) + "\n")
                measure(plan, report, daemon, tokens, storm)
    return report


def measure(
    plan: Plan, report: Report, daemon: MeasuredDaemon, tokens: Path, storm: str
) -> None:
    before = daemon.queries()
    with Generator(
        "connect",
        daemon.port,
        daemon.costs,
        connections=CLIENTS,
        tokens=tokens,
        subprotocol="tchat.json.v1",
        confirm=PING,
        hold=True,
        seed=plan.seed,
    ) as generator:
        result = generator.measure()
        queries = daemon.queries() - before
    if result["connected"] != CLIENTS:
        raise Failed(f"{storm}: {result}")
    report.keep(storm=storm, used=generator.used, queries=queries, **result)
    known = storm == "seen before"
    report.add(
        f"{storm}: authenticated connects",
        CLIENTS / result["seconds"],
        "a second",
        at_least=CONNECTS_A_SECOND_AT_LEAST if known else None,
    )
    report.add(
        f"{storm}: daemon CPU a connect",
        generator.used["daemon"] / CLIENTS * 1e3,
        "ms",
        at_most=CPU_MS_AT_MOST if known else None,
        higher_is_better=False,
    )
    report.add(
        f"{storm}: database queries",
        queries,
        "in all",
        at_most=0.0 if known else None,
        higher_is_better=False,
    )
    report.add(
        f"{storm}: time to be connected, p99",
        result["latency_us"]["p99"] / 1e3,
        "ms",
        higher_is_better=False,
    )
