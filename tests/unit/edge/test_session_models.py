"""A newcomer stays one until all that waited was taken, in order."""

from __future__ import annotations

from typing import cast

import pytest

from tchatd.edge.hub import Lane
from tchatd.edge.session_models import BEHIND_BYTES_MAX, BEHIND_MAX, Session
from tests.support.edge_fakes import caller


@pytest.fixture
def session() -> Session:
    return Session(cast("Lane", None), 1, "192.0.2.1", 1)


def test_a_stranger_stays_new(session: Session) -> None:
    session.put_off(1)
    session.has_turn()
    assert (session.is_new, session.behind) == (True, 0)


def test_who_is_known_is_new_until_nothing_waits(session: Session) -> None:
    session.caller = caller(7)
    session.put_off(1)
    session.put_off(1)
    session.has_turn()
    assert session.is_new
    session.has_turn()
    assert not session.is_new


def test_little_may_wait(session: Session) -> None:
    assert not session.put_off(BEHIND_BYTES_MAX - 1)
    assert session.put_off(BEHIND_BYTES_MAX)
    reading = [session.put_off(1) for _ in range(3, BEHIND_MAX + 1)]
    assert reading == [False] * (BEHIND_MAX - 3) + [True]
