"""Owns users, sessions and challenges in memory: for tests, and as the rules' model.

Every method has a checkpoint before it touches anything, none in between: it is as
atomic as a transaction, and tasks interleave around it as around a query.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
import trio
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


class _Sent:
    __slots__ = ("challenge", "guesses", "used")

    def __init__(self, challenge: Challenge) -> None:
        self.challenge = challenge
        self.guesses = 0
        self.used = False


class MemoryAuthStore:
    """An `AuthStore`. queries: how many there were."""

    def __init__(self) -> None:
        self.queries = 0
        self._users: dict[int, UserRecord] = {}
        self._numbers: dict[UUID, int] = {}
        self._identifiers: dict[tuple[IdentifierKind, bytes], int] = {}
        self._data_key_ids: dict[int, str] = {}
        self._challenges: dict[UUID, _Sent] = {}
        self._sends: dict[bytes, list[int]] = {}
        self._sessions: dict[UUID, SessionRecord] = {}

    async def _query(self) -> None:
        await trio.lowlevel.checkpoint()
        self.queries += 1

    # Users.

    async def users_by_id(self, ids: Sequence[UUID]) -> list[UserRecord]:
        await self._query()
        return [self._users[self._numbers[id]] for id in ids if id in self._numbers]

    async def users_by_number(self, numbers: Sequence[int]) -> list[UserRecord]:
        await self._query()
        return [self._users[number] for number in numbers if number in self._users]

    async def user_by_identifier(
        self, kind: IdentifierKind, identifier_hash: bytes
    ) -> UserRecord | None:
        await self._query()
        number = self._identifiers.get((kind, identifier_hash))
        return None if number is None else self._users[number]

    async def users_by_identifiers(
        self, kind: IdentifierKind, identifier_hashes: Sequence[bytes]
    ) -> Mapping[bytes, UserRecord]:
        await self._query()
        numbers = {
            hash: self._identifiers[kind, hash]
            for hash in identifier_hashes
            if (kind, hash) in self._identifiers
        }
        return {hash: self._users[number] for hash, number in numbers.items()}

    async def create_user(self, user: NewUser) -> UserRecord:
        await self._query()
        key = (user.kind, user.identifier_hash)
        if key in self._identifiers:
            return self._users[self._identifiers[key]]
        number = len(self._users) + 1
        self._users[number] = UserRecord(
            id=user.id,
            number=number,
            data_key=user.data_key,
            phone_sealed=user.sealed if user.kind == "phone" else None,
            email_sealed=user.sealed if user.kind == "email" else None,
            name=user.name,
            avatar=None,
            country=user.country,
            locale=user.locale,
            kyc_tier=1,
            status="online",
            is_verified=True,
            created_ms=user.created_ms,
            updated_ms=user.created_ms,
        )
        self._numbers[user.id] = number
        self._identifiers[key] = number
        self._data_key_ids[number] = user.data_key_id
        return self._users[number]

    async def change_user(
        self, number: int, change: ProfileChange, now_ms: int
    ) -> UserRecord | None:
        await self._query()
        record = self._users.get(number)
        if record is None:
            return None
        fields: dict[str, Any] = {
            name: value
            for name in change.__struct_fields__
            if not isinstance(value := getattr(change, name), UnsetType)
        }
        updated_ms = max(record.updated_ms + 1, now_ms)
        record = msgspec.structs.replace(record, **fields, updated_ms=updated_ms)
        self._users[number] = record
        return record

    async def choices(self) -> list[tuple[int, Status]]:
        await self._query()
        users = self._users.values()
        return [(u.number, u.status) for u in users if u.status != "online"]

    async def data_keys_not_under(self, key_id: str, count: int) -> list[Wrapped]:
        await self._query()
        return [
            Wrapped(record.id, record.data_key)
            for number, record in self._users.items()
            if record.data_key is not None and self._data_key_ids[number] != key_id
        ][:count]

    async def replace_data_key(
        self, user_id: UUID, old: bytes, new: bytes, key_id: str
    ) -> bool:
        await self._query()
        number = self._numbers[user_id]
        if self._users[number].data_key != old:
            return False
        self._users[number] = msgspec.structs.replace(self._users[number], data_key=new)
        self._data_key_ids[number] = key_id
        return True

    # Challenges.

    async def open_challenge(
        self, challenge: Challenge, scopes: Sequence[Scope], resend_ms: int
    ) -> int:
        await self._query()
        now_ms, wait_ms = challenge.created_ms, 0
        for place, scope in enumerate(scopes):
            wait_ms = max(
                wait_ms,
                rules.wait_for_send(
                    self._recent(scope, now_ms),
                    now_ms,
                    scope.sends_max,
                    resend_ms if place == 0 else 0,
                ),
            )
        if wait_ms > 0:
            return wait_ms
        self._challenges[challenge.id] = _Sent(challenge)
        for scope in scopes:
            self._sends.setdefault(scope.hash, []).append(now_ms)
        return 0

    def _recent(self, scope: Scope, now_ms: int) -> rules.Recent:
        sent = sorted(
            at_ms
            for at_ms in self._sends.get(scope.hash, [])
            if at_ms > now_ms - rules.HOUR_MS
        )[-scope.sends_max :]
        if not sent:
            return rules.Recent(0, 0, 0)
        return rules.Recent(len(sent), sent[0], sent[-1])

    async def guess(self, id: UUID, now_ms: int, guesses_max: int) -> Challenge | None:
        await self._query()
        sent = self._challenges.get(id)
        if (
            sent is None
            or sent.used
            or sent.guesses >= guesses_max
            or sent.challenge.expires_ms <= now_ms
        ):
            return None
        sent.guesses += 1
        return sent.challenge

    async def prune_challenges(self, created_before_ms: int, count: int) -> int:
        await self._query()
        old = [
            id
            for id, sent in self._challenges.items()
            if sent.challenge.created_ms < created_before_ms
        ][:count]
        for id in old:
            del self._challenges[id]
        pruned = len(old)
        for hash in list(self._sends):
            kept = [at_ms for at_ms in self._sends[hash] if at_ms >= created_before_ms]
            pruned += len(self._sends[hash]) - len(kept)
            self._sends[hash] = kept
            if not kept:
                del self._sends[hash]
        return pruned

    # Sessions.

    async def open_session(
        self, challenge_id: UUID, session: SessionRecord, sessions_max: int
    ) -> list[UUID] | None:
        await self._query()
        sent = self._challenges.get(challenge_id)
        if sent is None or sent.used or session.user_number not in self._users:
            return None
        sent.used = True
        now_ms = session.created_ms
        live = self._live(session.user_number, now_ms)
        self._sessions[session.id] = session
        surplus = rules.surplus(live, sessions_max - 1)
        return self._end([old.id for old in surplus], now_ms)

    async def rotate_session(
        self,
        id: UUID,
        presented_hash: bytes,
        next_hash: bytes,
        now_ms: int,
        grace_ms: int,
        lifetime_ms: int,
    ) -> Rotation | None:
        await self._query()
        session = self._sessions.get(id)
        if session is None:
            return None
        outcome = rules.rotate(session, presented_hash, now_ms, grace_ms)
        if outcome is RotationOutcome.ROTATED:
            self._sessions[id] = msgspec.structs.replace(
                session,
                previous_hash=session.refresh_hash,
                refresh_hash=next_hash,
                rotated_ms=now_ms,
                used_ms=now_ms,
                expires_ms=now_ms + lifetime_ms,
            )
        elif outcome is RotationOutcome.REUSED:
            self._end([id], now_ms)
        return Rotation(outcome, session.user_number)

    async def live_sessions(self, user_number: int, now_ms: int) -> list[SessionRecord]:
        await self._query()
        return self._live(user_number, now_ms)

    async def end_sessions(
        self,
        user_number: int,
        now_ms: int,
        reason: EndReason,
        *,
        only: UUID | None = None,
        but: UUID | None = None,
    ) -> list[UUID]:
        await self._query()
        ids = [
            session.id
            for session in self._live(user_number, now_ms)
            if only in (None, session.id) and session.id != but
        ]
        return self._end(ids, now_ms)

    async def sessions_ended_since(self, since_ms: int) -> list[EndedSession]:
        await self._query()
        return sorted(
            (
                EndedSession(session.id, session.user_number, session.revoked_ms)
                for session in self._sessions.values()
                if session.revoked_ms is not None and session.revoked_ms > since_ms
            ),
            key=lambda ended: ended.revoked_ms,
        )

    async def prune_sessions(self, ended_before_ms: int, count: int) -> int:
        await self._query()
        old = [
            session.id
            for session in self._sessions.values()
            if (session.revoked_ms or session.expires_ms) < ended_before_ms
        ][:count]
        for id in old:
            del self._sessions[id]
        return len(old)

    def _live(self, user_number: int, now_ms: int) -> list[SessionRecord]:
        live = [
            session
            for session in self._sessions.values()
            if session.user_number == user_number
            and session.revoked_ms is None
            and session.expires_ms > now_ms
        ]
        return sorted(live, key=lambda s: (-s.used_ms, -s.created_ms, s.id))

    def _end(self, ids: list[UUID], now_ms: int) -> list[UUID]:
        for id in ids:
            self._sessions[id] = msgspec.structs.replace(
                self._sessions[id], revoked_ms=now_ms
            )
        return ids
