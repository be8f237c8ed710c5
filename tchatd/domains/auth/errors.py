"""Owns what sign-in and users refuse; each class is one thing a client can act on."""

from __future__ import annotations

from tchatd.kernel.errors import (
    Invalid,
    NotFound,
    RateLimited,
    Unauthorized,
)


class IdentifierRefused(Invalid):
    code, title = "identifier-refused", "This phone or email cannot be used"


class ProfileRefused(Invalid):
    code, title = "profile-refused", "The profile is not valid"


class CodeLimited(RateLimited):
    code, title = "code-limited", "Too many codes were asked for"


class CodeRefused(Unauthorized):
    """The same for a wrong, expired, used up, spent or unknown one, on purpose."""

    code, title = "code-refused", "The code is wrong or no longer valid"


class TokenRefused(Unauthorized):
    code, title = "token-refused", "The access token is not valid"


class TokenExpired(Unauthorized):
    """The client should refresh and come again."""

    code, title = "token-expired", "The access token has expired"


class SessionRevoked(Unauthorized):
    """The client has to sign in again."""

    code, title = "session-revoked", "This session was ended"


class RefreshRefused(Unauthorized):
    """The client has to sign in again."""

    code, title = "refresh-refused", "The refresh token is not valid"


class SessionUnknown(NotFound):
    code, title = "session-unknown", "No such session of yours"


__all__ = [
    "CodeLimited",
    "CodeRefused",
    "IdentifierRefused",
    "ProfileRefused",
    "RefreshRefused",
    "SessionRevoked",
    "SessionUnknown",
    "TokenExpired",
    "TokenRefused",
]
