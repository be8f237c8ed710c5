"""Owns filters of what is said: listed words and phrases, and links.

Theory of operation
    All patterns are one automaton (Aho and Corasick, 1975): a text is looked through
    once, whatever their number, in time linear in its length. There are no regular
    expressions in the list, so nothing that an operator writes can take long.

    Text and patterns are compared in one form: NFKC, case folded, without characters
    that do not show (Unicode category Cf), every run of spaces one space. NFKC makes
    some characters 18 times as long: what is longer than FORM_CHARS_MAX then is not
    looked at, and the text flagged, for nobody writes like that.

    A pattern matches whole words: where it begins or ends with a letter or digit of a
    script that writes spaces, the text must not go on with one there. `*` at an end
    lifts that. Scripts without spaces match anywhere.
"""

from __future__ import annotations

import re
import unicodedata
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, Protocol, TypeAlias

import msgspec
from msgspec import Struct

Verdict: TypeAlias = Literal["allow", "flag", "refuse"]
PATTERNS_MAX: Final = 20_000
PATTERN_CHARS_MAX: Final = 100
FORM_CHARS_MAX: Final = 8_192
_TEXT_FIELDS: Final = ("text", "caption", "question", "title", "name")
_SPACES: Final = re.compile(r"\s+")
AUTHORITY_CHARS_MAX: Final = 512
"""Of a link, up to its path; a longer one is not fine, for nobody writes like that."""
_LINK: Final = re.compile(
    rf"(https?:[/\\]+|www[.\u3002])(?=([^\s/\\?#]{{0,{AUTHORITY_CHARS_MAX}}}))"
)
_AFTER_LINK: Final = ".,;!?)]}>\"'*"
"""A sentence goes on with it; no host ends so."""
_GRAVITY: Final[dict[Verdict, int]] = {"allow": 0, "flag": 1, "refuse": 2}
_UNSPACED: Final = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x9FFF),  # Chinese, Japanese
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)


class Filter(Protocol):
    """Judges what somebody wants to say; must be quick, and never fail."""

    def judge(self, text: str) -> Verdict: ...


class BadPattern(ValueError):
    """A line of the list cannot be used; the text says which and why."""


class Pattern(Struct, frozen=True):
    """text: in the compared form. whole_*: no letter or digit may be next to it."""

    text: str
    verdict: Verdict
    whole_start: bool
    whole_end: bool


def normalised(text: str) -> str:
    return _form(text)[0]


def _form(text: str) -> tuple[str, bool]:
    """At most FORM_CHARS_MAX characters of it, and whether there were more."""
    form = unicodedata.normalize("NFKC", text)
    is_cut = len(form) > FORM_CHARS_MAX
    form = unicodedata.normalize("NFKC", form[:FORM_CHARS_MAX].casefold())
    if not form.isascii():
        form = "".join(c for c in form if unicodedata.category(c) != "Cf")
    is_cut = is_cut or len(form) > FORM_CHARS_MAX
    return _SPACES.sub(" ", form[:FORM_CHARS_MAX]).strip(), is_cut


def _judged(parts: Iterable[Words | Links], text: str) -> Verdict:
    form, is_cut = _form(text)
    verdicts = [part.judge_normalised(form) for part in parts]
    if is_cut:
        verdicts.append("flag")
    return max(verdicts, key=_GRAVITY.__getitem__, default="allow")


def patterns_of(lines: Iterable[str]) -> Iterator[Pattern]:
    """One pattern a line: `refuse: WORDS` or `flag: WORDS`, a `*` at either end; `#`
    begins a comment. Raises BadPattern."""
    count = 0
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        verdict, colon, words = line.partition(":")
        verdict, words = verdict.strip(), words.strip()
        if not colon or verdict not in ("refuse", "flag"):
            raise BadPattern(f"line {number} begins with neither refuse: nor flag:")
        text = normalised(words.strip("*"))
        if not text or len(text) > PATTERN_CHARS_MAX:
            raise BadPattern(f"line {number} has no words, or too many")
        count += 1
        if count > PATTERNS_MAX:
            raise BadPattern(f"there are more than {PATTERNS_MAX} patterns")
        yield Pattern(
            text,
            "refuse" if verdict == "refuse" else "flag",
            not words.startswith("*") and _is_spaced(text[0]),
            not words.endswith("*") and _is_spaced(text[-1]),
        )


