"""Owns the port of what keeps sagas, and the records that only engine and store share.

A saga is run by one life of an engine (`runner`). Lives beat; one whose beats stand
still is buried, and what it ran is released. Nobody's clock is compared with another's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol
from uuid import UUID

from msgspec import Struct

from tchatd.kernel.sagas import SagaBegun, SagaProgress, SagaRow, Status

Kind = tuple[str, int]
"""Name and version of a saga type."""
Shown = Literal["unfinished", "failed", "stranded", "ended"]
"""What operators ask for: still to be done; standing still; of a kind that is not known
here; completed or compensated."""


class Moved(Struct, frozen=True):
    """What a saga's row has beside the progress that was written."""

    run_ms: int
    signal_count: int
    signals: str
    abort_reason: str | None


class Written(Struct, frozen=True):
    """begun: those that were not there before. moved: those whose progress was not
    refused."""

    begun: frozenset[UUID]
    moved: dict[UUID, Moved]


class Runner(Struct, frozen=True):
    """The life of an engine. beats: grows while it lives."""

    id: UUID
    node: str
    beats: int


class Order(Struct, frozen=True):
    """What an operator did about a saga."""

    saga_id: UUID
    at_ms: int
    who: str
    action: Literal["resume", "abort"]
    reason: str


class Counts(Struct, frozen=True):
    """Sagas by status, of those that have not ended; those of no known kind apart."""

    started: int = 0
    compensating: int = 0
    failed: int = 0
    stranded: int = 0


class SagaStore(Protocol):
    """Every method raises Unavailable; nothing is done then, or it is not known."""

    async def write(
        self, begun: Sequence[SagaBegun], progress: Sequence[SagaProgress]
    ) -> Written:
        """All in one commit. Each saga at most once.

        Raises: ValueRefused and other DomainErrors: nothing was written.
        """
        ...

    async def claim(
        self, runner: UUID, kinds: Sequence[Kind], now_ms: int, limit: int
    ) -> list[SagaRow]:
        """Those that are due, the longest waiting first; they are the runner's then.

        What others claim meanwhile is passed over.
        """
        ...

    async def next_due_ms(self, kinds: Sequence[Kind]) -> int | None:
        """When the first of those that nobody runs is due."""
        ...

    async def saga(self, id: UUID) -> SagaRow | None: ...

    async def signal(self, id: UUID, name: str, body: str) -> bool:
        """body: JSON. A saga that nobody runs is due at once.

        False: there is none, it has ended, or was told too much (`SIGNALS_MAX`).
        """
        ...

    async def register(self, runner: Runner) -> None: ...

    async def beat(self, runner: UUID) -> bool:
        """False: it was buried."""
        ...

    async def runners(self) -> list[Runner]: ...

    async def bury(self, runner: UUID, beats: int | None) -> bool:
        """Declare dead, if it has not beaten since; None: whatever its beats."""
        ...

    async def release_orphans(self, limit: int) -> int:
        """Let others have what is run by nobody who lives; how many."""
        ...

    async def held(self, runner: UUID) -> list[UUID]:
        """What the runner runs, as the store sees it."""
        ...

    async def release(self, runner: UUID, ids: Sequence[UUID]) -> int:
        """Let others have these of the runner's."""
        ...

    async def resume(self, order: Order) -> bool:
        """Due at once, with fresh attempts, also if it stood still; in the log.

        False: there is no such saga, or it has ended.
        """
        ...

    async def abort(self, order: Order) -> bool:
        """Due at once, to go back; in the log.

        False: there is no such saga, it has ended or goes back already.
        """
        ...

    async def orders(self, id: UUID) -> list[Order]:
        """What operators did about a saga, the first first."""
        ...

    async def sagas(
        self, shown: Shown, kinds: Sequence[Kind], limit: int
    ) -> tuple[list[SagaRow], int]:
        """Some, and how many there are; ended ones the latest first."""
        ...

    async def counts(self, kinds: Sequence[Kind]) -> Counts: ...

    async def prune(self, before_ms: int, limit: int) -> int:
        """Forget some that ended before; how many."""
        ...


UNFINISHED: tuple[Status, ...] = ("started", "compensating")
