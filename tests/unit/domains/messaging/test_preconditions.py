"""A record that cannot be applied is not journaled, whoever has made it."""

from __future__ import annotations

import pytest
from msgspec import structs

from tchatd.domains.messaging import records as r
from tchatd.domains.messaging.preconditions import check
from tchatd.kernel.bitmaps import BitMap
from tests.support import applied as a
from tests.support.applied import Applied
from tests.support.messaging import FakeJournal, user_id
from tests.support.record_history import Engine, SlowStore

ID = bytes(16)


def add(*users: int) -> r.AddRecord:
    added = BitMap(users).serialize()
    return r.AddRecord(1, a.AT_MS, 1, ID, added, a.ids_of(users), b"")


def remove(user: int) -> r.RemoveRecord:
    return r.RemoveRecord(1, a.AT_MS, 1, ID, user, user_id(user).bytes, "left", b"")


FITS: list[r.Record] = [
    a.dialog_of(1, 2),
    a.message(1, 1, thread_seq=2, mention_numbers=(2,)),
    a.read(1, 2, 2, 1),
    a.edit(1, 1, 2),
    a.delete(1, 1, 4, thread_seq=2),
    a.react(1, 1, 2),
    a.pin(1, 1, 2),
    a.vote(1, 1, 3, 0),
    remove(3),
    a.role(1, 1, 2, 1),
    a.profile(1, 1),
    a.own(1, 2),
    a.drop(1, 1),
]
DOES_NOT: list[r.Record] = [
    a.message(1, 1, thread_seq=99),
    a.message(9, 1, thread_seq=2),
    a.edit(1, 1, 5),
    a.edit(1, 1, 99),
    a.delete(1, 1, 5),
    a.delete(1, 1, 2, thread_seq=3),
    a.react(1, 1, 1),
    a.react(1, 1, 5),
    a.pin(1, 1, 5),
    a.vote(1, 1, 2, 0),
    add(),
    add(2),
    add(8),  # who may have been in it: not loaded
    remove(9),
    a.role(1, 1, 9, 1),
    a.own(7, 2),
    a.own(1, 4),
    a.deliver(1, 4, 2),
    a.restrict(1, 1, 4, 5),
    a.role(1, 1, 4, 2),
    remove(4),
]


@pytest.fixture
def apply() -> Applied:
    """Seq 2 is a message with a thread, 3 a poll, 4 in the thread, 5 is deleted (6).
    4 was here and has left."""
    apply = Applied()
    apply(a.dialog_of(1, 2, 3))
    apply(a.message(1, 1))
    apply(a.poll(1, 1))
    apply(a.message(1, 1, thread_seq=2))
    apply(a.message(1, 1))
    apply(a.delete(1, 1, 5))
    a.add(apply, 1, 1, 4)
    a.remove(apply, 1, 4, 4)
    return apply


@pytest.mark.parametrize("record", FITS)
def test_what_fits_is_let_by(apply: Applied, record: r.Record) -> None:
    check(apply.state, record)
    apply(record)


@pytest.mark.parametrize("record", DOES_NOT)
def test_what_does_not_fit_is_told_and_nothing_has_happened(
    apply: Applied, record: r.Record
) -> None:
    with pytest.raises(AssertionError):
        check(apply.state, record)


def test_a_dialog_is_not_made_twice(apply: Applied) -> None:
    created = a.dialog_of(1, 2)
    apply(created)
    with pytest.raises(AssertionError):
        check(apply.state, structs.replace(created, creator=2))


def test_somebody_stays_loaded_while_a_dialog_stops_being_large() -> None:
    apply = Applied()
    apply(a.dialog_of(*range(1, 102)))
    apply.flush()
    apply.dialog().by_number[5] = apply.member(1)
    with pytest.raises(AssertionError):
        check(apply.state, remove(5))


def test_a_journal_never_gets_what_cannot_be_applied() -> None:
    core = Engine(SlowStore(1), FakeJournal())
    core.applier.submit(a.dialog_of(1, 2))
    with pytest.raises(AssertionError):
        core.applier.submit(a.edit(1, 1, 7))
    assert len(core.journal.kept) == 1
    core.applier.submit(a.message(1, 1))
