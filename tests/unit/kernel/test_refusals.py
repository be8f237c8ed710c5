"""What a person is told: the choices there are, and never a pattern."""

from __future__ import annotations

import enum
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import UNSET, Meta, UnsetType

from tchatd.kernel.refusals import located

Digits = Annotated[str, Meta(pattern="^[0-9]$", description="a digit")]


class Sort(enum.Enum):
    UP = "up"
    DOWN = "down"


class Inner(msgspec.Struct, rename={"kind": "type"}):
    kind: (
        Annotated[
            Literal["a", "b", "made"],
            Meta(extra_json_schema={"not": {"enum": ["made"]}}),
        ]
        | UnsetType
        | None
    ) = UNSET
    sorts: list[Sort] = []
    digits: dict[str, Digits | None] = {}
    other: Annotated[str, Meta(pattern="^x$", max_length=3)] = "x"


class Outer(msgspec.Struct):
    inner: Inner
    pair: tuple[int, Literal["c", 1]] | None = None


@pytest.mark.parametrize(
    ("value", "place", "says"),
    [
        ({"inner": {"type": "c"}}, "inner.type", "must be one of a, b"),
        ({"inner": {"sorts": ["up", "x"]}}, "inner.sorts[1]", "must be one of up, dow"),
        ({"inner": {"digits": {"x": "y"}}}, "inner.digits[...]", "must be a digit"),
        ({"inner": {"other": "y"}}, "inner.other", "is not of the right form"),
        ({"inner": {}, "pair": [1, "x"]}, "pair[1]", "must be one of 1, c"),
        ({"inner": {"other": "long"}}, "inner.other", "Expected `str` of length <= 3"),
        ({}, "inner", "is required"),
        ({"inner": 5}, "inner", "Expected `object`, got `int`"),
        (5, "", "Expected `object`, got `int`"),
    ],
)
def test_it_says_what_would_be_right(value: Any, place: str, says: str) -> None:
    with pytest.raises(msgspec.ValidationError) as raised:
        msgspec.convert(value, Outer)
    where, told = located(raised.value, Outer)
    assert where == place
    assert told.startswith(says)
