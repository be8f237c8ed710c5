"""Owns one tantivy index in its folder: what is written, committed and asked.

Everything here blocks, but for `put` and `drop_dialog`; `TantivySearchIndex` calls it
in threads. One caller writes at a time; any number may ask, each on the snapshot of the
last commit.

Documents have no stored text: fast fields give what a hit needs. One of them, found by
`meta`, holds how far the index knows the log; it is replaced in every commit, so that
the position is committed with what it stands for. Deletions are by query: in 0.27 one
by term does not find numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

import tantivy
from tantivy import FieldType, Occur, Query

from tchatd.domains.search.errors import IndexBroken, IndexStuck
from tchatd.domains.search.store import (
    ORDER_MAX,
    DialogDoc,
    Doc,
    FoundMessage,
    MessageAsk,
    MessageDoc,
    PersonDoc,
)
from tchatd.domains.search.text import Clause, Term, tokens

P = ParamSpec("P")
T = TypeVar("T")

FORMAT: Final = 1
"""Rises when the fields or the tokens change; an index of another one is built anew."""
_TYPES: Final = (
    *("text", "voice", "file", "image", "video", "payment", "location", "poll"),
    "system",
)
"""A type's number is its index here; append only, or raise FORMAT."""
_TOKENIZER: Final = "whitespace"
_UNION_MAX: Final = 300
"""Dialogs, up to which a union was faster than a set (1 million messages: 0.3 to 2.2 ms
for 10, 2.0 to 7.4 for 100, 6.0 to 8.5 for 300, 22 to 11 for 1,000)."""
_SCAN_FROM: Final = 50
_SCANNED: Final = 1_000
"""Latest messages that are looked at whatever their dialog: 0.8 ms."""
_META: Final = 1
_PUBLIC: Final = 1


def schema() -> tantivy.Schema:
    """message: words, exact, dialog, seq, sender, type, order. dialog: names and
    names_exact, named (its number), public. person: people and people_exact, person
    (their number). One of meta, position and people_ms."""
    builder = tantivy.SchemaBuilder()
    for name in ("words", "names", "people"):
        for field in (name, _exact_of(name)):
            builder.add_text_field(
                field, tokenizer_name=_TOKENIZER, index_option="basic"
            )
    for name in ("dialog", "seq", "named", "person"):
        builder.add_unsigned_field(name, indexed=True, fast=True)
    for name in ("sender", "type", "public", "meta"):
        builder.add_unsigned_field(name, indexed=True)
    for name in ("order", "position", "people_ms"):
        builder.add_unsigned_field(name, fast=True)
    return builder.build()


def _exact_of(field: str) -> str:
    return "exact" if field == "words" else f"{field}_exact"


