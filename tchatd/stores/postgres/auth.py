"""Owns the rows of users, sessions, challenges and code sends.

Locks are taken in one order: a challenge, then its user, then sessions. Limits on codes
are exact across nodes by transaction-level advisory locks on what they count by.
"""
# Statements are put together of this module's own column names, never of values.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from msgspec import UnsetType

from tchatd.domains.auth import rules
from tchatd.domains.auth.models import (
    Challenge,
    EndedSession,
    EndReason,
    IdentifierKind,
    NewUser,
    ProfileChange,
    Rotation,
    RotationOutcome,
    Scope,
    SessionRecord,
    Status,
    UserRecord,
    Wrapped,
)
from tchatd.kernel.errors import Unavailable
from tchatd.stores.postgres.connection import Connection
from tchatd.stores.postgres.pool import Pool

_USER = (
    "id, number, data_key, phone_sealed, email_sealed, name, avatar, country, locale,"
    " kyc_tier, status, is_verified, created_ms, updated_ms, is_bot"
)
_SESSION = (
    "id, user_number, sealed, refresh_hash, previous_hash, created_ms, used_ms,"
    " rotated_ms, expires_ms, revoked_ms"
)
_CHALLENGE = (
    "id, kind, identifier_hash, sealed, code_hash, country, created_ms, expires_ms"
)
_HASH_COLUMN: dict[IdentifierKind, str] = {"phone": "phone_hash", "email": "email_hash"}
_SEALED_COLUMN: dict[IdentifierKind, str] = {
    "phone": "phone_sealed",
    "email": "email_sealed",
}

Row = tuple[Any, ...]

_CREATE_ATTEMPTS = 3


