"""Owns what every `SearchIndex` has to do; run over memory and over tantivy."""

from __future__ import annotations

import random

import pytest

from tchatd.domains.search.errors import IndexUnavailable
from tchatd.domains.search.store import (
    ORDER_MAX,
    DialogDoc,
    FoundMessage,
    MessageAsk,
    MessageDoc,
    PersonDoc,
    SearchIndex,
    first_order,
)
from tchatd.domains.search.text import Clause, parse
from tchatd.stores.memory.search import MemorySearchIndex

AT_MS = 1_800_000_000_000
WRITER_BYTES = 15_000_000
"""The least that tantivy takes."""


def doc(
    seq: int,
    text: str,
    *,
    number: int = 1,
    sender: int = 5,
    type: str = "text",
    at_ms: int | None = None,
) -> MessageDoc:
    at_ms = AT_MS + 1_000 * seq if at_ms is None else at_ms
    return MessageDoc(number, seq, at_ms, sender, type, text)


def ask(
    q: str,
    dialogs: list[int] | None = None,
    *,
    loose: bool = False,
    limit: int = 50,
    first: int = 0,
    end: int = ORDER_MAX,
    sender: int | None = None,
    type: str | None = None,
) -> MessageAsk:
    query = parse(q)
    assert query is not None
    clauses = query.clauses(loose=loose)
    among = [1] if dialogs is None else dialogs
    return MessageAsk(clauses, among, limit, first, end, sender, type)


def name(q: str) -> list[Clause]:
    query = parse(q, every_word_open=True)
    assert query is not None
    return query.clauses()


def seqs(found: list[FoundMessage]) -> list[int]:
    return [one.seq for one in found]


async def filled(index: SearchIndex, *docs: MessageDoc) -> SearchIndex:
    """A new index with these, which is asked."""
    if not index.is_ready:
        assert not await index.open()
        await index.renew()
        for one in docs:
            index.put(one, is_new=True)
        await index.commit(7, 9)
        await index.publish()
    return index


