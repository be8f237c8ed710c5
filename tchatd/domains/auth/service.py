"""Owns sign-in: sessions, whose a token is, and who is told when a session ends."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from tchatd.domains.auth import rules
from tchatd.domains.auth.codes import OneTimeCodes
from tchatd.domains.auth.directory import Directory
from tchatd.domains.auth.errors import (
    CodeRefused,
    IdentifierRefused,
    RefreshRefused,
    SessionRevoked,
    SessionUnknown,
    TokenExpired,
    TokenRefused,
)
from tchatd.domains.auth.models import (
    ChangeProfile,
    CodeSent,
    Device,
    EndReason,
    Identifier,
    IdentifierKind,
    Identity,
    NewUser,
    Origin,
    PublicKeys,
    Refreshed,
    RotationOutcome,
    SendCode,
    SessionRecord,
    SessionView,
    SignedIn,
    Status,
    User,
    UserRecord,
    VerifyCode,
    origin_decode,
    origin_encode,
)
from tchatd.domains.auth.profiles import Profiles, seal_identifier
from tchatd.domains.auth.revocations import Revocations
from tchatd.domains.auth.rules import AuthSettings
from tchatd.domains.auth.store import (
    AuthStore,
    CodeSender,
    NoOtherTokens,
    NoPresence,
    NoSanctions,
    NoSessionEnd,
    OtherTokens,
    Presence,
    Sanctions,
    SessionEnd,
    UserLoader,
)
from tchatd.domains.auth.tokens import AccessTokens, Claims, RefreshTokens
from tchatd.kernel.clock import Clock, rfc3339
from tchatd.kernel.crypto import DataKey, Keys, Unreadable
from tchatd.kernel.errors import DomainError, Unavailable
from tchatd.kernel.ids import Ids
from tchatd.kernel.lru import Lru
from tchatd.kernel.routing import Caller

OTHER_PREFIX = "bot:"
OTHER_TOKEN_MS = 10 * 366 * 86_400_000
"""As good as for ever: a bot's token ends when it is changed."""


