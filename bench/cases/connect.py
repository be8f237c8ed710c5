"""Owns the storm: 5,000 clients connect at once, each with its own valid token.

The first storm meets users that the daemon has not seen since its start (it looks
them up, many in one query), the next two meet users that it knows: no query may be
made for those. A connect counts when its 101 is there; that this means authenticated
is shown first: a forged token gets 401 instead. In the last storm each client then
sends a `ping` command, and counts when that is answered. Queries are counted by
PostgreSQL: scans of the table of users, and transactions of any kind, among which are
the daemon's own health checks. The search index asks now and then whose name changed;
how often is measured beforehand, with nobody there, and taken off the scans. It has
seen the users of the storm by then: 5,000 who sign up at once are another matter.
"""

from __future__ import annotations

import math
import tempfile
import time
from pathlib import Path
from uuid import UUID

from bench.daemon import MeasuredDaemon
from bench.generator import Failed, Generator
from bench.plan import Plan
from bench.report import Report
from bench.seed import User, make_users, sign, upgrade_status, warm_up

CLIENTS = 5_000
UNAUTHORIZED = 401
WARM = 50  # other users, before: imports, pool, caches
CONNECTS_A_SECOND_AT_LEAST = 4_000.0
CPU_MS_AT_MOST = 0.25
SETTLED_S = 25.0  # until the search index looks no more at new users again
QUIET_S = 5.0
KNOWN = "seen before"
STORMS = {
    "first seen": None,
    KNOWN: None,
    "seen before, and a command answered": '{"op":"ping","id":1}',
}


def run(plan: Plan) -> Report:
    report = Report("connect", seed=plan.seed, settings=plan.settings(clients=CLIENTS))
    for _ in range(plan.runs):
        with MeasuredDaemon() as daemon, tempfile.TemporaryDirectory() as folder:
            ids = make_users(daemon, CLIENTS + WARM, seed=plan.seed)
            warm_up(daemon, sign(daemon, ids[CLIENTS:]))
            tokens = Path(folder) / "tokens"
            refuse_forgery(daemon, ids[0])
            time.sleep(SETTLED_S)
            idle_scans = idle_scans_a_second(daemon)
            report.keep(idle_scans_a_second=idle_scans)
            for storm in STORMS:
                # Fresh tokens: their signatures are checked in the storm.
                users = sign(daemon, ids[:CLIENTS])
                tokens.write_text("\n".join(user.token for user in users) + "\n")
                measure(plan, report, daemon, tokens, storm, idle_scans)
    return report


def idle_scans_a_second(daemon: MeasuredDaemon) -> float:
    before = daemon.queries()["user_scans"]
    time.sleep(QUIET_S)
    return (daemon.queries()["user_scans"] - before) / QUIET_S


def refuse_forgery(daemon: MeasuredDaemon, id: UUID) -> None:
    """Raises: Failed, if a token with a wrong signature is let in."""
    good = sign(daemon, [id])[0]
    status = upgrade_status(daemon, User(id, good.token[:-4] + "AAAA"))
    if status != UNAUTHORIZED:
        raise Failed(f"a forged token was answered with {status}")


def measure(
    plan: Plan,
    report: Report,
    daemon: MeasuredDaemon,
    tokens: Path,
    storm: str,
    idle_scans: float,
) -> None:
    before, began_s = daemon.queries(), time.monotonic()
    with Generator(
        "connect",
        daemon.port,
        daemon.costs,
        connections=CLIENTS,
        tokens=tokens,
        subprotocol="tchat.json.v1",
        confirm=STORMS[storm],
        hold=True,
        seed=plan.seed,
    ) as generator:
        result = generator.measure()
    after = daemon.queries()
    took_s = time.monotonic() - began_s
    queries = {name: after[name] - before[name] for name in after}
    if result["connected"] != CLIENTS:
        raise Failed(f"{storm}: {result}")
    report.keep(storm=storm, used=generator.used, queries=queries, **result)
    known = storm == KNOWN
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
        f"{storm}: scans of the table of users, beyond the idle ones",
        max(0, queries["user_scans"] - math.ceil(idle_scans * took_s + 1)),
        "in all",
        at_most=0.0 if known else None,
        higher_is_better=False,
    )
    report.add(
        f"{storm}: transactions, with the daemon's own",
        queries["transactions"],
        "in all",
        higher_is_better=False,
    )
    report.add(
        f"{storm}: time to be connected, p99",
        result["latency_us"]["p99"] / 1e3,
        "ms",
        higher_is_better=False,
    )
