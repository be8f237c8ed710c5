"""Owns what a text is found by: its tokens, and what a query asks of them.

Two kinds of writing, by script:

* Words with spaces between them (Latin, Cyrillic, Tamil, …). A word is found by its
  folded form, without marks: `bánh` and `Banh` are `banh`, `đ` is `d`. A word of a
  Latin script that has marks is a token as it is, too, so that who types marks is
  first shown what has them.
* Writing without spaces (Thai, Lao, Khmer, Burmese, Chinese, Japanese; Korean as well,
  whose spaces say little). It is cut into units, a base with the vowels and tones on
  it, and found by every two units that follow each other, by the last one, and by each
  base: a text that has all pairs of a query nearly always has the query. People put
  spaces between phrases as they like, so a text's pairs go across spaces and a query's
  do not.

What the index finds by tokens is looked at again as it is (`look.Look`): whether the
pairs follow each other, and whether the text still says so.

Everything is NFKC and case-folded first; digits of any script are 0 to 9, what cannot
be seen (zero-width spaces, joiners, soft hyphens) is dropped, marks on one unit are put
in one order, apostrophes in words are left out. Chinese is not converted between
traditional and simplified, Burmese is Unicode, not Zawgyi.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Final

from msgspec import Struct

TOKEN_CHARS_MAX: Final = 64
"""A longer word is found by its begin."""
CLAUSES_MAX: Final = 24
"""Of a query that the index is asked for; all of it is looked at in what it finds."""
PIECES_MAX: Final = 12
"""Words and runs of a query: what follows them is not looked for."""
HEAD: Final = "^"
"""Before the first two letters of a word, and before a unit without its marks: what is
typed first is found by a token of its own, as so many words begin with it."""
HEAD_LETTERS: Final = 2
FUZZY_FROM: Final = ((8, 2), (4, 1))
"""Letters from which so many slips of the keyboard are forgiven."""
_FOLDS_KEPT_MAX: Final = 100_000
_SPACELESS: Final = (
    "\u0e01-\u0e3a\u0e40-\u0e4e"  # Thai
    "\u0e81-\u0ece\u0edc-\u0edf"  # Lao
    "\u1000-\u103f\u1050-\u109d\ua9e0-\ua9ef\ua9fa-\ua9fe\uaa60-\uaa7f"  # Burmese
    "\u1780-\u17d3\u17d7\u17dc\u17dd"  # Khmer
    "\u3005-\u3007\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7a3\U00020000-\U0003ffff"
)


def _marks(first: int, last: int) -> str:
    """Combining characters of a range, for a character class."""
    return "".join(
        chr(code)
        for code in range(first, last + 1)
        if unicodedata.category(chr(code))[0] == "M"
    )


_WORD_MARKS: Final = _marks(0x300, 0xE00) + _marks(0x1AB0, 0x1AFF)
_UNIT_MARKS: Final = (
    _marks(0xE00, 0x109F) + _marks(0x1780, 0x17DD) + _marks(0xAA60, 0xAA7F)
    + "\u3099\u309a"
)  # fmt: skip
_LETTER: Final = rf"[^\W_{_SPACELESS}]"
_WORD: Final = rf"{_LETTER}+(?:[{_WORD_MARKS}]+{_LETTER}*)*"
_SYMBOL: Final = "[\u2600-\u27bf\U0001f000-\U0001faff]"
_RUN: Final = rf"[{_SPACELESS}]+"
TEXT_PIECE: Final = re.compile(rf"({_RUN}(?:\s+{_RUN})*)|({_WORD}|{_SYMBOL})")
_QUERY_PIECE: Final = re.compile(rf"({_RUN})|({_WORD}|{_SYMBOL})")
_UNIT: Final = re.compile(rf"[^{_UNIT_MARKS}][{_UNIT_MARKS}]*|[{_UNIT_MARKS}]+")
_CLUSTER: Final = re.compile(rf".[{_WORD_MARKS}{_UNIT_MARKS}\u0e33\u0eb3]*", re.DOTALL)
_HAS_UNIT_MARKS: Final = re.compile(rf"[{_UNIT_MARKS}]").search
_ASCII_WORD: Final = re.compile(r"[a-z0-9]+")
_APOSTROPHES: Final = "'\u2018\u2019\u02bc`"
_DROPPED: Final = (
    "\u00ad\u034f\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d"
    "\u202e\u2060\u2061\u2062\u2063\u2064\u2066\u2067\u2068\u2069\ufe0e\ufe0f\ufeff"
)


def _digits() -> Iterator[tuple[int, str]]:
    for code in range(0x660, 0x1A9A):
        if unicodedata.category(chr(code)) == "Nd":
            yield code, str(unicodedata.digit(chr(code)))


_CLEANED: Final[dict[int, str | None]] = {
    **dict.fromkeys(map(ord, _DROPPED + _APOSTROPHES)),
    **dict(_digits()),
}
_ASCII_CLEANED: Final = str.maketrans("", "", "'`")
_FOLDED: Final = str.maketrans(
    {
        "đ": "d", "ð": "d", "ø": "o", "ł": "l", "ħ": "h", "ŧ": "t", "ı": "i",
        "æ": "ae", "œ": "oe", "þ": "th", "ŋ": "n", "ɓ": "b", "ɗ": "d", "ƙ": "k",
    }
)  # fmt: skip


def normalized(text: str) -> str:
    if text.isascii():
        return text.lower().translate(_ASCII_CLEANED)
    folded = unicodedata.normalize("NFKC", text).casefold()
    return unicodedata.normalize("NFKC", folded).translate(_CLEANED)


@lru_cache(_FOLDS_KEPT_MAX)
def folded(word: str) -> str:
    """Without marks, where the script is one whose words are found without."""
    if word.isascii():
        return word[:TOKEN_CHARS_MAX]
    bare = "".join(
        c
        for c in unicodedata.normalize("NFKD", word)
        if not ("\u0300" <= c <= "\u036f" or "\u1ab0" <= c <= "\u1aff")
    )
    return bare.translate(_FOLDED)[:TOKEN_CHARS_MAX]


def units_of(run: str) -> list[str]:
    """run: normalized, of scripts without spaces, and no spaces in it."""
    if not _HAS_UNIT_MARKS(run):
        return list(run)
    return [
        unit if len(unit) < 3 else unit[0] + "".join(sorted(unit[1:]))
        for unit in _UNIT.findall(run)
    ]


def _units_between_spaces(run: str) -> list[str]:
    """A mark after a space is a unit of its own: a query of it is, too."""
    return [unit for part in run.split() for unit in units_of(part)]


class Tokens(Struct, frozen=True):
    """What a text is found by. words: folded; in these slips are forgiven. exact: all
    else, which is found as it is: words with marks, pairs of units, and heads (`^`)."""

    words: frozenset[str]
    exact: frozenset[str]


def tokens(text: str) -> Tokens:
    normal = normalized(text)
    if normal.isascii():
        words = set(_ASCII_WORD.findall(normal))
        if len(normal) > TOKEN_CHARS_MAX:
            words = {word[:TOKEN_CHARS_MAX] for word in words}
        return Tokens(
            frozenset(words), frozenset([HEAD + word[:HEAD_LETTERS] for word in words])
        )
    words, exact = set(), set()
    for run, word in TEXT_PIECE.findall(normal):
        if word:
            bare = folded(word)
            words.add(bare)
            exact.add(HEAD + bare[:HEAD_LETTERS])
            if not word.isascii():
                exact.add(word[:TOKEN_CHARS_MAX])
            continue
        units = _units_between_spaces(run)
        exact.update(map(str.__add__, units, units[1:]))
        exact.add(units[-1])
        exact.update([HEAD + unit[0] for unit in units])
    return Tokens(frozenset(words), frozenset(exact))


class Term(Struct, frozen=True):
    """One thing that a token may be. is_exact: one of `Tokens.exact`, else of `words`.
    is_prefix: the token's begin. slips: the token may differ by so many letters."""

    text: str
    is_exact: bool = False
    is_prefix: bool = False
    slips: int = 0


