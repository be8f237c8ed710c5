"""Owns the shapes of sign-in and users: on the wire, and as stored.

Ids and times of answers are text already (`str`), the same in JSON and MessagePack.
Records (what a store keeps) hold UUIDs and milliseconds, personal data only sealed.
"""

from __future__ import annotations

import enum
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from tchatd.kernel.routing import Caller

Country = Literal["TH", "ID", "MY", "VN", "SG", "PH"]
Locale = Literal["th-TH", "id-ID", "ms-MY", "vi-VN", "fil-PH", "en-US"]
Status = Literal["online", "offline", "away", "busy"]
IdentifierKind = Literal["phone", "email"]
Platform = Literal["ios", "android", "web", "desktop"]

# Two visible ends, and nothing that is a control character in between.
NAME_PATTERN = r"^\s*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f]\s*$"
AVATAR_PATTERN = r"^[hH][tT][tT][pP][sS]?://[A-Za-z0-9.:_\[\]-]+([/?#][!-~]*)?$"

Name = Annotated[
    str,
    Meta(
        min_length=2,
        max_length=100,
        pattern=NAME_PATTERN,
        description="two visible characters at least, without control characters",
    ),
]
Avatar = Annotated[
    str,
    Meta(
        max_length=2048,
        pattern=AVATAR_PATTERN,
        description="a URL that begins with http:// or https://",
    ),
]


class SendCode(Struct, frozen=True, kw_only=True):
    identifier: Annotated[str, Meta(min_length=3, max_length=254)]
    type: IdentifierKind
    country: Country | None = None


class CodeSent(Struct, frozen=True, kw_only=True):
    session_id: str
    expires_at: str
    success: bool = True


class Device(Struct, frozen=True, kw_only=True):
    id: Annotated[str, Meta(min_length=1, max_length=128)]
    name: Annotated[str, Meta(min_length=1, max_length=100)]
    platform: Platform


class VerifyCode(Struct, frozen=True, kw_only=True):
    session_id: UUID
    # The sizes too, because `$` alone would let a newline follow.
    code: Annotated[
        str,
        Meta(
            min_length=6, max_length=6, pattern=r"^[0-9]{6}$", description="six digits"
        ),
    ]
    device: Device | None = None


class User(Struct, frozen=True, kw_only=True):
    """Phone or email is set. last_seen: of who is not connected, if they ever were.

    status: while the user is connected, how they are seen; else how they will be.
    is_verified: whose phone or email a code has proved; no bot's. kyc_tier: 1 to 3.
    is_bot: there, and true, of a bot; it has neither phone nor email.
    """

    id: str
    name: str
    country: Country
    locale: Locale
    kyc_tier: int
    status: Status
    is_verified: bool
    created_at: str
    updated_at: str
    phone: str | UnsetType = UNSET
    email: str | UnsetType = UNSET
    avatar: str | UnsetType = UNSET
    last_seen: str | UnsetType = UNSET
    is_bot: bool | UnsetType = UNSET


class SignedIn(Struct, frozen=True, kw_only=True):
    """expires_at: of the access token."""

    access_token: str
    refresh_token: str
    user: User
    expires_at: str


class RefreshToken(Struct, frozen=True, kw_only=True):
    refresh_token: Annotated[str, Meta(min_length=1, max_length=512)]


class Refreshed(Struct, frozen=True, kw_only=True):
    access_token: str
    refresh_token: str
    expires_at: str


class Nothing(Struct, frozen=True):
    """A command without input."""


class Done(Struct, frozen=True, kw_only=True):
    success: bool = True


class SessionsEnded(Struct, frozen=True, kw_only=True):
    ended: int
    success: bool = True


class SessionView(Struct, frozen=True, kw_only=True):
    """One device that is signed in. is_current: the one that asks."""

    id: str
    created_at: str
    last_used_at: str
    is_current: bool
    device: Device | UnsetType = UNSET
    address: str | UnsetType = UNSET


class Sessions(Struct, frozen=True, kw_only=True):
    sessions: list[SessionView]


class EndSession(Struct, frozen=True, kw_only=True):
    id: UUID


class ChangeProfile(Struct, frozen=True, kw_only=True):
    """What is absent stays; avatar null takes the picture away."""

    name: Name | UnsetType = UNSET
    avatar: Avatar | UnsetType | None = UNSET
    locale: Locale | UnsetType = UNSET
    status: Status | UnsetType = UNSET


