"""Owns what is searched for in a measurement: who asks, for which message, and how.

Messages are `Phrases`; message `n` is in a dialog that its number picks, the first
dialogs having far more than others (the largest of 100,000 has 2% of all, half of them
a few dozen). People ask: a third are in 10 dialogs, a third in 100, a third in 1,000
and in the largest one, a public channel.

A question is made of a message that its asker could see (so it is known what has to be
found), as people ask:

    words      one to three of its words that follow each other
    no marks   the same, typed without marks (of languages that have them)
    slip       one of its words of four letters or more with a letter left out, added,
               changed or swapped with the next one; Latin scripts alone
    prefix     its words, the last one not typed to the end
    part       of a script without spaces: any two to eight units, cutting words; else
               two to four words

Another sixth ask for the commonest word of a language, which half of everybody's
dialogs have. One in seven asks in one dialog, one in seven within a month.
"""

from __future__ import annotations

import dataclasses
import random
import string
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from bench.phrases import LANGUAGES, Language, Phrases
from tchatd.domains.search.store import MessageDoc, MessageKey
from tchatd.domains.search.text import folded, units_of

BEGAN_MS = 1_780_000_000_000
YEAR_MS = 365 * 86_400_000
DIALOG_MESSAGES = 100
"""On average."""
DIALOG_COUNTS = (10, 100, 1_000)
ASKERS_EACH = 8
KINDS = ("words", "no marks", "slip", "prefix", "part", "common")
_KEPT_A_DIALOG = 20
_MASK = (1 << 64) - 1
_LATIN = frozenset(("vi", "id", "tl", "en"))


@dataclasses.dataclass
class Asker:
    number: int
    dialogs: list[int]
    messages: list[int] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Question:
    """n: the message that it is made of; -1 for none."""

    kind: str
    asker: Asker
    n: int
    q: str


