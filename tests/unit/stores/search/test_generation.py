"""One tantivy index, asked: what goes wrong with it, and any number of dialogs."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest

from tchatd.domains.search.errors import IndexBroken, IndexStuck
from tchatd.stores.search.generation import Generation
from tchatd.stores.search.writer import Writer
from tests.support.search_index import WRITER_BYTES, ask, doc, seqs


@pytest.fixture
def generation(tmp_path: Path) -> Generation:
    return Generation(tmp_path / "1", is_new=True)


@pytest.fixture
def writer(generation: Generation) -> Writer:
    return Writer(generation.folder, WRITER_BYTES)


def test_a_new_one_knows_nothing(generation: Generation) -> None:
    assert (generation.position, generation.people_ms) == (0, 0)
    assert generation.documents == 0
    assert generation.messages(ask("x")) == []


def test_a_commit_is_seen_when_it_is_looked_for(
    generation: Generation, writer: Writer
) -> None:
    writer.put(doc(1, "word"), is_new=True)
    writer.commit(7, 9)
    assert generation.messages(ask("word")) == []
    generation.refresh()
    assert (generation.position, generation.people_ms) == (7, 9)
    assert (generation.documents, generation.segments) == (1, 1)
    assert seqs(generation.messages(ask("word"))) == [1]


def test_what_is_not_there_is_broken_what_cannot_be_made_stuck(tmp_path: Path) -> None:
    with pytest.raises(IndexBroken):
        Generation(tmp_path / "none")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(IndexStuck):
        Generation(tmp_path / "file" / "1", is_new=True)


@pytest.mark.parametrize("count", [1, 2, 60, 299, 301, 1_200])
@pytest.mark.parametrize("share", [3, 700])
def test_any_number_of_dialogs_is_looked_in(
    generation: Generation, writer: Writer, count: int, share: int
) -> None:
    """share: one in so many messages is in the dialogs that are asked about."""
    docs = [
        doc(seq, "word", number=seq // share % count + 1 if seq % share == 0 else 9_999)
        for seq in range(1, 2_500)
    ]
    for one in docs:
        writer.put(one, is_new=True)
    writer.commit(1, 1)
    generation.refresh()
    among = list(range(1, count + 1))
    mine = [one.seq for one in docs[::-1] if one.dialog_number in set(among)]
    for limit in (2, 20, 2_000):
        found = generation.messages(ask("word", among, limit=limit))
        assert seqs(found) == mine[:limit]
    assert generation.messages(ask("other", among)) == []


def test_others_run_while_it_searches(generation: Generation, writer: Writer) -> None:
    """tantivy leaves the interpreter free: a thread goes on meanwhile, though it would
    have to wait for a minute else."""
    for seq in range(1, 3_000):
        writer.put(doc(seq, f"word w{seq} v{seq % 50}"), is_new=True)
    writer.commit(1, 1)
    generation.refresh()
    counts = [0]
    done = threading.Event()

    def count() -> None:
        while not done.is_set():
            counts[0] += 1
            time.sleep(0)  # gives the interpreter back, as nobody else would ask for it

    thread = threading.Thread(target=count)
    thread.start()
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(60)
    try:
        before = counts[0]
        for _ in range(50):
            assert len(generation.messages(ask("word", limit=3_000))) == 2_999
        assert counts[0] > before
    finally:
        sys.setswitchinterval(interval_s)
        done.set()
        thread.join()
