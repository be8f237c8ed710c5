"""What is done by itself, over PostgreSQL: messages vanish, schedules are sent."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from uuid import UUID

import pytest
import trio

from tchatd.domains.messaging.access import DialogAccess
from tchatd.domains.messaging.joining import Joining
from tchatd.domains.messaging.models import CreateDialog, ListMessages
from tchatd.domains.messaging.scheduling import ScheduleMessage, Scheduling
from tchatd.domains.messaging.settings import DialogSettings
from tchatd.domains.messaging.vanishing import BATCH_MAX, Vanishing
from tchatd.stores.postgres.invites import PostgresInviteStore
from tchatd.stores.postgres.messaging import PostgresDialogStore
from tchatd.stores.postgres.pool import Pool
from tchatd.stores.postgres.scheduling import PostgresScheduleStore
from tests.support.beside import keep_syncing
from tests.support.messaging import (
    Core,
    FakeDirectory,
    loading,
    shape,
    text,
    user_id,
)

pytestmark = pytest.mark.service
MESSAGES = 2 * BATCH_MAX + 30


async def test_hundreds_of_messages_vanish_after_a_restart(pool: Pool) -> None:
    store = PostgresDialogStore(pool)
    assert await store.position() == 0
    core = Core(store)
    async with loading(core):
        dialog = await core.do(
            1,
            CreateDialog(
                type="group",
                name="Secrets",
                participants=[user_id(2)],
                settings=DialogSettings(vanish_after_s=3_600),
            ),
        )
        for number in range(MESSAGES):
            core.clock.advance(10)
            await core.do(1, text(dialog.id, f"secret {number}"))
        await core.flusher.flush()
        core.clock.advance(3_600_000 - 10 * 100)  # all but the last hundred are over
    again = await core.restart()
    async with loading(again), trio.open_nursery() as nursery:
        nursery.start_soon(keep_syncing, again)
        vanishing = Vanishing(again.state, again.applier, store, again.clock)
        for _ in range(3):
            await vanishing.vanish_due()
            await again.flusher.flush()
        rows = await pool.fetch(
            "SELECT seq, body, expires_ms FROM events WHERE kind = 2 ORDER BY seq"
        )
        gone = [seq for seq, body, expires_ms in rows if not expires_ms]
        assert gone == list(range(2, MESSAGES - 100 + 2))
        assert all("secret" not in body for seq, body, _ in rows if seq in set(gone))
        deletions = await pool.fetch_value("SELECT count(*) FROM events WHERE kind = 5")
        assert deletions == len(gone)
        assert await store.expired(again.clock.now_ms(), 9) == []
        nursery.cancel_scope.cancel()


async def test_what_was_due_while_nobody_ran_is_sent_once(pool: Pool) -> None:
    store, schedules = PostgresDialogStore(pool), PostgresScheduleStore(pool)

    def scheduling(core: Core) -> Scheduling:
        joining = Joining(
            core.state,
            core.applier,
            DialogAccess(core.state, core.applier),
            store,
            PostgresInviteStore(pool),
            FakeDirectory(200),
            core.hub,
            core.clock,
        )
        return Scheduling(
            joining,
            schedules,
            core.applier,
            FakeDirectory(200),
            core.hub,
            core.service.send_message,
            core.clock,
            core.ids,
        )

    assert await store.position() == 0
    core = Core(store)
    async with loading(core):
        people = [user_id(2)]
        dialog = await core.do(1, CreateDialog(type="user", participants=people))
        for number in range(30):
            at_ms = core.clock.now_ms() + 60_000 + number
            command = ScheduleMessage(
                dialog_id=dialog.id,
                send_at=datetime.fromtimestamp(at_ms / 1_000, UTC),
                type="text",
                content={"text": f"{number}"},
            )
            await core.settle(scheduling(core).schedule(core.context(1), command))
        await core.flusher.flush()
        core.clock.advance(30 * 86_400_000)
    for crashes in (True, False):
        core = await core.restart()
        async with loading(core), trio.open_nursery() as nursery:
            nursery.start_soon(keep_syncing, core)
            if crashes:  # all are sent, and none of them is known to be
                now_ms = core.clock.now_ms()
                for row in await schedules.claim_due(now_ms, now_ms + 60_000, 99):
                    await scheduling(core)._begin(row)
                core.journal.sync()
            else:
                assert await scheduling(core).send_due() is None
                page = await core.do(2, ListMessages(dialog_id=dialog.id))
                words = [m["content"]["text"] for m in shape(page)["messages"]]
                assert words == [f"{number}" for number in range(29, -1, -1)]
                assert Counter(words).most_common(1)[0][1] == 1
                assert await schedules.scheduled_of(1, UUID(dialog.id), 99) == []
            nursery.cancel_scope.cancel()
        core.clock.advance(61_000)
