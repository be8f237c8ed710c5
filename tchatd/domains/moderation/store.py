"""Owns the ports of moderation: what is kept, and what it needs of others."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

from tchatd.domains.moderation.models import (
    Decision,
    NewReport,
    ReportRecord,
    Sanction,
    SanctionKind,
    SeenDialog,
    SeenMessage,
    Thing,
)


class ModerationStore(Protocol):
    """A change and the decision that it follows from are one transaction.

    Raises kernel `Unavailable`.
    """

    async def report(self, report: NewReport) -> int:
        """Its number. The same reporter's report of the same thing is replaced, and
        open again if it was resolved."""
        ...

    async def open_reports(self, limit: int) -> tuple[list[ReportRecord], int]:
        """The oldest first, and how many there are."""
        ...

    async def report_numbered(self, number: int) -> ReportRecord | None: ...

    async def resolve(
        self, thing: Thing, thing_id: UUID, action: str, decision: Decision
    ) -> int:
        """All open reports of the thing; how many they were."""
        ...

    async def sanctions(self) -> list[Sanction]: ...

    async def put_sanction(self, sanction: Sanction, decision: Decision) -> None:
        """In the place of one of the same kind."""
        ...

    async def end_sanction(
        self, number: int, kind: SanctionKind, decision: Decision
    ) -> bool:
        """False, and nothing is noted, if there is none."""
        ...

    async def put_tier(self, number: int, tier: int, decision: Decision) -> bool:
        """How well somebody is known (KYC), and the decision with it; False if they are
        no more."""
        ...

    async def note(self, decision: Decision) -> None: ...

    async def decisions(self, limit: int) -> tuple[list[Decision], int]:
        """The latest first, and how many there are."""
        ...


class Conversations(Protocol):
    """Messaging, as moderation uses it; raises whatever messaging refuses with."""

    async def seen_message(self, user_number: int, id: UUID) -> SeenMessage: ...

    async def seen_dialog(self, user_number: int, id: str) -> SeenDialog: ...

    async def remove_message(self, id: UUID, reason: str) -> None:
        """For everyone, by nobody who is named. Raises: NotFound."""
        ...


class People(Protocol):
    """Sign-in, as moderation uses it."""

    async def number_of(self, id: UUID) -> int | None: ...

    def is_bot(self, user_number: int) -> bool: ...

    async def seal(
        self, user_number: int, plain: bytes, context: bytes
    ) -> bytes | None:
        """Under the person's own key; None if the person is no more."""
        ...

    async def open(
        self, user_number: int, sealed: bytes, context: bytes
    ) -> bytes | None:
        """None if the person is no more, and with them what was sealed."""
        ...

    async def sign_out(self, user_number: int) -> int:
        """End every session of a person or bot, and of a person's bots; how many."""
        ...
