"""The reads of search in memory: held against PostgreSQL's in its test."""

from __future__ import annotations

from tchatd.domains.search.store import DialogDoc, MessageDoc
from tchatd.stores.memory.finding import MemoryFindingStore, MemorySearchSource
from tests.support.dialog_store import history


async def test_everything_that_was_said_is_read_once_page_by_page() -> None:
    store = await history(commands=100)
    source = MemorySearchSource(store)
    read: list[MessageDoc] = []
    after = (0, 0)
    while rows := await source.messages(after, 10**9, 7):
        read += rows
        after = rows[-1].dialog_number, rows[-1].seq
    assert read == await source.messages((0, 0), 10**9, 1_000)
    half = await source.messages((0, 0), await store.position() // 2, 1_000)
    assert 0 < len(half) < len(read)
    assert all(doc in read for doc in half)
    assert all(doc.text for doc in read)
    changes = await source.changes(0, await store.position())
    messages = [doc for doc, _ in changes if isinstance(doc, MessageDoc)]
    assert all(new for doc, new in changes if isinstance(doc, MessageDoc))
    assert sorted(messages, key=lambda d: (d.dialog_number, d.seq)) == read
    named = [doc for doc, _ in changes if isinstance(doc, DialogDoc)]
    assert sorted(named, key=lambda d: d.number) == await source.dialogs(0, 100)


async def test_who_is_in_what() -> None:
    store = await history(commands=20)
    finding = MemoryFindingStore(store)
    assert len(await finding.memberships(1)) == 4
    assert len(await finding.memberships(130)) == 1
    assert await finding.memberships(131) == []
    assert {number for number, _ in await finding.pairs(4)} < set(
        await finding.memberships(4)
    )
