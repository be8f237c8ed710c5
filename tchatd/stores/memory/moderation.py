"""Owns reports, sanctions and the moderation log in memory, for tests."""

from __future__ import annotations

from uuid import UUID

import trio
from msgspec import structs

from tchatd.domains.moderation.models import (
    Decision,
    NewReport,
    ReportRecord,
    Sanction,
    SanctionKind,
    Thing,
)


class MemoryModerationStore:
    """A `ModerationStore`. users: ids by number."""

    def __init__(self, users: dict[int, UUID]) -> None:
        self._users = users
        self._reports: dict[int, ReportRecord] = {}
        self._sanctions: dict[tuple[int, SanctionKind], Sanction] = {}
        self.tiers: dict[int, int] = {}
        self._log: list[Decision] = []

    async def report(self, report: NewReport) -> int:
        await trio.lowlevel.checkpoint()
        key = (report.thing, report.thing_id, report.reporter)
        old = next(
            (
                kept
                for kept in self._reports.values()
                if (kept.thing, kept.thing_id, kept.reporter) == key
            ),
            None,
        )
        number = len(self._reports) + 1 if old is None else old.number
        self._reports[number] = ReportRecord(
            number=number,
            thing=report.thing,
            thing_id=report.thing_id,
            dialog_id=report.dialog_id if old is None else old.dialog_id,
            reporter=report.reporter,
            accused=report.accused,
            reason=report.reason,
            comment=report.comment,
            evidence=report.evidence,
            created_ms=report.now_ms if old is None else old.created_ms,
            updated_ms=report.now_ms,
            resolved_ms=None,
            action=None,
            reporter_id=self._users.get(report.reporter),
            accused_id=self._users.get(report.accused),
        )
        return number

    async def open_reports(self, limit: int) -> tuple[list[ReportRecord], int]:
        await trio.lowlevel.checkpoint()
        reports = [self._reports[number] for number in sorted(self._reports)]
        still_open = [report for report in reports if report.resolved_ms is None]
        return still_open[:limit], len(still_open)

    async def report_numbered(self, number: int) -> ReportRecord | None:
        await trio.lowlevel.checkpoint()
        return self._reports.get(number)

    async def resolve(
        self, thing: Thing, thing_id: UUID, action: str, decision: Decision
    ) -> int:
        await trio.lowlevel.checkpoint()
        count = 0
        for number, report in self._reports.items():
            is_same = (report.thing, report.thing_id) == (thing, thing_id)
            if is_same and report.resolved_ms is None:
                count += 1
                self._reports[number] = structs.replace(
                    report, resolved_ms=decision.at_ms, action=action
                )
        self._log.append(decision)
        return count

    async def sanctions(self) -> list[Sanction]:
        await trio.lowlevel.checkpoint()
        return [self._sanctions[key] for key in sorted(self._sanctions)]

    async def put_sanction(self, sanction: Sanction, decision: Decision) -> None:
        await trio.lowlevel.checkpoint()
        self._sanctions[sanction.number, sanction.kind] = sanction
        self._log.append(decision)

    async def end_sanction(
        self, number: int, kind: SanctionKind, decision: Decision
    ) -> bool:
        await trio.lowlevel.checkpoint()
        if self._sanctions.pop((number, kind), None) is None:
            return False
        self._log.append(decision)
        return True

    async def put_tier(self, number: int, tier: int, decision: Decision) -> bool:
        """Here everybody exists."""
        await trio.lowlevel.checkpoint()
        self.tiers[number] = tier
        self._log.append(decision)
        return True

    async def note(self, decision: Decision) -> None:
        await trio.lowlevel.checkpoint()
        self._log.append(decision)

    async def decisions(self, limit: int) -> tuple[list[Decision], int]:
        await trio.lowlevel.checkpoint()
        return self._log[::-1][:limit], len(self._log)
