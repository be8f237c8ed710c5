"""Search finds what the caller may see, as it is now, in the order people look for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
import trio

from tchatd.domains.messaging.errors import DialogNotFound
from tchatd.domains.messaging.message_commands import DeleteMessage, EditMessage
from tchatd.domains.messaging.models import CreateDialog, SendMessage
from tchatd.domains.search.models import SearchDialogs, SearchMessages, SearchPeople
from tchatd.domains.search.service import (
    FEW_HITS,
    ROUND_HITS_MIN,
    ROUNDS_MAX,
    TURN_WORK,
    WORK_MAX,
)
from tchatd.domains.search.store import PersonDoc
from tchatd.kernel.errors import Invalid
from tests.support.messaging import Core, group_of, text, user_id, with_user
from tests.support.searching import Searching, feeding


@pytest.fixture
async def here(autojump_clock: trio.testing.MockClock) -> AsyncIterator[Searching]:
    async with feeding(Searching(Core())) as searching:
        yield searching


async def say(here: Searching, user: int, dialog: Any, words: str) -> Any:
    here.core.clock.advance(1_000)
    return await here.core.do(user, text(dialog.id, words))


async def test_what_was_said_is_found_by_who_is_there(here: Searching) -> None:
    dialog = await here.core.do(1, with_user(2))
    message = await say(here, 1, dialog, "พรุ่งนี้กินข้าวกันไหม")
    assert await here.found(2, "กินข้าว") == []
    await here.settled()
    assert await here.found(2, "กินข้าว") == [message.id]
    assert await here.found(1, "กินข้าว") == [message.id]
    assert await here.found(3, "กินข้าว") == []
    [hit] = (await here.ask(2, SearchMessages(q="กินข้าว"))).hits
    assert hit.message == message
    assert hit.dialog_id == dialog.id
    [highlight] = hit.highlights
    assert (highlight.field, highlight.ranges) == ("text", ((8, 15),))


async def paged(here: Searching, q: str, limit: int) -> list[list[str]]:
    """Ids on each page, as the second user finds them."""
    pages: list[list[str]] = []
    cursor: dict[str, Any] = {}
    while True:
        page = await here.ask(2, SearchMessages(q=q, limit=limit, **cursor))
        pages.append([hit.message.id for hit in page.hits])
        if not isinstance(page.next_cursor, str):
            return pages
        cursor = {"cursor": page.next_cursor}


async def test_the_latest_come_first_and_pages_follow_each_other(
    here: Searching,
) -> None:
    one, other = (
        await here.core.do(1, with_user(2)),
        await here.core.do(1, with_user(3)),
    )
    ids = []
    for n in range(60):
        dialog = one if n % 3 else other
        ids.append((await say(here, 1, dialog, f"invoice {n}")).id)
    await here.settled()
    pages: list[str] = []
    cursor: dict[str, Any] = {}
    for _ in range(20):
        page = await here.ask(1, SearchMessages(q="invoice", limit=7, **cursor))
        pages += [hit.message.id for hit in page.hits]
        if not isinstance(page.next_cursor, str):
            break
        cursor = {"cursor": page.next_cursor}
    assert pages == ids[::-1]


async def test_a_deleted_message_is_gone_at_once_and_an_edited_one_is_another(
    here: Searching,
) -> None:
    dialog = await here.core.do(1, with_user(2))
    gone = await say(here, 1, dialog, "makan siang")
    edited = await say(here, 1, dialog, "makan malam")
    await here.settled()
    await here.core.do(1, DeleteMessage(message_id=UUID(gone.id)))
    assert await here.found(2, "makan") == [edited.id]
    await here.core.do(
        1, EditMessage(message_id=UUID(edited.id), content={"text": "sarapan pagi"})
    )
    assert await here.found(2, "makan") == []
    assert await here.found(2, "sarapan") == []
    await here.settled()
    assert await here.found(2, "sarapan") == [edited.id]
    assert await here.found(2, "makan") == []


async def test_deleted_for_oneself_it_is_found_by_others(here: Searching) -> None:
    dialog = await here.core.do(1, with_user(2))
    message = await say(here, 1, dialog, "hello there")
    await here.settled()
    await here.core.do(2, DeleteMessage(message_id=UUID(message.id), for_="me"))
    assert await here.found(2, "hello") == []
    assert await here.found(1, "hello") == [message.id]
    await here.settled()
    assert await here.found(2, "hello") == []


async def test_where_when_who_and_what(here: Searching) -> None:
    one, other = (
        await here.core.do(1, with_user(2)),
        await here.core.do(1, with_user(3)),
    )
    first = await say(here, 1, one, "hello")
    second = await say(here, 2, one, "hello")
    third = await say(here, 3, other, "hello")
    at = datetime.fromisoformat(second.created_at)
    picture = SendMessage(
        dialog_id=other.id,
        type="image",
        content={
            "file_url": "https://f.example/a",
            "width": 1,
            "height": 1,
            "caption": "hello",
        },
    )
    here.core.clock.advance(1_000)
    fourth = await here.core.do(3, picture)
    await here.settled()

    async def found(**more: Any) -> list[str]:
        return await here.found(1, "hello", **more)

    assert await found() == [fourth.id, third.id, second.id, first.id]
    assert await found(dialog_id=UUID(one.id)) == [second.id, first.id]
    assert await found(sender_id=user_id(3)) == [fourth.id, third.id]
    assert await found(type="image") == [fourth.id]
    assert await found(since=at) == [fourth.id, third.id, second.id]
    assert await found(until=at) == [first.id]
    assert await found(since=at, until=at) == []
    assert await found(sender_id=UUID(int=5)) == []
    long_ago = datetime(1970, 1, 1, tzinfo=UTC)
    assert await found(since=long_ago, type="text") == [
        third.id,
        second.id,
        first.id,
    ]
    with pytest.raises(DialogNotFound):
        await here.found(2, "hello", dialog_id=UUID(other.id))


async def test_slips_are_forgiven_after_all_that_is_right(here: Searching) -> None:
    dialog = await here.core.do(1, with_user(2))
    right = await say(here, 1, dialog, "the restaurant is open")
    wrong = await say(here, 1, dialog, "the restaurent is closed")
    await here.settled()
    assert await here.found(2, "restaurant") == [right.id, wrong.id]
    assert await here.found(2, "restaurent") == [wrong.id, right.id]
    assert await here.found(2, "restarant") == [wrong.id, right.id]
    assert await paged(here, "restaurant", 1) == [[right.id], [wrong.id]]


@pytest.mark.parametrize(("count", "forgiven"), [(7, True), (9, True), (10, False)])
@pytest.mark.parametrize("limit", [1, 3, 5, 7, 20])
async def test_what_is_right_is_counted_over_all_pages(
    here: Searching, count: int, limit: int, *, forgiven: bool
) -> None:
    dialog = await here.core.do(1, with_user(2))
    wrong = [(await say(here, 1, dialog, "restaurent")).id for _ in range(4)]
    right = [(await say(here, 1, dialog, "restaurant")).id for _ in range(count)]
    await here.settled()
    all = right[::-1] + (wrong[::-1] if forgiven else [])
    pages = await paged(here, "restaurant", limit)
    assert pages == [all[at : at + limit] for at in range(0, len(all), limit)]


async def test_with_enough_that_is_right_slips_are_not_forgiven(
    here: Searching,
) -> None:
    dialog = await here.core.do(1, with_user(2))
    await say(here, 1, dialog, "restaurent")
    right = [(await say(here, 1, dialog, "restaurant")).id for _ in range(FEW_HITS)]
    await here.settled()
    assert await here.found(2, "restaurant") == right[::-1]


async def test_marks_that_are_typed_are_looked_for_first(here: Searching) -> None:
    dialog = await here.core.do(1, with_user(2))
    marked = await say(here, 1, dialog, "mua bánh mì")
    bare = await say(here, 1, dialog, "mua banh mi")
    await here.settled()
    assert await here.found(2, "bánh mì") == [marked.id, bare.id]
    assert await here.found(2, "banh mi") == [bare.id, marked.id]


async def test_what_the_index_proposes_wrongly_is_skipped_and_the_rest_found(
    here: Searching,
) -> None:
    dialog = await here.core.do(1, with_user(2))
    right = await say(here, 1, dialog, "明天吃火锅")
    for _ in range(2 * ROUND_HITS_MIN):
        await say(here, 1, dialog, "吃明天，火吃")  # its pairs, but not in a row
    await here.settled()
    assert await here.found(2, "天吃火") == [right.id]


async def test_a_page_may_be_short_and_the_next_one_goes_on(here: Searching) -> None:
    dialog = await here.core.do(1, with_user(2))
    kept = await say(here, 1, dialog, "hello")
    later = [
        await say(here, 1, dialog, "hello")
        for _ in range(ROUND_HITS_MIN * ROUNDS_MAX + 1)
    ]
    await here.settled()
    for message in later:
        await here.core.do(1, DeleteMessage(message_id=UUID(message.id)))
    page = await here.ask(2, SearchMessages(q="hello", limit=1))
    assert page.hits == []
    page = await here.ask(2, SearchMessages(q="hello", cursor=page.next_cursor))
    assert [hit.message.id for hit in page.hits] == [kept.id]


async def test_who_searches_long_texts_gives_turns_and_has_the_rest_on_a_next_page(
    here: Searching,
) -> None:
    dialog = await here.core.do(1, with_user(2))
    word = "abcdefgh"
    said = [f"invoice {n} " + f"{word} " * 400 for n in range(80)]
    ids = [(await say(here, 1, dialog, one)).id for one in said]
    await here.settled()
    before = here.turns
    page = await here.ask(1, SearchMessages(q="invoice", limit=50))
    letters = sum(map(len, said[-len(page.hits) :]))
    assert 0 < len(page.hits) < 50
    assert letters <= 1.1 * WORK_MAX
    assert here.turns - before >= letters // (2 * TURN_WORK)
    found = [hit.message.id for hit in page.hits]
    while isinstance(page.next_cursor, str):
        page = await here.ask(
            1, SearchMessages(q="invoice", limit=50, cursor=page.next_cursor)
        )
        found += [hit.message.id for hit in page.hits]
    assert found == ids[::-1]


@pytest.mark.parametrize(
    "cursor", ["x", "e", "e5", "e-1.0", "e99999999999999999999.0", "m5.0"]
)
async def test_a_cursor_of_somebody_else_is_refused(
    here: Searching, cursor: str
) -> None:
    await here.settled()
    with pytest.raises(Invalid):
        await here.found(1, "hello", cursor=cursor)


async def test_nothing_to_look_for(here: Searching) -> None:
    await here.core.do(1, with_user(2))
    await here.settled()
    assert await here.found(1, "...") == []
    assert (await here.ask(1, SearchDialogs(q="..."))).dialogs == []
    assert (await here.ask(1, SearchPeople(q="..."))).people == []


async def test_own_dialogs_by_name_and_by_the_other_one(here: Searching) -> None:
    mine = await here.core.do(1, group_of([2, 3], "Trip to Bali"))
    await here.core.do(4, group_of([5], "Trip to Rome"))
    pair = await here.core.do(1, with_user(6))
    here.source.persons += [PersonDoc(6, "Tripti Rao", 5), PersonDoc(7, "Tripti", 5)]
    await here.settled()
    await trio.sleep(2)
    hits = await here.ask(1, SearchDialogs(q="trip"))
    assert [dialog.id for dialog in hits.dialogs] == [mine.id, pair.id]
    assert hits.channels == []
    hits = await here.ask(2, SearchDialogs(q="bal tri"))
    assert [dialog.id for dialog in hits.dialogs] == [mine.id]
    assert (await here.ask(6, SearchDialogs(q="bali"))).dialogs == []


async def test_people_by_name_whom_one_knows_first(here: Searching) -> None:
    here.source.persons += [
        PersonDoc(number, f"Somchai {number}", 5) for number in range(1, 8)
    ]
    here.people.profiles = {n: f"person {n}" for n in (1, 2, 3, 4, 5, 7)}
    here.people.contacts = {1: [3]}
    await here.core.do(1, with_user(2))
    await here.settled()
    await trio.sleep(2)
    hits = await here.ask(1, SearchPeople(q="som"))
    assert hits.people == [f"person {n}" for n in (3, 2, 7, 5, 4)]
    assert (await here.ask(1, SearchPeople(q="som", limit=2))).people == [
        "person 3",
        "person 2",
    ]
    assert (await here.ask(1, SearchPeople(q="samchai"))).people[0] == "person 3"


@pytest.mark.parametrize("q", ["+66812345678", "a@b.example", " a@b.example "])
async def test_people_by_a_whole_phone_or_email(here: Searching, q: str) -> None:
    here.people.identifiers = {"+66812345678": 5, "a@b.example": 5}
    await here.settled()
    assert (await here.ask(1, SearchPeople(q=q))).people == ["person 5"]
    assert (await here.ask(1, SearchPeople(q="+66812345679"))).people == []


async def test_a_poll_is_found_by_its_question_and_options(here: Searching) -> None:
    dialog = await here.core.do(1, with_user(2))
    poll = SendMessage(
        dialog_id=dialog.id,
        type="poll",
        content={"question": "Where to?", "options": ["Chiang Mai", "Hội An"]},
    )
    message = await here.core.do(1, poll)
    await here.settled()
    for q in ("where", "chiang", "hoi an"):
        assert await here.found(2, q) == [message.id], q
    [hit] = (await here.ask(2, SearchMessages(q="hoi an"))).hits
    assert [highlight.field for highlight in hit.highlights] == ["options/1"]


async def test_a_public_channel_is_found_by_who_is_not_in_it(here: Searching) -> None:
    command = CreateDialog(type="channel", name="Daily News", participants=[user_id(2)])
    await here.core.do(1, command)
    await here.settled()
    assert (await here.ask(3, SearchDialogs(q="news"))).channels == []


async def test_any_time_that_can_be_written_can_be_searched_by(
    here: Searching,
) -> None:
    dialog = await here.core.do(1, with_user(2))
    message = await say(here, 1, dialog, "invoice")
    await here.settled()
    first = datetime.fromisoformat("0001-01-01T00:00:00+12:00")
    last = datetime.fromisoformat("9999-12-31T23:59:59-12:00")
    page = await here.ask(1, SearchMessages(q="invoice", since=first, until=last))
    assert [hit.message.id for hit in page.hits] == [message.id]
    page = await here.ask(1, SearchMessages(q="invoice", since=last, until=first))
    assert page.hits == []
