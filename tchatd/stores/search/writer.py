"""Owns what is written into a tantivy index, in a process of its own.

    python -m tchatd.stores.search.writer FOLDER WRITER_BYTES

Making a document costs ten times what handing it over does, and Python in a thread
would hold the interpreter's lock for milliseconds: so the daemon's loop hands over, and
this process, which runs when nobody else wants the processor, does the rest: tokens,
documents, commits, and the merges of tantivy's own threads.

Frames (`frames.py`) come in by the standard input, one reply goes out for each `Commit`
and one for the begin: None, or why the index is stuck, which is the end of the process.
So is the end of the input: what is not committed then is as if never put.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import BinaryIO, Final

import tantivy

from tchatd.domains.search.errors import IndexStuck
from tchatd.domains.search.store import DialogDoc, Doc, MessageDoc, PersonDoc
from tchatd.domains.search.text import tokens
from tchatd.stores.search.fields import (
    META,
    PUBLIC,
    TYPES,
    all_of,
    by_number,
    exact_of,
    open_index,
    writing,
)
from tchatd.stores.search.frames import Puts, encode_reply, read_frame

_NICE: Final = 19


class Writer:
    """One index, whose only writer it is. Everything blocks.

    writer_bytes: what may be in memory before it is written to a segment, 15 MB at
    least. Deletions are by query: in 0.27 one by term does not find numbers.

    Raises: IndexStuck: of no use any more; so does everything here.
    """

    def __init__(self, folder: Path, writer_bytes: int) -> None:
        self._writer: tantivy.IndexWriter = writing(
            lambda: open_index(folder).writer(writer_bytes, num_threads=1)
        )

    def put(self, doc: Doc, *, is_new: bool) -> None:
        writing(self._put, doc, is_new)

    def _put(self, doc: Doc, is_new: bool) -> None:
        writer = self._writer
        row = tantivy.Document()
        if type(doc) is MessageDoc:
            if not is_new:
                number = by_number("dialog", doc.dialog_number)
                seq = by_number("seq", doc.seq)
                writer.delete_documents_by_query(all_of(number, seq))
            if not doc.text or doc.type not in TYPES:
                return
            _add_tokens(row, "words", doc.text)
            row.add_unsigned("dialog", doc.dialog_number)
            row.add_unsigned("seq", doc.seq)
            row.add_unsigned("sender", doc.sender)
            row.add_unsigned("type", TYPES.index(doc.type))
            row.add_unsigned("order", doc.order)
        elif type(doc) is DialogDoc:
            if not is_new:
                writer.delete_documents_by_query(by_number("named", doc.number))
            if not doc.text:
                return
            _add_tokens(row, "names", doc.text)
            row.add_unsigned("named", doc.number)
            row.add_unsigned("order", doc.number)
            if doc.is_public:
                row.add_unsigned("public", PUBLIC)
        else:
            assert type(doc) is PersonDoc
            if not is_new:
                writer.delete_documents_by_query(by_number("person", doc.number))
            if not doc.name:
                return
            _add_tokens(row, "people", doc.name)
            row.add_unsigned("person", doc.number)
            row.add_unsigned("order", doc.number)
        writer.add_document(row)

    def drop_dialog(self, dialog_number: int) -> None:
        writing(self._drop_dialog, dialog_number)

    def _drop_dialog(self, dialog_number: int) -> None:
        self._writer.delete_documents_by_query(by_number("dialog", dialog_number))
        self._writer.delete_documents_by_query(by_number("named", dialog_number))

    def commit(self, position: int, people_ms: int) -> None:
        writing(self._commit, position, people_ms)

    def _commit(self, position: int, people_ms: int) -> None:
        self._writer.delete_documents_by_query(by_number("meta", META))
        row = tantivy.Document()
        row.add_unsigned("meta", META)
        row.add_unsigned("position", position)
        row.add_unsigned("people_ms", people_ms)
        self._writer.add_document(row)
        self._writer.commit()


def _add_tokens(row: tantivy.Document, field: str, text: str) -> None:
    found = tokens(text)
    row.add_text(field, " ".join(found.words))
    row.add_text(exact_of(field), " ".join(found.exact))


def serve(folder: Path, writer_bytes: int, source: BinaryIO, sink: BinaryIO) -> None:
    """Until the source ends."""

    def say(reply: str | None) -> None:
        sink.write(encode_reply(reply))
        sink.flush()

    try:
        writer = Writer(folder, writer_bytes)
        say(None)
        while (frame := read_frame(source)) is not None:
            if not isinstance(frame, Puts):
                writer.commit(frame.position, frame.people_ms)
                say(None)
                continue
            for is_new, doc in frame.puts:
                if isinstance(doc, int):
                    writer.drop_dialog(doc)
                else:
                    writer.put(doc, is_new=is_new)
    except IndexStuck as error:
        say(str(error) or "stuck")


def _step_back() -> None:
    """Whoever else wants the processor goes first, where that may be said."""
    with contextlib.suppress(OSError):
        os.nice(_NICE)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: for the daemon
    _step_back()
    os.umask(0o077)  # tantivy makes its files for all to read
    folder, writer_bytes = sys.argv[1:]
    with contextlib.suppress(BrokenPipeError):  # the daemon is gone
        serve(Path(folder), int(writer_bytes), sys.stdin.buffer, sys.stdout.buffer)
    os._exit(0)  # without waiting for merges


if __name__ == "__main__":
    main()
