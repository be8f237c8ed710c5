"""A daemon shows the sagas it meets, and lets operators end what it does not know."""

from __future__ import annotations

from uuid import UUID

import httpx
import pytest

from tchatd.app.console_client import Refused
from tchatd.stores.postgres.pool import Pool
from tchatd.stores.postgres.sagas import PostgresSagaStore
from tests.support.daemon import Daemon
from tests.support.sagas import begun, id_of, put

pytestmark = pytest.mark.service

DATA = '{"amount_minor":100,"name":"Somchai"}'


async def test_a_saga_of_unknown_kind_is_left_alone_and_seen(
    database: str, pool: Pool
) -> None:
    store = PostgresSagaStore(pool)
    await put(store, begun(1, data=DATA), begun(2, runner=UUID(int=5), data=DATA))
    daemon = Daemon({"POSTGRES_DSN": database})
    try:
        daemon.start()
        listed = daemon.console("saga", "list", "stranded")
        assert listed["total"] == 2
        assert {row["status"] for row in listed["rows"]} == {"started, stranded"}
        shown = daemon.console("saga", "show", str(id_of(1)))
        assert shown["data"] == {"amount_minor": "(hidden)", "name": "(hidden)"}
        line = ("saga", "abort", str(id_of(1)), "--reason", "its code is gone")
        assert daemon.console(*line) == {"aborting": str(id_of(1))}
        with pytest.raises(Refused, match="WHY"):
            daemon.console("saga", "abort", str(id_of(1)))
        [order] = daemon.console("saga", "show", str(id_of(1)))["orders"]
        assert order.endswith("its code is gone")
        async with httpx.AsyncClient() as client:
            metrics = (await client.get(f"{daemon.url}/metrics")).text
        assert "tchatd_sagas_stranded 2.0" in metrics
        assert "of unknown types or versions" in daemon.log()
        assert "Somchai" not in daemon.log()
        assert daemon.stop() == 0
    finally:
        daemon.remove()
    row = await store.saga(id_of(1))
    assert row is not None
    assert (row.status, row.revision, row.data) == ("started", 0, DATA)
