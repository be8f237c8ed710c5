"""Owns what a document of the index is made of, and how tantivy is told.

Documents have no stored text: fast fields give what a hit needs. One of them, found by
`meta`, holds how far the index knows the log; it is replaced in every commit, so that
the position is committed with what it stands for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

import tantivy
from tantivy import Occur, Query

from tchatd.domains.search.errors import IndexBroken, IndexStuck

P = ParamSpec("P")
T = TypeVar("T")

FORMAT: Final = 2
"""Rises when the fields or the tokens change; an index of another one is built anew."""
TYPES: Final = (
    *("text", "voice", "file", "image", "video", "payment", "location", "poll"),
    "system",
)
"""A type's number is its index here; append only, or raise FORMAT."""
META: Final = 1
PUBLIC: Final = 1
_TOKENIZER: Final = "whitespace"


def _schema() -> tantivy.Schema:
    """message: words, exact, dialog, seq, sender, type, order. dialog: names and
    names_exact, named (its number), public. person: people and people_exact, person
    (their number). One of meta, position and people_ms."""
    builder = tantivy.SchemaBuilder()
    for name in ("words", "names", "people"):
        for field in (name, exact_of(name)):
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


def exact_of(field: str) -> str:
    return "exact" if field == "words" else f"{field}_exact"


SCHEMA: Final = _schema()


def make_index(folder: Path) -> None:
    """Raises: ValueError, OSError."""
    folder.mkdir(mode=0o700, parents=True)
    tantivy.Index(SCHEMA, path=str(folder), reuse=False)


def open_index(folder: Path) -> tantivy.Index:
    """Raises: ValueError, OSError."""
    index = tantivy.Index.open(str(folder))
    analyzer = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace())
    index.register_tokenizer(_TOKENIZER, analyzer.build())
    return index


def by_number(field: str, value: int) -> Query:
    return Query.term_query(SCHEMA, field, value, "basic")


def all_of(*parts: Query) -> Query:
    if len(parts) == 1:
        return parts[0]
    return Query.boolean_query([(Occur.Must, part) for part in parts])


def writing(run: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What tantivy raises is IndexStuck."""
    try:
        return run(*args, **kwargs)
    except (ValueError, OSError, RuntimeError) as error:
        raise IndexStuck(str(error)) from error
    except BaseException as error:  # a panic is one, and nothing else is taken
        if not _is_panic(error):
            raise
        raise IndexStuck(str(error)) from error


def reading(run: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What tantivy raises is IndexBroken."""
    try:
        return run(*args, **kwargs)
    except (ValueError, OSError, RuntimeError) as error:
        raise IndexBroken(str(error)) from error
    except BaseException as error:  # a panic is one, and nothing else is taken
        if not _is_panic(error):
            raise
        raise IndexBroken(str(error)) from error


def _is_panic(error: BaseException) -> bool:
    """A panic of Rust is no Exception, and its class cannot be imported."""
    return type(error).__name__ == "PanicException"
