"""What a message can carry, at the edges of what fits."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tchatd.domains.messaging.content import (
    BUTTON_ROWS_MAX,
    BUTTONS_A_ROW_MAX,
    CONTENT_TYPES,
    POLL_OPTIONS_MAX,
    Buttons,
    Forward,
)

URL = "https://a/b"
FITS: list[tuple[str, dict[str, Any]]] = [
    ("text", {"text": "x" * 4_096}),
    ("image", {"file_url": URL, "width": 1, "height": 100_000, "caption": ""}),
    ("video", {"file_url": URL, "duration_ms": 0, "width": 1, "height": 1}),
    ("voice", {"file_url": URL, "duration_ms": 300_000, "waveform": [0, 255] * 256}),
    ("file", {"file_url": URL, "name": "a", "size_bytes": 0, "mime_type": "a/b"}),
    ("location", {"latitude": -90, "longitude": 180.0}),
    ("poll", {"question": "?", "options": [*"abcdefghijklmn"[:POLL_OPTIONS_MAX]]}),
]
DOES_NOT: list[tuple[str, dict[str, Any]]] = [
    ("text", {"text": ""}),
    ("text", {"text": "x" * 4_097}),
    ("image", {"file_url": "ftp://a", "width": 1, "height": 1}),
    ("image", {"file_url": URL, "width": 0, "height": 1}),
    ("image", {"file_url": URL + "\n", "width": 1, "height": 1}),
    ("video", {"file_url": URL, "duration_ms": -1, "width": 1, "height": 1}),
    ("voice", {"file_url": URL, "duration_ms": 1, "waveform": [0] * 513}),
    ("file", {"file_url": URL, "name": "", "size_bytes": 0, "mime_type": "a/b"}),
    ("file", {"file_url": URL, "name": "a", "size_bytes": 0, "mime_type": "ab"}),
    ("location", {"latitude": 90.1, "longitude": 0}),
    ("poll", {"question": "?", "options": ["a"]}),
    ("poll", {"question": "?", "options": [*"abcdefghijklmn"[: POLL_OPTIONS_MAX + 1]]}),
    ("poll", {"question": "?", "options": ["a", "b", "a"]}),
    ("poll", {"question": "?", "options": ["a", ""]}),
]


@pytest.mark.parametrize(("type", "content"), FITS)
def test_what_fits_comes_back_as_it_was(type: str, content: dict[str, Any]) -> None:
    typed = msgspec.convert(content, CONTENT_TYPES[type])
    assert content.items() <= msgspec.to_builtins(typed).items()


@pytest.mark.parametrize(("type", "content"), DOES_NOT)
def test_what_does_not_fit_is_refused(type: str, content: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(content, CONTENT_TYPES[type])


@pytest.mark.parametrize(
    ("rows", "columns", "fits"),
    [
        (BUTTON_ROWS_MAX, BUTTONS_A_ROW_MAX, True),
        (BUTTON_ROWS_MAX + 1, 1, False),
        (1, BUTTONS_A_ROW_MAX + 1, False),
        (1, 0, False),
    ],
)
def test_buttons_are_a_few_in_a_few_rows(rows: int, columns: int, fits: bool) -> None:
    buttons = [[{"text": "ok", "data": "1"}] * columns] * rows
    if fits:
        assert len(msgspec.convert(buttons, Buttons)) == rows
    else:
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(buttons, Buttons)


def test_a_forward_tells_no_more_than_it_knows() -> None:
    assert msgspec.json.encode(Forward("s", "t")) == b'{"sender_id":"s","sent_at":"t"}'