Clause = tuple[Term, ...]
"""One of them is among the tokens."""


class Word(Struct, frozen=True):
    """One word of a query. marked: as typed, if it has marks. is_open: more letters
    may follow it, of which it has two at least. slips: of the keyboard that are
    forgiven if need be."""

    folded: str
    marked: str | None
    is_open: bool
    slips: int

    def clause(self, *, loose: bool) -> Clause:
        if self.marked is not None and not loose:
            return (Term(self.marked, is_exact=True, is_prefix=self.is_open),)
        if self.is_open and len(self.folded) == HEAD_LETTERS:
            term = Term(HEAD + self.folded, is_exact=True)
        else:
            is_prefix = self.is_open and len(self.folded) > HEAD_LETTERS
            term = Term(self.folded, is_prefix=is_prefix)
        if loose and self.slips:
            return term, Term(self.folded, slips=self.slips)
        return (term,)


class Run(Struct, frozen=True):
    """One run of units of a query, as they follow each other; in a text more may."""

    units: tuple[str, ...]
    is_open: bool

    @property
    def text(self) -> str:
        return "".join(self.units)

    def clauses(self) -> Iterator[Clause]:
        units = self.units
        if len(units) == 1:
            unit = units[0]
            if len(unit) == 1:
                yield (Term(HEAD + unit, is_exact=True),)
            else:  # of a pair that begins with it, or the last one
                yield (Term(unit, is_exact=True, is_prefix=True),)
            return
        pairs = [a + b for a, b in pairwise(units)]
        for pair in pairs[:-1]:
            yield (Term(pair, is_exact=True),)
        yield (Term(pairs[-1], is_exact=True, is_prefix=self.is_open),)


