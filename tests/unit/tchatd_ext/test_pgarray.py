"""One suite for the arrays in C and their twin in Python."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchatd_ext import pgarray, pgarray_py

INTEGERS = {"int2s": 16, "int4s": 32, "int8s": 64}
VALUES: dict[str, st.SearchStrategy[list[Any]]] = {
    **{
        name: st.lists(st.integers(-(1 << bits - 1), (1 << bits - 1) - 1))
        for name, bits in INTEGERS.items()
    },
    "bools": st.lists(st.booleans()),
    "byteas": st.lists(st.none() | st.binary()),
    "texts": st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"]))),
    "uuids": st.lists(st.none() | st.binary(min_size=16, max_size=16)),
}


@pytest.mark.parametrize("way", [pgarray, pgarray_py])
def test_an_array_is_laid_out_as_postgresql_reads_it(way: Any) -> None:
    assert way.int4s([1, -2]) == bytes.fromhex(
        "00000001 00000000 00000017 00000002 00000001"
        " 00000004 00000001 00000004 fffffffe"
    )
    assert way.texts(["ก", None]) == bytes.fromhex(
        "00000001 00000001 00000019 00000002 00000001 00000003 e0b881 ffffffff"
    )
    assert way.byteas([]) == bytes.fromhex("00000000 00000000 00000011")


@pytest.mark.parametrize("name", VALUES)
@given(data=st.data())
def test_both_ways_agree(name: str, data: st.DataObject) -> None:
    values = data.draw(VALUES[name])
    assert getattr(pgarray, name)(values) == getattr(pgarray_py, name)(values)


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("way", [pgarray, pgarray_py])
def test_an_integer_that_does_not_fit_is_refused(way: Any, name: str) -> None:
    edge = 1 << INTEGERS[name] - 1
    for value in (edge, -edge - 1):
        with pytest.raises(OverflowError):
            getattr(way, name)([value])


@pytest.mark.parametrize("way", [pgarray, pgarray_py])
def test_what_is_no_uuid_and_no_text_is_refused(way: Any) -> None:
    with pytest.raises(ValueError, match="16"):
        way.uuids([bytes(15)])
    with pytest.raises(UnicodeEncodeError):
        way.texts(["\ud800"])


@pytest.mark.parametrize("name", ["texts", "byteas", "int8s", "int4s", "int2s"])
def test_values_of_another_type_are_refused(name: str) -> None:
    with pytest.raises(TypeError):
        getattr(pgarray, name)([object()])
