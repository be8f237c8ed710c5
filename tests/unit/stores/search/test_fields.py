"""What tantivy raises is told in our words, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tchatd.domains.search.errors import IndexBroken, IndexStuck
from tchatd.stores.search.fields import TYPES, reading, writing


def raising(error: BaseException) -> Callable[[], None]:
    def run() -> None:
        raise error

    return run


PanicException = type("PanicException", (BaseException,), {})
"""What Rust's panics are in Python; its own class cannot be imported."""


@pytest.mark.parametrize(
    "error", [ValueError("no"), OSError("no"), RuntimeError("no"), PanicException("no")]
)
def test_trouble_is_stuck_or_broken(error: BaseException) -> None:
    with pytest.raises(IndexStuck, match="no"):
        writing(raising(error))
    with pytest.raises(IndexBroken, match="no"):
        reading(raising(error))


@pytest.mark.parametrize("error", [KeyError("bug"), KeyboardInterrupt()])
def test_all_else_is_ours(error: BaseException) -> None:
    for run in (writing, reading):
        with pytest.raises(type(error)):
            run(raising(error))


def test_types_keep_their_numbers() -> None:
    """An index on a disk has them."""
    assert (
        *("text", "voice", "file", "image", "video", "payment", "location", "poll"),
        "system",
    ) == TYPES
