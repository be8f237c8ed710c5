"""Owns what is said to a person about a value that msgspec did not take.

msgspec names what it got, not what it would have taken: so choices are listed here, and
of a pattern its `Meta` says in its description what must be there; it is not shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec
from msgspec import inspect

_PLACE: Final = re.compile(r"^(.*) - at `\$\.?([^`]*)`$", re.DOTALL)
_MISSING: Final = re.compile(r"^Object missing required field `([^`]+)`$")
_STEP: Final = re.compile(r"\[[^\]]*\]|[^.\[\]]+")
_TYPES_KEPT_MAX: Final = 1_000
WRONG_FORM: Final = "is not of the right form"


def located(error: msgspec.ValidationError, of_type: Any) -> tuple[str, str]:
    """(`content.text`, what is wrong there) of what did not become an `of_type`."""
    message = str(error)
    found = _PLACE.match(message)
    text, place = (found[1], found[2]) if found else (message, "")
    missing = _MISSING.match(text)
    if missing:
        return f"{place}.{missing[1]}" if place else missing[1], "is required"
    if text.startswith("Invalid enum value"):
        choices = list(dict.fromkeys(_choices(_at(of_type, place))))
        if choices:
            text = "must be one of " + ", ".join(choices)
    elif "matching regex" in text:
        form = next(_forms(_at(of_type, place)), "")
        text = f"must be {form}" if form else WRONG_FORM
    return place, text


@lru_cache(_TYPES_KEPT_MAX)
def _described(of_type: Any) -> inspect.Type:
    """Ten times what a request costs, and there are only as many as commands."""
    return inspect.type_info(of_type)


def _at(of_type: Any, place: str) -> list[inspect.Type]:
    """What may stand at a place, by the types on the way there."""
    found = [_described(of_type)]
    for step in _STEP.findall(place):
        found = [inner for info in _options(found) for inner in _inside(info, step)]
    return found


def _options(found: Sequence[inspect.Type]) -> Iterator[inspect.Type]:
    """Without unions and metadata around them."""
    for info in found:
        if isinstance(info, inspect.UnionType):
            yield from _options(info.types)
        elif isinstance(info, inspect.Metadata):
            yield from _options([info.type])
        else:
            yield info


def _inside(info: inspect.Type, step: str) -> Iterator[inspect.Type]:
    if not step.startswith("["):
        if isinstance(info, inspect.StructType):
            yield from (f.type for f in info.fields if f.encode_name == step)
    elif isinstance(info, inspect.DictType):
        yield info.value_type
    elif isinstance(info, inspect.CollectionType):
        yield info.item_type
    elif isinstance(info, inspect.TupleType):
        yield from info.item_types


def _choices(found: Sequence[inspect.Type]) -> Iterator[str]:
    """Without those that `not` takes out in the description of the type."""
    for info in found:
        if isinstance(info, inspect.UnionType):
            yield from _choices(info.types)
        elif isinstance(info, inspect.Metadata):
            refused = (info.extra_json_schema or {}).get("not", {}).get("enum", ())
            yield from (c for c in _choices([info.type]) if c not in refused)
        elif isinstance(info, inspect.LiteralType):
            yield from map(str, info.values)
        elif isinstance(info, inspect.EnumType):
            yield from (str(member.value) for member in info.cls)


def _forms(found: Sequence[inspect.Type]) -> Iterator[str]:
    """Of the strings with a pattern, what they must be."""
    for info in found:
        if isinstance(info, inspect.UnionType):
            yield from _forms(info.types)
        elif isinstance(info, inspect.Metadata) and isinstance(
            info.type, inspect.StrType
        ):
            said = (info.extra_json_schema or {}).get("description")
            if said:
                yield said
