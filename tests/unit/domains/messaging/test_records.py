"""What is in the journal can be read for ever."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from tchatd.domains.messaging.content import (
    TextContent,
)
from tchatd.domains.messaging.records import (
    DialogRecord,
    MessageRecord,
    ReadRecord,
    Record,
    decode,
    encode,
)

ID = bytes(range(16))
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
