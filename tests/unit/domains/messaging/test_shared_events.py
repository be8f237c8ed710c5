"""What many ask for is made once, and never shown when it is not so any more."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import structs

from tchatd.domains.messaging.rows import event_of
from tchatd.domains.messaging.shared_events import (
    NOTHING,
    Events,
    Kept,
    SharedEvents,
)
from tchatd.domains.messaging.store import (
    MESSAGE_EDITED,
    MESSAGE_NEW,
    MESSAGE_READ,
    EventRow,
)
from tchatd.kernel.encoding import encode_json, encode_msgpack
from tests.support.messaging import user_id

DIALOG = str(user_id(9))
AT_MS = 1_800_000_000_000


def message(seq: int = 2, words: str = "x", **fields: Any) -> EventRow:
    body = f'{{"type":"text","content":{{"text":"{words}"}}}}'
    row = EventRow(7, seq, MESSAGE_NEW, 5, AT_MS, 1, 1, user_id(1).bytes, body)
    return structs.replace(row, **fields)


def kept(shared: SharedEvents, number: int = 7, first: int = 1, last: int = 4) -> Kept:
    rows = [message(seq) for seq in range(first, last + 1)]
    return shared.keep(number, first - 1, last, rows, [])


def test_what_is_asked_for_again_is_made_once() -> None:
    shared = SharedEvents()
    made = kept(shared).told(DIALOG, (), 0)
    assert list(made.events) == [event_of(message(s), DIALOG) for s in (1, 2, 3, 4)]
    again = shared.find(7, 0, 4)
    assert again is not None
    assert again.told(DIALOG, (), 0) is made


def test_a_part_of_what_is_kept_is_found() -> None:
    shared = SharedEvents()
    kept(shared, first=3, last=8)
    for floor, last in ((2, 8), (2, 3), (5, 8), (4, 6)):
        found = shared.find(7, floor, last)
        assert found is not None
        cut = found.told(DIALOG, (), 0).cut(floor, last)
        assert list(cut.seqs) == list(range(floor + 1, last + 1))
        assert [seq for seq, _, _ in cut] == list(cut.seqs)
        assert [event.seq for _, event, _ in cut] == list(cut.seqs)
        sizes = [size for _, _, size in cut]
        assert min(sizes) > 256
        assert sum(sizes) == cut.size
    for floor, last in ((1, 8), (2, 9), (0, 2), (8, 9)):
        assert shared.find(7, floor, last) is None
    assert shared.find(8, 2, 8) is None


def test_a_page_is_the_same_in_bytes_however_it_was_put_together() -> None:
    """Of whole stretches, parts of them, and single events; and it is as a list."""
    told = kept(SharedEvents(), last=20).told(DIALOG, (), 0)
    for cuts in ([(0, 20)], [(0, 3), (7, 20)], [(4, 4), (19, 20)], [(0, 20)] * 4, []):
        page = Events()
        plain: list[Any] = []
        for floor, last in cuts:
            page.share(told.cut(floor, last))
            page.append(told.events[0])
            plain += [*told.events[floor:last], told.events[0]]
        assert encode_json(page) == msgspec.json.encode(plain)
        assert encode_msgpack({"events": page}) == msgspec.msgpack.encode(
            {"events": plain}
        )
        assert page == plain
        assert list(page) == plain
        assert len(page) == len(plain)
        assert page[:2] == plain[:2]


def test_it_is_known_whether_members_are_named() -> None:
    read = message(3, kind=MESSAGE_READ, body='{"read_seq":2,"message_id":"m"}')
    shared = SharedEvents()
    told = shared.keep(7, 1, 3, [message(2), read], []).told(DIALOG, (), 0)
    assert told.names_members
    assert not kept(shared).told(DIALOG, (), 0).names_members


def test_seqs_that_are_not_there_are_no_matter() -> None:
    shared = SharedEvents()
    rows = [message(seq) for seq in (3, 5, 9)]
    told = shared.keep(7, 1, 10, rows, []).told(DIALOG, (), 0)
    assert list(told.cut(1, 10).seqs) == [3, 5, 9]
    assert list(told.cut(3, 8).seqs) == [5]
    assert list(told.cut(5, 8).seqs) == []
    assert told.cut(5, 8).size == 0


def test_nothing_is_nothing() -> None:
    assert list(NOTHING) == []
    assert NOTHING.size == 0
    assert list(NOTHING.cut(0, 9).events) == []


def test_what_is_forgotten_or_replaced_is_not_found() -> None:
    shared = SharedEvents()
    kept(shared)
    rows = [message(1, "y")]
    shared.keep(7, 0, 1, rows, [])
    assert shared.find(7, 0, 4) is None
    found = shared.find(7, 0, 1)
    assert found is not None
    assert found.told(DIALOG, (), 0).events == [event_of(rows[0], DIALOG)]
    shared.forget([7, 8])
    assert shared.find(7, 0, 1) is None


def test_a_pin_is_not_forgotten() -> None:
    held = kept(SharedEvents())
    first: Any = held.told(DIALOG, (), 0).events[0]
    pinned: Any = held.told(DIALOG, (first.message.id,), 0).events[0]
    assert pinned.message.is_pinned
    again: Any = held.told(DIALOG, (), 0).events[0]
    assert not again.message.is_pinned


def test_what_depends_on_the_time_is_made_each_time() -> None:
    vanishing = message(expires_ms=AT_MS + 10)
    held = SharedEvents().keep(7, 1, 2, [vanishing], [])
    for now_ms, content in ((AT_MS, True), (AT_MS + 10, False)):
        event: Any = held.told(DIALOG, (), now_ms).events[0]
        assert bool(event.message.content) == content


def test_an_edit_is_told_with_what_the_message_says_now() -> None:
    edit = message(kind=MESSAGE_EDITED, seq=3, body='{"message_seq":1}')
    about = message(1, "new")
    held = SharedEvents().keep(7, 2, 3, [edit], [about])
    event: Any = held.told(DIALOG, (), 0).events[0]
    assert event.message.content == {"text": "new"}
    held = SharedEvents().keep(
        7, 2, 3, [edit], [structs.replace(about, expires_ms=AT_MS + 10)]
    )
    assert not held.is_fixed


def test_only_so_many_are_kept() -> None:
    shared = SharedEvents(events_max=10)
    kept(shared, 1)
    kept(shared, 2)
    assert shared.find(1, 0, 4) is not None
    kept(shared, 3)
    assert shared.find(1, 0, 4) is None
    assert shared.find(2, 0, 4) is None
    assert shared.find(3, 0, 4) is not None
    kept(shared, 3)  # in its own place
    kept(shared, 4)
    assert shared.find(3, 0, 4) is not None
