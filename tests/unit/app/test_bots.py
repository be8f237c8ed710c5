"""How bots are put together: nothing is opened, and the parts know each other."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from tchatd.app import secrets
from tchatd.app.configuration import load
from tchatd.app.wiring import Core, make_pool
from tchatd.edge.hub import Hub
from tchatd.kernel.clock import SystemClock
from tchatd.observe.metrics import Metrics


async def test_sign_in_asks_bots_and_the_journal_feeds_webhooks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = load(None, {"TCHATD_DATA": str(tmp_path / "data")})
    metrics = Metrics(process=False)
    pool = make_pool(settings, "host=127.0.0.1 port=1 dbname=x")
    core = Core(
        settings,
        secrets.load(settings, {}),
        pool,
        "n",
        metrics,
        Hub(metrics),
        SystemClock(),
    )
    assert core.auth.other_tokens is core.bots.service
    assert core.bots.webhooks in core.flusher.feeds
    core.bots.delivery.report(KeyError("a value"))
    written = capsys.readouterr()
    assert "webhooks" in written.out + written.err
    assert "a value" not in written.out + written.err
    ended: list[object] = []

    class Ends:
        def ended(self, session_id: object, user_number: int) -> None:
            ended.append((session_id, user_number))

    core.auth.session_end = Ends()
    id = uuid4()
    core.bots.service._sessions.session_ended(id, 7, 1)
    core.auth.directory.remember(id, 7)
    core.bots.service._sessions.forget(7)
    assert core.auth.directory.cached_number(id) is None
    assert ended == [(id, 7)]
    assert b"tchatd_bots_webhooks" in metrics.render()
    await core.bots.aclose()
