"""Owns public names in memory: the port's meaning, for tests."""

from __future__ import annotations

from msgspec import structs

from tchatd.domains.messaging.beside import NameRow


class MemoryNameStore:
    """Nothing here awaits, so that each call is one transaction."""

    def __init__(self) -> None:
        self._rows: dict[str, NameRow] = {}

    async def claim_name(
        self, name: str, dialog_number: int, now_ms: int
    ) -> NameRow | None:
        row = self._rows.get(name)
        if row is not None and row.dialog_number == dialog_number and not row.free_ms:
            return row
        is_free = row is None or 0 < row.free_ms <= now_ms
        if not is_free and row is not None and row.dialog_number != dialog_number:
            return None
        self._rows[name] = NameRow(name, dialog_number, now_ms)
        return self._rows[name]

    async def name(self, name: str) -> NameRow | None:
        return self._rows.get(name)

    async def names_held(self, dialog_number: int, but: str, now_ms: int) -> int:
        return sum(
            row.dialog_number == dialog_number
            and row.name != but
            and (not row.free_ms or row.free_ms > now_ms)
            for row in self._rows.values()
        )

    async def settle_name(self, name: str, dialog_number: int, free_ms: int) -> None:
        for row in list(self._rows.values()):
            if row.dialog_number != dialog_number:
                continue
            if row.name == name:
                self._rows[name] = structs.replace(row, is_settled=True, free_ms=0)
            elif not row.free_ms:
                self._rows[row.name] = structs.replace(row, free_ms=free_ms)

    async def give_up_names(
        self, dialog_number: int, free_ms: int, name: str | None = None
    ) -> None:
        for row in list(self._rows.values()):
            is_meant = name is None or row.name == name
            if row.dialog_number == dialog_number and is_meant and not row.free_ms:
                self._rows[row.name] = structs.replace(row, free_ms=free_ms)

    async def unsettled_names(
        self, claimed_before_ms: int, limit: int
    ) -> list[NameRow]:
        rows = [
            row
            for row in self._rows.values()
            if not row.is_settled
            and not row.free_ms
            and row.claimed_ms < claimed_before_ms
        ]
        return sorted(rows, key=lambda row: (row.claimed_ms, row.name))[:limit]

    async def prune_names(self, free_before_ms: int, limit: int) -> int:
        old = [r.name for r in self._rows.values() if 0 < r.free_ms < free_before_ms]
        for name in old[:limit]:
            del self._rows[name]
        return min(len(old), limit)
