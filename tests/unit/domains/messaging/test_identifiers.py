"""Ids of messages are addresses; the id of a dialog of two is the same for both."""

from __future__ import annotations

from uuid import RFC_4122, UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as some

from tchatd.domains.messaging import identifiers as ids
from tchatd.kernel.ids import time_ms_of_v7

A, B = uuid4().bytes, uuid4().bytes
times = some.integers(0, (1 << 48) - 2)
numbers = some.integers(1, ids.DIALOG_NUMBER_MAX)
seqs = some.integers(1, (1 << 31) - 2)


@given(times, numbers, seqs)
def test_a_message_id_is_version_7_and_says_where_the_message_is(
    at_ms: int, number: int, seq: int
) -> None:
    id = UUID(ids.message_id(at_ms, number, seq))
    assert (id.version, id.variant) == (7, RFC_4122)
    assert time_ms_of_v7(id) == at_ms
    assert ids.message_address(id) == (number, seq)


@given(times, numbers, seqs)
def test_message_ids_of_a_dialog_rise_with_its_seq(
    at_ms: int, number: int, seq: int
) -> None:
    one = ids.message_id(at_ms, number, seq)
    assert one < ids.message_id(at_ms, number, seq + 1)
    assert one < ids.message_id(at_ms + 1, number, 1)


@given(some.integers(0, (1 << 128) - 1).map(lambda value: UUID(int=value)))
def test_an_address_is_read_only_from_an_id_that_could_be_made(id: UUID) -> None:
    seven = UUID(int=id.int & ~(0xF << 76 | 0b11 << 62) | 7 << 76 | 0b10 << 62)
    for one in (id, seven):
        address = ids.message_address(one)
        if address is not None:
            at_ms = time_ms_of_v7(one)
            assert at_ms is not None
            assert ids.message_id(at_ms, *address) == str(one)


@given(times, numbers, seqs, some.integers(0, 127))
def test_a_forged_bit_makes_another_message_or_none(
    at_ms: int, number: int, seq: int, bit: int
) -> None:
    true = UUID(ids.message_id(at_ms, number, seq))
    forged = UUID(int=true.int ^ 1 << bit)
    address = ids.message_address(forged)
    assert address is None or (time_ms_of_v7(forged), *address) != (at_ms, number, seq)
    if 76 <= bit < 80 or 62 <= bit < 64:
        assert address is None


@pytest.mark.parametrize(
    "id",
    [
        uuid4(),
        UUID(int=0),
        *(UUID(ids.message_id(5, *address)) for address in ((0, 0), (0, 9), (9, 0))),
    ],
)
def test_what_cannot_be_a_message_id_has_no_address(id: UUID) -> None:
    assert ids.message_address(id) is None


def test_a_dialog_of_two_has_one_id_whoever_asks() -> None:
    id = ids.user_dialog_id(A, B)
    assert id == ids.user_dialog_id(B, A)
    assert UUID(bytes=id).version == 8
    assert id not in (ids.user_dialog_id(A, A), ids.keyed_dialog_id(A, B))
    assert ids.keyed_dialog_id(A, B) != ids.keyed_dialog_id(B, A)


def test_ids_as_text() -> None:
    assert ids.uuid_text(A) == str(UUID(bytes=A))
    assert ids.uuid_bytes(str(UUID(bytes=A)).upper()) == A
    assert ids.uuid_bytes("x" * 36) is None
