"""What is beside the messaging core is all offered, run and pruned."""

from __future__ import annotations

from pathlib import Path

import pytest

from tchatd.app.wiring import Core, make_pool
from tchatd.edge.hub import Hub
from tchatd.kernel.clock import SystemClock
from tchatd.observe.metrics import Metrics
from tests.unit.app.test_wiring import NOWHERE, make

ROUTES = """
POST /dialogs/{dialog_id}/invites
GET /dialogs/{dialog_id}/invites
DELETE /dialogs/{dialog_id}/invites/{code}
GET /invites/{code}
POST /invites/{code}/join
GET /dialogs/{dialog_id}/join-requests
POST /dialogs/{dialog_id}/join-requests/{user_id}
PUT /dialogs/{dialog_id}/public-name
DELETE /dialogs/{dialog_id}/public-name
GET /channels/{name}
GET /channels/{name}/messages
POST /channels/{name}/join
POST /dialogs/{dialog_id}/scheduled
GET /dialogs/{dialog_id}/scheduled
PUT /scheduled/{id}
DELETE /scheduled/{id}
GET /business
PUT /business
GET /businesses/{user_id}
GET /dialogs/{dialog_id}/quick-replies
PUT /dialogs/{dialog_id}/assignee
PUT /dialogs/{dialog_id}/conversation
"""


def core(tmp_path: Path) -> Core:
    settings, loaded = make(tmp_path)
    metrics = Metrics(process=False)
    pool = make_pool(settings, NOWHERE)
    return Core(settings, loaded, pool, "n", metrics, Hub(metrics), SystemClock())


async def test_every_route_is_offered(tmp_path: Path) -> None:
    beside = core(tmp_path).beside
    served = {f"{op.verb} {op.path}" for op in beside.operations if op.verb}
    assert served == set(ROUTES.strip().splitlines())


async def test_what_is_scheduled_wakes_who_sends_it(tmp_path: Path) -> None:
    beside = core(tmp_path).beside
    sending, _, replying, following = beside.alarms
    assert beside.scheduling.wake == sending.wake
    assert beside.replies.wake == replying.wake
    assert beside.businesses.follow == following.wake


async def test_replies_follow_the_log_and_customers_open_dialogs(
    tmp_path: Path,
) -> None:
    made = core(tmp_path)
    assert set(made.beside.feeds) <= set(made.flusher.feeds)
    assert made.messaging.open_business == made.beside.businesses.open


async def test_who_opens_a_dialog_with_a_business_passes_the_gate(
    tmp_path: Path,
) -> None:
    made = core(tmp_path)
    assert made.beside.businesses.gate is made.moderation.gate
    assert made.beside.businesses._blocks is made.people.circles


async def test_everything_that_grows_is_pruned(tmp_path: Path) -> None:
    assert set(core(tmp_path).beside.prunes) == {
        *("invite claims", "invites", "scheduled"),
        *("unsettled names", "public names"),
    }


async def test_what_fails_unforeseen_is_logged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    beside = core(tmp_path).beside
    capsys.readouterr()
    for part in (beside.scheduling, beside.vanishing, beside.replies):
        with part.quarantine.around("a row"):
            raise KeyError("anna@example.com")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all("job failed" in line and "anna" not in line for line in lines)
