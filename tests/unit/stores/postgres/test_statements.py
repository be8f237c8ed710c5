"""A statement taken apart once is the one that was written."""

from __future__ import annotations

import pytest

from tchatd.stores.postgres.statements import Numbered


def test_each_name_gets_one_number_in_the_order_of_appearance() -> None:
    statement = Numbered("SELECT %(b)b::int[], %(a)s WHERE x = %(b)b")
    assert statement.text == "SELECT $1::int[], $2 WHERE x = $1"
    assert statement.names == ("b", "a")
    assert statement.values({"a": 1, "b": 2, "c": 3}) == (2, 1)


def test_a_missing_value_is_said() -> None:
    with pytest.raises(KeyError, match="a"):
        Numbered("SELECT %(a)s").values({})


def test_a_literal_percent_sign_is_not_mistaken() -> None:
    with pytest.raises(AssertionError):
        Numbered("SELECT 'a%' LIKE %(a)s")