class Generation:
    """writer_bytes: what may be in memory before it is written to a segment.

    Raises:
        IndexBroken: there is something, and it cannot be read.
        IndexStuck: it cannot be made.
    """

    def __init__(self, folder: Path, *, writer_bytes: int, is_new: bool) -> None:
        self.folder = folder
        self._writer_bytes = writer_bytes
        self._schema = schema()
        if is_new:
            _writing(self._make)
        self._index = _reading(self._open)
        self._writer: tantivy.IndexWriter | None = None
        self.position = self.people_ms = 0
        self.is_dirty = False
        _reading(self._look)

    def _make(self) -> None:
        self.folder.mkdir(parents=True)
        tantivy.Index(self._schema, path=str(self.folder), reuse=False)

    def _open(self) -> tantivy.Index:
        index = tantivy.Index.open(str(self.folder))
        analyzer = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace())
        index.register_tokenizer(_TOKENIZER, analyzer.build())
        index.config_reader(reload_policy="manual")
        index.reload()
        return index

    def _look(self) -> None:
        searcher = self._index.searcher()
        self.documents = max(0, searcher.num_docs - 1)  # one is meta
        self.segments = searcher.num_segments
        found = searcher.search(self._number("meta", _META), 1, count=False).hits
        if found:
            address = [found[0][1]]
            (self.position,) = _values(searcher, "position", address)
            (self.people_ms,) = _values(searcher, "people_ms", address)

    # Writing.

    def put(self, doc: Doc, *, is_new: bool) -> None:
        """Raises: IndexStuck."""
        _writing(self._put, doc, is_new)

    def _put(self, doc: Doc, is_new: bool) -> None:
        writer = self._open_writer()
        self.is_dirty = True
        row = tantivy.Document()
        if type(doc) is MessageDoc:
            if not is_new:
                writer.delete_documents_by_query(
                    _all(self._number("dialog", doc.dialog_number),
                         self._number("seq", doc.seq))
                )  # fmt: skip
            if not doc.text or doc.type not in _TYPES:
                return
            _add_tokens(row, "words", doc.text)
            row.add_unsigned("dialog", doc.dialog_number)
            row.add_unsigned("seq", doc.seq)
            row.add_unsigned("sender", doc.sender)
            row.add_unsigned("type", _TYPES.index(doc.type))
            row.add_unsigned("order", doc.order)
        elif type(doc) is DialogDoc:
            if not is_new:
                writer.delete_documents_by_query(self._number("named", doc.number))
            if not doc.text:
                return
            _add_tokens(row, "names", doc.text)
            row.add_unsigned("named", doc.number)
            row.add_unsigned("order", doc.number)
            if doc.is_public:
                row.add_unsigned("public", _PUBLIC)
        else:
            assert type(doc) is PersonDoc
            if not is_new:
                writer.delete_documents_by_query(self._number("person", doc.number))
            if not doc.name:
                return
            _add_tokens(row, "people", doc.name)
            row.add_unsigned("person", doc.number)
            row.add_unsigned("order", doc.number)
        writer.add_document(row)

    def drop_dialog(self, number: int) -> None:
        """Raises: IndexStuck."""
        _writing(self._drop_dialog, number)

    def _drop_dialog(self, number: int) -> None:
        writer = self._open_writer()
        self.is_dirty = True
        writer.delete_documents_by_query(self._number("dialog", number))
        writer.delete_documents_by_query(self._number("named", number))

    def commit(self, position: int, people_ms: int) -> None:
        """Raises: IndexStuck: this object is of no use any more."""
        _writing(self._commit, position, people_ms)

    def _commit(self, position: int, people_ms: int) -> None:
        writer = self._open_writer()
        writer.delete_documents_by_query(self._number("meta", _META))
        row = tantivy.Document()
        row.add_unsigned("meta", _META)
        row.add_unsigned("position", position)
        row.add_unsigned("people_ms", people_ms)
        writer.add_document(row)
        writer.commit()
        self.is_dirty = False
        self._index.reload()
        self._look()

    def close(self) -> None:
        """Leave what is not committed, and merges that run: they begin again."""
        self._writer = None

    def _open_writer(self) -> tantivy.IndexWriter:
        if self._writer is None:
            self._writer = self._index.writer(self._writer_bytes, num_threads=1)
        return self._writer

    # Asking.

    def messages(self, ask: MessageAsk) -> list[FoundMessage]:
        """Raises: IndexBroken."""
        return _reading(self._messages, ask)

    def _messages(self, ask: MessageAsk) -> list[FoundMessage]:
        """With many dialogs the latest of everybody's messages are looked at first:
        that is cheaper than looking up each dialog in each segment, and often enough.
        """
        if ask.type is not None and ask.type not in _TYPES:
            return []
        searcher = self._index.searcher()
        parts = [self._any(clause, "words") for clause in ask.clauses]
        if ask.sender is not None:
            parts.append(self._number("sender", ask.sender))
        if ask.type is not None:
            parts.append(self._number("type", _TYPES.index(ask.type)))
        if ask.first or ask.end < ORDER_MAX:
            parts.append(
                Query.range_query(
                    self._schema,
                    "order",
                    FieldType.Unsigned,
                    lower_bound=ask.first,
                    upper_bound=ask.end,
                    include_upper=False,
                )
            )
        if len(ask.dialogs) >= _SCAN_FROM and parts:
            latest = self._top(searcher, parts, _SCANNED)
            among = set(ask.dialogs)
            found = [one for one in latest if one.dialog_number in among]
            if len(found) >= ask.limit or len(latest) < _SCANNED:
                return found[: ask.limit]
        return self._top(searcher, [*parts, self._in_dialogs(ask.dialogs)], ask.limit)

    def _top(
        self, searcher: tantivy.Searcher, parts: list[Query], limit: int
    ) -> list[FoundMessage]:
        hits = searcher.search(
            _all(*parts), limit, count=False, order_by_field="order"
        ).hits
        addresses = [address for _, address in hits]
        numbers = _values(searcher, "dialog", addresses)
        seqs = _values(searcher, "seq", addresses)
        return [
            FoundMessage(order, number, seq)
            for (order, _), number, seq in zip(hits, numbers, seqs, strict=True)
        ]

    def _in_dialogs(self, numbers: Sequence[int]) -> Query:
        """Few are a union of their postings, many a set, which costs more to begin."""
        if len(numbers) > _UNION_MAX:
            return self._set("dialog", numbers)
        return Query.boolean_query(
            [(Occur.Should, self._number("dialog", number)) for number in numbers]
        )

    def dialogs(
        self, clauses: Sequence[Clause], among: Sequence[int] | None, limit: int
    ) -> list[int]:
        """Raises: IndexBroken."""
        parts = [self._any(clause, "names") for clause in clauses]
        if among is None:
            parts.append(self._number("public", _PUBLIC))
        else:
            parts.append(self._set("named", among))
        return _reading(self._numbers, _all(*parts), "named", limit)

    def people(
        self, clauses: Sequence[Clause], among: Sequence[int] | None, limit: int
    ) -> list[int]:
        """Raises: IndexBroken."""
        parts = [self._any(clause, "people") for clause in clauses]
        if among is not None:
            parts.append(self._set("person", among))
        return _reading(self._numbers, _all(*parts), "person", limit)

    def _numbers(self, query: Query, field: str, limit: int) -> list[int]:
        searcher = self._index.searcher()
        hits = searcher.search(query, limit, count=False, order_by_field="order").hits
        return _values(searcher, field, [address for _, address in hits])

    def _any(self, clause: Clause, field: str) -> Query:
        if len(clause) == 1:
            return self._term(clause[0], field)
        return Query.boolean_query(
            [(Occur.Should, self._term(term, field)) for term in clause]
        )

    def _term(self, term: Term, field: str) -> Query:
        if term.is_exact:
            field = _exact_of(field)
        if term.slips or term.is_prefix:
            return Query.fuzzy_term_query(
                self._schema,
                field,
                term.text,
                distance=term.slips,
                prefix=term.is_prefix,
            )
        return Query.term_query(self._schema, field, term.text, "basic")

    def _number(self, field: str, number: int) -> Query:
        return Query.term_query(self._schema, field, number, "basic")

    def _set(self, field: str, numbers: Sequence[int]) -> Query:
        return Query.term_set_query(self._schema, field, numbers)


