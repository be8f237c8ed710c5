"""Owns the HTTP measurement: an authenticated profile against a constant JSON.

32 kept-alive connections, one request outstanding each. tchatd checks the token, the
limits and the caller, and answers the user's own profile; hypercorn + quart-trio
answers a constant. CPU of tchatd is the daemon's and its database's together.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.daemon import MeasuredDaemon
from bench.generator import Failed, Sample, cost_of, generate, peer
from bench.plan import Plan
from bench.report import Report
from bench.seed import make_users, sign

CONNECTIONS = 32
USERS = 4 * CONNECTIONS  # below the limit of requests a user
PATH = "/users/profile"
TIMES_AT_LEAST = 10.0


def run(plan: Plan) -> Report:
    report = Report(
        "profile",
        seed=plan.seed,
        settings=plan.settings(connections=CONNECTIONS, path=PATH),
    )
    with (
        MeasuredDaemon() as daemon,
        peer("bench.peers.hypercorn_quart") as (peer_port, peer_pid),
        tempfile.TemporaryDirectory() as folder,
    ):
        tokens = Path(folder) / "tokens"
        ids = make_users(daemon, USERS, seed=plan.seed)
        for _ in range(plan.runs):
            users = sign(daemon, ids)
            tokens.write_text("\n".join(user.token for user in users) + "\n")
            theirs = measure(
                plan, report, "hypercorn + quart-trio", peer_port, cost_of(peer_pid)
            )
            ours = measure(
                plan, report, "tchatd", daemon.port, daemon.costs, tokens=tokens
            )
            report.add(
                "tchatd / hypercorn + quart-trio, CPU",
                ours[0] / theirs[0],
                "times",
                at_least=TIMES_AT_LEAST,
            )
            report.add(
                "tchatd / hypercorn + quart-trio, wall", ours[1] / theirs[1], "times"
            )
    return report


def measure(
    plan: Plan,
    report: Report,
    server: str,
    port: int,
    sample: Sample,
    **options: object,
) -> tuple[float, float]:
    """Requests a CPU second of all that serves them, and a second."""
    result, used = generate(
        "http",
        port,
        sample,
        path=PATH,
        connections=CONNECTIONS,
        warmup_s=plan.warmup_s,
        seconds=plan.seconds,
        seed=plan.seed,
        **options,
    )
    report.keep(server=server, used=used, **result)
    if result["refused"]:
        raise Failed(
            f"{server}: {result['refused']} requests got {result['refused_status']}"
        )
    a_cpu_second = result["answered"] / max(sum(used.values()), 0.01)
    a_second = result["answered"] / result["seconds"]
    report.add(f"{server}", a_cpu_second, "requests/CPU s")
    report.add(f"{server}, wall", a_second, "requests/s")
    report.add(
        f"{server}, p99",
        result["latency_us"]["p99"] / 1e3,
        "ms",
        higher_is_better=False,
    )
    return a_cpu_second, a_second
