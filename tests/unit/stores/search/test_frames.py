"""What goes over the pipes comes out as it went in, and a torn frame is an end."""

from __future__ import annotations

import io

import pytest

from tchatd.domains.search.store import DialogDoc, PersonDoc
from tchatd.stores.search.frames import (
    LENGTH_BYTES,
    Commit,
    Puts,
    decode_reply,
    encode_frame,
    encode_reply,
    length_of,
    read_frame,
)
from tests.support.search_index import doc

PUTS = Puts(
    [
        (True, doc(2**31, "กิน 我们 bánh", number=2**42, sender=2**33)),
        (False, DialogDoc(4, "Lunch", True)),
        (False, PersonDoc(5, "Somchai", 2**41)),
        (False, 2**42),
    ]
)


def test_frames_follow_each_other() -> None:
    commit = Commit(2**50, 2**41)
    source = io.BytesIO(encode_frame(PUTS) + encode_frame(commit))
    assert read_frame(source) == PUTS
    assert read_frame(source) == commit
    assert read_frame(source) is None


def test_a_torn_frame_is_the_end() -> None:
    whole = encode_frame(PUTS)
    for end in range(len(whole)):
        assert read_frame(io.BytesIO(whole[:end])) is None


@pytest.mark.parametrize("reply", [None, "", "no space", "không"])
def test_replies(reply: str | None) -> None:
    frame = encode_reply(reply)
    head, body = frame[:LENGTH_BYTES], frame[LENGTH_BYTES:]
    assert length_of(head) == len(body)
    assert decode_reply(body) == reply
