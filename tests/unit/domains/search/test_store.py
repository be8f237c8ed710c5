"""What is asked of the index: orders by time, names of dialogs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from tchatd.domains.search.store import (
    ORDER_MAX,
    DialogDoc,
    MessageDoc,
    dialog_doc,
    first_order,
)

TIMES = st.integers(0, (1 << 42) - 1)
NUMBERS = st.integers(1, (1 << 43) - 1)
SEQS = st.integers(1, (1 << 31) - 1)


@given(TIMES, NUMBERS, SEQS)
def test_an_order_lies_between_its_time_and_the_next(
    at_ms: int, number: int, seq: int
) -> None:
    order = MessageDoc(number, seq, at_ms, 1, "text", "x").order
    assert first_order(at_ms) <= order < max(first_order(at_ms + 1), order + 1)
    assert order <= ORDER_MAX


def test_messages_of_one_millisecond_have_orders_of_their_own() -> None:
    orders = {
        MessageDoc(number, seq, 5, 1, "text", "x").order
        for number in range(1, 100)
        for seq in range(1, 100)
    }
    assert len(orders) > 0.995 * 99 * 99


def test_times_out_of_range_are_at_its_ends() -> None:
    assert first_order(-1) == 0
    assert first_order(1 << 60) == ORDER_MAX


def test_a_dialog_is_found_by_its_names() -> None:
    assert dialog_doc(1, "Lunch", UNSET) == DialogDoc(1, "Lunch", False)
    assert dialog_doc(1, None, UNSET) == DialogDoc(1, "", False)
    assert dialog_doc(1, "News", "daily_news") == DialogDoc(1, "News\ndaily_news", True)
