"""Owns the rows of idempotency keys in memory, for tests and for trying out."""

from __future__ import annotations

from uuid import UUID

import msgspec

from tchatd.edge.idempotency import Reservation
from tchatd.kernel.errors import Unavailable


class _Row(msgspec.Struct):
    fingerprint: bytes
    idempotency_id: UUID
    node: str
    lease_until_ms: int
    expires_at_ms: int
    answer: bytes | None = None


class MemoryIdempotencyStore:
    """See the port. rows_max: beyond it new keys are refused until rows expire."""

    def __init__(self, rows_max: int = 100_000) -> None:
        self._rows_max = rows_max
        self._rows: dict[bytes, _Row] = {}

    async def reserve(
        self,
        key: bytes,
        fingerprint: bytes,
        idempotency_id: UUID,
        *,
        node: str,
        now_ms: int,
        lease_until_ms: int,
        expires_at_ms: int,
    ) -> Reservation:
        row = self._rows.get(key)
        if row is None and len(self._rows) >= self._rows_max:
            raise Unavailable("Too many idempotency keys are kept.")
        if row is None or row.expires_at_ms <= now_ms:
            self._rows[key] = _Row(
                fingerprint, idempotency_id, node, lease_until_ms, expires_at_ms
            )
            return Reservation(idempotency_id, fingerprint, None, ours=True)
        is_free = row.node == node or row.lease_until_ms <= now_ms
        if row.answer is None and row.fingerprint == fingerprint and is_free:
            row.node, row.lease_until_ms = node, lease_until_ms
            row.expires_at_ms = expires_at_ms
            return Reservation(row.idempotency_id, fingerprint, None, ours=True)
        return Reservation(row.idempotency_id, row.fingerprint, row.answer, ours=False)

    async def complete(self, key: bytes, idempotency_id: UUID, answer: bytes) -> None:
        row = self._rows.get(key)
        if row is not None and row.idempotency_id == idempotency_id:
            row.answer = answer if row.answer is None else row.answer

    async def release(self, key: bytes, idempotency_id: UUID) -> None:
        row = self._rows.get(key)
        if row is not None and row.idempotency_id == idempotency_id:
            row.lease_until_ms = 0

    async def prune(self, now_ms: int, count_max: int) -> int:
        expired = [k for k, row in self._rows.items() if row.expires_at_ms <= now_ms]
        for key in expired[:count_max]:
            del self._rows[key]
        return min(len(expired), count_max)