class Query(Struct, frozen=True):
    """What was asked for; all of it must be there."""

    words: tuple[Word, ...]
    runs: tuple[Run, ...]

    @property
    def is_forgiving(self) -> bool:
        """Whether there is more to be found than what matches as typed."""
        return any(word.slips or word.marked for word in self.words)

    def clauses(self, *, loose: bool = False) -> list[Clause]:
        """All of which hold for what matches (more may), at most `CLAUSES_MAX`.

        loose: but for marks and slips.
        """
        found = [word.clause(loose=loose) for word in self.words]
        for run in self.runs:
            found += run.clauses()
        return found[:CLAUSES_MAX]


def parse(q: str, *, every_word_open: bool = False) -> Query | None:
    """None if there is nothing in it that could be found.

    every_word_open: each word may go on, not the last alone (for names).
    """
    normal = normalized(q)
    words: dict[str, Word] = {}
    runs: dict[str, Run] = {}
    for piece in _QUERY_PIECE.finditer(normal):
        if len(words) + len(runs) == PIECES_MAX:
            break
        run, word = piece.groups()
        is_open = every_word_open or piece.end() == len(normal)
        if run:
            runs[run] = Run(tuple(units_of(run)), is_open)
        elif word not in words or not words[word].is_open:
            bare = folded(word)
            is_open = is_open and len(bare) >= HEAD_LETTERS
            marked = word[:TOKEN_CHARS_MAX]
            words[word] = Word(
                bare, None if marked == bare else marked, is_open, slips_of(bare)
            )
    if not words and not runs:
        return None
    return Query(tuple(words.values()), tuple(runs.values()))


def slips_of(word: str) -> int:
    if not word.isalpha() or not word.isascii():
        return 0
    return next((slips for letters, slips in FUZZY_FROM if len(word) >= letters), 0)


def slips_between(one: str, other: str, most: int) -> bool:
    """Whether `most` letters added, left out, changed or swapped with the next one
    make one of the other (optimal string alignment)."""
    if abs(len(one) - len(other)) > most:
        return False
    above: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        before, above, row = above, row, [i]
        for j, b in enumerate(other, 1):
            cost = min(row[-1] + 1, above[j] + 1, above[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        if min(row) > most:
            return False
    return row[-1] <= most


def traced(text: str) -> tuple[str, list[tuple[int, int]]]:
    """As `normalized`, and from which characters of the text each one comes."""
    normal = normalized(text)
    if len(normal) == len(text):  # nothing was put together, taken apart or left out
        if _HAS_UNIT_MARKS(normal):
            normal = _UNIT.sub(_in_order, normal)
        return normal, [(at, at + 1) for at in range(len(text))]
    pieces: list[str] = []
    origin: list[tuple[int, int]] = []
    for cluster in _CLUSTER.finditer(text):
        normal = normalized(cluster[0])
        if len(normal) > 1 and _HAS_UNIT_MARKS(normal):
            normal = "".join(units_of(normal))
        pieces.append(normal)
        origin += [cluster.span()] * len(normal)
    return "".join(pieces), origin


def _in_order(unit: re.Match[str]) -> str:
    """Its marks are in one order; see `units_of`."""
    return unit[0] if len(unit[0]) < 3 else unit[0][0] + "".join(sorted(unit[0][1:]))


def words_and_runs(normal: str) -> tuple[set[str], list[str]]:
    """Words of a normalized text, folded and as they are, and its runs without their
    spaces."""
    words, runs = set(), []
    for run, word in TEXT_PIECE.findall(normal):
        if run:
            runs.append("".join(_units_between_spaces(run)))
        else:
            words.add(folded(word))
            words.add(word[:TOKEN_CHARS_MAX])
    return words, runs
