"""What lets go of a hold does it when its time is over, and not before."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tchatd.domains.payment.ledger.books import Books
from tchatd.domains.payment.ledger.errors import HoldEnded
from tchatd.domains.payment.ledger.expiring import ExpireHold
from tchatd.domains.payment.ledger.models import Account, AccountKind, Hold, HoldState
from tests.support.ledger import THB

HOLD = Hold(uuid4(), 1, 2, 60, expires_ms=1_000)


def books(now_ms: int) -> Books:
    """Of the payer alone: the payee is not needed."""
    account = Account(1, THB, AccountKind.WALLET, balance=100, held=60, version=1)
    return Books([account], [HOLD], now_ms)


def test_a_hold_that_is_over_expires_once() -> None:
    at = books(1_000)
    command = ExpireHold(HOLD)
    assert (command.accounts, command.holds) == ((1,), (HOLD.id,))
    assert (command.reads, command.key) == ((), None)

    command.decide(at)

    assert at.held(HOLD.id).state is HoldState.EXPIRED
    assert at.account(1).available == 100
    with pytest.raises(HoldEnded):
        command.decide(at)


def test_a_node_whose_clock_is_ahead_changes_nothing() -> None:
    at = books(999)

    ExpireHold(HOLD).decide(at)

    assert at.held(HOLD.id) == HOLD
    assert at.changed_holds == {}
