"""Owns the ports of the relay: the log, who is where in it, and what was given up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from msgspec import Struct

from tchatd.events.horizon import Look
from tchatd.kernel.events import Event

BEHIND: Final = "behind"
"""The error of a letter that was never tried."""


class Wanted(Struct, frozen=True):
    """types: none: all types of the domains."""

    domains: frozenset[str]
    types: frozenset[str] = frozenset()


class Row(Struct, frozen=True):
    """is_blocked: the subscriber has a dead letter of the same aggregate."""

    event: Event
    is_blocked: bool


class Held(Struct, frozen=True):
    """What is found out about a subscription when its lease is made longer.

    letters: how many it has; has_released: some are to be tried again.
    """

    letters: int = 0
    has_released: bool = False


class NewLetter(Struct, frozen=True):
    """attempts: 0 if it is behind another one. is_held: it stays until an operator says
    otherwise; else it is released if all earlier ones of its aggregate are."""

    event: Event
    attempts: int
    error: str
    is_held: bool
    dead_ms: int


class Letter(Struct, frozen=True):
    """A dead letter; see 0013_event_log.sql."""

    number: int
    subscriber: str
    event: Event
    attempts: int
    error: str
    dead_ms: int
    is_released: bool


class Decided(Struct, frozen=True):
    """An operator's decision, which is noted with what it changes."""

    at_ms: int
    who: str
    reason: str


class SubscriptionRow(Struct, frozen=True):
    """holder: the node that has the lease; None: nobody has."""

    name: str
    position: int
    holder: str | None
    letters: int


class EventStore(Protocol):
    """Raises kernel `Unavailable`, like everything here."""

    async def look(self, after: int, limit: int) -> Look:
        """One snapshot, with at most `limit` positions."""
        ...

    async def draw_fence(self) -> int:
        """The id of a transaction that begins with the call, and has ended."""
        ...

    async def furthest(self) -> int:
        """The highest position of a subscription: up to it the log is settled."""
        ...

    async def page(
        self, subscriber: str, wanted: Wanted, after: int, upto: int, limit: int
    ) -> list[Row]:
        """The first that are wanted of the positions `after < position <= upto`."""
        ...

    async def acquire(
        self, subscriber: str, holder: str, lease_s: float, first: int | None
    ) -> int | None:
        """Where the subscriber is, and the lease on it, unless another node has that.

        first: where it begins if it was never there; None: then it is not made.
        """
        ...

    async def renew(
        self, holder: str, positions: Mapping[str, int], lease_s: float
    ) -> Mapping[str, Held]:
        """Make leases longer, and keep positions where they are later than the kept
        ones. What is missing in the answer is held by another node."""
        ...

    async def release(self, holder: str, positions: Mapping[str, int]) -> None:
        """Keep the positions and give the leases back."""
        ...

    async def settle(
        self,
        subscriber: str,
        holder: str,
        position: int,
        letters: Sequence[NewLetter],
        lease_s: float,
    ) -> bool:
        """All up to the position is handled, or among the letters; in one transaction,
        and so that it may be repeated. False: another node has it, nothing is done."""
        ...

    async def released(self, subscriber: str, limit: int) -> list[Letter]:
        """Letters to be tried again, in the order of their positions."""
        ...

    async def handled(
        self, subscriber: str, holder: str, numbers: Sequence[int]
    ) -> bool:
        """Released letters whose events are handled are no more. False: as above."""
        ...

    async def failed_again(
        self, subscriber: str, holder: str, letter: Letter, error: str, now_ms: int
    ) -> bool:
        """One attempt more; letters of its aggregate wait again. False: as above."""
        ...


class LetterStore(Protocol):
    """What operators do. A change and its decision are one transaction."""

    async def letters(
        self, subscriber: str | None, limit: int
    ) -> tuple[list[Letter], int]:
        """The oldest first, of one subscriber or of all; and how many there are."""
        ...

    async def letter(self, number: int) -> Letter | None: ...

    async def first_of(self, letter: Letter) -> int | None:
        """The number of the first letter of the same subscriber and aggregate."""
        ...

    async def retry(self, letter: Letter, decided: Decided) -> int:
        """Release it and all of its aggregate's; how many."""
        ...

    async def retry_all(self, subscriber: str, decided: Decided) -> int:
        """Release all; how many."""
        ...

    async def drop(self, letter: Letter, decided: Decided) -> bool:
        """The event is never handled. If it was the first one of its aggregate, those
        behind it are released. False: it is there no more."""
        ...

    async def subscriptions(self) -> list[SubscriptionRow]:
        """By name."""
        ...

    async def forget(self, subscriber: str, decided: Decided) -> bool:
        """Its position and its letters are no more. False: it is unknown, or held."""
        ...
