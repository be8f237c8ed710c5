"""Owns the rows of invites, of uses of them, and of requests to join, in PostgreSQL.

Whoever takes a use, or gives one back, locks the invite's row first, so that uses are
counted one after the other. Whoever counts the rows of a dialog before adding one
holds a lock of the dialog for its transaction.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from msgspec import structs

from tchatd.domains.messaging.beside import Claim, InviteRow, JoinRequestRow
from tchatd.stores.postgres.connection import Connection
from tchatd.stores.postgres.pool import Pool

# Statements are put together of this module's own column names, never of values.
# ruff: noqa: S608

_INVITE: Final = (
    "code_hash, seed, dialog_number, creator, creator_id, created_ms, expires_ms,"
    " uses_max, needs_approval, title, uses"
)
_REQUEST: Final = "dialog_number, user_number, user_id, asked_ms, code_hash"
_INVITES_LOCK: Final = 1
_REQUESTS_LOCK: Final = 2
assert tuple(_INVITE.split(", ")) == InviteRow.__struct_fields__
assert tuple(_REQUEST.split(", ")) == JoinRequestRow.__struct_fields__

_CREATE = f"""
INSERT INTO invites ({_INVITE})
SELECT %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s
WHERE (SELECT count(*) FROM invites
       WHERE dialog_number = %s AND (expires_ms = 0 OR expires_ms > %s)) < %s
"""
_REVOKE = "DELETE FROM invites WHERE code_hash = %s AND dialog_number = %s"
_TAKE_OVER = """
UPDATE invite_claims SET token = %s, taken_ms = %s
WHERE code_hash = %s AND user_number = %s
"""
_CLAIM = """
INSERT INTO invite_claims (code_hash, user_number, token, taken_ms)
VALUES (%s, %s, %s, %s)
"""
_USE = "UPDATE invites SET uses = uses + %s WHERE code_hash = %s"
_SETTLE = "DELETE FROM invite_claims WHERE code_hash = %s AND user_number = %s"
_GIVE_BACK = f"{_SETTLE} AND token = %s"
_CLAIMS = """
SELECT c.code_hash, c.user_number, c.token, i.dialog_number
FROM invite_claims c JOIN invites i USING (code_hash)
WHERE c.taken_ms < %s ORDER BY c.taken_ms LIMIT %s
"""
_ASK = f"INSERT INTO join_requests ({_REQUEST}) VALUES (%s, %s, %s, %s, %s)"
_REQUESTS = f"""
SELECT {_REQUEST} FROM join_requests
WHERE dialog_number = %s AND (asked_ms, user_id) > (%s, %s)
ORDER BY asked_ms, user_id LIMIT %s
"""
_WAITING = "SELECT count(*) FROM join_requests WHERE dialog_number = %s"
_BEFORE_ALL = -1, UUID(int=0)
_PRUNE = """
DELETE FROM invites WHERE code_hash IN (
    SELECT code_hash FROM invites WHERE expires_ms > 0 AND expires_ms < %s
    ORDER BY expires_ms LIMIT %s FOR UPDATE SKIP LOCKED)
