"""Owns one-time codes: who gets one, how often, and what a guess is worth.

Sending looks no user up: a known and an unknown identifier take the same steps and
get the same answer. The code is kept as a keyed hash bound to its challenge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from uuid import UUID

from tchatd.domains.auth import rules
from tchatd.domains.auth.errors import CodeLimited, CodeRefused
from tchatd.domains.auth.models import (
    Challenge,
    CodeMessage,
    CodeSent,
    Identifier,
    IdentifierKind,
    Scope,
    SendCode,
)
from tchatd.domains.auth.rules import AuthSettings
from tchatd.domains.auth.store import ChallengeStore, CodeSender
from tchatd.kernel.clock import Clock, rfc3339
from tchatd.kernel.crypto import Keys, equal
from tchatd.kernel.ids import Ids

_SUBJECT = "tchat"


class OneTimeCodes:
    def __init__(
        self,
        store: ChallengeStore,
        senders: Mapping[IdentifierKind, CodeSender],
        keys: Keys,
        clock: Clock,
        ids: Ids,
        random: Callable[[int], bytes],
        settings: AuthSettings,
    ) -> None:
        assert set(senders) == {"phone", "email"}
        self._store, self._senders, self._settings = store, senders, settings
        self._clock, self._ids, self._random = clock, ids, random
        self._vault = keys.vault
        self._code_hash = keys.otp_hash("code")
        self._identifier_hashes = {
            "phone": keys.lookup_hash("phone"),
            "email": keys.lookup_hash("email"),
        }
        self._scope_hash = keys.lookup_hash("code-scope")

    def identifier_hash(self, identifier: Identifier) -> bytes:
        """By which a user is found."""
        text = identifier.text.encode()
        return self._identifier_hashes[identifier.kind].digest(text)

    async def send(self, command: SendCode, address: str) -> CodeSent:
        """Send a code to the identifier; counted whether or not it arrives.

        Raises: IdentifierRefused, CodeLimited, Unavailable.
        """
        identifier = rules.identifier_of(command)
        settings, now_ms = self._settings, self._clock.now_ms()
        code = rules.new_code(self._random)
        challenge_id = self._ids.v4()
        challenge = Challenge(
            id=challenge_id,
            kind=identifier.kind,
            identifier_hash=self.identifier_hash(identifier),
            sealed=self._vault.seal(
                identifier.text.encode(), _context(challenge_id, identifier.kind)
            ),
            code_hash=self._code_hash.digest(challenge_id.bytes, code.encode()),
            country=identifier.country,
            created_ms=now_ms,
            expires_ms=now_ms + settings.code_s * 1000,
        )
        wait_ms = await self._store.open_challenge(
            challenge, self._scopes(identifier, address), settings.code_resend_s * 1000
        )
        if wait_ms > 0:
            raise CodeLimited(retry_after_s=-(-wait_ms // 1000))
        locale = rules.locale_of(identifier.country)
        await self._senders[identifier.kind].send_code(
            CodeMessage(
                to=identifier.text,
                code=code,
                subject=_SUBJECT,
                text=rules.code_text(locale, code, settings.code_s),
            )
        )
        return CodeSent(
            session_id=str(challenge_id), expires_at=rfc3339(challenge.expires_ms)
        )

    async def guess(self, challenge_id: UUID, code: str) -> tuple[Identifier, bytes]:
        """The identifier that the code proves, and its hash.

        Not yet used up: opening the session does that, once.

        Raises: CodeRefused, the same for every reason.
        """
        challenge = await self._store.guess(
            challenge_id, self._clock.now_ms(), self._settings.code_guesses_max
        )
        guessed = self._code_hash.digest(challenge_id.bytes, code.encode())
        if challenge is None or not equal(guessed, challenge.code_hash):
            raise CodeRefused
        text = self._vault.open(
            challenge.sealed, _context(challenge_id, challenge.kind)
        ).decode()
        identifier = Identifier(challenge.kind, text, challenge.country)
        return identifier, challenge.identifier_hash

    def _scopes(self, identifier: Identifier, address: str) -> list[Scope]:
        """What the send is counted by; the identifier first."""
        settings = self._settings
        near, wide = rules.address_and_network(address)
        scopes = [
            Scope(
                "identifier",
                self.identifier_hash(identifier),
                settings.code_sends_per_identifier_hour,
            ),
            self._scope("address", near, settings.code_sends_per_address_hour),
            self._scope("network", wide, settings.code_sends_per_network_hour),
        ]
        numbers = rules.phone_range(identifier)
        if numbers is not None:
            scopes.append(
                self._scope("range", numbers, settings.code_sends_per_range_hour)
            )
        return scopes

    def _scope(self, kind: str, text: str, sends_max: int) -> Scope:
        hash = self._scope_hash.digest(kind.encode(), text.encode())
        return Scope(kind, hash, sends_max)


def _context(challenge_id: UUID, kind: IdentifierKind) -> bytes:
    return b"challenge/" + kind.encode() + b"/" + challenge_id.bytes
