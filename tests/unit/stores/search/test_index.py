"""The index on the disk: the contract, damage, other versions, many who ask."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from tchatd.domains.search.errors import IndexStuck, IndexUnavailable
from tchatd.stores.search.fields import FORMAT
from tchatd.stores.search.index import IndexSettings, TantivySearchIndex
from tests.support.search_index import SearchIndexContract, ask, doc, filled, seqs


@pytest.fixture
async def index(tmp_path: Path) -> AsyncIterator[TantivySearchIndex]:
    index = TantivySearchIndex(tmp_path / "search")
    yield index
    await index.close()


class TestTantivySearchIndex(SearchIndexContract):
    @pytest.fixture
    async def index(self, tmp_path: Path) -> AsyncIterator[TantivySearchIndex]:
        index = TantivySearchIndex(tmp_path / "search")
        yield index
        await index.close()


async def test_another_process_finds_what_was_committed(
    index: TantivySearchIndex,
) -> None:
    await filled(index, doc(1, "kept"))
    await index.close()
    other = TantivySearchIndex(index.folder)
    assert await other.open()
    assert (other.position, other.people_ms, other.documents) == (7, 9, 1)
    assert seqs(await other.messages(ask("kept"))) == [1]
    await other.close()


async def test_an_index_of_another_version_is_not_opened_and_goes(
    index: TantivySearchIndex,
) -> None:
    await filled(index, doc(1, "kept"))
    await index.close()
    current = index.folder / "current"
    said = json.loads(current.read_bytes())
    assert said == {"format": FORMAT, "generation": 1}
    current.write_text(json.dumps(said | {"format": FORMAT + 1}))
    assert not await index.open()
    assert [path.name for path in index.folder.iterdir()] == ["current"]
    await filled(index, doc(2, "new"))
    assert seqs(await index.messages(ask("new"))) == [2]


@pytest.mark.parametrize("damage", ["current", "meta.json", "*.idx", "*.fast", "all"])
async def test_a_damaged_index_is_not_opened(
    index: TantivySearchIndex, damage: str
) -> None:
    await filled(index, doc(1, "kept"))
    await index.close()
    if damage == "current":
        (index.folder / "current").write_bytes(b"{")
    elif damage == "all":
        for path in (index.folder / "1").iterdir():
            path.unlink()
    else:
        for path in (index.folder / "1").glob(damage):
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert not await index.open()
    assert not index.is_ready
    await filled(index, doc(2, "new"))
    assert seqs(await index.messages(ask("new"))) == [2]


async def test_nobody_else_may_read_it_nor_one_that_was_left_open(
    index: TantivySearchIndex,
) -> None:
    def is_open(path: Path) -> bool:
        return bool(path.stat().st_mode & 0o077)

    await filled(index, doc(1, "kept"))
    written = [*index.folder.glob("1/*.idx"), *index.folder.glob("1/*.store")]
    assert written
    assert not any(map(is_open, [index.folder, index.folder / "1", *written]))
    await index.close()
    index.folder.chmod(0o755)
    assert await index.open()
    assert not is_open(index.folder)


async def test_what_was_left_by_a_crash_is_deleted(index: TantivySearchIndex) -> None:
    await filled(index, doc(1, "kept"))
    await index.renew()
    index.put(doc(2, "begun"), is_new=True)
    await index.commit(8, 9)
    await index.close()
    assert (index.folder / "2").is_dir()
    assert await index.open()
    assert not (index.folder / "2").exists()
    await index.renew()
    await index.commit(8, 9)
    await index.publish()
    assert {path.name for path in index.folder.iterdir()} == {"current", "2"}


async def test_found_damaged_when_asked_it_says_so_once(
    index: TantivySearchIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(index, doc(1, "kept"))
    told: list[bool] = []
    index.on_broken = lambda: told.append(True)
    asked = index._asked
    assert asked is not None

    def broken(_: object) -> None:
        raise OSError("I/O error")

    monkeypatch.setattr(asked, "_messages", broken)
    for _ in range(2):
        with pytest.raises(IndexUnavailable):
            await index.messages(ask("kept"))
    assert told == [True]
    assert not index.is_ready
    with pytest.raises(IndexStuck):
        index.put(doc(2, "lost"))


async def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    index = TantivySearchIndex(tmp_path / "file" / "search")
    with pytest.raises(IndexStuck):
        await index.open()
    with pytest.raises(IndexStuck):
        await index.renew()


async def test_many_may_ask_at_once_but_not_any_number(tmp_path: Path) -> None:
    index = TantivySearchIndex(
        tmp_path / "search", IndexSettings(threads_max=1, waiting_max=3)
    )
    await filled(index, doc(1, "kept"))
    refused = answered = 0

    async def question() -> None:
        nonlocal refused, answered
        try:
            assert seqs(await index.messages(ask("kept"))) == [1]
            answered += 1
        except IndexUnavailable:
            refused += 1

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(question)
    assert answered == 4
    assert refused == 16
    await index.close()
