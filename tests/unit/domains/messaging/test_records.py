"""What is in the journal can be read for ever."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some
from msgspec import structs

from tchatd.domains.messaging.content import (
    BUTTON_ROWS_MAX,
    BUTTONS_A_ROW_MAX,
    BUTTONS_BYTES_MAX,
    CONTENT_TYPES,
    POLL_OPTIONS_MAX,
    Button,
    Buttons,
    Forward,
    TextContent,
)
from tchatd.domains.messaging.errors import InvalidContent
from tchatd.domains.messaging.models import MENTIONS_MAX
from tchatd.domains.messaging.records import (
    AddRecord,
    BanRecord,
    DeleteRecord,
    DeliverRecord,
    DialogRecord,
    DropRecord,
    EditRecord,
    MessageRecord,
    OwnRecord,
    PinRecord,
    ProfileRecord,
    ReactRecord,
    ReadRecord,
    Record,
    RemoveRecord,
    RestrictRecord,
    RoleRecord,
    VoteRecord,
    decode,
    encode,
)
from tchatd.domains.messaging.rules import check_buttons, content_of

DEFAULTS = Path(__file__).parents[4] / "tchatd.toml"
ID = bytes(range(16))
BY = (7, 5, 1, ID)
"""Dialog, time and actor of a record."""
GOLDEN: list[tuple[Record, str]] = [
    (
        DialogRecord(ID, 5, "group", 1, ID, b"members", b"", "Lunch"),
        "9a01c410000102030405060708090a0b0c0d0e0f05a567726f757001c4100001020304050607"
        "08090a0b0c0d0e0fc4076d656d62657273c400a54c756e6368c0",
    ),
    (
        MessageRecord(7, 5, 1, ID, "text", {"text": "x"}, ID, "r", ("m",), (2,)),
        "9b02070501c410000102030405060708090a0b0c0d0e0fa47465787481a474657874a178c410"
        "000102030405060708090a0b0c0d0e0fa17291a16d9102",
    ),
    (
        ReadRecord(7, 5, 1, ID, 9, 4, "m"),
        "9803070501c410000102030405060708090a0b0c0d0e0f0904a16d",
    ),
    (
        DialogRecord(ID, 5, "group", 1, ID, b"m", b"", None, None, b"settings"),
        "9b01c410000102030405060708090a0b0c0d0e0f05a567726f757001c410000102030405"
        "060708090a0b0c0d0e0fc4016dc400c0c0c40873657474696e6773",
    ),
    (
        MessageRecord(
            *(7, 5, 1, ID, "poll", {"question": "?", "options": ["a", "b"]}),
            *(None, None, (), (), 3),
            {"sender_id": "s", "sent_at": "at"},
            [[{"text": "ok", "data": "1"}]],
        ),
        "9e02070501c410000102030405060708090a0b0c0d0e0fa4706f6c6c82a8717565737469"
        "6f6ea13fa76f7074696f6e7392a161a162c0c090900382a973656e6465725f6964a173a7"
        "73656e745f6174a26174919182a474657874a26f6ba464617461a131",
    ),
    (
        EditRecord(*BY, 9, {"text": "y"}),
        "9b04070501c410000102030405060708090a0b0c0d0e0f0981a474657874a179909090c0",
    ),
    (
        EditRecord(
            *BY, 9, {"text": "y"}, ("m",), (2,), (3,), [[{"text": "ok", "data": "1"}]]
        ),
        "9b04070501c410000102030405060708090a0b0c0d0e0f0981a474657874a17991a16d91"
        "029103919182a474657874a26f6ba464617461a131",
    ),
    (
        DeleteRecord(*BY, 9),
        "9805070501c410000102030405060708090a0b0c0d0e0f0900c0",
    ),
    (
        DeleteRecord(7, 5, 0, bytes(16), 9, 4, "spam"),
        "9805070500c410000000000000000000000000000000000904a47370616d",
    ),
    (
        ReactRecord(*BY, 9, "👍", True),
        "9806070501c410000102030405060708090a0b0c0d0e0f09a4f09f918dc3",
    ),
    (
        PinRecord(*BY, 9, False),
        "9707070501c410000102030405060708090a0b0c0d0e0f09c2",
    ),
    (
        VoteRecord(*BY, 9, (0, 2)),
        "9808070501c410000102030405060708090a0b0c0d0e0f09920002c2",
    ),
    (
        VoteRecord(*BY, 9, (), True),
        "9808070501c410000102030405060708090a0b0c0d0e0f0990c3",
    ),
    (
        AddRecord(*BY, b"added", ID, ID, 3),
        "9909070501c410000102030405060708090a0b0c0d0e0fc4056164646564c41000010203"
        "0405060708090a0b0c0d0e0fc410000102030405060708090a0b0c0d0e0f03",
    ),
    (
        RemoveRecord(*BY, 2, ID, "left", ID),
        "990a070501c410000102030405060708090a0b0c0d0e0f02c41000010203040506070809"
        "0a0b0c0d0e0fa46c656674c410000102030405060708090a0b0c0d0e0f",
    ),
    (
        RoleRecord(*BY, 2, ID, 1, True),
        "990b070501c410000102030405060708090a0b0c0d0e0f02c41000010203040506070809"
        "0a0b0c0d0e0f01c3",
    ),
    (
        ProfileRecord(*BY, "Lunch", None, b"settings"),
        "980c070501c410000102030405060708090a0b0c0d0e0fa54c756e6368c0c40873657474"
        "696e6773",
    ),
    (
        DropRecord(*BY),
        "950d070501c410000102030405060708090a0b0c0d0e0f",
    ),
    (
        OwnRecord(*BY, b"extra", 9, 4),
        "980e070501c410000102030405060708090a0b0c0d0e0fc40565787472610904",
    ),
    (
        OwnRecord(*BY, None),
        "980e070501c410000102030405060708090a0b0c0d0e0fc00000",
    ),
    (
        DeliverRecord(*BY, 9),
        "960f070501c410000102030405060708090a0b0c0d0e0f09",
    ),
    (
        RestrictRecord(*BY, 2, ID, 6),
        "9810070501c410000102030405060708090a0b0c0d0e0f02c41000010203040506070809"
        "0a0b0c0d0e0f06",
    ),
    (
        BanRecord(*BY, b"banned"),
        "9611070501c410000102030405060708090a0b0c0d0e0fc40662616e6e6564",
    ),
]
ids = some.binary(min_size=16, max_size=16)
numbers = some.integers(1, (1 << 43) - 1)
times = some.integers(0, (1 << 48) - 1)
words = some.text(some.characters(exclude_categories=["Cs"]), max_size=20)
contents = some.dictionaries(words, words | some.integers(-(1 << 63), (1 << 63) - 1))
records = some.one_of(
    some.builds(
        DialogRecord,
        *(ids, times, words, numbers, ids, some.binary(), some.binary()),
        *(some.none() | words, some.none() | words),
    ),
    some.builds(
        MessageRecord,
        *(numbers, times, numbers, ids, words, contents, some.none() | ids),
        *(some.none() | words, some.lists(words).map(tuple)),
        some.lists(numbers).map(tuple),
    ),
    some.builds(ReadRecord, numbers, times, numbers, ids, numbers, numbers, words),
    some.builds(
        EditRecord,
        *(numbers, times, numbers, ids, numbers, contents),
        some.lists(words).map(tuple),
        *[some.lists(numbers).map(tuple)] * 2,
        some.none() | some.lists(contents),
    ),
    some.builds(
        DeleteRecord,
        *(numbers, times, numbers, ids, numbers, numbers),
        some.none() | words,
    ),
    some.builds(
        VoteRecord,
        *(numbers, times, numbers, ids, numbers),
        some.lists(numbers).map(tuple),
        some.booleans(),
    ),
    some.builds(
        AddRecord,
        numbers,
        times,
        numbers,
        ids,
        *[some.binary()] * 3,
        some.integers(0, 3),
    ),
    some.builds(
        OwnRecord,
        *(numbers, times, numbers, ids, some.none() | some.binary(), numbers, numbers),
    ),
)


@given(records)
def test_a_record_comes_back_as_it_was(record: Record) -> None:
    assert decode(encode(record)) == record


@pytest.mark.parametrize("tag", [-1, 0, 18, 99, "2", None, 2.0])
@pytest.mark.parametrize(("record", "written"), GOLDEN)
def test_a_record_of_an_unknown_version_is_refused(
    record: Record, written: str, tag: Any
) -> None:
    fields = msgspec.msgpack.decode(bytes.fromhex(written))
    assert decode(msgspec.msgpack.encode(fields)) == record
    with pytest.raises(msgspec.DecodeError):
        decode(msgspec.msgpack.encode([tag, *fields[1:]]))


@pytest.mark.parametrize(("record", "written"), GOLDEN)
def test_a_record_cut_short_anywhere_is_refused(record: Record, written: str) -> None:
    payload = bytes.fromhex(written)
    for size in range(len(payload)):
        with pytest.raises(msgspec.DecodeError):
            decode(payload[:size])


@pytest.mark.parametrize(("record", "written"), GOLDEN)
def test_the_format_is_as_it_was_first_written(record: Record, written: str) -> None:
    """Later fields come behind, so that what was written then is read for ever."""
    assert decode(bytes.fromhex(written)) == record
    first = msgspec.msgpack.decode(bytes.fromhex(written))
    assert msgspec.msgpack.decode(encode(record))[: len(first)] == first


def test_a_record_without_later_fields_is_read_with_their_defaults() -> None:
    short = msgspec.msgpack.encode([2, 7, 5, 1, ID, "text", {"text": "x"}])
    assert decode(short) == MessageRecord(7, 5, 1, ID, "text", {"text": "x"})


def test_fields_of_a_later_version_are_passed_over() -> None:
    longer = msgspec.msgpack.encode([3, 7, 5, 1, ID, 9, 4, "m", "new"])
    assert decode(longer) == ReadRecord(7, 5, 1, ID, 9, 4, "m")


def test_content_is_the_same_live_and_replayed() -> None:
    live = MessageRecord(7, 5, 1, ID, "text", TextContent("x"))
    assert encode(decode(encode(live))) == encode(live)


@pytest.mark.parametrize("payload", [b"", b"\x91\x63", b"\x81\x01\x02", b"\xff"])
def test_what_is_no_record_is_refused(payload: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode(payload)


def test_every_record_has_a_tag_and_bytes_that_were_written_first() -> None:
    tags = {record: record.__struct_config__.tag for record in get_args(Record)}
    assert sorted(tags.values()) == list(range(1, 18))
    assert {type(record) for record, _ in GOLDEN} == set(tags)


@pytest.mark.parametrize("record", [record for record, _ in GOLDEN])
def test_a_record_is_read_without_its_later_fields_and_with_later_ones(
    record: Record,
) -> None:
    fields = msgspec.msgpack.decode(encode(record))
    assert decode(msgspec.msgpack.encode([*fields, "new", {}])) == record
    config = structs.fields(type(record))
    least = 1 + sum(field.required for field in config)
    for size in range(1, len(fields)):
        payload = msgspec.msgpack.encode(fields[:size])
        if size < least:
            with pytest.raises(msgspec.DecodeError):
                decode(payload)
        else:
            short = decode(payload)
            for field in config[size - 1 :]:
                assert getattr(short, field.name) == field.default


# How large they can be

LONG: dict[str, Any] = {
    "text": {"text": "😀" * 4_096},
    "image": {
        "file_url": "https://" + "😀" * 2_040,
        "thumbnail_url": "https://" + "😀" * 2_040,
        "width": 100_000,
        "height": 100_000,
        "caption": "😀" * 1_024,
    },
    "video": {
        "file_url": "https://" + "😀" * 2_040,
        "thumbnail_url": "https://" + "😀" * 2_040,
        "duration_ms": 86_400_000,
        "width": 100_000,
        "height": 100_000,
        "caption": "😀" * 1_024,
    },
    "voice": {
        "file_url": "https://" + "😀" * 2_040,
        "duration_ms": 300_000,
        "waveform": [255] * 512,
    },
    "file": {
        "file_url": "https://" + "😀" * 2_040,
        "name": "😀" * 255,
        "size_bytes": 1 << 42,
        "mime_type": "a/b;" + " " * 123,
    },
    "location": {"latitude": 1.1, "longitude": 2.2, "title": "😀" * 255},
    "poll": {
        "question": "😀" * 300,
        "options": [chr(0x1F600 + n) * 100 for n in range(POLL_OPTIONS_MAX)],
    },
}


def largest_buttons() -> Buttons:
    """As many bytes as are let by."""
    rows: list[tuple[Button, ...]] = []
    for length in range(2_000, 0, -1):
        row = (Button("😀" * 64, url="https://" + "x" * length),) * BUTTONS_A_ROW_MAX
        try:
            check_buttons((*rows, row))
        except InvalidContent:
            continue
        rows.append(row)
        if len(rows) == BUTTON_ROWS_MAX:
            break
    return tuple(rows)


@pytest.mark.parametrize("type", CONTENT_TYPES)
def test_the_largest_message_fits_the_journal_as_it_is_delivered(type: str) -> None:
    content, buttons = content_of(type, LONG[type]), largest_buttons()
    assert len(msgspec.json.encode(buttons)) > BUTTONS_BYTES_MAX - 2_000
    big, people = 1 << 62, tuple(str(UUID(int=n)) for n in range(MENTIONS_MAX))
    numbers = tuple(big + n for n in range(MENTIONS_MAX))
    forward = Forward(people[0], "2026-01-01T00:00:00.000Z", people[0], people[0])
    message = MessageRecord(
        big,
        big,
        big,
        ID,
        type,
        content,
        ID,
        people[0],
        people,
        numbers,
        1 << 31,
        forward,
        buttons,
    )
    edit = EditRecord(
        big, big, big, ID, 1 << 31, content, people, numbers, numbers, buttons
    )
    limit = tomllib.loads(DEFAULTS.read_text())["journal"]
    for record in (message, edit):
        assert len(encode(record)) < 65_536 < limit["record_bytes_max"]