def _is_spaced(char: str) -> bool:
    """Whether it is of a word that its script sets apart by spaces."""
    if not char.isalnum():
        return False
    code = ord(char)
    return not any(first <= code <= last for first, last in _UNSPACED)


class _Node:
    __slots__ = ("fallback", "found", "next")

    def __init__(self) -> None:
        self.next: dict[str, _Node] = {}
        self.fallback: _Node | None = None
        self.found: tuple[Pattern, ...] = ()


class Words:
    """A `Filter` of listed words."""

    def __init__(self, patterns: Iterable[Pattern]) -> None:
        self._root = _Node()
        self.count = 0
        for pattern in patterns:
            self._add(pattern)
        self._connect()

    def _add(self, pattern: Pattern) -> None:
        node = self._root
        for char in pattern.text:
            node = node.next.setdefault(char, _Node())
        node.found = (*node.found, pattern)
        self.count += 1

    def _connect(self) -> None:
        """Each node falls back to the longest proper suffix that begins a pattern."""
        waiting: deque[_Node] = deque()
        for child in self._root.next.values():
            child.fallback = self._root
            waiting.append(child)
        while waiting:
            node = waiting.popleft()
            for char, child in node.next.items():
                back = node.fallback
                while back is not None and char not in back.next:
                    back = back.fallback
                child.fallback = self._root if back is None else back.next[char]
                child.found += child.fallback.found
                waiting.append(child)

    def judge(self, text: str) -> Verdict:
        return _judged((self,), text)

    def judge_normalised(self, text: str) -> Verdict:
        verdict: Verdict = "allow"
        root = node = self._root
        for index, char in enumerate(text):
            while char not in node.next and node.fallback is not None:
                node = node.fallback
            node = node.next.get(char, root)
            for pattern in node.found:
                if _GRAVITY[pattern.verdict] > _GRAVITY[verdict] and _is_whole(
                    pattern, text, index + 1
                ):
                    verdict = pattern.verdict
            if verdict == "refuse":
                return verdict
        return verdict


def _is_whole(pattern: Pattern, text: str, end: int) -> bool:
    start = end - len(pattern.text)
    if pattern.whole_start and start > 0 and _is_spaced(text[start - 1]):
        return False
    return not (pattern.whole_end and end < len(text) and _is_spaced(text[end]))


class Links:
    """A `Filter` of links: those that begin with http://, https:// or www.

    hosts: that are always fine, with everything below them.

    Every begin of a link is judged, also within another one, as nobody knows what a
    client makes a link of. The host is what a browser takes for it (WHATWG URL): the
    scheme is followed by any `/` or `\\`, either of them ends the host, what stands
    before its last `@` is none of it, and \u3002 is a dot.
    """

    def __init__(self, verdict: Verdict, hosts: Iterable[str]) -> None:
        self._verdict = verdict
        self._hosts = frozenset(host.casefold().rstrip(".") for host in hosts)
        self._labels_max = max((host.count(".") + 1 for host in self._hosts), default=0)

    def judge(self, text: str) -> Verdict:
        return _judged((self,), text)

    def judge_normalised(self, text: str) -> Verdict:
        for found in _LINK.finditer(text):
            begin, authority = found.groups()
            if begin.startswith("www"):
                authority = begin + authority
            if authority and not self._is_fine(authority):
                return self._verdict
        return "allow"

    def _is_fine(self, authority: str) -> bool:
        if len(authority) >= AUTHORITY_CHARS_MAX:
            return False
        host = authority.rpartition("@")[2].partition(":")[0].replace("\u3002", ".")
        host = host.rstrip(_AFTER_LINK)
        labels = host.split(".")[-self._labels_max :]
        return "%" not in host and any(
            ".".join(labels[at:]) in self._hosts for at in range(len(labels))
        )


class WordsAndLinks:
    """Both; the graver of the two verdicts."""

    def __init__(self, words: Words | None, links: Links | None) -> None:
        self._parts = [part for part in (words, links) if part is not None]

    def judge(self, text: str) -> Verdict:
        return _judged(self._parts, text)


def texts_of(content: Any, buttons: Any = None) -> str:
    """Everything that a person reads in a message's content and on its buttons, and
    where these lead; "" for nothing."""
    if not isinstance(content, dict):
        content = msgspec.to_builtins(content)
    texts = [content[name] for name in _TEXT_FIELDS if content.get(name)]
    texts += content.get("options", ())
    for row in buttons or ():
        for button in row:
            texts += [button.text, button.url or ""]
    return "\n".join(texts)