def _values(
    searcher: tantivy.Searcher, field: str, addresses: list[tantivy.DocAddress]
) -> list[int]:
    """Of documents each of which has the field."""
    return searcher.fast_field_values(field, addresses)  # type: ignore[return-value]


def _add_tokens(row: tantivy.Document, field: str, text: str) -> None:
    found = tokens(text)
    row.add_text(field, " ".join(found.words))
    row.add_text(_exact_of(field), " ".join(found.exact))


def _all(*parts: Query) -> Query:
    if len(parts) == 1:
        return parts[0]
    return Query.boolean_query([(Occur.Must, part) for part in parts])


def _writing(run: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return run(*args, **kwargs)
    except (ValueError, OSError, RuntimeError) as error:
        raise IndexStuck(str(error)) from error
    except BaseException as error:
        if not _is_panic(error):
            raise
        raise IndexStuck(str(error)) from error


def _reading(run: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return run(*args, **kwargs)
    except (ValueError, OSError, RuntimeError) as error:
        raise IndexBroken(str(error)) from error
    except BaseException as error:
        if not _is_panic(error):
            raise
        raise IndexBroken(str(error)) from error


def _is_panic(error: BaseException) -> bool:
    """A panic of Rust is no Exception, and its class cannot be imported."""
    return type(error).__name__ == "PanicException"
