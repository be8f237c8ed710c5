"""Owns the rows of idempotency keys in PostgreSQL."""

from __future__ import annotations

from uuid import UUID

from tchatd.edge.idempotency import Reservation
from tchatd.kernel.errors import Unavailable
from tchatd.stores.postgres.pool import Pool

# One statement decides who has the key: a row that is there is locked by ON CONFLICT,
# and seen as it is after any other transaction that wanted it has ended.
_RESERVE = """
INSERT INTO idempotency_keys AS k
    (key, fingerprint, idempotency_id, node, lease_until_ms, expires_at_ms)
VALUES (%(key)s, %(fingerprint)s, %(id)s, %(node)s, %(lease)s, %(expires)s)
ON CONFLICT (key) DO UPDATE SET
    fingerprint = excluded.fingerprint,
    idempotency_id = CASE WHEN k.expires_at_ms <= %(now)s
        THEN excluded.idempotency_id ELSE k.idempotency_id END,
    answer = NULL,
    node = excluded.node,
    lease_until_ms = excluded.lease_until_ms,
    expires_at_ms = excluded.expires_at_ms
WHERE k.expires_at_ms <= %(now)s
   OR (k.answer IS NULL AND k.fingerprint = excluded.fingerprint
       AND (k.node = excluded.node OR k.lease_until_ms <= %(now)s))
RETURNING idempotency_id
"""
_READ = (
    "SELECT idempotency_id, fingerprint, answer FROM idempotency_keys WHERE key = %s"
)
_COMPLETE = """
UPDATE idempotency_keys SET answer = %s
WHERE key = %s AND idempotency_id = %s AND answer IS NULL
"""
_RELEASE = """
UPDATE idempotency_keys SET lease_until_ms = 0
WHERE key = %s AND idempotency_id = %s AND answer IS NULL
"""
_PRUNE = """
DELETE FROM idempotency_keys WHERE key IN (
    SELECT key FROM idempotency_keys WHERE expires_at_ms <= %s
    ORDER BY expires_at_ms LIMIT %s FOR UPDATE SKIP LOCKED)
"""


class PostgresIdempotencyStore:
    """See the port, `tchatd.edge.idempotency.IdempotencyStore`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

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
        async with self._pool.connection() as connection:
            taken = await connection.fetch_one(
                _RESERVE,
                {
                    "key": key,
                    "fingerprint": fingerprint,
                    "id": idempotency_id,
                    "node": node,
                    "lease": lease_until_ms,
                    "expires": expires_at_ms,
                    "now": now_ms,
                },
            )
            if taken is not None:
                return Reservation(taken[0], fingerprint, None, ours=True)
            row = await connection.fetch_one(_READ, (key,))
        if row is None:
            raise Unavailable("The key was pruned at this moment.")
        return Reservation(row[0], row[1], row[2], ours=False)

    async def complete(self, key: bytes, idempotency_id: UUID, answer: bytes) -> None:
        await self._pool.execute(_COMPLETE, (answer, key, idempotency_id))

    async def release(self, key: bytes, idempotency_id: UUID) -> None:
        await self._pool.execute(_RELEASE, (key, idempotency_id))

    async def prune(self, now_ms: int, count_max: int) -> int:
        return await self._pool.execute(_PRUNE, (now_ms, count_max))
