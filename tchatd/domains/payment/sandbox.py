"""Owns what the sandbox keeps: charges, refunds and payouts that move no money.

An entry is made once for its key, and changes state once: `settle` is a comparison and
a change in one, so that who pays while another cancels, on whichever node, finds one
truth.
"""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from tchatd.domains.payment.providers import Method
from tchatd.kernel.money import Currency

EntryKind = Literal["charge", "refund", "payout"]
EntryState = Literal["pending", "paid", "failed", "cancelled", "expired"]


class SandboxEntry(msgspec.Struct, frozen=True, kw_only=True):
    """of: the charge's id, of a refund. expires_at_ms: 0 of what does not expire.

    A refund and a payout are made `paid`, or `failed`.
    """

    id: str
    kind: EntryKind
    key: str
    amount_minor: int
    currency: Currency
    country: str
    method: Method
    state: EntryState
    created_at_ms: int
    updated_at_ms: int
    expires_at_ms: int = 0
    description: str = ""
    return_url: str = ""
    of: str | None = None


class SandboxStore(Protocol):
    """Raises Unavailable from each."""

    async def add(self, entry: SandboxEntry) -> SandboxEntry:
        """What is there for its kind and key: this one, or what was made before."""
        ...

    async def add_refund(self, entry: SandboxEntry) -> SandboxEntry | None:
        """Like `add`; None, if the charge that it is of is not paid, is of another
        currency, or would have given back more than it is of."""
        ...

    async def entry(self, id: str) -> SandboxEntry | None: ...

    async def by_key(self, kind: EntryKind, key: str) -> SandboxEntry | None: ...

    async def refunded_minor(self, id: str) -> int:
        """Of a charge, by refunds that did not fail."""
        ...

    async def settle(
        self, id: str, state: EntryState, now_ms: int
    ) -> SandboxEntry | None:
        """From pending to a state. None, if it is not pending, or not there."""
        ...


class SandboxDesk(Protocol):
    """What the page for developers does."""

    async def shown(self, id: str) -> SandboxEntry | None:
        """A charge; expired, if its time is over. Raises: Unavailable."""
        ...

    async def decide(self, id: str, state: EntryState) -> SandboxEntry | None:
        """Pay it, decline it, or let it expire, if it still waits; the charge as it is
        then. Raises: Unavailable."""
        ...
