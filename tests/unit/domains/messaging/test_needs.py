"""What has to be in memory before a record is applied."""

from __future__ import annotations

from typing import get_args

import pytest

from tchatd.domains.messaging import records as r
from tchatd.domains.messaging.needs import needs
from tchatd.domains.messaging.store import ADMIN
from tchatd.kernel.bitmaps import BitMap
from tests.support import applied as a

ID = bytes(16)
ADDED = BitMap((5, 6)).serialize()
NEEDED: list[tuple[r.Record, set[int], set[int]]] = [
    (a.message(1, 2), {2}, set()),
    (a.message(1, 2, mention_numbers=(3, 4)), {2, 3, 4}, set()),
    (a.message(1, 2, thread_seq=9), {2}, {9}),
    (a.read(1, 2, 3, 1), {2}, set()),
    (a.edit(1, 2, 3, mention_numbers=(4,), unmentioned=(5,)), {4, 5}, {3}),
    (a.delete(1, 2, 3), set(), {3}),
    (a.delete(1, 2, 3, thread_seq=1), set(), {1, 3}),
    (a.react(1, 2, 3), set(), {3}),
    (a.pin(1, 2, 3), set(), {3}),
    (a.vote(1, 2, 3, 0), set(), {3}),
    (r.AddRecord(1, 0, 2, ID, ADDED, b"", b""), {5, 6}, set()),
    (r.RemoveRecord(1, 0, 2, ID, 3, ID, "left", b""), {3}, set()),
    (a.role(1, 2, 3, ADMIN), {3}, set()),
    (a.role(1, 2, 3, ADMIN, hands_over=True), {2, 3}, set()),
    (a.profile(1, 2), {2}, set()),
    (a.drop(1, 2), set(), set()),
    (a.own(1, 2), {2}, set()),
    (a.deliver(1, 2, 3), {2}, set()),
    (a.restrict(1, 2, 3, 0), {3}, set()),
    (a.ban(1, 2, 3), {2}, set()),
]


@pytest.mark.parametrize(("record", "users", "seqs"), NEEDED)
def test_who_and_which_messages_it_touches(
    record: r.Record, users: set[int], seqs: set[int]
) -> None:
    found = needs(record)
    assert (set(found[0]), set(found[1])) == (users, seqs)


def test_every_record_but_a_new_dialog_says_what_it_needs() -> None:
    of = {type(record) for record, _, _ in NEEDED}
    assert of | {r.DialogRecord} == set(get_args(r.Record))
