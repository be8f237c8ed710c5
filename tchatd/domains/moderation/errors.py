"""Owns what moderation refuses; each class is one thing a client can act on."""

from __future__ import annotations

from tchatd.kernel.errors import Conflict, DomainError, ErrorKind, NotFound, RateLimited


class Silenced(DomainError):
    """By the operator, in all dialogs.

    fields: `scope` ("account"); `silenced_until`, unless it is for good.
    """

    code, kind = "silenced", ErrorKind.FORBIDDEN
    title = "This account may not write"


class ContentRefused(DomainError):
    code, kind = "content-refused", ErrorKind.UNPROCESSABLE
    title = "This may not be said here"


class TooManyMessages(RateLimited):
    code, title = "too-many-messages", "Too many messages"


class OwnThing(DomainError):
    code, kind = "own-thing", ErrorKind.UNPROCESSABLE
    title = "Nobody reports themselves"


class UserNotFound(NotFound):
    code, title = "user-not-found", "No such user"


class ActionImpossible(Conflict):
    code, title = "action-impossible", "This cannot be done about it"
