"""Owns the command that lets go of a hold whose time is over.

A hold that is over cannot be posted any more, whether it is let go or not; what is
kept back for it is free once it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec

from tchatd.domains.payment.ledger.books import Books
from tchatd.domains.payment.ledger.models import Hold


class ExpireHold(msgspec.Struct, frozen=True):
    """Its result is None. Refused (HoldEnded) if somebody ended it before."""

    hold: Hold

    @property
    def accounts(self) -> Sequence[int]:
        return (self.hold.debit,)

    @property
    def holds(self) -> Sequence[UUID]:
        return (self.hold.id,)

    @property
    def reads(self) -> Sequence[Any]:
        return ()

    @property
    def key(self) -> None:
        return None

    def decide(self, books: Books) -> None:
        if books.held(self.hold.id).expires_ms <= books.now_ms:
            books.void(self.hold.id)
