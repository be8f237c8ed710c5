"""One tantivy index: what goes wrong with it, and that a commit is whole."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tchatd.domains.search.errors import IndexBroken, IndexStuck
from tchatd.stores.search.generation import Generation
from tests.support.search_index import ask, doc, seqs

WRITER_BYTES = 15_000_000


@pytest.fixture
def generation(tmp_path: Path) -> Iterator[Generation]:
    generation = Generation(tmp_path / "1", writer_bytes=WRITER_BYTES, is_new=True)
    yield generation
    generation.close()


def test_a_new_one_knows_nothing(generation: Generation) -> None:
    assert (generation.position, generation.people_ms) == (0, 0)
    assert generation.documents == 0
    assert generation.messages(ask("x")) == []


def test_the_position_goes_with_what_it_stands_for(generation: Generation) -> None:
    for commit in range(1, 30):
        generation.put(doc(commit, "word"), is_new=True)
        generation.commit(commit, 2 * commit)
        assert (generation.position, generation.people_ms) == (commit, 2 * commit)
        assert generation.documents == commit
        assert len(generation.messages(ask("word"))) == commit
    generation.close()
    again = Generation(generation.folder, writer_bytes=WRITER_BYTES, is_new=False)
    assert (again.position, again.people_ms, again.documents) == (29, 58, 29)


def test_two_cannot_write_one_index(generation: Generation) -> None:
    generation.put(doc(1, "word"), is_new=True)
    other = Generation(generation.folder, writer_bytes=WRITER_BYTES, is_new=False)
    with pytest.raises(IndexStuck):
        other.put(doc(2, "word"), is_new=True)
    generation.close()
    other.put(doc(2, "word"), is_new=True)
    other.commit(1, 1)
    assert seqs(other.messages(ask("word"))) == [2]
    other.close()


def test_what_is_not_there_is_broken_what_cannot_be_made_stuck(tmp_path: Path) -> None:
    with pytest.raises(IndexBroken):
        Generation(tmp_path / "none", writer_bytes=WRITER_BYTES, is_new=False)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(IndexStuck):
        Generation(tmp_path / "file" / "1", writer_bytes=WRITER_BYTES, is_new=True)


def test_a_commit_that_cannot_be_written_is_stuck(
    generation: Generation, tmp_path: Path
) -> None:
    generation.put(doc(1, "word"), is_new=True)
    generation.commit(1, 1)
    generation.put(doc(2, "word"), is_new=True)
    generation.folder.rename(tmp_path / "elsewhere")  # as good as a full disk
    with pytest.raises(IndexStuck):
        generation.commit(2, 2)


@pytest.mark.parametrize("count", [1, 2, 60, 299, 301, 1_200])
@pytest.mark.parametrize("share", [3, 700])
def test_any_number_of_dialogs_is_looked_in(
    generation: Generation, count: int, share: int
) -> None:
    """share: one in so many messages is in the dialogs that are asked about."""
    docs = [
        doc(seq, "word", number=seq // share % count + 1 if seq % share == 0 else 9_999)
        for seq in range(1, 2_500)
    ]
    for one in docs:
        generation.put(one, is_new=True)
    generation.commit(1, 1)
    among = list(range(1, count + 1))
    mine = [one.seq for one in docs[::-1] if one.dialog_number in set(among)]
    for limit in (2, 20, 2_000):
        found = generation.messages(ask("word", among, limit=limit))
        assert seqs(found) == mine[:limit]
    assert generation.messages(ask("other", among)) == []


def test_others_run_while_it_searches_and_commits(generation: Generation) -> None:
    """tantivy leaves the interpreter free: a thread goes on meanwhile."""
    for seq in range(1, 3_000):
        generation.put(doc(seq, f"word w{seq} v{seq % 50}"), is_new=True)
    counts = [0]
    done = threading.Event()

    def count() -> None:
        while not done.is_set():
            counts[0] += 1

    thread = threading.Thread(target=count)
    thread.start()
    try:
        before = counts[0]
        generation.commit(1, 1)
        assert counts[0] > before
        assert len(generation.messages(ask("word", limit=3_000))) == 2_999
    finally:
        done.set()
        thread.join()
