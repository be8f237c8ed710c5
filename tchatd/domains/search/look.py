"""Owns looking closely at what the index proposed: whether it matches, what is marked.

All of it is Python, and who searches may have chosen both the words and the texts. So a
`Look`, which is of one request, counts its work in letters (0.2 to 0.3 us each): those
that it read, and those that it compared. Whoever looks gives the loop to others by that
count, and ends. Slips are the dear part: words are compared only if their lengths and
ends allow it, once a request, and at most `COMPARED_MAX` letters a text; past that,
none are forgiven in it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from tchatd.domains.search.text import (
    TEXT_PIECE,
    Query,
    Word,
    folded,
    normalized,
    slips_between,
    traced,
    words_and_runs,
)

HIGHLIGHT_CHARS_MAX: Final = 1_000
HIGHLIGHTS_MAX: Final = 20
"""Of one text: what is shown fits on a screen."""
COMPARED_MAX: Final = 8_000
"""Letters of a text, times those of the words that they are compared with."""
LOOSE: Final = 1
EXACT: Final = 2


class Look:
    """stage: EXACT, as typed, or LOOSE, but for marks and slips. work: until now."""

    def __init__(self, query: Query) -> None:
        self.work = 0
        self._query = query
        self._near: dict[tuple[str, str], bool] = {}
        self._compared = 0

    def matches(self, text: str, stage: int) -> bool:
        """Whether all of the query is in it at this stage, and not at a better one."""
        normal = normalized(text)  # up to 18 times as long
        words, runs = words_and_runs(normal)
        self.work += len(normal)
        self._compared = 0
        query = self._query
        if any(all(run.text not in other for other in runs) for run in query.runs):
            return False
        is_exact = all(_is_exact(word, words) for word in query.words)
        if is_exact or stage == EXACT:
            return is_exact and stage == EXACT
        by_length: dict[int, list[str]] = defaultdict(list)
        for said in words:
            by_length[len(said)].append(said)
        return all(self._is_loose(word, words, by_length) for word in query.words)

    def marks(self, text: str, stage: int) -> list[tuple[int, int]]:
        """[first, last) of what is found in the begin of the text, in its characters
        (code points). Ask `matches` of the whole message before."""
        normal, origin = traced(text[:HIGHLIGHT_CHARS_MAX])
        self.work += len(normal)
        found: list[tuple[int, int]] = []
        for piece in TEXT_PIECE.finditer(normal):
            first, end = piece.span()
            if not piece[2]:
                found += _hits_in_run(self._query, normal, first, end)
            elif self._is_hit(folded(piece[2]), stage):
                found.append((first, end))
        spans = ((origin[first][0], origin[end - 1][1]) for first, end in sorted(found))
        return list(islice(_merged(spans), HIGHLIGHTS_MAX))

    def _is_hit(self, said: str, stage: int) -> bool:
        return any(
            said == word.folded
            or (word.is_open and said.startswith(word.folded))
            or (stage == LOOSE and self._is_near(word, said))
            for word in self._query.words
        )

    def _is_loose(
        self, word: Word, words: set[str], by_length: dict[int, list[str]]
    ) -> bool:
        wanted, slips = word.folded, word.slips
        if wanted in words:
            return True
        if word.is_open and any(said.startswith(wanted) for said in words):
            return True
        for length in range(len(wanted) - slips, len(wanted) + slips + 1):
            among = by_length.get(length, ())
            self.work += len(among)
            if any(self._is_near(word, said) for said in among):
                return True
        return False

    def _is_near(self, word: Word, said: str) -> bool:
        wanted = word.folded
        if not may_be_near(wanted, said, word.slips):
            return False
        key = wanted, said
        is_near = self._near.get(key)
        if is_near is None:
            letters = len(wanted) * len(said)
            if self._compared + letters > COMPARED_MAX:
                return False
            self._compared += letters
            self.work += letters
            is_near = slips_between(wanted, said, word.slips)
            self._near[key] = is_near
        return is_near


def may_be_near(wanted: str, said: str, slips: int) -> bool:
    """Whether so many slips are possible, by lengths and ends.

    One slip is at one end at most, and what it does not touch stays. Two may be at both
    ends (a word of two slips has 8 letters), each of two letters, if it is a swap.
    """
    if not slips or abs(len(wanted) - len(said)) > slips:
        return False
    if wanted[0] == said[0] or wanted[-1] == said[-1]:
        return True
    return slips > 1 and wanted[2:-2] in said


def _is_exact(word: Word, words: set[str]) -> bool:
    wanted = word.marked or word.folded
    if wanted in words:
        return True
    return word.is_open and any(said.startswith(wanted) for said in words)


def _hits_in_run(
    query: Query, normal: str, first: int, end: int
) -> Iterator[tuple[int, int]]:
    """Spans in `normal`, whose spaces between units are left out for the look."""
    places = [at for at in range(first, end) if not normal[at].isspace()]
    said = "".join(normal[at] for at in places)
    for run in query.runs:
        wanted, start = run.text, 0
        while (at := said.find(wanted, start)) >= 0:
            yield places[at], places[at + len(wanted) - 1] + 1
            start = at + len(wanted)


def _merged(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    last: tuple[int, int] | None = None
    for first, end in spans:
        if last is not None and first <= last[1]:
            last = last[0], max(last[1], end)
            continue
        if last is not None:
            yield last
        last = first, end
    if last is not None:
        yield last