class SearchIndexContract:
    async def test_what_is_not_built_cannot_be_asked(self, index: SearchIndex) -> None:
        assert not index.is_ready
        assert not await index.open()
        for question in (
            index.messages(ask("x")),
            index.people([], None, 1),
            index.dialogs([], None, 1),
        ):
            with pytest.raises(IndexUnavailable):
                await question
        await index.renew()
        index.put(doc(1, "hello"), is_new=True)
        await index.commit(3, 4)
        assert not index.is_ready
        await index.publish()
        assert index.is_ready
        assert (index.position, index.people_ms) == (3, 4)
        assert seqs(await index.messages(ask("hello"))) == [1]

    async def test_nothing_is_found_before_its_commit(self, index: SearchIndex) -> None:
        await filled(index)
        index.put(doc(1, "hello"), is_new=True)
        assert await index.messages(ask("hello")) == []
        await index.commit(8, 9)
        assert seqs(await index.messages(ask("hello"))) == [1]
        assert index.position == 8

    async def test_all_words_in_the_latest_first(self, index: SearchIndex) -> None:
        await filled(
            index,
            doc(1, "red fish"),
            doc(2, "red bird"),
            doc(3, "blue fish red"),
            doc(4, "redder fishes"),
            doc(5, "ปลาสีแดง"),
        )
        assert seqs(await index.messages(ask("red "))) == [3, 2, 1]
        assert seqs(await index.messages(ask("fish red"))) == [3, 1]
        assert seqs(await index.messages(ask("red fis"))) == [3, 1]
        assert seqs(await index.messages(ask("re"))) == [4, 3, 2, 1]
        assert seqs(await index.messages(ask("สีแดง"))) == [5]
        assert seqs(await index.messages(ask("red", limit=2))) == [4, 3]
        assert await index.messages(ask("green")) == []

    async def test_slips_and_marks_only_when_asked(self, index: SearchIndex) -> None:
        await filled(index, doc(1, "the restaurant"), doc(2, "bánh"), doc(3, "banh"))
        assert await index.messages(ask("restarant")) == []
        assert seqs(await index.messages(ask("restarant", loose=True))) == [1]
        assert seqs(await index.messages(ask("bánh"))) == [2]
        assert seqs(await index.messages(ask("bánh", loose=True))) == [3, 2]
        assert seqs(await index.messages(ask("banh"))) == [3, 2]

    async def test_filters(self, index: SearchIndex) -> None:
        await filled(
            index,
            doc(1, "hi", number=1, sender=1),
            doc(2, "hi", number=2, sender=2, type="image"),
            doc(3, "hi", number=3, sender=1),
            doc(4, "hi", number=1 << 42, sender=2**31),
        )
        everywhere = [1, 2, 3, 1 << 42]
        assert seqs(await index.messages(ask("hi", everywhere))) == [4, 3, 2, 1]
        assert seqs(await index.messages(ask("hi", [2, 3]))) == [3, 2]
        assert seqs(await index.messages(ask("hi", [9]))) == []
        assert seqs(await index.messages(ask("hi", everywhere, sender=1))) == [3, 1]
        assert seqs(await index.messages(ask("hi", everywhere, sender=2**31))) == [4]
        assert seqs(await index.messages(ask("hi", everywhere, type="image"))) == [2]
        assert await index.messages(ask("hi", everywhere, type="novel")) == []

    async def test_ranges_are_of_time_and_of_a_page(self, index: SearchIndex) -> None:
        docs = [doc(seq, "hi") for seq in range(1, 8)]
        await filled(index, *docs)
        first, end = first_order(docs[2].at_ms), first_order(docs[5].at_ms)
        found = await index.messages(ask("hi", first=first, end=end))
        assert seqs(found) == [5, 4, 3]
        page = await index.messages(ask("hi", limit=3))
        rest = await index.messages(ask("hi", end=page[-1].order))
        assert seqs(page) + seqs(rest) == [7, 6, 5, 4, 3, 2, 1]

    async def test_an_edit_takes_the_place_and_empty_is_gone(
        self, index: SearchIndex
    ) -> None:
        await filled(index, doc(1, "one two"), doc(2, "one two"), doc(3, "one"))
        index.put(doc(2, "two three"))
        index.put(doc(3, ""))
        index.put(doc(4, "one"), is_new=True)
        index.put(doc(4, "three"))
        index.put(doc(5, ""), is_new=True)
        await index.commit(8, 9)
        assert seqs(await index.messages(ask("one"))) == [1]
        assert seqs(await index.messages(ask("two"))) == [2, 1]
        assert seqs(await index.messages(ask("three"))) == [4, 2]
        index.put(doc(2, "two three"))
        await index.commit(9, 9)
        assert seqs(await index.messages(ask("three"))) == [4, 2]

    async def test_a_dialog_goes_with_its_messages(self, index: SearchIndex) -> None:
        await filled(index, doc(1, "one"), doc(2, "one", number=2))
        index.put(DialogDoc(1, "Lunch", True))
        index.put(DialogDoc(2, "Lunch too", False))
        await index.commit(8, 9)
        assert await index.dialogs(name("lunch"), [1, 2, 3], 5) == [2, 1]
        index.drop_dialog(1)
        await index.commit(9, 9)
        assert seqs(await index.messages(ask("one", [1, 2]))) == [2]
        assert await index.dialogs(name("lunch"), [1, 2], 5) == [2]

    async def test_dialogs_and_people_by_name(self, index: SearchIndex) -> None:
        await filled(index, doc(1, "somchai lunch"))
        index.put(DialogDoc(4, "Lunch club\nlunch_club", True))
        index.put(DialogDoc(5, "Lunch at Somchai", False))
        index.put(PersonDoc(8, "Somchai Jaidee", 5))
        index.put(PersonDoc(9, "Nguyễn Văn Ánh", 5))
        await index.commit(8, 10)

        assert await index.dialogs(name("lun"), None, 9) == [4]
        assert await index.dialogs(name("lun"), [5], 9) == [5]
        assert await index.dialogs(name("lun"), [4, 5], 1) == [5]
        assert await index.people(name("som jai"), None, 9) == [8]
        assert await index.people(name("som"), [9], 9) == []
        assert await index.people(name("nguyen anh"), None, 9) == [9]
        assert await index.people(name("lunch"), None, 9) == []
        index.put(PersonDoc(8, "Somying", 6))
        index.put(PersonDoc(9, "", 6))
        await index.commit(9, 10)
        assert await index.people(name("jaidee"), None, 9) == []
        assert await index.people(name("som"), None, 9) == [8]
        assert await index.people(name("nguyen"), None, 9) == []

    async def test_the_old_one_is_asked_until_the_new_one_is_published(
        self, index: SearchIndex
    ) -> None:
        await filled(index, doc(1, "old"))
        await index.renew()
        assert index.position == 0
        index.put(doc(2, "new"), is_new=True)
        await index.commit(20, 21)
        assert seqs(await index.messages(ask("old"))) == [1]
        assert await index.messages(ask("new")) == []
        await index.publish()
        assert await index.messages(ask("old")) == []
        assert seqs(await index.messages(ask("new"))) == [2]
        assert (index.position, index.people_ms) == (20, 21)

    async def test_opened_again_it_is_as_of_its_last_commit(
        self, index: SearchIndex
    ) -> None:
        await filled(index, doc(1, "kept"))
        index.put(doc(2, "lost"), is_new=True)
        await index.renew()
        index.put(doc(3, "begun"), is_new=True)
        await index.commit(99, 99)
        assert await index.open()
        assert (index.position, index.people_ms) == (7, 9)
        assert seqs(await index.messages(ask("kept"))) == [1]
        for words in ("lost", "begun"):
            assert await index.messages(ask(words)) == []
        index.put(doc(4, "later"), is_new=True)
        await index.commit(8, 9)
        assert seqs(await index.messages(ask("later"))) == [4]

    async def test_it_finds_what_looking_at_everything_finds(
        self, index: SearchIndex
    ) -> None:
        dice = random.Random(4)
        pieces = [
            *("ka", "na", "bánh", "banh", "word", "ward", "sword", "x"),
            *("我", "们", "กิน", "ข้าว", "ហូប", "चल"),
        ]
        twin = MemorySearchIndex()
        for one in (index, twin):
            await filled(one)
        for commit in range(6):
            for _ in range(60):
                text = dice.choice(("", " ")).join(
                    dice.choices(pieces, k=dice.randrange(1, 6))
                )
                number = dice.randrange(1, 5)
                seq = dice.randrange(1, 40)
                for target in (index, twin):
                    target.put(doc(seq, text, number=number, sender=seq % 3))
            for target in (index, twin):
                await target.commit(10 + commit, 9)
        for _ in range(150):
            q = dice.choice(("", " ")).join(
                dice.choices(pieces, k=dice.randrange(1, 4))
            )
            cut = q[: dice.randrange(1, len(q) + 1)]
            if parse(cut) is None:
                continue
            question = ask(
                cut,
                dice.sample([1, 2, 3, 4], dice.randrange(1, 5)),
                loose=dice.random() < 0.4,
                limit=dice.choice((3, 100)),
                sender=dice.choice((None, None, 1)),
                first=first_order(AT_MS + dice.randrange(20_000)),
            )
            assert await index.messages(question) == await twin.messages(question), cut
