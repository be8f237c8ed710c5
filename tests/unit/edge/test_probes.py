"""What operators ask: alive, ready, numbers."""

from __future__ import annotations

import msgspec
import pytest

from tchatd.edge import probes
from tchatd.edge.dispatcher import Dispatcher
from tchatd.edge.http import HttpEndpoint
from tchatd.edge.ports import Response
from tchatd.kernel.clock import ManualClock
from tchatd.observe.metrics import Metrics
from tests.support.edge_fakes import FakeAuthenticator, FakeRequest


class World:
    def __init__(
        self, allow: tuple[str, ...] = ("192.0.2.0/24", "2001:db8::/32", "2001:db9::")
    ) -> None:
        self.missing: dict[str, str | None] = {"postgres": None, "draining": None}
        metrics = Metrics(process=False)
        operations = probes.operations(
            metrics,
            {name: (lambda name=name: self.missing[name]) for name in self.missing},  # type: ignore[misc]
            allow,
        )
        self._endpoint = HttpEndpoint(
            Dispatcher(operations, metrics), FakeAuthenticator(ManualClock())
        )

    def get(self, path: str, address: str = "192.0.2.1") -> Response:
        answer = self._endpoint.handle(FakeRequest("GET", path, address=address))
        assert type(answer) is Response
        return answer


def test_a_process_that_answers_is_alive() -> None:
    answer = World().get("/health")

    assert answer.status == 200
    assert msgspec.json.decode(answer.body)["status"] == "ok"


def test_it_is_ready_unless_a_check_says_why_not() -> None:
    world = World()
    assert world.get("/ready").status == 200

    world.missing["postgres"] = "not reachable"
    answer = world.get("/ready")

    assert answer.status == 503
    assert b"retry-after: 1\r\n" in answer.headers
    assert msgspec.json.decode(answer.body)["details"] == {"postgres": "not reachable"}


def test_numbers_are_in_the_prometheus_text_format() -> None:
    answer = World().get("/metrics")

    assert b"content-type: text/plain; version=0.0.4" in answer.headers
    assert b"# TYPE tchatd_commands_total counter" in answer.body


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("192.0.2.77", 200),
        ("::ffff:192.0.2.77", 200),
        ("2001:db8:1::5", 200),
        ("198.51.100.1", 403),
        ("2001:dead::1", 403),
        ("2001:db9::5", 403),
        ("", 403),
    ],
)
def test_numbers_are_for_allowed_addresses(address: str, status: int) -> None:
    assert World().get("/metrics", address).status == status