class Corpus:
    """count messages over a year, in dialogs; who asks, and what they could ask for."""

    def __init__(self, seed: int, count: int) -> None:
        self.count = count
        self.phrases = Phrases(seed)
        self.dialogs = max(2_000, count // DIALOG_MESSAGES)
        self.dice = random.Random(seed)
        numbers = range(2, self.dialogs + 1)
        self.askers = [
            Asker(
                number,
                self.dice.sample(numbers, size) + ([1] if size == 1_000 else []),
            )
            for number, size in enumerate(
                (size for size in DIALOG_COUNTS for _ in range(ASKERS_EACH)), 1
            )
        ]
        self._wanted = {number for asker in self.askers for number in asker.dialogs}
        self._kept: dict[int, list[int]] = {}

    def dialog_of(self, n: int) -> int:
        h = (n * 0x9E37_79B9_7F4A_7C15 + 0x85EB_CA6B) & _MASK
        h = (h ^ h >> 29) * 0xBF58_476D_1CE4_E5B9 & _MASK
        u = (h >> 11) / (1 << 53)
        return int(self.dialogs * u * u * u) + 1

    def at_ms(self, n: int) -> int:
        return BEGAN_MS + n * YEAR_MS // self.count

    def doc(self, n: int) -> MessageDoc:
        """Also notes it for who may ask for it."""
        number = self.dialog_of(n)
        if number in self._wanted:
            kept = self._kept.setdefault(number, [])
            if len(kept) < _KEPT_A_DIALOG:
                kept.append(n)
            elif n % 7 == 0:
                kept[n // 7 % _KEPT_A_DIALOG] = n
        return MessageDoc(
            number, n + 1, self.at_ms(n), n % 50_000 + 1, "text", self.phrases.text(n)
        )

    def settle(self) -> None:
        """All messages were made: everybody knows what they could ask for."""
        for asker in self.askers:
            asker.messages = [
                n for number in asker.dialogs for n in self._kept.get(number, ())
            ]

    def questions(self, count: int) -> Iterator[Question]:
        able = [asker for asker in self.askers if asker.messages]
        dice = self.dice
        for index in range(count):
            asker = able[index % len(able)]
            kind = KINDS[index % len(KINDS)]
            if kind == "common":
                word = dice.choice(LANGUAGES).head[dice.randrange(3)]
                yield Question(kind, asker, -1, word)
                continue
            for _ in range(100):
                n = dice.choice(asker.messages)
                q = self.ask(kind, *self.phrases.words(n))
                if q:
                    yield Question(kind, asker, n, q)
                    break

    def ask(self, kind: str, language: Language, words: list[str]) -> str | None:
        """None if nobody could ask so for this message."""
        dice, gap = self.dice, " " if language.has_spaces else ""
        if kind == "slip":
            long = [w for w in words if language.code in _LATIN and len(w) >= 4]
            long = [w for w in long if folded(w.lower()).isalpha()]
            return slip(dice.choice(long), dice) if long else None
        if kind == "part" and not language.has_spaces:
            units = units_of(unicodedata.normalize("NFKC", gap.join(words)))
            if len(units) < 2:
                return None
            size = dice.randrange(2, min(8, len(units)) + 1)
            first = dice.randrange(len(units) - size + 1)
            return "".join(units[first : first + size])
        size = dice.randrange(1, 4) if kind != "part" else dice.randrange(2, 5)
        size = min(size, len(words))
        first = dice.randrange(len(words) - size + 1)
        chosen = words[first : first + size]
        if kind == "prefix" and len(chosen[-1]) > 2:
            chosen[-1] = cut(chosen[-1], dice)
        text = gap.join(chosen)
        if kind != "no marks":
            return text
        bare = " ".join(folded(word.lower()) for word in chosen)
        return bare if language.code in _LATIN and bare != text.lower() else None


def cut(word: str, dice: random.Random) -> str:
    """Its begin, of two units at least."""
    units = units_of(unicodedata.normalize("NFKC", word))
    if len(units) < 3:
        return word
    return "".join(units[: dice.randrange(2, len(units))])


def slip(word: str, dice: random.Random) -> str:
    at = dice.randrange(len(word) - 1)
    letter = dice.choice(string.ascii_lowercase)
    return dice.choice(
        (
            word[:at] + word[at + 1 :],
            word[:at] + letter + word[at:],
            word[:at] + letter + word[at + 1 :],
            word[:at] + word[at + 1] + word[at] + word[at + 2 :],
        )
    )


@dataclasses.dataclass(frozen=True)
class Seen:
    message: int
    dialog_id: str
    texts: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        return self.texts[0][1]


class CorpusConversations:
    """The `Conversations` of search, out of the corpus: nothing is deleted in it."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._dialogs = {a.number: a.dialogs for a in corpus.askers}
        self._sets = {a.number: set(a.dialogs) for a in corpus.askers}

    async def number_of(self, user_number: int, dialog_id: UUID) -> int:
        return dialog_id.int

    async def memberships(self, user_number: int) -> Sequence[int]:
        return self._dialogs[user_number]

    async def acquaintances(self, user_number: int) -> Mapping[int, int]:
        return {}

    async def messages(
        self, user_number: int, keys: Sequence[MessageKey]
    ) -> Mapping[MessageKey, Seen]:
        mine, text = self._sets[user_number], self._corpus.phrases.text
        return {
            key: Seen(key[1] - 1, str(key[0]), (("text", text(key[1] - 1)),))
            for key in keys
            if key[0] in mine
        }

    async def dialogs(self, user_number: int, numbers: Sequence[int]) -> list[Any]:
        return []

    async def channels(
        self, user_number: int, numbers: Sequence[int]
    ) -> Sequence[Mapping[str, Any]]:
        return []


class NoPeople:
    async def known(self, viewer: int) -> Sequence[int]:
        return ()

    async def found(self, viewer: int, numbers: Sequence[int]) -> Mapping[int, Any]:
        return {}

    async def identified(self, viewer: int, text: str) -> Mapping[int, Any]:
        return {}

    async def numbers_of(self, ids: Sequence[UUID]) -> Mapping[UUID, int]:
        return {}
