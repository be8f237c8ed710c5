"""Owns what is beside the core in a test: invites, names, schedules, businesses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from tchatd.domains.messaging.access import DialogAccess
from tchatd.domains.messaging.business import Businesses
from tchatd.domains.messaging.business_replies import BusinessReplies
from tchatd.domains.messaging.invites import Invites
from tchatd.domains.messaging.joining import Joining
from tchatd.domains.messaging.models import Dialog
from tchatd.domains.messaging.public_names import PublicNames
from tchatd.domains.messaging.reach import Blocks
from tchatd.domains.messaging.scheduling import Scheduling
from tchatd.kernel.crypto import KeyedHash
from tchatd.stores.memory.business import MemoryBusinessStore
from tchatd.stores.memory.invites import MemoryInviteStore
from tchatd.stores.memory.public_names import MemoryNameStore
from tchatd.stores.memory.scheduling import MemoryScheduleStore
from tests.support.messaging import Core, FakeDirectory, group_of, seeded_bytes


class Stores:
    """What outlives a process, beside the core's own store."""

    def __init__(self) -> None:
        self.invites = MemoryInviteStore()
        self.scheduled = MemoryScheduleStore()
        self.names = MemoryNameStore()
        self.business = MemoryBusinessStore()


class Around:
    """A core, and what uses it."""

    def __init__(
        self, core: Core, stores: Stores, blocks: Blocks | None = None
    ) -> None:
        self.core = core
        self.stores = stores
        self.invite_store = stores.invites
        self.schedule_store = stores.scheduled
        self.directory = FakeDirectory(300)
        self.access = DialogAccess(core.state, core.applier)
        self.joining = Joining(
            core.state,
            core.applier,
            self.access,
            core.store,
            stores.invites,
            self.directory,
            core.hub,
            core.clock,
        )
        self.invites = Invites(
            self.joining,
            stores.invites,
            KeyedHash(b"k" * 32, "invites"),
            core.clock,
            core.ids,
            seeded_bytes(5),
        )
        self.names = PublicNames(
            self.joining, stores.names, core.store, core.applier, core.clock
        )
        self.scheduling = Scheduling(
            self.joining,
            stores.scheduled,
            core.applier,
            self.directory,
            core.hub,
            core.service.send_message,
            core.clock,
            core.ids,
        )
        self.businesses = Businesses(
            self.joining,
            self.access,
            core.state,
            stores.business,
            core.applier,
            self.directory,
            core.clock,
            blocks,
        )
        core.service.open_business = self.businesses.open
        self.replies = BusinessReplies(
            self.businesses,
            self.joining,
            core.state,
            stores.business,
            core.applier,
            self.directory,
            core.service.send_message,
            core.clock,
        )
        core.flusher.feeds.append(self.replies)

    async def ask(self, user: int, handler: Any, command: Any) -> Any:
        """What a handler answers to the user, durably."""
        return await self.core.settle(handler(self.core.context(user), command))

    async def group(self, *people: int, name: str = "Lunch") -> Dialog:
        """Of the first as its owner, and the others."""
        made: Dialog = await self.core.do(people[0], group_of(people[1:], name))
        return made

    async def members(self, dialog_id: str) -> list[int]:
        dialog = self.core.state.find(dialog_id)
        assert dialog is not None
        return list(dialog.members)

    def told(self, kind: type) -> list[tuple[list[int], Any]]:
        return [
            (who, event) for who, event, _ in self.core.hub.told if type(event) is kind
        ]


async def keep_syncing(core: Core) -> None:
    """The disk is as fast as a millisecond."""
    while True:
        await trio.sleep(0.001)
        core.journal.sync()


@asynccontextmanager
async def around(
    core: Core | None = None,
    before: Around | None = None,
    blocks: Blocks | None = None,
) -> AsyncIterator[Around]:
    """Everything runs meanwhile. before: whose stores to go on with."""
    core = core or Core(users=300)
    stores = Stores() if before is None else before.stores
    async with trio.open_nursery() as nursery:
        await nursery.start(core.applier.loader.run)
        nursery.start_soon(keep_syncing, core)
        yield Around(core, stores, blocks)
        nursery.cancel_scope.cancel()
