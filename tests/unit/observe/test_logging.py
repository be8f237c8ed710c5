"""Lines on stderr: their shape, and what never gets into them."""

from __future__ import annotations

import io
import json
import logging as stdlib_logging
import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchatd.observe import logging as tchatd_logging
from tchatd.observe.logging import configure, get_logger, level, luhn, masked, set_level

VISA = "4111111111111111"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    configure("info", "json", stream)
    yield stream
    configure()


def only(lines: io.StringIO) -> dict[str, Any]:
    (line,) = lines.getvalue().splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def test_a_line_is_one_json_object_with_its_fields_in_order(lines: io.StringIO) -> None:
    get_logger("journal", node=1).info("segment.opened", index=7)
    line = only(lines)
    assert list(line) == ["ts", "level", "logger", "event", "node", "index"]
    assert line["logger"] == "journal"
    assert line["event"] == "segment.opened"
    assert line["index"] == 7


def test_the_level_changes_for_loggers_that_exist(lines: io.StringIO) -> None:
    logger = get_logger("hub")
    logger.debug("unseen")
    set_level("debug")
    assert level() == "debug"
    logger.debug("seen")
    assert only(lines)["event"] == "seen"


def test_an_exception_is_written_with_its_traceback(lines: io.StringIO) -> None:
    try:
        raise ValueError("call +66812345678")
    except ValueError:
        get_logger("edge").exception("failed")
    line = only(lines)
    assert line["level"] == "error"
    assert "ValueError: call [phone]" in line["exception"]


def test_other_libraries_speak_through_the_same_lines(lines: io.StringIO) -> None:
    stdlib_logging.getLogger("hypercorn.error").warning("slow %s", "reader")
    stdlib_logging.getLogger("hypercorn.error").info("not of interest")
    line = only(lines)
    assert (line["logger"], line["event"]) == ("hypercorn.error", "slow reader")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("to +66812345678.", "to [phone]."),
        ("to +66 81 234 5678", "to [phone]"),
        ("from somchai.k@mail.example.co.th now", "from [email] now"),
        ("Bearer abc.def", "[token]"),
        ("eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiIxIn0.c2ln", "[token]"),
        ("GET /websocket?token=abc&x=1", "GET /websocket?token=[masked]&x=1"),
        ("postgresql://app:hunter2@db/tchatd", "postgresql://app:[password]@db/tchatd"),
        (f"card {VISA}", "card [card]"),
        ("card 4111-1111 1111 1111", "card [card]"),
        ("at 1800000000000", "at 1800000000000"),
        (
            "id 01987654-3210-7654-8321-012345678901",
            "id 01987654-3210-7654-8321-012345678901",
        ),
    ],
)
def test_personal_data_in_a_text_is_masked(text: str, expected: str) -> None:
    assert masked(text) == expected


def test_values_are_masked_by_the_name_they_have(lines: io.StringIO) -> None:
    get_logger("auth").info("x", phone="0812345678", nested={"Token": "t", "size": 3})
    line = only(lines)
    assert line["phone"] == "[masked]"
    assert line["nested"] == {"Token": "[masked]", "size": 3}


def test_a_card_number_as_an_integer_is_masked() -> None:
    assert masked(int(VISA)) == "[card]"
    assert masked({"amounts": [1, 2]}) == {"amounts": [1, 2]}


@given(st.from_regex(r"[2-9][0-9]{11,17}", fullmatch=True))
def test_anything_that_passes_luhn_is_masked(digits: str) -> None:
    number = next(f"{digits}{check}" for check in "0123456789" if luhn(digits + check))
    assert masked(f"paid with {number}") == "paid with [card]"


def test_what_is_too_long_or_too_deep_is_cut() -> None:
    assert len(str(masked("a" * 100_000))) < 9_000
    nested: object = "end"
    for _ in range(100):
        nested = [nested]
    assert "<list>" in str(masked(nested))


def test_a_console_line_cannot_be_forged() -> None:
    stream = io.StringIO()
    configure("info", "console", stream)
    get_logger("edge").info("path\n<0>forged", name="\x1b[2Jx")
    configure()
    (line,) = stream.getvalue().splitlines()
    assert "\x1b" not in line
    assert line.count("\\n") == 1


def test_lines_have_their_priority_under_the_journal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with open(os.devnull, "w") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert tchatd_logging.under_journal(stream)
        monkeypatch.setenv("JOURNAL_STREAM", "1:1")
        assert not tchatd_logging.under_journal(stream)