class PostgresAuthStore:
    """An `AuthStore`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    # Users.

    async def users_by_id(self, ids: Sequence[UUID]) -> list[UserRecord]:
        rows = await self._pool.fetch(
            f"SELECT {_USER} FROM users WHERE id = ANY(%b) AND deleted_ms IS NULL",
            (list(ids),),
        )
        return [_user(row) for row in rows]

    async def users_by_number(self, numbers: Sequence[int]) -> list[UserRecord]:
        rows = await self._pool.fetch(
            f"SELECT {_USER} FROM users"
            " WHERE number = ANY(%b::integer[]) AND deleted_ms IS NULL",
            (list(numbers),),
        )
        return [_user(row) for row in rows]

    async def user_by_identifier(
        self, kind: IdentifierKind, identifier_hash: bytes
    ) -> UserRecord | None:
        row = await self._pool.fetch_one(
            f"SELECT {_USER} FROM users"
            f" WHERE {_HASH_COLUMN[kind]} = %s AND deleted_ms IS NULL",
            (identifier_hash,),
        )
        return None if row is None else _user(row)

    async def users_by_identifiers(
        self, kind: IdentifierKind, identifier_hashes: Sequence[bytes]
    ) -> Mapping[bytes, UserRecord]:
        column = _HASH_COLUMN[kind]
        rows = await self._pool.fetch(
            f"SELECT {column}, {_USER} FROM users"
            f" WHERE {column} = ANY(%b::bytea[]) AND deleted_ms IS NULL",
            (list(identifier_hashes),),
        )
        return {bytes(row[0]): _user(row[1:]) for row in rows}

    async def create_user(self, user: NewUser) -> UserRecord:
        insert = (
            f"INSERT INTO users (id, {_HASH_COLUMN[user.kind]},"
            f" {_SEALED_COLUMN[user.kind]}, data_key, data_key_id, name, country,"
            " locale, created_ms, updated_ms)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
            f" ON CONFLICT ({_HASH_COLUMN[user.kind]}) DO NOTHING RETURNING {_USER}"
        )
        fields = (
            user.id,
            user.identifier_hash,
            user.sealed,
            user.data_key,
            user.data_key_id,
            user.name,
            user.country,
            user.locale,
            user.created_ms,
            user.created_ms,
        )
        for _ in range(_CREATE_ATTEMPTS):
            row = await self._pool.fetch_one(insert, fields)
            if row is not None:
                return _user(row)
            first = await self.user_by_identifier(user.kind, user.identifier_hash)
            # Gone again only if that user was erased between the two statements.
            if first is not None:
                return first
        raise Unavailable("The phone or email is changing hands")

    async def change_user(
        self, number: int, change: ProfileChange, now_ms: int
    ) -> UserRecord | None:
        fields = {
            name: value
            for name in change.__struct_fields__
            if not isinstance(value := getattr(change, name), UnsetType)
        }
        assignments = "".join(f"{name} = %s, " for name in fields)
        row = await self._pool.fetch_one(
            f"UPDATE users SET {assignments}"
            " updated_ms = greatest(updated_ms + 1, %s)"
            f" WHERE number = %s AND deleted_ms IS NULL RETURNING {_USER}",
            (*fields.values(), now_ms, number),
        )
        return None if row is None else _user(row)

    async def choices(self) -> list[tuple[int, Status]]:
        rows = await self._pool.fetch(
            "SELECT number, status FROM users"
            " WHERE status <> 'online' AND deleted_ms IS NULL"
        )
        return [(number, status) for number, status in rows]

    async def data_keys_not_under(self, key_id: str, count: int) -> list[Wrapped]:
        # Two ranges of the index instead of `<>`, which would read all of it.
        rows = await self._pool.fetch(
            "(SELECT id, data_key FROM users WHERE data_key IS NOT NULL"
            " AND data_key_id < %(key_id)s LIMIT %(count)s) UNION ALL"
            " (SELECT id, data_key FROM users WHERE data_key IS NOT NULL"
            " AND data_key_id > %(key_id)s LIMIT %(count)s) LIMIT %(count)s",
            {"key_id": key_id, "count": count},
        )
        return [Wrapped(*row) for row in rows]

    async def replace_data_key(
        self, user_id: UUID, old: bytes, new: bytes, key_id: str
    ) -> bool:
        changed = await self._pool.execute(
            "UPDATE users SET data_key = %s, data_key_id = %s"
            " WHERE id = %s AND data_key = %s",
            (new, key_id, user_id, old),
        )
        return changed == 1

    # Challenges.

    async def open_challenge(
        self, challenge: Challenge, scopes: Sequence[Scope], resend_ms: int
    ) -> int:
        now_ms = challenge.created_ms
        locks = sorted(
            {int.from_bytes(scope.hash[:8], "big", signed=True) for scope in scopes}
        )
        async with self._pool.transaction() as connection:
            # In ascending order, so that two sends cannot wait for each other.
            await connection.execute(
                "SELECT pg_advisory_xact_lock(key)"
                " FROM unnest(%b::bigint[]) WITH ORDINALITY AS locks (key, place)",
                (locks,),
            )
            recents = await _recent(connection, scopes, now_ms)
            wait_ms = max(
                rules.wait_for_send(
                    recent, now_ms, scope.sends_max, resend_ms if place == 0 else 0
                )
                for place, (scope, recent) in enumerate(
                    zip(scopes, recents, strict=True)
                )
            )
            if wait_ms > 0:
                return wait_ms
            await connection.execute(
                f"INSERT INTO challenges ({_CHALLENGE})"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
                _fields(challenge),
            )
            await connection.execute(
                "INSERT INTO code_sends (scope_hash, sent_ms)"
                " SELECT hash, %s FROM unnest(%b::bytea[]) AS scopes (hash)",
                (now_ms, [scope.hash for scope in scopes]),
            )
        return 0

    async def guess(self, id: UUID, now_ms: int, guesses_max: int) -> Challenge | None:
        # One statement: PostgreSQL locks the row and checks again after waiting.
        row = await self._pool.fetch_one(
            "UPDATE challenges SET guesses = guesses + 1"
            " WHERE id = %s AND guesses < %s AND used_ms IS NULL AND expires_ms > %s"
            f" RETURNING {_CHALLENGE}",
            (id, guesses_max, now_ms),
        )
        return None if row is None else _challenge(row)

    async def prune_challenges(self, created_before_ms: int, count: int) -> int:
        pruned = await self._pool.execute(
            "DELETE FROM challenges WHERE id IN (SELECT id FROM challenges"
            " WHERE created_ms < %s LIMIT %s FOR UPDATE SKIP LOCKED)",
            (created_before_ms, count),
        )
        return pruned + await self._pool.execute(
            "DELETE FROM code_sends WHERE ctid = ANY(ARRAY(SELECT ctid FROM code_sends"
            " WHERE sent_ms < %s LIMIT %s FOR UPDATE SKIP LOCKED))",
            (created_before_ms, count),
        )

    # Sessions.

    async def open_session(
        self, challenge_id: UUID, session: SessionRecord, sessions_max: int
    ) -> list[UUID] | None:
        now_ms = session.created_ms
        async with self._pool.transaction() as connection:
            used = await connection.fetch_one(
                "UPDATE challenges SET used_ms = %s"
                " WHERE id = %s AND used_ms IS NULL RETURNING id",
                (now_ms, challenge_id),
            )
            if used is None or not await _lock_user(connection, session.user_number):
                return None
            live = await _live(connection, session.user_number, now_ms)
            surplus = rules.surplus(live, sessions_max - 1)
            await connection.execute(
                f"INSERT INTO sessions ({_SESSION})"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                _fields(session),
            )
            return await _end(
                connection, [old.id for old in surplus], now_ms, EndReason.REPLACED
            )

    async def rotate_session(
        self,
        id: UUID,
        presented_hash: bytes,
        next_hash: bytes,
        now_ms: int,
        grace_ms: int,
        lifetime_ms: int,
    ) -> Rotation | None:
        async with self._pool.transaction() as connection:
            row = await connection.fetch_one(
                f"SELECT {_SESSION} FROM sessions WHERE id = %s FOR UPDATE", (id,)
            )
            if row is None:
                return None
            session = _session(row)
            outcome = rules.rotate(session, presented_hash, now_ms, grace_ms)
            if outcome is RotationOutcome.ROTATED:
                await connection.execute(
                    "UPDATE sessions SET previous_hash = refresh_hash,"
                    " refresh_hash = %s, rotated_ms = %s, used_ms = %s,"
                    " expires_ms = %s WHERE id = %s",
                    (next_hash, now_ms, now_ms, now_ms + lifetime_ms, id),
                )
            elif outcome is RotationOutcome.REUSED:
                await _end(connection, [id], now_ms, EndReason.REUSE)
            return Rotation(outcome, session.user_number)

    async def live_sessions(self, user_number: int, now_ms: int) -> list[SessionRecord]:
        async with self._pool.connection() as connection:
            return await _live(connection, user_number, now_ms)

    async def end_sessions(
        self,
        user_number: int,
        now_ms: int,
        reason: EndReason,
        *,
        only: UUID | None = None,
        but: UUID | None = None,
    ) -> list[UUID]:
        async with self._pool.transaction() as connection:
            if not await _lock_user(connection, user_number):
                return []
            live = await _live(connection, user_number, now_ms)
            ids = [
                session.id
                for session in live
                if only in (None, session.id) and session.id != but
            ]
            return await _end(connection, ids, now_ms, reason)

    async def sessions_ended_since(self, since_ms: int) -> list[EndedSession]:
        rows = await self._pool.fetch(
            "SELECT id, user_number, revoked_ms FROM sessions WHERE revoked_ms > %s"
            " ORDER BY revoked_ms",
            (since_ms,),
        )
        return [EndedSession(*row) for row in rows]

    async def prune_sessions(self, ended_before_ms: int, count: int) -> int:
        return await self._pool.execute(
            "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions"
            " WHERE coalesce(revoked_ms, expires_ms) < %s"
            " LIMIT %s FOR UPDATE SKIP LOCKED)",
            (ended_before_ms, count),
        )


async def _recent(
    connection: Connection, scopes: Sequence[Scope], now_ms: int
) -> list[rules.Recent]:
    rows = await connection.fetch(
        "SELECT count(sent_ms), coalesce(min(sent_ms), 0), coalesce(max(sent_ms), 0)"
        " FROM unnest(%b::bytea[], %b::integer[]) WITH ORDINALITY"
        " AS scopes (hash, sends_max, place)"
        " LEFT JOIN LATERAL (SELECT sent_ms FROM code_sends"
        " WHERE scope_hash = hash AND sent_ms > %s"
        " ORDER BY sent_ms DESC LIMIT sends_max) AS sends ON true"
        " GROUP BY place ORDER BY place",
        (
            [scope.hash for scope in scopes],
            [scope.sends_max for scope in scopes],
            now_ms - rules.HOUR_MS,
        ),
    )
    return [rules.Recent(*row) for row in rows]


async def _lock_user(connection: Connection, user_number: int) -> bool:
    """Sessions of a user are opened and ended one at a time; False if erased.

    NO KEY: rows that refer to the user may be written meanwhile.
    """
    row = await connection.fetch_one(
        "SELECT number FROM users WHERE number = %s AND deleted_ms IS NULL"
        " FOR NO KEY UPDATE",
        (user_number,),
    )
    return row is not None


async def _live(
    connection: Connection, user_number: int, now_ms: int
) -> list[SessionRecord]:
    rows = await connection.fetch(
        f"SELECT {_SESSION} FROM sessions WHERE user_number = %s"
        " AND revoked_ms IS NULL AND expires_ms > %s"
        " ORDER BY used_ms DESC, created_ms DESC, id",
        (user_number, now_ms),
    )
    return [_session(row) for row in rows]


async def _end(
    connection: Connection, ids: list[UUID], now_ms: int, reason: EndReason
) -> list[UUID]:
    if not ids:
        return []
    rows = await connection.fetch(
        "UPDATE sessions SET revoked_ms = %s, revoked_reason = %s"
        " WHERE id = ANY(%b) AND revoked_ms IS NULL RETURNING id",
        (now_ms, reason.value, ids),
    )
    return [row[0] for row in rows]


def _fields(record: Challenge | SessionRecord) -> tuple[Any, ...]:
    """Its values in the order of the columns above, which is that of its fields."""
    return tuple(getattr(record, name) for name in record.__struct_fields__)


def _user(row: Row) -> UserRecord:
    return UserRecord(**dict(zip(UserRecord.__struct_fields__, row, strict=True)))


def _session(row: Row) -> SessionRecord:
    return SessionRecord(**dict(zip(SessionRecord.__struct_fields__, row, strict=True)))


def _challenge(row: Row) -> Challenge:
    return Challenge(**dict(zip(Challenge.__struct_fields__, row, strict=True)))


def _columns(record: type[Challenge | SessionRecord | UserRecord]) -> str:
    return ", ".join(record.__struct_fields__)


assert _columns(UserRecord) == _USER
assert _columns(SessionRecord) == _SESSION
assert _columns(Challenge) == _CHALLENGE
