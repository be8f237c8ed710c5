"""One tantivy index, written: a commit is whole, and what stops it is told."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from tchatd.domains.search.errors import IndexStuck
from tchatd.stores.search.frames import (
    LENGTH_BYTES,
    Commit,
    Puts,
    decode_reply,
    encode_frame,
    length_of,
)
from tchatd.stores.search.generation import Generation
from tchatd.stores.search.writer import Writer, serve
from tests.support.search_index import WRITER_BYTES, ask, doc, seqs


@pytest.fixture
def generation(tmp_path: Path) -> Generation:
    return Generation(tmp_path / "1", is_new=True)


def replies(said: bytes) -> list[str | None]:
    found = []
    while said:
        end = LENGTH_BYTES + length_of(said[:LENGTH_BYTES])
        found.append(decode_reply(said[LENGTH_BYTES:end]))
        said = said[end:]
    return found


def served(generation: Generation, *frames: Puts | Commit) -> list[str | None]:
    sink = io.BytesIO()
    source = io.BytesIO(b"".join(map(encode_frame, frames)))
    serve(generation.folder, WRITER_BYTES, source, sink)
    generation.refresh()
    return replies(sink.getvalue())


def test_the_position_goes_with_what_it_stands_for(generation: Generation) -> None:
    writer = Writer(generation.folder, WRITER_BYTES)
    for commit in range(1, 30):
        writer.put(doc(commit, "word"), is_new=True)
        writer.commit(commit, 2 * commit)
        generation.refresh()
        assert (generation.position, generation.people_ms) == (commit, 2 * commit)
        assert generation.documents == commit
        assert len(generation.messages(ask("word"))) == commit
    again = Generation(generation.folder)
    assert (again.position, again.people_ms, again.documents) == (29, 58, 29)


def test_two_cannot_write_one_index(generation: Generation) -> None:
    writer = Writer(generation.folder, WRITER_BYTES)
    with pytest.raises(IndexStuck):
        Writer(generation.folder, WRITER_BYTES)
    assert served(generation)[0] is not None
    del writer
    assert served(generation, Puts([(True, doc(2, "word"))]), Commit(1, 1)) == [
        None,
        None,
    ]
    assert seqs(generation.messages(ask("word"))) == [2]


def test_a_commit_that_cannot_be_written_is_stuck(
    generation: Generation, tmp_path: Path
) -> None:
    writer = Writer(generation.folder, WRITER_BYTES)
    writer.put(doc(1, "word"), is_new=True)
    writer.commit(1, 1)
    writer.put(doc(2, "word"), is_new=True)
    generation.folder.rename(tmp_path / "elsewhere")  # as good as a full disk
    with pytest.raises(IndexStuck):
        writer.commit(2, 2)


def test_what_is_not_committed_at_the_end_is_as_if_never_put(
    generation: Generation,
) -> None:
    kept, lost = Puts([(True, doc(1, "word"))]), Puts([(True, doc(2, "word"))])
    assert served(generation, kept, Commit(1, 1), lost) == [None, None]
    assert seqs(generation.messages(ask("word"))) == [1]


def test_why_it_cannot_go_on_is_its_last_word(tmp_path: Path) -> None:
    sink = io.BytesIO()
    serve(tmp_path / "none", WRITER_BYTES, io.BytesIO(), sink)
    (why,) = replies(sink.getvalue())
    assert why
