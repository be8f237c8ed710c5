"""What operators see, over parts that are built and not started."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tchatd.app import operator, secrets
from tchatd.app.configuration import load
from tchatd.app.wiring import Core, Edge, make_pool
from tchatd.edge.console import ConsoleError, ConsolePorts
from tchatd.edge.hub import Hub
from tchatd.kernel.clock import SystemClock
from tchatd.observe.metrics import Metrics


def make(tmp_path: Path) -> tuple[Core, Edge, ConsolePorts, list[bool]]:
    settings = load(None, {"TCHATD_DATA": str(tmp_path / "data")})
    metrics = Metrics(process=False)
    core = Core(
        settings,
        secrets.load(settings, {}),
        make_pool(settings, "host=127.0.0.1 port=1 dbname=x"),
        "n",
        metrics,
        Hub(metrics),
        SystemClock(),
    )
    edge = Edge(settings, core, {})
    drained: list[bool] = []
    ports = operator.ports(
        core,
        edge,
        state=lambda: {"state": "serving"},
        drain=lambda: drained.append(True),
    )
    return core, edge, ports, drained


async def test_status_and_journal_are_plain_values(tmp_path: Path) -> None:
    _, edge, ports, drained = make(tmp_path)
    status = ports.status()
    assert status["state"] == "serving"
    assert status["connections"] == status["sessions"] == 0
    assert status["journal"]["flushed_position"] == 0
    journal = ports.journal()
    assert journal["durable_position"] == 0
    assert journal["last_sync_at"] is None
    assert ports.connections(10).total == 0
    ports.drain()
    assert drained == [True]
    edge.gateway.shutdown()


async def test_the_sandbox_tells_codes_and_others_do_not(tmp_path: Path) -> None:
    core, edge, ports, _ = make(tmp_path)
    assert ports.otp("+66812345678") is None
    core.senders.sandbox = None
    with pytest.raises(ConsoleError, match="sent out"):
        ports.otp("+66812345678")
    edge.gateway.shutdown()


async def test_the_numbers_that_matter_are_there(tmp_path: Path) -> None:
    core, edge, ports, _ = make(tmp_path)
    operator.declare_metrics(core, edge)
    names = {family.name for family in text_string_to_metric_families(ports.metrics())}
    for name in (
        *("commands", "command_seconds", "gateway_connections", "sessions"),
        *("journal_batch_records", "journal_sync_seconds", "flush_lag_records"),
        *("flush_seconds", "pool_in_use", "pool_waiting", "users_online"),
    ):
        assert f"tchatd_{name}" in names, name
    edge.gateway.shutdown()
