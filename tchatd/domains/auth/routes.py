"""Owns the declarations of sign-in and profile operations; holds no rule."""

from __future__ import annotations

from collections.abc import Awaitable

from tchatd.domains.auth.errors import (
    CodeLimited,
    CodeRefused,
    IdentifierRefused,
    ProfileRefused,
    RefreshRefused,
    SessionUnknown,
)
from tchatd.domains.auth.models import (
    ChangeProfile,
    CodeSent,
    Done,
    EndSession,
    Nothing,
    PublicKeys,
    Refreshed,
    RefreshToken,
    SendCode,
    Sessions,
    SessionsEnded,
    SignedIn,
    User,
    VerifyCode,
)
from tchatd.domains.auth.service import AuthService
from tchatd.kernel.errors import Banned, Unavailable
from tchatd.kernel.routing import Access, Context, Limit, Operation

_BODY_BYTES_MAX = 16_384
# As long as clients may go on trusting a key that was just taken away.
_KEYS_CACHE_S = 300


def routes(service: AuthService) -> list[Operation]:
    handlers = _Handlers(service)
    return [*_sign_in(handlers), *_sessions(handlers), *_profile(handlers)]


class _Handlers:
    """Each takes what its operation's command carries to the service."""

    def __init__(self, service: AuthService) -> None:
        self.service = service
        self.settings = service.settings

    async def send_code(self, context: Context, command: SendCode) -> CodeSent:
        return await self.service.send_code(command, context.address)

    async def verify_code(self, context: Context, command: VerifyCode) -> SignedIn:
        return await self.service.verify_code(command, context.address)

    async def refresh(self, context: Context, command: RefreshToken) -> Refreshed:
        return await self.service.refresh(command.refresh_token)

    async def logout(self, context: Context, command: Nothing) -> Done:
        await self.service.logout(context.user)
        return Done()

    async def sessions(self, context: Context, command: Nothing) -> Sessions:
        return Sessions(sessions=await self.service.sessions(context.user))

    async def end_session(self, context: Context, command: EndSession) -> Done:
        await self.service.end_session(context.user, command.id)
        return Done()

    async def end_others(self, context: Context, command: Nothing) -> SessionsEnded:
        ended = await self.service.end_other_sessions(context.user)
        return SessionsEnded(ended=ended)

    def profile(self, context: Context, command: Nothing) -> User | Awaitable[User]:
        return self.service.profile(context.user)

    async def change_profile(self, context: Context, command: ChangeProfile) -> User:
        return await self.service.change_profile(context.user, command)

    def public_keys(self, context: Context, command: Nothing) -> PublicKeys:
        return self.service.public_keys()


def _by_address(per_minute: int) -> tuple[Limit, ...]:
    return (Limit(by="address", per_minute=per_minute, burst=per_minute),)


def _by_user(per_minute: int) -> tuple[Limit, ...]:
    return (Limit(by="user", per_minute=per_minute, burst=per_minute),)


def _sign_in(handlers: _Handlers) -> list[Operation]:
    """The edge keeps answers of any POST with an `Idempotency-Key`, sealed, so tokens
    too: a client that lost the answer of its verify gets in with the code it has used.
    A lost answer of a refresh is had again without a key (the grace).
    """
    settings = handlers.settings
    return [
        Operation(
            name="auth.otp.send",
            summary="Send a one-time code to a phone or email",
            tag="auth",
            verb="POST",
            path="/auth/otp/send",
            command=SendCode,
            result=CodeSent,
            handler=handlers.send_code,
            access=Access.PUBLIC,
            limits=_by_address(settings.sends_per_address_minute),
            errors=(IdentifierRefused, CodeLimited, Unavailable),
            body_bytes_max=_BODY_BYTES_MAX,
        ),
        Operation(
            name="auth.otp.verify",
            summary="Sign in with the code; the first time makes the user",
            tag="auth",
            verb="POST",
            path="/auth/otp/verify",
            command=VerifyCode,
            result=SignedIn,
            handler=handlers.verify_code,
            access=Access.PUBLIC,
            limits=_by_address(settings.verifies_per_address_minute),
            errors=(CodeRefused, Banned),
            body_bytes_max=_BODY_BYTES_MAX,
        ),
        Operation(
            name="auth.token.refresh",
            summary="Change a refresh token for new tokens",
            tag="auth",
            verb="POST",
            path="/auth/token/refresh",
            command=RefreshToken,
            result=Refreshed,
            handler=handlers.refresh,
            access=Access.PUBLIC,
            limits=_by_address(settings.refreshes_per_address_minute),
            errors=(RefreshRefused, Banned),
            body_bytes_max=_BODY_BYTES_MAX,
        ),
        Operation(
            name="auth.jwks",
            summary="The public keys of the access tokens",
            tag="auth",
            verb="GET",
            path="/.well-known/jwks.json",
            command=Nothing,
            result=PublicKeys,
            handler=handlers.public_keys,
            access=Access.PUBLIC,
            cache_s=_KEYS_CACHE_S,
        ),
    ]


def _sessions(handlers: _Handlers) -> list[Operation]:
    limits = _by_user(handlers.settings.session_commands_per_user_minute)
    return [
        Operation(
            name="auth.logout",
            summary="End this session",
            tag="auth",
            verb="POST",
            path="/auth/logout",
            command=Nothing,
            result=Done,
            handler=handlers.logout,
            limits=limits,
            body_bytes_max=_BODY_BYTES_MAX,
        ),
        Operation(
            name="auth.sessions.list",
            summary="The devices that are signed in",
            tag="auth",
            verb="GET",
            path="/auth/sessions",
            command=Nothing,
            result=Sessions,
            handler=handlers.sessions,
            limits=limits,
        ),
        Operation(
            name="auth.sessions.delete",
            summary="End one session",
            tag="auth",
            verb="DELETE",
            path="/auth/sessions/{id}",
            command=EndSession,
            result=Done,
            handler=handlers.end_session,
            limits=limits,
            errors=(SessionUnknown,),
        ),
        Operation(
            name="auth.sessions.delete_others",
            summary="End all sessions but this one",
            tag="auth",
            verb="DELETE",
            path="/auth/sessions",
            command=Nothing,
            result=SessionsEnded,
            handler=handlers.end_others,
            limits=limits,
        ),
    ]


def _profile(handlers: _Handlers) -> list[Operation]:
    settings = handlers.settings
    return [
        Operation(
            name="users.profile.get",
            summary="Your profile",
            tag="users",
            verb="GET",
            path="/users/profile",
            command=Nothing,
            result=User,
            # The hottest read: what the edge allows a user in all is limit enough.
            handler=handlers.profile,
        ),
        Operation(
            name="users.profile.put",
            summary="Change your profile; what is absent stays",
            tag="users",
            verb="PUT",
            path="/users/profile",
            command=ChangeProfile,
            result=User,
            handler=handlers.change_profile,
            limits=_by_user(settings.profile_writes_per_user_minute),
            errors=(ProfileRefused,),
            body_bytes_max=_BODY_BYTES_MAX,
        ),
    ]
