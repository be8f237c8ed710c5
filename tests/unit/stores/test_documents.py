"""Rows of messaging become what search finds."""

from __future__ import annotations

from msgspec import structs

from tchatd.domains.messaging.settings import PLAIN, settings_bytes
from tchatd.domains.search.store import DialogDoc, MessageDoc
from tchatd.stores.documents import changed_seq, message_doc, stored_dialog_doc


def test_a_message_is_all_that_it_says() -> None:
    body = '{"type":"poll","content":{"question":"Q","options":["a","b"]},"more":1}'
    assert message_doc(3, 4, 5, 6, body) == MessageDoc(3, 4, 5, 6, "poll", "Q\na\nb")


def test_a_deleted_message_says_nothing() -> None:
    assert message_doc(3, 4, 5, 6, '{"type":"text","content":{}}').text == ""


def test_an_event_tells_which_message_it_is_about() -> None:
    assert changed_seq('{"message_seq":7}') == 7
    body = '{"op":"message.deleted","dialog_id":"x","seq":9,"message_seq":7,"at":"y"}'
    assert changed_seq(body) == 7


def test_a_dialog_is_found_until_it_is_dropped() -> None:
    settings = settings_bytes(structs.replace(PLAIN, public_name="daily_news"))
    assert stored_dialog_doc(1, "News", settings, False) == DialogDoc(
        1, "News\ndaily_news", True
    )
    assert stored_dialog_doc(1, "News", settings, True) == DialogDoc(1, "", False)
    assert stored_dialog_doc(1, None, None, False) == DialogDoc(1, "", False)
