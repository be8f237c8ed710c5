"""Owns what can be refused to somebody who uses dialogs and messages."""

from __future__ import annotations

from tchatd.kernel.errors import DomainError, ErrorKind, NotFound


class DialogNotFound(NotFound):
    code, title = "dialog-not-found", "No such dialog, or it is not yours to see"


class MessageNotFound(NotFound):
    code, title = "message-not-found", "No such message, or it is not yours to see"


class InvalidContent(DomainError):
    code, kind = "invalid-content", ErrorKind.INVALID
    title = "The content does not fit the message's type"


class InvalidParticipants(DomainError):
    code, kind = "invalid-participants", ErrorKind.UNPROCESSABLE
    title = "A dialog of these people cannot be"


class InvalidMention(DomainError):
    code, kind = "invalid-mention", ErrorKind.UNPROCESSABLE
    title = "Only members of the dialog can be mentioned"


class ForeignReply(DomainError):
    code, kind = "foreign-reply", ErrorKind.UNPROCESSABLE
    title = "A reply stays in the dialog of its message"


class TypeNotAvailable(DomainError):
    code, kind = "type-not-available", ErrorKind.UNPROCESSABLE
    title = "Not available yet"


class ServerMade(DomainError):
    """A payment message is made by the server when a payment is sent."""

    code, kind = "server-made", ErrorKind.INVALID
    title = "Such a message is made by the server alone"


class DialogFull(DomainError):
    code, kind = "dialog-full", ErrorKind.UNPROCESSABLE
    title = "The dialog cannot take more events"
