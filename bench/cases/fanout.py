"""Owns the fan-out measurement: the gateway, a bare C loop of send, trio-websocket.

One message of 256 bytes to N sockets, with K messages outstanding, an outstanding
message being one that not every receiver has yet. The receivers are the generator's,
in its own process, for all three alike; it checks that each gets every message once
and in order. CPU is the server's alone. The three take turns within a run.
"""

from __future__ import annotations

from bench.generator import cost_of, generate, peer
from bench.plan import Plan
from bench.report import Report

SIZE = 256
SERVERS: dict[str, dict[str, object]] = {
    "send loop": {"raw": True},
    "gateway": {"sender_path": "/send"},
    "trio-websocket": {"sender_path": "/send"},
}
LOOP_SHARE_AT_LEAST = {1: 0.8, 16: 1.5}
TRIO_WEBSOCKET_TIMES_AT_LEAST = 5.0


def _command(server: str, receivers: int) -> tuple[str, ...]:
    if server == "send loop":
        return "send_loop", str(receivers), str(SIZE)
    module = {"gateway": "gateway_fanout", "trio-websocket": "trio_websocket_fanout"}
    return (f"bench.peers.{module[server]}",)


def measure(
    plan: Plan, report: Report, server: str, receivers: int, outstanding: int
) -> tuple[float, float]:
    """Deliveries a CPU second of the server, and a second."""
    with peer(*_command(server, receivers)) as (port, pid):
        result, used = generate(
            "fanout",
            port,
            cost_of(pid),
            connections=receivers,
            outstanding=outstanding,
            size=SIZE,
            concurrency=256,
            warmup_s=plan.warmup_s,
            seconds=plan.seconds,
            drain_s=60,
            seed=plan.seed,
            **SERVERS[server],
        )
    report.keep(server=server, server_cpu_s=used["server"], **result)
    a_cpu_second = result["deliveries"] / max(used["server"], 0.01)
    a_second = result["deliveries"] / result["seconds"]
    what = f"{receivers:,} sockets, {outstanding} outstanding: {server}"
    report.add(what, a_cpu_second, "deliveries/CPU s")
    report.add(f"{what}, wall", a_second, "deliveries/s")
    return a_cpu_second, a_second


def run(plan: Plan) -> Report:
    sizes, depths = (1_000, 5_000), (1, 16)
    report = Report(
        "fanout",
        seed=plan.seed,
        settings=plan.settings(sockets=sizes, outstanding=depths, message_bytes=SIZE),
    )
    for receivers in sizes:
        for outstanding in depths:
            for _ in range(plan.runs):
                rates = {
                    server: measure(plan, report, server, receivers, outstanding)
                    for server in SERVERS
                }
                _compare(report, rates, receivers, outstanding)
    return report


def _compare(
    report: Report,
    rates: dict[str, tuple[float, float]],
    receivers: int,
    outstanding: int,
) -> None:
    what = f"{receivers:,} sockets, {outstanding} outstanding: gateway"
    for unit, clock in enumerate(("CPU", "wall")):
        ours = rates["gateway"][unit]
        # The wall clock is shared with the receivers: it has no target of its own.
        report.add(
            f"{what} / send loop, {clock}",
            ours / rates["send loop"][unit],
            "times",
            at_least=None if unit else LOOP_SHARE_AT_LEAST[outstanding],
        )
        report.add(
            f"{what} / trio-websocket, {clock}",
            ours / rates["trio-websocket"][unit],
            "times",
            at_least=None if unit else TRIO_WEBSOCKET_TIMES_AT_LEAST,
        )
