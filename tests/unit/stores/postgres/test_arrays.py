"""Encoded arrays arrive in PostgreSQL as what they were."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from tchatd.stores.postgres.arrays import array
from tchatd.stores.postgres.pool import Pool

VALUES: dict[str, list[Any]] = {
    "bigint": [0, -1, 1 << 62, -(1 << 63)],
    "integer": [0, -1, (1 << 31) - 1],
    "smallint": [0, -1, 32_767],
    "boolean": [True, False],
    "bytea": [b"", b"\0\xff", None],
    "text": ["", "สวัสดี", None, "'\"\\,{}"],
    "uuid": [bytes(range(16)), None],
}


@pytest.mark.service
@pytest.mark.parametrize("type", VALUES)
@pytest.mark.parametrize("count", [0, 1, None])
async def test_an_array_arrives_as_it_was(
    pool: Pool, type: str, count: int | None
) -> None:
    values = VALUES[type][:count]
    rows = await pool.fetch(
        f"SELECT * FROM unnest(%(values)b::{type}[])", {"values": array(type, values)}
    )
    found = [row[0].bytes if isinstance(row[0], UUID) else row[0] for row in rows]
    assert found == values


def test_a_value_of_another_type_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(TypeError):
        array("bigint", ["1"])
    with pytest.raises(OverflowError):
        array("smallint", [40_000])