class AuthService:
    """Call `start` before the first token. session_end, other_tokens, sanctions
    and presence may be set after building."""

    def __init__(
        self,
        *,
        store: AuthStore,
        loader: UserLoader,
        senders: Mapping[IdentifierKind, CodeSender],
        keys: Keys,
        clock: Clock,
        ids: Ids,
        settings: AuthSettings,
        random: Callable[[int], bytes] = os.urandom,
        session_end: SessionEnd | None = None,
    ) -> None:
        self.settings = settings
        self.session_end: SessionEnd = session_end or NoSessionEnd()
        self.other_tokens: OtherTokens = NoOtherTokens()
        self.sanctions: Sanctions = NoSanctions()
        self.presence: Presence = NoPresence()
        self.directory = Directory(loader, settings.users_known_max)
        self.profiles = Profiles(
            store, loader, keys.vault, clock, settings.profiles_known_max
        )
        self._codes = OneTimeCodes(store, senders, keys, clock, ids, random, settings)
        self._access = AccessTokens(
            keys.signing,
            issuer=settings.issuer,
            audience=settings.audience,
            lifetime_s=settings.access_token_s,
            skew_s=settings.clock_skew_s,
            random=random,
        )
        self._refresh = RefreshTokens(keys, random)
        self._known: Lru[bytes, Identity] = Lru(settings.tokens_known_max)
        self._token_ms = (settings.access_token_s + settings.clock_skew_s) * 1000
        self._revocations = Revocations(
            token_ms=self._token_ms, size_max=settings.revocations_max
        )
        self._store, self._loader, self._vault = store, loader, keys.vault
        self._clock, self._ids, self._random = clock, ids, random

    async def start(self) -> None:
        """Learn how users want to be seen, and which sessions ended while a token may
        still name them."""
        await self.profiles.start()
        since_ms = self._clock.now_ms() - self._token_ms
        for ended in await self._store.sessions_ended_since(since_ms):
            self._revocations.add(ended.id, ended.revoked_ms)

    # Whose a token is.

    def authenticate(self, token: str) -> Identity | Awaitable[Identity]:
        """At once for a token seen before, or of a user seen since the start.

        An awaitable only for a user who was never seen: it waits for a query that
        everyone who waits shares.

        Raises: TokenExpired, SessionRevoked, TokenRefused.
        """
        if token.startswith(OTHER_PREFIX):
            return self._authenticate_other(token)
        # By its hash: a tenth of the memory, and no bearer token lies about.
        key = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        identity = self._known.get(key)
        now_ms = self._clock.now_ms()
        if identity is None:
            claims = self._access.verify(token, now_ms)
            expires_at_ms = claims.exp * 1000
            if self._revocations.refuses(claims.sid, expires_at_ms):
                raise SessionRevoked
            number = self.directory.cached_number(claims.sub)
            if number is None:
                return self._authenticate_unseen(key, claims)
            return self._know(key, claims, number)
        if identity.expires_at_ms <= now_ms:
            self._known.pop(key)
            raise TokenExpired
        session_id = identity.caller.session_id
        if self._revocations.refuses(session_id, identity.expires_at_ms):
            self._known.pop(key)
            raise SessionRevoked
        self._refuse_banned(identity.caller.user_number)
        return identity

    async def _authenticate_unseen(self, key: bytes, claims: Claims) -> Identity:
        number = (await self.directory.numbers_of((claims.sub,))).get(claims.sub)
        if number is None:
            raise TokenRefused
        if self._revocations.refuses(claims.sid, claims.exp * 1000):
            raise SessionRevoked
        return self._know(key, claims, number)

    def _authenticate_other(self, token: str) -> Identity | Awaitable[Identity]:
        caller = self.other_tokens.authenticate(token)
        if caller is None or isinstance(caller, Caller):
            return self._other(caller)
        return self._other_later(caller)

    async def _other_later(self, awaited: Awaitable[Caller | None]) -> Identity:
        return self._other(await awaited)

    def _other(self, caller: Caller | None) -> Identity:
        if caller is None:
            raise TokenRefused
        return Identity(caller, self._clock.now_ms() + OTHER_TOKEN_MS)

    def _refuse_banned(self, number: int) -> None:
        """Also while the end of their sessions is not in the store yet."""
        try:
            self.sanctions.check_ban(number)
        except DomainError as error:
            raise SessionRevoked(error.detail) from None

    def _know(self, key: bytes, claims: Claims, number: int) -> Identity:
        self._refuse_banned(number)
        caller = Caller(claims.sub, number, claims.sid)
        identity = Identity(caller, claims.exp * 1000)
        self._known.put(key, identity)
        return identity

    def _issue(self, user_id: UUID, number: int, session_id: UUID) -> tuple[str, str]:
        """An access token and when it expires. What we signed needs no checking."""
        token, claims = self._access.issue(user_id, session_id, self._clock.now_ms())
        self.directory.remember(user_id, number)
        self._know(hashlib.sha256(token.encode()).digest(), claims, number)
        return token, rfc3339(claims.exp * 1000)

    def public_keys(self) -> PublicKeys:
        return self._access.public_keys()

    # Sign in.

    async def send_code(self, command: SendCode, address: str) -> CodeSent:
        """Raises: IdentifierRefused, CodeLimited, Unavailable."""
        return await self._codes.send(command, address)

    async def verify_code(self, command: VerifyCode, address: str) -> SignedIn:
        """Raises: CodeRefused; what a ban says, if the user is banned."""
        identifier, hash = await self._codes.guess(command.session_id, command.code)
        record = await self._store.user_by_identifier(identifier.kind, hash)
        if record is None:
            record = await self._register(identifier, hash)
        self.sanctions.check_ban(record.number)
        now_ms = self._clock.now_ms()
        session_id = self._ids.v4()
        refresh = self._refresh.first(session_id)
        session = SessionRecord(
            id=session_id,
            user_number=record.number,
            sealed=self._seal_origin(record, session_id, address, command.device),
            refresh_hash=refresh.hash,
            previous_hash=None,
            created_ms=now_ms,
            used_ms=now_ms,
            rotated_ms=now_ms,
            expires_ms=now_ms + self.settings.refresh_token_s * 1000,
        )
        ended = await self._store.open_session(
            command.session_id, session, self.settings.sessions_max
        )
        if ended is None:
            raise CodeRefused
        self._ended(ended, record.number, now_ms)
        await self._check_again(record.number)
        access, expires_at = self._issue(record.id, record.number, session_id)
        return SignedIn(
            access_token=access,
            refresh_token=refresh.text,
            user=self.profiles.see(record),
            expires_at=expires_at,
        )

    async def _check_again(self, number: int) -> None:
        """Who is banned has no session, also if it was not ended at that time."""
        try:
            self.sanctions.check_ban(number)
        except DomainError:
            await self.kick(number)
            raise

    async def _register(self, identifier: Identifier, hash: bytes) -> UserRecord:
        """The user of this identifier: a new one, or who was there just before."""
        user_id = self._ids.v7()
        key, wrapped = self._vault.new_data_key(user_id.bytes)
        country = identifier.country or self.settings.country_default
        return await self._store.create_user(
            NewUser(
                id=user_id,
                kind=identifier.kind,
                identifier_hash=hash,
                sealed=seal_identifier(key, identifier.kind, identifier.text),
                data_key=wrapped,
                data_key_id=self._vault.current,
                name=rules.new_name(self._random),
                country=country,
                locale=rules.locale_of(country),
                created_ms=self._clock.now_ms(),
            )
        )

    def _seal_origin(
        self, record: UserRecord, session_id: UUID, address: str, device: Device | None
    ) -> bytes:
        origin = origin_encode(Origin(address=address, device=device))
        key = self.profiles.data_key(record)
        return key.seal(origin, _origin_context(session_id))

    # Sessions.

    async def refresh(self, refresh_token: str) -> Refreshed:
        """Raises: RefreshRefused; what a ban says, if the user is banned."""
        presented, successor = self._refresh.read(refresh_token)
        now_ms = self._clock.now_ms()
        rotation = await self._store.rotate_session(
            presented.session_id,
            presented.hash,
            successor.hash,
            now_ms,
            self.settings.refresh_grace_s * 1000,
            self.settings.refresh_token_s * 1000,
        )
        if rotation is None:
            raise RefreshRefused
        if rotation.outcome is RotationOutcome.REUSED:
            self._ended([presented.session_id], rotation.user_number, now_ms)
        if rotation.outcome in (RotationOutcome.REUSED, RotationOutcome.GONE):
            self.sanctions.check_ban(rotation.user_number)
            raise RefreshRefused
        number = rotation.user_number
        user_id = (await self.directory.ids_of((number,))).get(number)
        if user_id is None:
            raise RefreshRefused
        await self._check_again(number)
        access, expires_at = self._issue(user_id, number, presented.session_id)
        return Refreshed(
            access_token=access, refresh_token=successor.text, expires_at=expires_at
        )

    async def logout(self, caller: Caller) -> None:
        await self._end(caller.user_number, EndReason.LOGOUT, only=caller.session_id)

    async def sessions(self, caller: Caller) -> list[SessionView]:
        return await self.sessions_of(caller.user_number, caller.session_id)

    async def end_session(self, caller: Caller, session_id: UUID) -> None:
        """Raises: SessionUnknown."""
        ended = await self._end(
            caller.user_number, EndReason.ENDED_BY_USER, only=session_id
        )
        if not ended:
            raise SessionUnknown

    async def end_other_sessions(self, caller: Caller) -> int:
        """How many they were."""
        ended = await self._end(
            caller.user_number, EndReason.ENDED_BY_USER, but=caller.session_id
        )
        return len(ended)

    async def sessions_of(
        self, user_number: int, current: UUID | None = None
    ) -> list[SessionView]:
        """The live ones, the most recently used first."""
        sessions = await self._store.live_sessions(user_number, self._clock.now_ms())
        records = await self._loader.by_number((user_number,))
        record = records.get(user_number)
        key = self.profiles.data_key(record) if record is not None else None
        return [_view(session, key, current) for session in sessions]

    async def _end(
        self,
        user_number: int,
        reason: EndReason,
        *,
        only: UUID | None = None,
        but: UUID | None = None,
    ) -> list[UUID]:
        now_ms = self._clock.now_ms()
        ended = await self._store.end_sessions(
            user_number, now_ms, reason, only=only, but=but
        )
        self._ended(ended, user_number, now_ms)
        return ended

    def _ended(self, sessions: list[UUID], user_number: int, now_ms: int) -> None:
        for session_id in sessions:
            self.session_ended(session_id, user_number, now_ms)

    def session_ended(self, session_id: UUID, user_number: int, ended_ms: int) -> None:
        """It is over: refuse its tokens and close its sockets.

        Also how this node is told of sessions that another node ended.
        """
        self._revocations.add(session_id, ended_ms)
        self.session_end.ended(session_id, user_number)

    # Profiles.

    def profile(self, caller: Caller) -> User | Awaitable[User]:
        """At once if all of it is in memory."""
        user = self.profiles.get(caller.user_number)
        own = self.presence.own(caller.user_number)
        if isinstance(user, User) and own is not None:
            return _as_seen(user, own)
        return self._profile_later(caller.user_number, user)

    async def _profile_later(self, number: int, user: User | Awaitable[User]) -> User:
        if not isinstance(user, User):
            user = await user
        with suppress(Unavailable):  # the time is left out while the store is away
            await self.presence.load_own(number)
        return _as_seen(user, self.presence.own(number) or (None, None))

    async def change_profile(self, caller: Caller, command: ChangeProfile) -> User:
        """Raises: ProfileRefused, and what `sanctions` says of the name."""
        if command.name is not UNSET:
            self.sanctions.check_name(command.name)
        number = caller.user_number
        user = await self.profiles.change(number, command)
        if not isinstance(command.status, UnsetType):
            self.presence.choose(number, caller.user_id, command.status)
        return await self._profile_later(number, user)

    # For the console and the daemon's jobs.

    async def find_user(self, text: str) -> UserRecord | None:
        """By id, phone or email, as an operator types it."""
        try:
            records = await self._loader.by_id((UUID(text),))
            return next(iter(records.values()), None)
        except ValueError:
            kind: IdentifierKind = "email" if "@" in text else "phone"
        try:
            identifier = rules.parse_identifier(kind, text)
        except IdentifierRefused:
            return None
        hash = self._codes.identifier_hash(identifier)
        return await self._store.user_by_identifier(kind, hash)

    async def numbers_of_phones(self, phones: Sequence[str]) -> dict[str, int]:
        """By the text given; what is no phone, or nobody's, is left out."""
        hashes: dict[bytes, str] = {}
        for phone in phones:
            with suppress(IdentifierRefused):
                identifier = rules.parse_identifier("phone", phone)
                hashes[self._codes.identifier_hash(identifier)] = phone
        if not hashes:
            return {}
        found = await self._store.users_by_identifiers("phone", list(hashes))
        return {hashes[hash]: record.number for hash, record in found.items()}

    async def record(self, user_number: int) -> UserRecord | None:
        """None of one who is no more."""
        return (await self._loader.by_number((user_number,))).get(user_number)

    async def kick(self, user_number: int) -> int:
        """End every session of a user; how many they were."""
        return len(await self._end(user_number, EndReason.KICKED))

    async def prune(self) -> int:
        """Forget one batch of what is over; run it again while it returns any.

        Challenges stay an hour, because the limits are counted by them.
        """
        now_ms, count = self._clock.now_ms(), self.settings.prune_batch_max
        self._revocations.forget(now_ms)
        challenges = await self._store.prune_challenges(now_ms - rules.HOUR_MS, count)
        kept_ms = self.settings.ended_sessions_kept_s * 1000
        return challenges + await self._store.prune_sessions(now_ms - kept_ms, count)

    async def rewrap(self) -> int:
        """Bring one batch of data keys under the current master key.

        How many were brought; run it again until that is 0.

        Raises: Unreadable, if a master key that is still in use was taken away.
        """
        count = self.settings.prune_batch_max
        key_id, replaced = self._vault.current, 0
        for old in await self._store.data_keys_not_under(key_id, count):
            new = self._vault.rewrap(old.data_key, old.user_id.bytes)
            if new is not None and await self._store.replace_data_key(
                old.user_id, old.data_key, new, key_id
            ):
                replaced += 1
        return replaced

    def statistics(self) -> dict[str, int]:
        return {
            "tokens_known": len(self._known),
            "revocations": len(self._revocations),
        }


def _origin_context(session_id: UUID) -> bytes:
    return b"session/" + session_id.bytes


def _view(
    session: SessionRecord, key: DataKey | None, current: UUID | None
) -> SessionView:
    origin = Origin(address="")
    if key is not None:
        try:
            sealed = key.open(session.sealed, _origin_context(session.id))
            origin = origin_decode(sealed)
        except Unreadable:
            # The list is how a person throws a thief out: it has to come anyway.
            origin = Origin(address="")
    return SessionView(
        id=str(session.id),
        created_at=rfc3339(session.created_ms),
        last_used_at=rfc3339(session.used_ms),
        is_current=session.id == current,
        device=UNSET if origin.device is None else origin.device,
        address=origin.address or UNSET,
    )


def _as_seen(user: User, own: tuple[Status | None, str | None]) -> User:
    status, last_seen = own
    if last_seen is None and status in (None, user.status):
        return user
    return msgspec.structs.replace(
        user, status=status or user.status, last_seen=last_seen or UNSET
    )
