"""A channel of 200,000: joining, posting and leaving cost what they are, not what the
channel is; and a member who does nothing costs a bit."""

from __future__ import annotations

import gc
import sys
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import pytest
import trio

from tchatd.domains.messaging import member_models as m
from tchatd.domains.messaging.errors import TooManyMembers
from tchatd.domains.messaging.models import (
    CHANNEL_MEMBERS_MAX,
    CreateDialog,
    Dialog,
    GetDialog,
    ReadMessages,
)
from tchatd.domains.messaging.state import StateLimits
from tchatd.domains.messaging.store import FlushBatch, Found, Wants
from tchatd.edge.hub import Hub, Lane
from tchatd.edge.session_models import Session
from tchatd.kernel.bitmaps import BitMap
from tchatd.observe.metrics import Metrics
from tchatd.stores.memory.messaging import MemoryDialogStore
from tests.support.edge_fakes import FakeTransport
from tests.support.messaging import Core, loading, shape, text, user_id

pytestmark = pytest.mark.slow

SIZE = CHANNEL_MEMBERS_MAX
STEP = m.ADDED_MAX
BYTES_A_MEMBERSHIP_MAX = 4
ONLINE, POSTS = 50, 20


class CountingStore(MemoryDialogStore):
    """Rows that each flush wrote; members that were loaded, in all and at once."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int, int]] = []
        self.loaded = self.largest = 0

    async def flush(self, batch: FlushBatch) -> None:
        await super().flush(batch)
        self.rows.append(
            (len(batch.events.seq), len(batch.members) + len(batch.cursors))
        )

    async def load(self, wants: Wants) -> Found:
        self.loaded += len(wants.members)
        self.largest = max(self.largest, len(wants.members))
        return await super().load(wants)


async def flushed(core: Core) -> None:
    core.journal.sync()
    await core.flusher.flush()
    core.journal.kept[: core.journal.trimmed] = [b""] * core.journal.trimmed
    await trio.testing.wait_all_tasks_blocked()


async def channel(core: Core, size: int) -> Dialog:
    dialog: Dialog = await core.do(
        1, CreateDialog(type="channel", name="News", participants=[user_id(2)])
    )
    for first in range(3, size + 1, STEP):
        people = [user_id(n) for n in range(first, min(first + STEP, size + 1))]
        command = m.AddMembers(dialog_id=dialog.id, user_ids=people)
        answer = await core.do(1, command)
        assert (answer.count, len(answer.user_ids)) == (
            len(people),
            min(100, len(people)),
        )
        await flushed(core)
    return dialog


def held_bytes(thing: object, seen: set[int]) -> int:
    """Of everything that can be reached from it, but classes and functions."""
    if id(thing) in seen or isinstance(thing, type) or callable(thing):
        return 0
    seen.add(id(thing))
    size = sys.getsizeof(thing)
    if isinstance(thing, BitMap):
        return size + len(thing.serialize())
    if isinstance(thing, str | bytes | int | float | None):
        return size
    return size + sum(held_bytes(other, seen) for other in _parts(thing))


def _parts(thing: Any) -> list[Any]:
    """Structs are not tracked by the collector, so it cannot be asked for theirs."""
    if hasattr(thing, "__struct_fields__"):
        return [getattr(thing, name) for name in thing.__struct_fields__]
    if hasattr(thing, "__slots__"):
        return [getattr(thing, name) for name in thing.__slots__]
    if isinstance(thing, dict):
        return [*thing.keys(), *thing.values()]
    if isinstance(thing, list | tuple | set | frozenset):
        return list(thing)
    return gc.get_referents(thing)


async def test_a_channel_of_200_000() -> None:
    store = CountingStore()
    core = Core(store, users=SIZE + 5, limits=StateLimits(dialogs_max=10))
    async with loading(core):
        dialog = await channel(core, SIZE)
        with pytest.raises(TooManyMembers):
            await core.do(
                1, m.AddMembers(dialog_id=dialog.id, user_ids=[user_id(SIZE + 1)])
            )
        assert max(members for _, members in store.rows) <= 5_000

        state = core.state.find(dialog.id)
        assert state is not None
        assert len(state.members) == SIZE
        assert len(state.by_number) <= 2 * STEP
        for _ in range(100):
            await core.do(1, text(dialog.id, "news"))
        await flushed(core)
        held = held_bytes(state, set())
        assert held <= BYTES_A_MEMBERSHIP_MAX * SIZE, held / SIZE

        # A post is one row, and its author's cursor; nobody is loaded for it.
        store.rows.clear()
        loaded = store.loaded
        post = await core.do(1, text(dialog.id, "post"))
        await flushed(core)
        assert store.rows == [(1, 1)]
        assert store.loaded == loaded
        members, event, _ = core.hub.told[-1]
        assert (len(members), event.message.id) == (SIZE, post.id)

        # So is reading one; whoever reads is known only until that is stored.
        for reader in range(100_000, 100_000 + 3_000):
            await core.do(reader, ReadMessages(UUID(post.id)))
            if reader % 500 == 0:
                await flushed(core)
        await flushed(core)
        assert len(state.by_number) <= 2 * STEP

        # Leaving, being removed, coming back, at any place in it.
        for user in (2, 50, 100_000, SIZE):
            await core.do(
                user, m.RemoveMember(dialog_id=dialog.id, user_id=user_id(user))
            )
            await flushed(core)
        view = await core.do(1, GetDialog(dialog.id))
        shown = [n for n in range(1, 103) if n not in (2, 50)]
        assert view.participants == tuple(str(user_id(n)) for n in shown)
        assert view.member_count == SIZE - 4
        people = [user_id(n) for n in (2, 50, 100_000, SIZE)]
        back = m.AddMembers(dialog_id=dialog.id, user_ids=people)
        assert (await core.do(1, back)).count == 4
        await flushed(core)
        view = await core.do(100_000, GetDialog(dialog.id))
        assert (view.member_count, view.unread_count, view.role) == (SIZE, 0, "member")
        page = await core.do(1, m.ListMembers(dialog_id=dialog.id, role="owner"))
        assert [member.user_id for member in page.members] == [str(user_id(1))]

        # And after a restart it is as it was.
        again = await core.restart(users=SIZE + 5)
        async with loading(again):
            seen = await again.do(100_000, GetDialog(dialog.id))
            assert shape(seen) == shape(view)


async def test_joins_that_the_store_has_not_seen_are_replayed() -> None:
    """Many at once, so that no batch of the replay loads or writes too much."""
    core = Core(users=30_005)
    async with loading(core):
        dialog = await core.do(
            1, CreateDialog(type="channel", name="News", participants=[user_id(2)])
        )
        for first in range(3, 30_003, STEP):
            people = [user_id(n) for n in range(first, first + STEP)]
            await core.do(1, m.AddMembers(dialog_id=dialog.id, user_ids=people))
        store = CountingStore()
        again = await core.restart(store=store, users=30_005)
        assert max(members for _, members in store.rows) <= 5_000
        assert store.largest <= 2 * STEP
        async with loading(again):
            view = await again.do(30_002, GetDialog(dialog.id))
            assert (view.member_count, view.last_seq) == (30_002, 31)
            kept = again.state.find(dialog.id)
            assert kept is not None
            assert len(kept.by_number) <= 2 * STEP


class Costs(NamedTuple):
    """Of `POSTS` posts. calls: of functions, in Python and C. blocks: of Python's
    memory that stayed taken."""

    rows: list[tuple[int, int]]
    loaded: int
    journal_bytes: int
    frames: int
    calls: int
    blocks: int


async def costs_of_posting(size: int) -> Costs:
    """Who is online has every post once it is acknowledged, and nobody else has one."""
    store = CountingStore()
    core = Core(store, users=size + 5, limits=StateLimits(dialogs_max=10, tail_max=4))
    async with loading(core):
        dialog = await channel(core, size)
        transport, hub = FakeTransport(), Hub(Metrics(process=False))
        lane = Lane(transport, bytes, is_msgpack=False)
        hub.add_lane(lane)
        here = [1 + i * size // ONLINE for i in range(ONLINE)]
        for number in (*here, size + 1, size + 2):  # these two are no members
            session = Session(lane, 1_000_000 + number, "192.0.2.1", 0)
            session.caller = core.context(number).user
            hub.add(session)
        core.applier._hub = hub
        for number in range(10):  # caches and the tail are full then
            await core.do(1, text(dialog.id, f"before {number}"))
            await flushed(core)
        transport.sent.clear()
        store.rows.clear()
        store.loaded, kept, calls = 0, len(core.journal.kept), 0

        def count(frame: object, event: str, argument: object) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        posts, journal_bytes = [], 0
        gc.collect()
        blocks = sys.getallocatedblocks()
        for number in range(POSTS):
            sys.setprofile(count)
            try:
                post = await core.do(1, text(dialog.id, f"post {number:04d}"))
                await core.flusher.flush()
            finally:
                sys.setprofile(None)
            posts.append(post.id)
            journal_bytes += len(core.journal.kept[-1])
        gc.collect()
        blocks = sys.getallocatedblocks() - blocks
        assert len(core.journal.kept) == kept + POSTS
        transport.flush()
        assert sorted(transport.sent) == [1_000_000 + number for number in here]
        for frames in transport.sent.values():
            told = [msgspec.json.decode(frame) for frame in frames]
            assert [event["message"]["id"] for event in told] == posts
        frames_sent = sum(map(len, transport.sent.values()))
    return Costs(store.rows, store.loaded, journal_bytes, frames_sent, calls, blocks)


async def test_a_post_costs_the_same_for_2_000_and_for_200_000_members() -> None:
    small, giant = await costs_of_posting(2_000), await costs_of_posting(SIZE)
    assert giant.rows == small.rows == [(1, 1)] * POSTS
    assert giant.loaded == small.loaded == 0
    assert giant.frames == small.frames == ONLINE * POSTS
    assert giant.journal_bytes - small.journal_bytes <= 8 * POSTS  # numbers are longer
    assert giant.calls - small.calls <= 0.02 * small.calls
    assert giant.blocks - small.blocks <= POSTS
