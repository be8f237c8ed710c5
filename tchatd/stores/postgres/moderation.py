"""Owns the rows of reports, sanctions and the moderation log in PostgreSQL."""
# Statements are put together of this module's own column names, never of values.
# ruff: noqa: S608

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from tchatd.domains.moderation.models import (
    Decision,
    NewReport,
    ReportRecord,
    Sanction,
    SanctionKind,
    Thing,
)
from tchatd.stores.postgres.connection import Connection
from tchatd.stores.postgres.pool import Pool

Row = tuple[Any, ...]

_REPORT: Final = (
    "r.number, r.thing, r.thing_id, r.dialog_id, r.reporter, r.accused,"
    " r.reason, r.comment, r.evidence, r.created_ms, r.updated_ms, r.resolved_ms,"
    " r.action, p.id, a.id"
)
_REPORTS: Final = (
    "FROM reports r LEFT JOIN users p ON p.number = r.reporter"
    " LEFT JOIN users a ON a.number = r.accused"
)
_SANCTION: Final = "number, kind, until_ms, since_ms, reason"
_DECISION: Final = "at_ms, who, action, thing, reason"


class PostgresModerationStore:
    """A `ModerationStore`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def report(self, report: NewReport) -> int:
        number: int = await self._pool.fetch_value(
            "INSERT INTO reports (thing, thing_id, dialog_id, reporter, accused,"
            " reason, comment, evidence, created_ms, updated_ms)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
            " ON CONFLICT (thing_id, reporter, thing) DO UPDATE SET"
            " accused = excluded.accused, reason = excluded.reason,"
            " comment = excluded.comment, evidence = excluded.evidence,"
            " updated_ms = excluded.updated_ms, resolved_ms = NULL, action = NULL"
            " RETURNING number",
            (
                *(report.thing, report.thing_id, report.dialog_id, report.reporter),
                *(report.accused, report.reason, report.comment, report.evidence),
                *(report.now_ms, report.now_ms),
            ),
        )
        return number

    async def open_reports(self, limit: int) -> tuple[list[ReportRecord], int]:
        rows = await self._pool.fetch(
            f"SELECT {_REPORT}, (SELECT count(*) FROM reports"
            f" WHERE resolved_ms IS NULL) {_REPORTS}"
            " WHERE r.resolved_ms IS NULL ORDER BY r.number LIMIT %s",
            (limit,),
        )
        return [_report(row[:-1]) for row in rows], rows[0][-1] if rows else 0

    async def report_numbered(self, number: int) -> ReportRecord | None:
        row = await self._pool.fetch_one(
            f"SELECT {_REPORT} {_REPORTS} WHERE r.number = %s", (number,)
        )
        return None if row is None else _report(row)

    async def resolve(
        self, thing: Thing, thing_id: UUID, action: str, decision: Decision
    ) -> int:
        async with self._pool.transaction() as connection:
            resolved = await connection.execute(
                "UPDATE reports SET resolved_ms = %s, action = %s"
                " WHERE thing_id = %s AND thing = %s AND resolved_ms IS NULL",
                (decision.at_ms, action, thing_id, thing),
            )
            await _note(connection, decision)
        return resolved.rowcount

    async def sanctions(self) -> list[Sanction]:
        rows = await self._pool.fetch(
            f"SELECT {_SANCTION} FROM sanctions ORDER BY number, kind"
        )
        names = Sanction.__struct_fields__
        return [Sanction(**dict(zip(names, row, strict=True))) for row in rows]

    async def put_sanction(self, sanction: Sanction, decision: Decision) -> None:
        async with self._pool.transaction() as connection:
            await connection.execute(
                f"INSERT INTO sanctions ({_SANCTION}) VALUES (%s, %s, %s, %s, %s)"
                " ON CONFLICT (number, kind) DO UPDATE SET"
                " until_ms = excluded.until_ms, since_ms = excluded.since_ms,"
                " reason = excluded.reason",
                (
                    *(sanction.number, sanction.kind, sanction.until_ms),
                    *(sanction.since_ms, sanction.reason),
                ),
            )
            await _note(connection, decision)

    async def end_sanction(
        self, number: int, kind: SanctionKind, decision: Decision
    ) -> bool:
        async with self._pool.transaction() as connection:
            ended = await connection.execute(
                "DELETE FROM sanctions WHERE number = %s AND kind = %s", (number, kind)
            )
            if ended.rowcount:
                await _note(connection, decision)
        return ended.rowcount == 1

    async def put_tier(self, number: int, tier: int, decision: Decision) -> bool:
        async with self._pool.transaction() as connection:
            changed = await connection.execute(
                "UPDATE users SET kyc_tier = %s,"
                " updated_ms = greatest(updated_ms + 1, %s)"
                " WHERE number = %s AND deleted_ms IS NULL",
                (tier, decision.at_ms, number),
            )
            if changed.rowcount:
                await _note(connection, decision)
        return changed.rowcount == 1

    async def note(self, decision: Decision) -> None:
        async with self._pool.connection() as connection:
            await _note(connection, decision)

    async def decisions(self, limit: int) -> tuple[list[Decision], int]:
        rows = await self._pool.fetch(
            f"SELECT {_DECISION}, (SELECT count(*) FROM moderation_log)"
            " FROM moderation_log ORDER BY number DESC LIMIT %s",
            (limit,),
        )
        names = Decision.__struct_fields__
        made = [Decision(**dict(zip(names, row[:-1], strict=True))) for row in rows]
        return made, rows[0][-1] if rows else 0


async def _note(connection: Connection, decision: Decision) -> None:
    await connection.execute(
        f"INSERT INTO moderation_log ({_DECISION}) VALUES (%s, %s, %s, %s, %s)",
        tuple(getattr(decision, name) for name in Decision.__struct_fields__),
    )


def _report(row: Row) -> ReportRecord:
    return ReportRecord(**dict(zip(ReportRecord.__struct_fields__, row, strict=True)))


assert ", ".join(Sanction.__struct_fields__) == _SANCTION
assert ", ".join(Decision.__struct_fields__) == _DECISION
