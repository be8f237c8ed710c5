"""Owns what the sandbox keeps in memory, for tests.

Every method has a checkpoint before it touches anything, none in between.
"""

from __future__ import annotations

import trio
from msgspec import structs

from tchatd.domains.payment.sandbox import EntryKind, EntryState, SandboxEntry


class MemorySandboxStore:
    """A `SandboxStore`."""

    def __init__(self) -> None:
        self._entries: dict[str, SandboxEntry] = {}
        self._ids: dict[tuple[EntryKind, str], str] = {}

    async def add(self, entry: SandboxEntry) -> SandboxEntry:
        await trio.lowlevel.checkpoint()
        return self._add(entry)

    async def add_refund(self, entry: SandboxEntry) -> SandboxEntry | None:
        await trio.lowlevel.checkpoint()
        assert entry.of is not None
        if (entry.kind, entry.key) in self._ids:
            return self._add(entry)
        charge = self._entries.get(entry.of)
        if charge is None or charge.kind != "charge" or charge.state != "paid":
            return None
        whole = self._refunded_minor(entry.of) + entry.amount_minor
        if charge.currency is not entry.currency or whole > charge.amount_minor:
            return None
        return self._add(entry)

    async def entry(self, id: str) -> SandboxEntry | None:
        await trio.lowlevel.checkpoint()
        return self._entries.get(id)

    async def by_key(self, kind: EntryKind, key: str) -> SandboxEntry | None:
        await trio.lowlevel.checkpoint()
        return self._entries.get(self._ids.get((kind, key), ""))

    async def refunded_minor(self, id: str) -> int:
        await trio.lowlevel.checkpoint()
        return self._refunded_minor(id)

    async def settle(
        self, id: str, state: EntryState, now_ms: int
    ) -> SandboxEntry | None:
        await trio.lowlevel.checkpoint()
        found = self._entries.get(id)
        if found is None or found.state != "pending":
            return None
        settled = structs.replace(found, state=state, updated_at_ms=now_ms)
        self._entries[id] = settled
        return settled

    def _add(self, entry: SandboxEntry) -> SandboxEntry:
        id = self._ids.setdefault((entry.kind, entry.key), entry.id)
        return self._entries.setdefault(id, entry)

    def _refunded_minor(self, id: str) -> int:
        return sum(
            entry.amount_minor
            for entry in self._entries.values()
            if entry.of == id and entry.state != "failed"
        )
