"""Answers of decisions: what was decided, what was kept, who is told."""

from __future__ import annotations

from typing import Any

import pytest

from tchatd.domains.payment.answering import Answering, key_of
from tchatd.domains.payment.errors import WalletClosed
from tchatd.kernel.clock import ManualClock
from tchatd.kernel.errors import DomainError, RateLimited, Unavailable
from tchatd.kernel.routing import Context, KeptReply, RequestKey
from tchatd.stores.memory.ledger import MemoryLedger
from tests.support.ledger import Do


def context_of(key: bytes | None = None, body: bytes = b"b") -> Context:
    context = Context("r", "203.0.113.7")
    if key is not None:
        context.key = RequestKey(key * 32, body * 32, kept)
    return context


def answering_of(ledger: MemoryLedger) -> Answering:
    return Answering(ledger, lambda: None)


def kept(said: Any) -> bytes:
    name = said.code if isinstance(said, DomainError) else said
    return str(name).encode()


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger(ManualClock())


def test_the_answer_is_the_view_of_what_was_decided(ledger: MemoryLedger) -> None:
    told: list[Any] = []

    answer = answering_of(ledger).submit(
        Do(lambda _: 7), lambda n: f"<{n}>", told.append
    )

    assert answer.result() == "<7>"
    assert told == [7]


def test_a_repeat_is_told_what_was_kept_and_nobody_else_is_told(
    ledger: MemoryLedger,
) -> None:
    answering, told = answering_of(ledger), list[Any]()

    def view(number: int) -> str:
        return f"<{number}>"

    for _ in range(2):
        key = key_of(context_of(b"k"), view)
        answer = answering.submit(Do(lambda _: 7, key=key), view, told.append)

    assert answer.result() == KeptReply(b"<7>")
    assert told == [7]


def test_a_refusal_is_told_to_who_wants_to_know(ledger: MemoryLedger) -> None:
    refused: list[Exception] = []

    def refuse(_: Any) -> Any:
        raise WalletClosed

    answer = answering_of(ledger).submit(
        Do(refuse), lambda value: value, None, refused.append
    )

    assert isinstance(answer.error, WalletClosed)
    assert refused == [answer.error]


def test_without_a_key_a_refusal_is_raised(ledger: MemoryLedger) -> None:
    with pytest.raises(WalletClosed):
        answering_of(ledger).refused(context_of(), WalletClosed())


def test_with_a_key_a_refusal_is_kept(ledger: MemoryLedger) -> None:
    flushes: list[int] = []
    answering = Answering(ledger, lambda: flushes.append(1))
    refusal = WalletClosed()

    first = answering.refused(context_of(b"k"), refusal)
    again = answering.refused(context_of(b"k"), RateLimited(retry_after_s=1))
    other = answering.refused(context_of(b"k", b"c"), refusal)

    assert first.error is refusal
    assert again.result() == KeptReply(b"wallet-closed")
    assert other.error is not None
    assert other.error.code == "idempotency-key-reused"  # type: ignore[attr-defined]
    assert len(flushes) == 3


def test_what_passes_is_not_kept(ledger: MemoryLedger) -> None:
    answering = answering_of(ledger)
    early = RateLimited(retry_after_s=1)

    assert answering.refused(context_of(b"k"), early).error is early
    with pytest.raises(Unavailable):
        answering.refused(context_of(b"k"), Unavailable())

    assert ledger.kept == {}