class PublicKey(Struct, frozen=True, kw_only=True):
    """A JSON Web Key (RFC 8037). x: 32 bytes, base64url."""

    kid: str
    x: str
    kty: str = "OKP"
    crv: str = "Ed25519"
    alg: str = "EdDSA"
    use: str = "sig"


class PublicKeys(Struct, frozen=True, kw_only=True):
    keys: list[PublicKey]


class Identity(Struct, frozen=True):
    """Whose a token is, and until when."""

    caller: Caller
    expires_at_ms: int


# Records: what a store keeps.


class Identifier(Struct, frozen=True):
    """A phone or email, checked and in its one normal form. Never stored as it is."""

    kind: IdentifierKind
    text: str
    country: Country | None


class CodeMessage(Struct, frozen=True, kw_only=True):
    """A code on its way to a person; `text` has it too. Never logged, never stored."""

    to: str
    code: str
    subject: str
    text: str


class Scope(Struct, frozen=True):
    """Something that codes are counted by over one hour, as a keyed hash.

    kind: "identifier", "address", "network" or "range".
    """

    kind: str
    hash: bytes
    sends_max: int


class Challenge(Struct, frozen=True, kw_only=True):
    """One code that was sent. id: the wire's session_id, a random UUID.

    sealed: the identifier, under a master key. code_hash: bound to the id.
    """

    id: UUID
    kind: IdentifierKind
    identifier_hash: bytes
    sealed: bytes
    code_hash: bytes
    country: Country | None
    created_ms: int
    expires_ms: int


class UserRecord(Struct, frozen=True, kw_only=True):
    """data_key: wrapped; None once the person is erased: then nothing opens."""

    id: UUID
    number: int
    data_key: bytes | None
    phone_sealed: bytes | None
    email_sealed: bytes | None
    name: str
    avatar: str | None
    country: Country
    locale: Locale
    kyc_tier: int
    status: Status
    is_verified: bool
    created_ms: int
    updated_ms: int
    is_bot: bool = False


class NewUser(Struct, frozen=True, kw_only=True):
    """A user who is about to be; `kind` says which identifier hash and sealed are."""

    id: UUID
    kind: IdentifierKind
    identifier_hash: bytes
    sealed: bytes
    data_key: bytes
    data_key_id: str
    name: str
    country: Country
    locale: Locale
    created_ms: int


class ProfileChange(Struct, frozen=True, kw_only=True):
    """Checked and trimmed; UNSET stays as it is."""

    name: str | UnsetType = UNSET
    avatar: str | UnsetType | None = UNSET
    locale: Locale | UnsetType = UNSET
    status: Status | UnsetType = UNSET


class Wrapped(Struct, frozen=True):
    """A user's wrapped data key, for rotation of the master key."""

    user_id: UUID
    data_key: bytes


class SessionRecord(Struct, frozen=True, kw_only=True):
    """One signed-in device and its family of refresh tokens.

    sealed: `Origin`, under the user's data key.
    refresh_hash: of the only token that is good now; previous_hash: of the one before,
    which is still answered for the grace after rotated_ms.
    """

    id: UUID
    user_number: int
    sealed: bytes
    refresh_hash: bytes
    previous_hash: bytes | None
    created_ms: int
    used_ms: int
    rotated_ms: int
    expires_ms: int
    revoked_ms: int | None = None


class Origin(Struct, frozen=True, kw_only=True):
    """Where a session came from; stored sealed."""

    address: str
    device: Device | None = None


class EndReason(enum.Enum):
    LOGOUT = "logout"
    ENDED_BY_USER = "ended-by-user"
    REPLACED = "replaced"
    REUSE = "reuse"
    KICKED = "kicked"


class RotationOutcome(enum.Enum):
    """ROTATED and REPEATED give the successor; REUSED has ended the session."""

    ROTATED = "rotated"
    REPEATED = "repeated"
    REUSED = "reused"
    GONE = "gone"


class Rotation(Struct, frozen=True):
    outcome: RotationOutcome
    user_number: int


class EndedSession(Struct, frozen=True):
    id: UUID
    user_number: int
    revoked_ms: int


origin_encode = msgspec.msgpack.Encoder().encode
origin_decode = msgspec.msgpack.Decoder(Origin).decode
