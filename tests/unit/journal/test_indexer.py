"""The index gets everything that was flushed, whatever happens on the way."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
import trio

from tchatd.domains.messaging.message_commands import DeleteMessage, EditMessage
from tchatd.domains.search.errors import IndexStuck
from tchatd.domains.search.store import Change, Doc, MessageDoc, PersonDoc
from tchatd.journal import indexer
from tchatd.journal.indexer import PEOPLE_OVERLAP_MS, IndexerSettings
from tchatd.kernel.errors import Unavailable
from tchatd.stores.memory.finding import MemorySearchSource
from tchatd.stores.memory.search import MemorySearchIndex
from tests.support.messaging import Core, group_of, text, with_user
from tests.support.searching import Searching, feeding


class Disk(MemorySearchIndex):
    """Has no room while `is_full`."""

    def __init__(self) -> None:
        super().__init__()
        self.is_full = False
        self.puts = 0

    def put(self, doc: Doc, *, is_new: bool = False) -> None:
        if self.is_full:
            raise IndexStuck("no space")
        self.puts += 1
        if is_new and type(doc) is MessageDoc:  # or it would be found twice
            key = doc.dialog_number, doc.seq
            assert key not in self._writable().messages
        super().put(doc, is_new=is_new)

    async def hand_over(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.is_full:
            raise IndexStuck("no space")

    async def commit(self, position: int, people_ms: int) -> None:
        await trio.lowlevel.checkpoint()
        if self.is_full:
            raise IndexStuck("no space")
        await super().commit(position, people_ms)


@pytest.fixture
async def here() -> AsyncIterator[Searching]:
    async with feeding(Searching(Core(), Disk())) as searching:
        await trio.testing.wait_all_tasks_blocked()
        yield searching


def disk_of(searching: Searching) -> Disk:
    assert isinstance(searching.index, Disk)
    return searching.index


async def say(searching: Searching, dialog: Any, words: str) -> str:
    searching.core.clock.advance(1_000)
    id: str = (await searching.core.do(1, text(dialog.id, words))).id
    return id


async def test_at_most_one_commit_in_every_interval(
    here: Searching, autojump_clock: object
) -> None:
    dialog = await here.core.do(1, with_user(2))
    await here.settled()
    before, began_s = disk_of(here).commits, trio.current_time()
    for n in range(100):
        await say(here, dialog, f"hello {n}")
        await here.core.flusher.flush()
        await trio.sleep(0.05)
    await here.settled()
    took_s = trio.current_time() - began_s
    assert 5 <= disk_of(here).commits - before <= took_s / 0.5 + 1
    assert len(await here.found(1, "hello", limit=50)) == 50


async def test_what_finds_nothing_is_not_committed(
    here: Searching, autojump_clock: object
) -> None:
    await here.core.do(1, with_user(2))
    await here.settled()
    before = disk_of(here).commits
    await trio.sleep(60)
    assert disk_of(here).commits == before
    assert here.indexer.lag == 0


async def test_another_process_goes_on_where_one_crashed(
    here: Searching, autojump_clock: object
) -> None:
    dialog = await here.core.do(1, with_user(2))
    kept = await say(here, dialog, "hello one")
    edited = await say(here, dialog, "hello two")
    gone = await say(here, dialog, "hello three")
    await here.settled()
    disk = disk_of(here).committed
    assert disk is not None
    # Flushed, but the process ends before the index has it.
    here.indexer._fall_behind()
    edit = EditMessage(message_id=UUID(edited), content={"text": "goodbye two"})
    await here.core.do(1, edit)
    await here.core.do(1, DeleteMessage(message_id=UUID(gone)))
    later = await say(here, dialog, "hello four")
    await here.core.flusher.flush()
    other = Disk()
    other.committed = disk.copy()
    again = Searching(await here.core.restart(), other)
    async with feeding(again):
        await trio.sleep(1)
        assert await again.found(2, "hello") == [later, kept]
        assert await again.found(2, "goodbye") == [edited]
        assert other.position == again.core.applier.flushed_position
        assert gone not in await again.found(2, "three")


async def test_records_that_were_not_flushed_are_found_after_the_replay(
    here: Searching, autojump_clock: object
) -> None:
    dialog = await here.core.do(1, with_user(2))
    await here.settled()
    message = await say(here, dialog, "hello")
    again = Searching(await here.core.restart(), disk_of(here))
    async with feeding(again):
        await trio.sleep(1)
        assert await again.found(2, "hello") == [message]


async def test_a_full_disk_stops_the_index_and_nothing_else(
    here: Searching, autojump_clock: object
) -> None:
    dialog = await here.core.do(1, with_user(2))
    first = await say(here, dialog, "hello")
    await here.settled()
    disk_of(here).is_full = True
    second = await say(here, dialog, "hello")
    await here.settled()
    assert here.indexer.is_failing
    assert here.indexer.lag == 1
    assert await here.found(2, "hello") == [first]
    for _ in range(5):
        await say(here, dialog, "hello")
    await here.settled()
    disk_of(here).is_full = False
    await trio.sleep(6)
    assert not here.indexer.is_failing
    assert here.indexer.lag == 0
    found = await here.found(2, "hello")
    assert len(found) == 7
    assert found[-2:] == [second, first]


async def test_a_store_that_is_away_is_asked_again(autojump_clock: object) -> None:
    settings = IndexerSettings(waiting_max=0)
    async with feeding(Searching(Core(), Disk(), settings)) as here:
        dialog = await here.core.do(1, with_user(2))
        message = await say(here, dialog, "hello")
        asked = here.source.changes

        async def away(after: int, until: int) -> list[Change]:
            raise Unavailable

        here.source.changes = away  # type: ignore[method-assign]
        await here.settled()
        assert here.indexer.is_failing
        here.source.changes = asked  # type: ignore[method-assign]
        await trio.sleep(6)
        assert not here.indexer.is_failing
        assert await here.found(2, "hello") == [message]


async def test_a_mistake_of_ours_stops_the_index_and_nothing_else(
    autojump_clock: object, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = IndexerSettings(waiting_max=0)
    async with feeding(Searching(Core(), Disk(), settings)) as here:
        dialog = await here.core.do(1, with_user(2))
        message = await say(here, dialog, "hello")
        asked = here.source.changes

        async def wrong(after: int, until: int) -> list[Change]:
            raise KeyError("hello")

        here.source.changes = wrong  # type: ignore[method-assign]
        await here.settled()
        assert here.indexer.is_failing
        told = capsys.readouterr().err
        assert "KeyError at" in told
        assert "hello" not in told
        here.source.changes = asked  # type: ignore[method-assign]
        await trio.sleep(6)
        assert await here.found(2, "hello") == [message]


async def test_too_much_at_once_is_read_from_the_store(autojump_clock: object) -> None:
    settings = IndexerSettings(waiting_max=10, rows_max=7)
    async with feeding(Searching(Core(), Disk(), settings)) as here:
        dialog = await here.core.do(1, with_user(2))
        await here.settled()
        ids = [await say(here, dialog, f"hello {n}") for n in range(40)]
        await here.settled()
        assert here.indexer.waiting == 0
        assert await here.found(2, "hello", limit=50) == ids[::-1]


async def test_the_store_is_told_before_much_is_asked_of_it(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexer, "_PREPARED_FROM", 20)
    settings = IndexerSettings(waiting_max=0, rows_max=7)
    async with feeding(Searching(Core(), Disk(), settings)) as here:
        dialog = await here.core.do(1, with_user(2))
        for n in range(10):
            await say(here, dialog, f"hello {n}")
        await here.settled()
        assert here.source.prepared == 0
        for n in range(40):
            await say(here, dialog, f"hello {n}")
        await here.settled()
        assert here.source.prepared == 1
        assert len(await here.found(2, "hello", limit=50)) == 50


async def test_a_rebuild_makes_the_same_index_and_loses_nothing_meanwhile(
    autojump_clock: object,
) -> None:
    settings = IndexerSettings(rows_max=3)
    async with feeding(Searching(Core(), Disk(), settings)) as here:
        dialog = await here.core.do(1, group_of([2], "Lunch club"))
        ids = [await say(here, dialog, f"hello {n}") for n in range(20)]
        await here.core.do(1, DeleteMessage(message_id=UUID(ids[3])))
        here.source.persons.append(PersonDoc(2, "Somchai", 5))
        await here.settled()
        assert here.indexer.rebuild()
        assert not here.indexer.rebuild()
        ids.append(await say(here, dialog, "hello meanwhile"))
        await here.core.do(1, DeleteMessage(message_id=UUID(ids[4])))
        await here.settled()
        assert not here.indexer.is_rebuilding
        left = [id for id in ids[::-1] if id not in (ids[3], ids[4])]
        assert await here.found(2, "hello", limit=50) == left
        kept = disk_of(here).committed
        assert kept is not None
        assert [doc.name for doc in kept.people.values()] == ["Somchai"]
        assert [doc.text for doc in kept.dialogs.values()] == ["Lunch club"]
        assert here.indexer.rebuilt_messages >= 20


async def test_the_old_index_answers_while_the_new_one_is_built(
    here: Searching, autojump_clock: object
) -> None:
    dialog = await here.core.do(1, with_user(2))
    message = await say(here, dialog, "hello")
    await here.settled()
    go_on = trio.Event()
    read = here.source.messages

    async def slow(after: tuple[int, int], until: int, limit: int) -> Any:
        await go_on.wait()
        return await read(after, until, limit)

    here.source.messages = slow  # type: ignore[method-assign]
    here.indexer.rebuild()
    await trio.sleep(5)
    assert here.indexer.is_rebuilding
    assert await here.found(2, "hello") == [message]
    go_on.set()
    await trio.sleep(1)
    assert not here.indexer.is_rebuilding
    assert await here.found(2, "hello") == [message]


async def test_an_index_that_knows_more_than_the_store_is_of_another(
    here: Searching, autojump_clock: object
) -> None:
    dialog = await here.core.do(1, with_user(2))
    await say(here, dialog, "hello")
    await here.settled()
    empty = Searching(Core(), disk_of(here))
    async with feeding(empty):
        await trio.sleep(1)
        kept = disk_of(here).committed
        assert kept is not None
        assert kept.messages == {}


async def test_a_name_is_looked_at_again_for_a_while(autojump_clock: object) -> None:
    """A change may be in the store later than one with a later time."""
    async with feeding(Searching(Core(), Disk())) as here:
        here.source.persons.append(PersonDoc(2, "Somchai", 100_000))
        await trio.sleep(2)
        late = 100_000 - PEOPLE_OVERLAP_MS + 1
        here.source.persons.append(PersonDoc(3, "Somying", late))
        await trio.sleep(2)
        kept = disk_of(here).committed
        assert kept is not None
        assert set(kept.people) == {2, 3}
        puts = disk_of(here).puts
        await trio.sleep(30)
        assert disk_of(here).puts == puts
        here.source.persons[0] = PersonDoc(2, "Wichai", 200_000)
        await trio.sleep(2)
        assert disk_of(here).puts == puts + 1


async def test_names_that_settled_are_not_read_again(autojump_clock: object) -> None:
    async with feeding(Searching(Core(), Disk())) as here:
        here.source.persons += [
            PersonDoc(number, f"Name {number}", 5 * number) for number in range(1, 51)
        ]
        await trio.sleep(3 * PEOPLE_OVERLAP_MS / 1000)
        rows = here.source.people_rows
        assert rows > 50
        await trio.sleep(60)
        assert here.source.people_rows == rows
        here.source.persons.append(PersonDoc(51, "Somchai", 5 * 51))
        await trio.sleep(2)
        kept = disk_of(here).committed
        assert kept is not None
        assert 51 in kept.people


async def test_many_people_are_read_page_by_page(autojump_clock: object) -> None:
    async with feeding(Searching(Core(), Disk())) as here:
        here.source.persons += [
            PersonDoc(number, f"Name {number}", 5 * number)
            for number in range(1, 7_001)
        ]
        await trio.sleep(10)
        kept = disk_of(here).committed
        assert kept is not None
        assert len(kept.people) == 7_000


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_happens_the_index_is_as_if_built_from_the_store(
    seed: int, autojump_clock: object
) -> None:
    dice = random.Random(seed)
    settings = IndexerSettings(waiting_max=8, rows_max=5, retry_s=0.5)
    disk = Disk()
    searching = Searching(Core(seed=seed), disk, settings)
    dialogs: list[Any] = []
    ids: list[str] = []
    for _ in range(4):
        async with feeding(searching):
            core = searching.core
            for _ in range(30):
                step = dice.random()
                if step < 0.1 or not dialogs:
                    others = [dice.randrange(2, 9)]
                    dialogs.append(await core.do(1, group_of(others, f"D {step}")))
                elif step < 0.6 or not ids:
                    words = f"word{dice.randrange(9)} text"
                    ids.append(await say(searching, dice.choice(dialogs), words))
                elif step < 0.7:
                    id = ids.pop(dice.randrange(len(ids)))
                    await core.do(1, DeleteMessage(message_id=UUID(id)))
                elif step < 0.8:
                    content = {"text": f"edited{dice.randrange(9)}"}
                    message_id = UUID(dice.choice(ids))
                    edit = EditMessage(message_id=message_id, content=content)
                    await core.do(1, edit)
                elif step < 0.9:
                    await core.flusher.flush()
                    await trio.sleep(dice.random())
                elif step < 0.93:
                    searching.indexer.rebuild()
                else:
                    disk.is_full = not disk.is_full
        searching = Searching(await searching.core.restart(), disk, settings)
    disk.is_full = False
    async with feeding(searching):
        await searching.settled()
        await trio.sleep(5)
        source = MemorySearchSource(searching.core.store)  # type: ignore[arg-type]
        built = {
            (doc.dialog_number, doc.seq): doc
            for doc in await source.messages((0, 0), 10**9, 10_000)
            if doc.text
        }
        kept = disk.committed
        assert kept is not None
        assert kept.messages == built
        named = [doc for doc in await source.dialogs(0, 1_000) if doc.text]
        assert sorted(kept.dialogs.values(), key=lambda doc: doc.number) == named
