"""Owns lists as parameters of large statements: encoded in C, by the SQL type's name.

    array("bigint", [1, 2]) for a placeholder `%(numbers)b::bigint[]`

A plain list is adapted by the driver, in Python, value by value: right for a few, too
slow for a batch (docs/adr/0012).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Dumper
from psycopg.pq import Format

from tchatd_ext import pgarray


class Array:
    """An encoded array; its type decides which oid it is sent with."""

    __slots__ = ("data",)
    oid: ClassVar[int]
    encode: ClassVar[Callable[[list[Any]], bytes]]

    def __init__(self, values: list[Any]) -> None:
        self.data = type(self).encode(values)


class _ArrayDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Array) -> Buffer:
        return obj.data


# The oids of the array types (src/include/catalog/pg_type.dat).
_ARRAYS: Final[dict[str, tuple[int, Callable[[list[Any]], bytes]]]] = {
    "bigint": (1016, pgarray.int8s),
    "integer": (1007, pgarray.int4s),
    "smallint": (1005, pgarray.int2s),
    "boolean": (1000, pgarray.bools),
    "bytea": (1001, pgarray.byteas),
    "text": (1009, pgarray.texts),
    "uuid": (2951, pgarray.uuids),
}


def _made(element: str, oid: int, encode: Callable[[list[Any]], bytes]) -> type[Array]:
    inside = {"__slots__": (), "oid": oid, "encode": staticmethod(encode)}
    made = type(f"Array_{element}", (Array,), inside)
    dumper = type(f"Dumper_{element}", (_ArrayDumper,), {"oid": oid})
    psycopg.adapters.register_dumper(made, dumper)
    return made


_TYPES: Final = {name: _made(name, *how) for name, how in _ARRAYS.items()}


def array(element: str, values: list[Any]) -> Array:
    """element: an SQL type's name; of uuid the values are 16 bytes each.

    Raises:
        OverflowError, TypeError, ValueError: a value is not of the type.
    """
    return _TYPES[element](values)
