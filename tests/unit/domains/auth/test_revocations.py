"""What was ended lately is refused; nothing is forgotten early, even when full."""

from __future__ import annotations

from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st

from tchatd.domains.auth.revocations import Revocations

TOKEN_MS = 1_000


def test_an_ended_session_is_refused_until_its_tokens_are_over() -> None:
    revocations = Revocations(token_ms=TOKEN_MS, size_max=10)
    session = uuid4()
    revocations.add(session, 5_000)
    revocations.add(session, 5_500)
    assert revocations.refuses(session, 99_999)
    assert not revocations.refuses(uuid4(), 99_999)
    assert revocations.forget(5_999) == 0
    assert revocations.refuses(session, 99_999)
    assert revocations.forget(6_000) == 1
    assert not revocations.refuses(session, 99_999)


def test_a_full_set_refuses_every_token_issued_so_far_instead() -> None:
    revocations = Revocations(token_ms=TOKEN_MS, size_max=2)
    first = uuid4()
    for session in (first, uuid4(), uuid4()):
        revocations.add(session, 5_000)
    assert len(revocations) == 1
    assert revocations.refuses(first, 6_000)
    assert revocations.refuses(uuid4(), 6_000)
    assert not revocations.refuses(uuid4(), 6_001)


def test_room_is_made_by_forgetting_what_is_over_first() -> None:
    revocations = Revocations(token_ms=TOKEN_MS, size_max=2)
    for ended_ms in (1_000, 1_000, 2_000):
        revocations.add(uuid4(), ended_ms)
    assert len(revocations) == 1
    assert not revocations.refuses(uuid4(), 1)


@given(steps=st.lists(st.integers(0, 700), max_size=40), size_max=st.integers(1, 5))
def test_no_token_of_an_ended_session_is_accepted_while_it_lives(
    steps: list[int], size_max: int
) -> None:
    revocations = Revocations(token_ms=TOKEN_MS, size_max=size_max)
    ended: dict[UUID, int] = {}
    now_ms = 10_000
    for step in steps:
        now_ms += step
        revocations.forget(now_ms)
        session = uuid4()
        revocations.add(session, now_ms)
        ended[session] = now_ms
        for other, ended_ms in ended.items():
            last_expires_ms = ended_ms + TOKEN_MS
            if last_expires_ms > now_ms:
                assert revocations.refuses(other, last_expires_ms)
        assert len(revocations) <= size_max
