"""Owns what can be refused to somebody who uses dialogs and messages."""

from __future__ import annotations

from tchatd.kernel.errors import (
    Conflict,
    DomainError,
    ErrorKind,
    NotFound,
    RateLimited,
)


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


class NotAllowed(DomainError):
    """The caller's role, as the dialog is set, does not have the right to."""

    code, kind = "not-allowed", ErrorKind.FORBIDDEN
    title = "Your role in this dialog does not allow it"


class Silenced(DomainError):
    """fields: `scope` ("dialog"); `silenced_until`, when it ends."""

    code, kind = "silenced", ErrorKind.FORBIDDEN
    title = "You may not write here for now"


class SlowMode(RateLimited):
    code, title = "slow-mode", "In this dialog one writes slowly"


class Banned(DomainError):
    """fields: `scope` ("dialog")."""

    code, kind = "banned", ErrorKind.FORBIDDEN
    title = "Who is banned from the dialog cannot join it"


class TooManyMembers(DomainError):
    code, kind = "too-many-members", ErrorKind.UNPROCESSABLE
    title = "A dialog of this type has no room for them"


class TooManyBanned(DomainError):
    code, kind = "too-many-banned", ErrorKind.UNPROCESSABLE
    title = "The dialog cannot ban more people"


class LastOwner(DomainError):
    code, kind = "last-owner", ErrorKind.UNPROCESSABLE
    title = "The last owner hands the dialog over first"


class MemberNotFound(NotFound):
    code, title = "member-not-found", "No such member of this dialog"


class ServerMade(DomainError):
    """A payment message is made by the server when a payment is sent."""

    code, kind = "server-made", ErrorKind.INVALID
    title = "Such a message is made by the server alone"


class DialogFull(DomainError):
    code, kind = "dialog-full", ErrorKind.UNPROCESSABLE
    title = "The dialog cannot take more events"


class InviteNotFound(NotFound):
    """Unknown, expired, used up or revoked: nobody is told which."""

    code, title = "invite-not-found", "There is no such invite"


class TooManyInvites(DomainError):
    code, kind = "too-many-invites", ErrorKind.UNPROCESSABLE
    title = "The dialog has as many invites as it can"


class TooManyRequests(DomainError):
    code, kind = "too-many-requests-to-join", ErrorKind.UNPROCESSABLE
    title = "Too many people are waiting to be let in"


class RequestNotFound(NotFound):
    code, title = "join-request-not-found", "Nobody with this id asks to be let in"


class NameTaken(Conflict):
    code, title = "name-taken", "The name is taken"


class NameReserved(DomainError):
    code, kind = "name-reserved", ErrorKind.UNPROCESSABLE
    title = "The name cannot be taken"


class TooManyNames(DomainError):
    code, kind = "too-many-names", ErrorKind.UNPROCESSABLE
    title = "The dialog has had too many names lately"


class ChannelNotFound(NotFound):
    code, title = "channel-not-found", "Nothing has this public name"


class ScheduledNotFound(NotFound):
    code, title = "scheduled-not-found", "No such scheduled message of yours"


class TooManyScheduled(DomainError):
    code, kind = "too-many-scheduled", ErrorKind.UNPROCESSABLE
    title = "So many messages are scheduled already"


class NotTheSender(DomainError):
    code, kind = "not-the-sender", ErrorKind.FORBIDDEN
    title = "Only who sent the message can do this"


class MessageGone(Conflict):
    code, title = "message-deleted", "The message has been deleted"


class EditTooLate(DomainError):
    code, kind = "edit-too-late", ErrorKind.UNPROCESSABLE
    title = "A message can be edited for 24 hours"


class NotEditable(DomainError):
    code, kind = "not-editable", ErrorKind.UNPROCESSABLE
    title = "Such a message stays as it was sent"


class NotForwardable(DomainError):
    code, kind = "not-forwardable", ErrorKind.UNPROCESSABLE
    title = "Such a message cannot be forwarded"


class TooManyHidden(DomainError):
    """Clearing the dialog makes room again."""

    code, kind = "too-many-hidden", ErrorKind.UNPROCESSABLE
    title = "So many messages are deleted for you here; clear the dialog instead"


class TooManyReactions(DomainError):
    code, kind = "too-many-reactions", ErrorKind.UNPROCESSABLE
    title = "The message has as many kinds of reaction as it can"


class TooManyPins(DomainError):
    code, kind = "too-many-pins", ErrorKind.UNPROCESSABLE
    title = "The dialog has as many pinned messages as it can; unpin one"


class NotAPoll(DomainError):
    code, kind = "not-a-poll", ErrorKind.UNPROCESSABLE
    title = "The message is no poll"


class PollClosed(Conflict):
    code, title = "poll-closed", "The poll is closed"


class NoThreadHere(DomainError):
    code, kind = "no-thread-here", ErrorKind.UNPROCESSABLE
    title = "A message in a thread has no thread of its own"


class OnlyBots(DomainError):
    code, kind = "only-bots", ErrorKind.FORBIDDEN
    title = "Only bots send buttons"


class BusinessNotFound(NotFound):
    code, title = "business-not-found", "No such business"
