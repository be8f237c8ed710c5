"""A dialog that was deleted leaves nothing by which somebody could come in."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tchatd.domains.messaging import errors
from tchatd.domains.messaging.invites import CreateInvite
from tchatd.domains.messaging.leftovers import Leftovers
from tchatd.domains.messaging.public_names import HELD_BACK_S, SetPublicName
from tchatd.domains.messaging.records import DropRecord
from tests.support.beside import Around, around
from tests.support.messaging import text, user_id


@pytest.fixture
async def site() -> AsyncIterator[Around]:
    async with around() as site:
        stores = site.stores
        site.core.flusher.feeds.append(
            Leftovers(stores.invites, stores.names, HELD_BACK_S)
        )
        yield site


async def test_its_invites_and_requests_go_and_its_name_is_free_after_a_day(
    site: Around,
) -> None:
    gone, other = await site.group(1, 2), await site.group(1, 3)
    for dialog in (gone, other):
        command = CreateInvite(dialog_id=dialog.id)
        await site.ask(1, site.invites.create, command)
    await site.ask(1, site.names.set, SetPublicName(gone.id, "lunch_here"))
    state = site.core.state.find(gone.id)
    assert state is not None
    await site.joining.ask(site.core.context(9), state.number, None)
    site.core.clock.advance(1_000)
    dropped_ms = site.core.clock.now_ms()
    record = DropRecord(state.number, dropped_ms, 1, user_id(1).bytes)
    await site.core.settle(site.core.applier.submit(record))
    await site.core.do(1, text(other.id))
    site.core.clock.advance(60_000)
    batch = list(site.core.applier.unflushed)
    [feed] = [f for f in site.core.flusher.feeds if isinstance(f, Leftovers)]
    await feed.take(batch)
    await site.core.flusher.flush()
    assert await site.stores.invites.invites_of(state.number) == []
    assert await site.stores.invites.requests_of(state.number, 9) == ([], 0)
    row = await site.stores.names.name("lunch_here")
    assert row is not None
    assert row.free_ms == dropped_ms + HELD_BACK_S * 1_000
    with pytest.raises(errors.NameTaken):
        await site.ask(1, site.names.set, SetPublicName(other.id, "lunch_here"))
    still = await site.stores.invites.invites_of(2)
    assert len(still) == 1
