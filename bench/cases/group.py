"""Owns the fan-out through the whole daemon: a message in a group, journaled first.

One sender, N members connected, a text of 256 bytes, K messages outstanding; what
`fanout` measures of the gateway alone, here with the token, the command, the journal's
sync, the JSON envelope and the flush to PostgreSQL. The baseline, in the same run, is
the bare C loop of `send` to as many sockets, with frames of as many bytes as the
daemon's.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.daemon import MeasuredDaemon
from bench.generator import cost_of, generate, peer
from bench.plan import Plan
from bench.report import Report
from bench.seed import make_group, make_users, sign

MEMBERS = (200, 1_000, 4_999)  # beside the sender; a group has at most 5,000
DEPTHS = (1, 16)
SIZE = 256
TARGET_MEMBERS = 200
LOOP_SHARE_AT_LEAST = {1: 0.8, 16: 3.0}


def run(plan: Plan) -> Report:
    report = Report(
        "group",
        seed=plan.seed,
        settings=plan.settings(members=MEMBERS, outstanding=DEPTHS, text_bytes=SIZE),
    )
    with MeasuredDaemon() as daemon, tempfile.TemporaryDirectory() as folder:
        ids = make_users(daemon, MEMBERS[-1] + 1, seed=plan.seed)
        users = sign(daemon, ids)
        tokens = Path(folder) / "tokens"
        for members in MEMBERS:
            group = make_group(daemon, users[members], users[:members])
            for _ in range(plan.runs):
                own = sign(daemon, ids[: members + 1])  # the last one sends
                tokens.write_text("\n".join(user.token for user in own) + "\n")
                for outstanding in DEPTHS:
                    measure(plan, report, daemon, tokens, group, members, outstanding)
    return report


def measure(
    plan: Plan,
    report: Report,
    daemon: MeasuredDaemon,
    tokens: Path,
    group: str,
    members: int,
    outstanding: int,
) -> None:
    result, used = generate(
        "fanout",
        daemon.port,
        daemon.costs,
        tokens=tokens,
        dialog=group,
        connections=members,
        outstanding=outstanding,
        size=SIZE,
        subprotocol="tchat.json.v1",
        concurrency=64,
        warmup_s=plan.warmup_s,
        seconds=plan.seconds,
        drain_s=60,
        seed=plan.seed,
    )
    report.keep(used=used, **result)
    what = f"{members:,} members, {outstanding} outstanding"
    deliveries = result["deliveries"]
    a_cpu_second = deliveries / max(used["daemon"], 0.01)
    bare = send_loop(plan, report, members, outstanding, result["payload_bytes"])
    report.add(f"{what}: a CPU second of the daemon", a_cpu_second, "deliveries")
    report.add(f"{what}: a CPU second of the send loop", bare, "deliveries")
    report.add(
        f"{what}: daemon / send loop, CPU",
        a_cpu_second / bare,
        "times",
        at_least=LOOP_SHARE_AT_LEAST[outstanding]
        if members == TARGET_MEMBERS
        else None,
    )
    report.add(f"{what}: wall", deliveries / result["seconds"], "deliveries/s")
    report.add(
        f"{what}: delivery p99",
        result["delivery_us"]["p99"] / 1e3,
        "ms",
        higher_is_better=False,
    )


def send_loop(
    plan: Plan, report: Report, receivers: int, outstanding: int, size: int
) -> float:
    """Deliveries a CPU second of the bare loop, of frames of `size` bytes."""
    with peer("send_loop", str(receivers), str(size)) as (port, pid):
        result, used = generate(
            "fanout",
            port,
            cost_of(pid),
            raw=True,
            connections=receivers,
            outstanding=outstanding,
            size=size,
            concurrency=64,
            warmup_s=plan.warmup_s,
            seconds=plan.seconds,
            drain_s=60,
            seed=plan.seed,
        )
    report.keep(server="send loop", used=used, **result)
    return float(result["deliveries"]) / max(used["server"], 0.01)