"""


class PostgresInviteStore:
    """See the port, `tchatd.domains.messaging.beside.InviteStore`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create(self, row: InviteRow, now_ms: int, invites_max: int) -> bool:
        values = structs.astuple(row)
        async with self._pool.transaction() as connection:
            await _lock(connection, _INVITES_LOCK, row.dialog_number)
            cursor = await connection.execute(
                _CREATE, (*values, row.dialog_number, now_ms, invites_max)
            )
            return cursor.rowcount == 1

    async def invite(self, code_hash: bytes) -> InviteRow | None:
        query = f"SELECT {_INVITE} FROM invites WHERE code_hash = %s"
        row = await self._pool.fetch_one(query, (code_hash,))
        return None if row is None else InviteRow(*row)

    async def invites_of(self, dialog_number: int) -> list[InviteRow]:
        query = (
            f"SELECT {_INVITE} FROM invites WHERE dialog_number = %s"
            " ORDER BY created_ms DESC, code_hash"
        )
        rows = await self._pool.fetch(query, (dialog_number,))
        return [InviteRow(*row) for row in rows]

    async def revoke(self, dialog_number: int, code_hash: bytes) -> bool:
        return await self._pool.execute(_REVOKE, (code_hash, dialog_number)) == 1

    async def claim(
        self, code_hash: bytes, user_number: int, token: UUID, now_ms: int
    ) -> Claim | None:
        async with self._pool.transaction() as connection:
            row = await _locked(connection, code_hash)
            if row is None or not row.is_in_time(now_ms):
                return None
            taken = await connection.execute(
                _TAKE_OVER, (token, now_ms, code_hash, user_number)
            )
            is_new = taken.rowcount == 0
            if is_new:
                if not row.is_open(now_ms):
                    return None
                await connection.execute(_USE, (1, code_hash))
                await connection.execute(
                    _CLAIM, (code_hash, user_number, token, now_ms)
                )
        return Claim(code_hash, user_number, token, is_new, row.dialog_number)

    async def settle(self, claim: Claim) -> None:
        await self._pool.execute(_SETTLE, (claim.code_hash, claim.user_number))

    async def give_back(self, claim: Claim) -> None:
        async with self._pool.transaction() as connection:
            await _locked(connection, claim.code_hash)
            given = await connection.execute(
                _GIVE_BACK, (claim.code_hash, claim.user_number, claim.token)
            )
            if given.rowcount:
                await connection.execute(_USE, (-1, claim.code_hash))

    async def claims_before(self, taken_ms: int, limit: int) -> list[Claim]:
        rows = await self._pool.fetch(_CLAIMS, (taken_ms, limit))
        return [
            Claim(code_hash, user, token, True, number)
            for code_hash, user, token, number in rows
        ]

    async def request(
        self, row: JoinRequestRow, now_ms: int, requests_max: int
    ) -> bool | None:
        async with self._pool.transaction() as connection:
            await _lock(connection, _REQUESTS_LOCK, row.dialog_number)
            before = await _request(connection, row.dialog_number, row.user_number)
            if before is not None:
                return False
            counted = await connection.fetch_value(_WAITING, (row.dialog_number,))
            if counted >= requests_max:
                return None
            if row.code_hash is not None:
                invite = await _locked(connection, row.code_hash)
                if invite is None or not invite.is_open(now_ms):
                    return None
                await connection.execute(_USE, (1, row.code_hash))
            await connection.execute(_ASK, structs.astuple(row))
        return True

    async def requested(
        self, dialog_number: int, user_number: int
    ) -> JoinRequestRow | None:
        async with self._pool.connection() as connection:
            return await _request(connection, dialog_number, user_number)

    async def requests_of(
        self, dialog_number: int, limit: int, after: tuple[int, UUID] | None = None
    ) -> tuple[list[JoinRequestRow], int]:
        place = after or _BEFORE_ALL
        async with self._pool.connection() as connection:
            total = await connection.fetch_value(_WAITING, (dialog_number,))
            rows = await connection.fetch(_REQUESTS, (dialog_number, *place, limit))
        return [JoinRequestRow(*row) for row in rows], total

    async def decide(
        self, dialog_number: int, user_number: int, *, approved: bool
    ) -> bool:
        async with self._pool.transaction() as connection:
            row = await connection.fetch_one(
                "DELETE FROM join_requests WHERE dialog_number = %s"
                " AND user_number = %s RETURNING code_hash",
                (dialog_number, user_number),
            )
            if row is not None and row[0] is not None and not approved:
                await connection.execute(_USE, (-1, row[0]))
        return row is not None

    async def forget_dialog(self, dialog_number: int) -> None:
        async with self._pool.transaction() as connection:
            for table in ("join_requests", "invites"):
                await connection.execute(
                    f"DELETE FROM {table} WHERE dialog_number = %s", (dialog_number,)
                )

    async def prune_invites(self, expired_before_ms: int, limit: int) -> int:
        return await self._pool.execute(_PRUNE, (expired_before_ms, limit))


async def _lock(connection: Connection, kind: int, dialog_number: int) -> None:
    """Until the transaction ends; of another dialog now and then, which is harmless."""
    key = dialog_number & 0x7FFF_FFFF
    await connection.execute(
        "SELECT pg_advisory_xact_lock(%s::int, %s::int)", (kind, key)
    )


async def _locked(connection: Connection, code_hash: bytes) -> InviteRow | None:
    query = f"SELECT {_INVITE} FROM invites WHERE code_hash = %s FOR UPDATE"
    row = await connection.fetch_one(query, (code_hash,))
    return None if row is None else InviteRow(*row)


async def _request(
    connection: Connection, dialog_number: int, user_number: int
) -> JoinRequestRow | None:
    query = (
        f"SELECT {_REQUEST} FROM join_requests"
        " WHERE dialog_number = %s AND user_number = %s"
    )
    row: tuple[Any, ...] | None = await connection.fetch_one(
        query, (dialog_number, user_number)
    )
    return None if row is None else JoinRequestRow(*row)
