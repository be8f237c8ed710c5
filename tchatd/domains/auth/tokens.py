"""Owns the form of tokens: what they say, how they are made and told from forgeries.

Access token: a JWT (RFC 7519) signed with Ed25519 (RFC 8037), 15 minutes. Its header
is one of the few texts that we write ourselves, compared as a whole: there is no
`alg` to be talked into.

Refresh token: base64url of `session id (16) | generation (4) | secret (32) | tag (16)`.
    - The first secret is random; each next one is a keyed hash of the one before. So
      the same old token always has the same successor (a lost answer can be given
      again) although the store keeps hashes only, and neither the store nor the key
      alone tells any token.
    - The tag is a keyed hash of what comes before it. A forgery is refused without a
      query, and an old token of ours is known to be ours for ever: presented again
      after it was rotated away it ends its session; a guess cannot.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Callable
from uuid import UUID

import msgspec
from msgspec import Struct

from tchatd.domains.auth.errors import RefreshRefused, TokenExpired, TokenRefused
from tchatd.domains.auth.models import PublicKey, PublicKeys
from tchatd.kernel.crypto import Keys, SigningKeys, equal

ACCESS_SIZE_MAX = 1024
_SIGNATURE_BYTES = 64
_TAG_BYTES = 16
_SECRET_BYTES = 32
_BODY_BYTES = 16 + 4 + _SECRET_BYTES
_REFRESH_BYTES = _BODY_BYTES + _TAG_BYTES
_GENERATIONS_MAX = 2**32 - 1


class Claims(Struct, frozen=True):
    """sub: the user. sid: the session. iat, exp: seconds since 1970."""

    iss: str
    aud: str
    sub: UUID
    sid: UUID
    iat: int
    exp: int
    jti: str


class AccessTokens:
    """Makes and checks access tokens.

    skew_s: how far another node's clock may be ahead of ours.
    """

    def __init__(
        self,
        keys: SigningKeys,
        *,
        issuer: str,
        audience: str,
        lifetime_s: int,
        skew_s: int,
        random: Callable[[int], bytes],
    ) -> None:
        self._keys = keys
        self._issuer, self._audience = issuer, audience
        self._lifetime_s, self._skew_s = lifetime_s, skew_s
        self._random = random
        self._key_ids = {_header(key_id): key_id for key_id in keys.public_keys()}
        self._own_header = _header(keys.current)
        self._decode = msgspec.json.Decoder(Claims).decode
        self._encode = msgspec.json.Encoder().encode

    def issue(self, user_id: UUID, session_id: UUID, now_ms: int) -> tuple[str, Claims]:
        now_s = now_ms // 1000
        claims = Claims(
            self._issuer,
            self._audience,
            user_id,
            session_id,
            now_s,
            now_s + self._lifetime_s,
            _base64(self._random(9)),
        )
        signed = f"{self._own_header}.{_base64(self._encode(claims))}"
        signature = self._keys.sign(signed.encode())
        return f"{signed}.{_base64(signature)}", claims

    def verify(self, token: str, now_ms: int) -> Claims:
        """Raises: TokenExpired; TokenRefused, which says no more on purpose."""
        if len(token) > ACCESS_SIZE_MAX or not token.isascii():
            raise TokenRefused
        signed, _, signature = token.rpartition(".")
        header, _, payload = signed.partition(".")
        key_id = self._key_ids.get(header)
        if key_id is None or not self._keys.verify(
            key_id, _bytes(signature, _SIGNATURE_BYTES), signed.encode()
        ):
            raise TokenRefused
        try:
            claims = self._decode(_bytes(payload))
        except msgspec.MsgspecError as error:
            raise TokenRefused from error
        now_s = now_ms // 1000
        if (
            claims.iss != self._issuer
            or claims.aud != self._audience
            or claims.iat > now_s + self._skew_s
            or claims.exp - claims.iat > self._lifetime_s
        ):
            raise TokenRefused
        if claims.exp <= now_s:
            raise TokenExpired
        return claims

    def public_keys(self) -> PublicKeys:
        return PublicKeys(
            keys=[
                PublicKey(kid=key_id, x=_base64(key))
                for key_id, key in self._keys.public_keys().items()
            ]
        )


class Refresh(Struct, frozen=True):
    """A refresh token, and what the store keeps of it."""

    session_id: UUID
    text: str
    hash: bytes


class RefreshTokens:
    """Makes refresh tokens and their successors."""

    def __init__(self, keys: Keys, random: Callable[[int], bytes]) -> None:
        self._successors = keys.otp_hash("refresh-successor")
        self._tags = keys.otp_hash("refresh-tag")
        self._hashes = keys.otp_hash("refresh-stored")
        self._random = random

    def first(self, session_id: UUID) -> Refresh:
        return self._refresh(session_id, 0, self._random(_SECRET_BYTES))

    def read(self, text: str) -> tuple[Refresh, Refresh]:
        """The token and its successor. Raises: RefreshRefused, if it is not ours."""
        try:
            raw = _bytes(text, _REFRESH_BYTES)
        except TokenRefused as error:
            raise RefreshRefused from error
        body, tag = raw[:_BODY_BYTES], raw[_BODY_BYTES:]
        if not equal(tag, self._tags.digest(body)[:_TAG_BYTES]):
            raise RefreshRefused
        session_id = UUID(bytes=body[:16])
        generation = int.from_bytes(body[16:20], "big")
        if generation == _GENERATIONS_MAX:
            raise RefreshRefused
        secret = self._successors.digest(body)
        return (
            Refresh(session_id, text, self._hashes.digest(body)),
            self._refresh(session_id, generation + 1, secret),
        )

    def _refresh(self, session_id: UUID, generation: int, secret: bytes) -> Refresh:
        body = session_id.bytes + generation.to_bytes(4, "big") + secret
        text = _base64(body + self._tags.digest(body)[:_TAG_BYTES])
        return Refresh(session_id, text, self._hashes.digest(body))


def _header(key_id: str) -> str:
    header = {"alg": "EdDSA", "kid": key_id, "typ": "JWT"}
    return _base64(msgspec.json.encode(header))


def _base64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes(text: str, size: int | None = None) -> bytes:
    """Of base64url in its one canonical form. Raises: TokenRefused."""
    try:
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (Base64Error, ValueError) as error:
        raise TokenRefused from error
    if _base64(raw) != text or (size is not None and len(raw) != size):
        raise TokenRefused
    return raw
