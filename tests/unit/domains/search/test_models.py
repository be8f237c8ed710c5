"""What clients ask is held to its limits; `from` has its name on the wire."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tchatd.domains.search.models import (
    MessageHits,
    SearchDialogs,
    SearchMessages,
    SearchPeople,
)


def test_from_is_the_begin_of_the_range() -> None:
    asked = {"q": "x", "from": "2026-01-02T03:04:05Z", "until": "2026-02-01T00:00:00Z"}
    command = msgspec.convert(asked, SearchMessages, strict=False)
    assert command.since.isoformat() == "2026-01-02T03:04:05+00:00"  # type: ignore[union-attr]


@pytest.mark.parametrize("command", [SearchMessages, SearchDialogs, SearchPeople])
@pytest.mark.parametrize("wrong", [{"q": ""}, {"q": "x" * 201}, {}, {"limit": 51}])
def test_the_limits_of_every_question(command: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(
            wrong if "q" in wrong or not wrong else {"q": "x", **wrong}, command
        )


def test_an_answer_without_more_says_nothing_of_it() -> None:
    assert msgspec.json.encode(MessageHits([])) == b'{"hits":[]}'
