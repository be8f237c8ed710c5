"""Owns the ports of sign-in: what it needs of stores, senders and the hub."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Protocol
from uuid import UUID

from tchatd.domains.auth.models import (
    Challenge,
    CodeMessage,
    EndedSession,
    EndReason,
    IdentifierKind,
    NewUser,
    ProfileChange,
    Rotation,
    Scope,
    SessionRecord,
    Status,
    UserRecord,
    Wrapped,
)
from tchatd.kernel.routing import Caller


class UserStore(Protocol):
    """Erased users (deleted) are in none of the answers."""

    async def users_by_id(self, ids: Sequence[UUID]) -> list[UserRecord]: ...

    async def users_by_number(self, numbers: Sequence[int]) -> list[UserRecord]: ...

    async def user_by_identifier(
        self, kind: IdentifierKind, identifier_hash: bytes
    ) -> UserRecord | None: ...

    async def users_by_identifiers(
        self, kind: IdentifierKind, identifier_hashes: Sequence[bytes]
    ) -> Mapping[bytes, UserRecord]:
        """By the hash; those that are nobody's are left out."""
        ...

    async def create_user(self, user: NewUser) -> UserRecord:
        """The user with this identifier: this one, or the one who was there first."""
        ...

    async def change_user(
        self, number: int, change: ProfileChange, now_ms: int
    ) -> UserRecord | None:
        """As it is after the change, with an `updated_ms` above the one before."""
        ...

    async def choices(self) -> list[tuple[int, Status]]:
        """The numbers of all who chose to be seen as something else than online."""
        ...

    async def data_keys_not_under(self, key_id: str, count: int) -> list[Wrapped]:
        """Up to `count` users whose data key is wrapped by another master key."""
        ...

    async def replace_data_key(
        self, user_id: UUID, old: bytes, new: bytes, key_id: str
    ) -> bool:
        """False if it is not `old` any more."""
        ...


class ChallengeStore(Protocol):
    async def open_challenge(
        self, challenge: Challenge, scopes: Sequence[Scope], resend_ms: int
    ) -> int:
        """0 and it is kept, if no scope is over its limit; else nothing is, and the
        milliseconds to wait. Exact also when several nodes ask at once.

        scopes: the first is the identifier's; `resend_ms` is for it alone.
        """
        ...

    async def guess(self, id: UUID, now_ms: int, guesses_max: int) -> Challenge | None:
        """Count one guess; the challenge if this was one of the first `guesses_max`
        and it is neither expired nor used. One atomic step: parallel guesses on
        several nodes are each counted.
        """
        ...

    async def prune_challenges(self, created_before_ms: int, count: int) -> int:
        """Forget up to `count` old ones; how many it were."""
        ...


class SessionStore(Protocol):
    async def open_session(
        self, challenge_id: UUID, session: SessionRecord, sessions_max: int
    ) -> list[UUID] | None:
        """Use the challenge up and keep the session, in one transaction.

        Returns the sessions of the user that had to go so that at most
        `sessions_max` are live; None if the challenge was used already.
        """
        ...

    async def rotate_session(
        self,
        id: UUID,
        presented_hash: bytes,
        next_hash: bytes,
        now_ms: int,
        grace_ms: int,
        lifetime_ms: int,
    ) -> Rotation | None:
        """By `rules.rotate`, under a lock: ROTATED has stored `next_hash`, REUSED has
        ended the session. None if there is no such session.
        """
        ...

    async def live_sessions(self, user_number: int, now_ms: int) -> list[SessionRecord]:
        """The most recently used first."""
        ...

    async def end_sessions(
        self,
        user_number: int,
        now_ms: int,
        reason: EndReason,
        *,
        only: UUID | None = None,
        but: UUID | None = None,
    ) -> list[UUID]:
        """End the user's live sessions: all, `only` one, or all `but` one.

        Returns those that were live until now.
        """
        ...

    async def sessions_ended_since(self, since_ms: int) -> list[EndedSession]: ...

    async def prune_sessions(self, ended_before_ms: int, count: int) -> int:
        """Forget up to `count` that ended or expired before; how many it were."""
        ...


class AuthStore(UserStore, ChallengeStore, SessionStore, Protocol):
    """All three in one database: opening a session spans them."""


class UserLoader(Protocol):
    """Asks the `UserStore`, many waiting callers by one query."""

    async def by_id(self, ids: Sequence[UUID]) -> Mapping[UUID, UserRecord]: ...

    async def by_number(self, numbers: Sequence[int]) -> Mapping[int, UserRecord]: ...


class CodeSender(Protocol):
    async def send_code(self, message: CodeMessage) -> None:
        """Hand it to the provider. Raises: Unavailable."""
        ...


class SessionEnd(Protocol):
    """Told of every session that ends, so that its live sockets close at once."""

    def ended(self, session_id: UUID, user_number: int) -> None: ...


class OtherTokens(Protocol):
    """Whose a token is that no person holds; it has no end but its owner's."""

    def authenticate(self, token: str) -> Caller | Awaitable[Caller | None] | None:
        """None: it is nobody's."""
        ...


class NoOtherTokens:
    def authenticate(self, token: str) -> None:
        return None


class Sanctions(Protocol):
    """Who is shut out of the whole server, and what nobody may be called."""

    def check_ban(self, user_number: int) -> None:
        """Raises: a DomainError that says so."""
        ...

    def check_name(self, name: str) -> None:
        """Raises: a DomainError, if nobody may be called so."""
        ...


class NoSanctions:
    def check_ban(self, user_number: int) -> None:
        return

    def check_name(self, name: str) -> None:
        return


class Presence(Protocol):
    """How users are seen while they are here."""

    def own(self, number: int) -> tuple[Status | None, str | None] | None:
        """How one is seen, while connected, and else when one was last here, if ever.

        None: ask again after `load_own`.
        """
        ...

    async def load_own(self, number: int) -> None: ...

    def choose(self, number: int, user_id: UUID, status: Status) -> None:
        """The person has chosen it: show them so, if they are here."""
        ...


class NoPresence:
    """Where there are no sockets: a command line, a test."""

    def own(self, number: int) -> tuple[None, None]:
        return None, None

    async def load_own(self, number: int) -> None:
        return

    def choose(self, number: int, user_id: UUID, status: Status) -> None:
        return


class NoSessionEnd:
    """Where there are no sockets: a command line, a test."""

    def ended(self, session_id: UUID, user_number: int) -> None:
        return
