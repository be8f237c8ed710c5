"""Owns what a user shows of themselves, and the cache that the hot read is from.

How one wants to be seen is in memory of all users, so that nobody asks the store when
they come: three bitmaps of those who want it otherwise than online.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from msgspec import UNSET

from tchatd.domains.auth import rules
from tchatd.domains.auth.errors import TokenRefused
from tchatd.domains.auth.models import (
    ChangeProfile,
    IdentifierKind,
    Status,
    User,
    UserRecord,
)
from tchatd.domains.auth.store import UserLoader, UserStore
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.clock import Clock, rfc3339
from tchatd.kernel.crypto import DataKey, Unreadable, Vault
from tchatd.kernel.lru import Lru


class Profiles:
    """profiles_max: how many are kept ready to send; each takes about 1 KB."""

    def __init__(
        self,
        store: UserStore,
        loader: UserLoader,
        vault: Vault,
        clock: Clock,
        profiles_max: int,
    ) -> None:
        self._store, self._loader = store, loader
        self._vault, self._clock = vault, clock
        self._users: Lru[int, User] = Lru(profiles_max)
        self._choices: dict[Status, BitMap] = {
            "offline": BitMap(),
            "busy": BitMap(),
            "away": BitMap(),
        }

    async def start(self) -> None:
        for number, status in await self._store.choices():
            self._choices[status].add(number)

    def choice_of(self, number: int) -> Status:
        """How they want to be seen whenever they come."""
        for status, numbers in self._choices.items():
            if number in numbers:
                return status
        return "online"

    def get(self, number: int) -> User | Awaitable[User]:
        """At once if it is here, which it is for whoever was seen lately."""
        user = self._users.get(number)
        return user if user is not None else self._load(number)

    def peek(self, number: int) -> User | None:
        """None: it has to be loaded."""
        return self._users.get(number)

    async def of(self, numbers: Sequence[int]) -> dict[int, User]:
        """By number; erased ones are left out. One query at most."""
        known = {number: self._users.get(number) for number in numbers}
        found = {number: user for number, user in known.items() if user is not None}
        missing = [number for number in known if number not in found]
        if missing:
            for record in (await self._loader.by_number(missing)).values():
                found[record.number] = self.see(record)
        return found

    async def change(self, number: int, command: ChangeProfile) -> User:
        """Raises: ProfileRefused."""
        change = rules.profile_change(command)
        record = await self._store.change_user(number, change, self._clock.now_ms())
        if record is None:
            self.forget(number)
            raise TokenRefused
        user = self.see(record)
        for status, numbers in self._choices.items():
            if status == user.status:
                numbers.add(number)
            else:
                numbers.discard(number)
        return user

    def see(self, record: UserRecord) -> User:
        """Keep what was just read from the store, unless a newer one is here.

        A read that began before a change and ended after it must not undo it.
        """
        user = self._user_of(record)
        known = self._users.peek(record.number)
        if known is not None and known.updated_at > user.updated_at:
            return known
        self._users.put(record.number, user)
        return user

    def forget(self, number: int) -> None:
        """It was changed elsewhere, or is no more."""
        self._users.pop(number)

    def data_key(self, record: UserRecord) -> DataKey:
        """Raises: Unreadable, after erasure."""
        if record.data_key is None:
            raise Unreadable("the key is destroyed")
        return self._vault.unwrap(record.data_key, record.id.bytes)

    async def _load(self, number: int) -> User:
        records = await self._loader.by_number((number,))
        record = records.get(number)
        if record is None:
            raise TokenRefused
        return self.see(record)

    def _user_of(self, record: UserRecord) -> User:
        phone = email = None
        if record.data_key is not None:
            key = self.data_key(record)
            phone = _opened(key, "phone", record.phone_sealed)
            email = _opened(key, "email", record.email_sealed)
        return User(
            id=str(record.id),
            phone=UNSET if phone is None else phone,
            email=UNSET if email is None else email,
            name=record.name,
            avatar=UNSET if record.avatar is None else record.avatar,
            country=record.country,
            locale=record.locale,
            kyc_tier=record.kyc_tier,
            status=record.status,
            is_verified=record.is_verified and not record.is_bot,
            created_at=rfc3339(record.created_ms),
            updated_at=rfc3339(record.updated_ms),
            is_bot=record.is_bot or UNSET,
        )


def seal_identifier(key: DataKey, kind: IdentifierKind, text: str) -> bytes:
    return key.seal(text.encode(), kind.encode())


def _opened(key: DataKey, kind: IdentifierKind, sealed: bytes | None) -> str | None:
    return None if sealed is None else key.open(sealed, kind.encode()).decode()
