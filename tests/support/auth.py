"""Owns sign-in in a box: the service over a store, with a clock and seeded chance."""

from __future__ import annotations

import random
from uuid import UUID

import msgspec

from tchatd.domains.auth.models import (
    CodeMessage,
    CodeSent,
    Country,
    Device,
    IdentifierKind,
    Identity,
    SendCode,
    SignedIn,
    VerifyCode,
)
from tchatd.domains.auth.rules import AuthSettings
from tchatd.domains.auth.service import AuthService
from tchatd.domains.auth.store import AuthStore
from tchatd.kernel.clock import ManualClock
from tchatd.kernel.crypto import Keys
from tchatd.kernel.errors import Unavailable
from tchatd.kernel.ids import Ids
from tchatd.kernel.routing import Caller
from tchatd.stores.memory.auth import MemoryAuthStore
from tchatd.stores.users import CoalescedUsers

SECRET = bytes(range(32))
ADDRESS = "192.0.2.7"
PHONE = "+66812345678"
EMAIL = "somchai@example.com"


class Outbox:
    """A `CodeSender` that keeps what it was given. broken: refuses instead."""

    def __init__(self) -> None:
        self.messages: list[CodeMessage] = []
        self.broken = False

    async def send_code(self, message: CodeMessage) -> None:
        if self.broken:
            raise Unavailable("no provider", retry_after_s=60)
        self.messages.append(message)

    @property
    def last(self) -> CodeMessage:
        return self.messages[-1]


class EndedSessions:
    """A `SessionEnd` that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[UUID, int]] = []

    def ended(self, session_id: UUID, user_number: int) -> None:
        self.told.append((session_id, user_number))

    @property
    def ids(self) -> list[UUID]:
        return [session_id for session_id, _ in self.told]


class World:
    """One daemon's sign-in. `another` is a second daemon over the same store."""

    def __init__(
        self,
        settings: AuthSettings | None = None,
        *,
        store: AuthStore | None = None,
        clock: ManualClock | None = None,
        keys: Keys | None = None,
        seed: int = 1,
    ) -> None:
        chance = random.Random(seed).randbytes
        self.settings = settings or AuthSettings()
        self.store: AuthStore = store or MemoryAuthStore()
        self.clock = clock or ManualClock()
        self.keys = keys or Keys.of_one_secret(SECRET, chance)
        self.ids = Ids(self.clock, chance)
        self.outbox = Outbox()
        self.ended = EndedSessions()
        self.service = AuthService(
            store=self.store,
            loader=CoalescedUsers(self.store),
            senders={"phone": self.outbox, "email": self.outbox},
            keys=self.keys,
            clock=self.clock,
            ids=self.ids,
            settings=self.settings,
            random=chance,
            session_end=self.ended,
        )

    def another(self, *, keys: Keys | None = None) -> World:
        return World(
            self.settings,
            store=self.store,
            clock=self.clock,
            keys=keys or self.keys,
            seed=2,
        )

    async def send(
        self,
        identifier: str = PHONE,
        *,
        country: Country | None = None,
        address: str = ADDRESS,
    ) -> CodeSent:
        kind: IdentifierKind = "email" if "@" in identifier else "phone"
        command = SendCode(identifier=identifier, type=kind, country=country)
        return await self.service.send_code(command, address)

    async def verify(
        self, sent: CodeSent, code: str | None = None, device: Device | None = None
    ) -> SignedIn:
        command = VerifyCode(
            session_id=UUID(sent.session_id),
            code=self.outbox.last.code if code is None else code,
            device=device,
        )
        return await self.service.verify_code(command, ADDRESS)

    async def sign_in(
        self, identifier: str = PHONE, *, device: Device | None = None
    ) -> SignedIn:
        """Sign in; the clock moves past the limit on sends first."""
        self.clock.advance(self.settings.code_resend_s * 1000)
        return await self.verify(await self.send(identifier), device=device)

    def caller(self, access_token: str) -> Caller:
        identity = self.service.authenticate(access_token)
        assert isinstance(identity, Identity)
        return identity.caller


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 1_000_000:06d}"


def settings_with(**changes: int) -> AuthSettings:
    return msgspec.structs.replace(AuthSettings(), **changes)
