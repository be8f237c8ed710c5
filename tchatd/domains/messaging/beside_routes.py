"""Owns how invites, public names, scheduled messages and businesses are offered."""

from __future__ import annotations

from typing import Final

from tchatd.domains.messaging import business as of_business
from tchatd.domains.messaging import invites as of_invites
from tchatd.domains.messaging import joining as of_joining
from tchatd.domains.messaging import public_names as of_names
from tchatd.domains.messaging import scheduling as of_scheduling
from tchatd.domains.messaging.business import Businesses
from tchatd.domains.messaging.errors import (
    Banned,
    BusinessNotFound,
    ChannelNotFound,
    DialogFull,
    DialogNotFound,
    InvalidContent,
    InvalidParticipants,
    InviteNotFound,
    MemberNotFound,
    NameReserved,
    NameTaken,
    NotAllowed,
    RequestNotFound,
    ScheduledNotFound,
    ServerMade,
    TooManyInvites,
    TooManyMembers,
    TooManyNames,
    TooManyRequests,
    TooManyScheduled,
)
from tchatd.domains.messaging.invites import Invites
from tchatd.domains.messaging.joining import Joining
from tchatd.domains.messaging.models import Dialog, Done, MessagePage
from tchatd.domains.messaging.public_names import PublicNames
from tchatd.domains.messaging.scheduling import Scheduling
from tchatd.kernel.errors import Invalid, Unavailable
from tchatd.kernel.routing import Limit, Operation

_TAG = "Messaging"
_SEEN = (Invalid, DialogNotFound, NotAllowed, Unavailable)
_WRITES = Limit(by="user", per_minute=60, burst=60)
_GUESSES = Limit(by="user", per_minute=60, burst=60)
"""Of codes and names; 128 bits are not guessed, but nobody needs more either."""
_MESSAGE_BYTES_MAX: Final = 1 << 17
"""Above the longest text with the most buttons, every character escaped."""


def invite_operations(service: Invites, joining: Joining) -> list[Operation]:
    return [
        Operation(
            name="invite.create",
            summary="Make a link by which people may come in",
            tag=_TAG,
            command=of_invites.CreateInvite,
            result=of_invites.Invite,
            handler=service.create,
            verb="POST",
            path="/dialogs/{dialog_id}/invites",
            status=201,
            limits=(_WRITES,),
            errors=(*_SEEN, TooManyInvites),
        ),
        Operation(
            name="invite.list",
            summary="The dialog's invites, the latest first",
            tag=_TAG,
            command=of_invites.ListInvites,
            result=of_invites.InviteList,
            handler=service.list,
            verb="GET",
            path="/dialogs/{dialog_id}/invites",
            errors=_SEEN,
        ),
        Operation(
            name="invite.revoke",
            summary="Nobody comes in by this link from now on",
            tag=_TAG,
            command=of_invites.RevokeInvite,
            result=Done,
            handler=service.revoke,
            verb="DELETE",
            path="/dialogs/{dialog_id}/invites/{code}",
            errors=(*_SEEN, InviteNotFound),
        ),
        Operation(
            name="invite.get",
            summary="Where a link leads",
            tag=_TAG,
            command=of_invites.GetInvite,
            result=of_invites.InvitePreview,
            handler=service.preview,
            verb="GET",
            path="/invites/{code}",
            limits=(_GUESSES,),
            errors=(Invalid, InviteNotFound, Unavailable),
        ),
        Operation(
            name="invite.join",
            summary="Come in by a link, or ask to be let in (202)",
            tag=_TAG,
            command=of_invites.JoinByInvite,
            result=of_joining.JoinAnswer,
            handler=service.join,
            verb="POST",
            path="/invites/{code}/join",
            other_statuses=(202,),
            limits=(_GUESSES,),
            errors=(
                *(Invalid, InviteNotFound, DialogNotFound, Banned, TooManyMembers),
                *(TooManyRequests, DialogFull, Unavailable),
            ),
        ),
        Operation(
            name="join.list",
            summary="Who waits to be let in, the oldest first",
            tag=_TAG,
            command=of_joining.ListJoinRequests,
            result=of_joining.JoinRequestPage,
            handler=joining.list_requests,
            verb="GET",
            path="/dialogs/{dialog_id}/join-requests",
            errors=_SEEN,
        ),
        Operation(
            name="join.decide",
            summary="Let somebody in, or not",
            tag=_TAG,
            command=of_joining.DecideJoinRequest,
            result=Done,
            handler=joining.decide,
            verb="POST",
            path="/dialogs/{dialog_id}/join-requests/{user_id}",
            errors=(*_SEEN, RequestNotFound, Banned, TooManyMembers, DialogFull),
        ),
    ]


def name_operations(service: PublicNames) -> list[Operation]:
    return [
        Operation(
            name="public_name.set",
            summary="Give a channel or a group a public name",
            tag=_TAG,
            command=of_names.SetPublicName,
            result=Dialog,
            handler=service.set,
            verb="PUT",
            path="/dialogs/{dialog_id}/public-name",
            limits=(_WRITES,),
            errors=(*_SEEN, NameReserved, NameTaken, TooManyNames, DialogFull),
        ),
        Operation(
            name="public_name.drop",
            summary="Take the public name away",
            tag=_TAG,
            command=of_names.DropPublicName,
            result=Dialog,
            handler=service.drop,
            verb="DELETE",
            path="/dialogs/{dialog_id}/public-name",
            errors=(*_SEEN, DialogFull),
        ),
        Operation(
            name="channel.get",
            summary="A channel or group by its public name",
            tag=_TAG,
            command=of_names.GetChannel,
            result=of_names.PublicChannel,
            handler=service.get,
            verb="GET",
            path="/channels/{name}",
            errors=(Invalid, ChannelNotFound, Unavailable),
        ),
        Operation(
            name="channel.messages",
            summary="The latest messages of a public channel, for everybody signed in",
            tag=_TAG,
            command=of_names.ListChannelMessages,
            result=MessagePage,
            handler=service.messages,
            verb="GET",
            path="/channels/{name}/messages",
            errors=(Invalid, ChannelNotFound, Unavailable),
        ),
        Operation(
            name="channel.join",
            summary="Join what has this public name, or ask to be let in (202)",
            tag=_TAG,
            command=of_names.JoinChannel,
            result=of_joining.JoinAnswer,
            handler=service.join,
            verb="POST",
            path="/channels/{name}/join",
            other_statuses=(202,),
            limits=(_GUESSES,),
            errors=(
                *(Invalid, ChannelNotFound, DialogNotFound, Banned, TooManyMembers),
                *(TooManyRequests, DialogFull, Unavailable),
            ),
        ),
    ]


def scheduling_operations(service: Scheduling) -> list[Operation]:
    return [
        Operation(
            name="scheduled.create",
            summary="Send a message later",
            tag=_TAG,
            command=of_scheduling.ScheduleMessage,
            result=of_scheduling.Scheduled,
            handler=service.schedule,
            verb="POST",
            path="/dialogs/{dialog_id}/scheduled",
            status=201,
            limits=(_WRITES,),
            body_bytes_max=_MESSAGE_BYTES_MAX,
            errors=(*_SEEN, InvalidContent, ServerMade, TooManyScheduled),
        ),
        Operation(
            name="scheduled.list",
            summary="The caller's scheduled messages of a dialog, the next first",
            tag=_TAG,
            command=of_scheduling.ListScheduled,
            result=of_scheduling.ScheduledList,
            handler=service.list,
            verb="GET",
            path="/dialogs/{dialog_id}/scheduled",
            errors=(Invalid, Unavailable),
        ),
        Operation(
            name="scheduled.change",
            summary="Change what is sent later, or when",
            tag=_TAG,
            command=of_scheduling.ChangeScheduled,
            result=of_scheduling.Scheduled,
            handler=service.change,
            verb="PUT",
            path="/scheduled/{id}",
            body_bytes_max=_MESSAGE_BYTES_MAX,
            errors=(*_SEEN, InvalidContent, ServerMade, ScheduledNotFound),
        ),
        Operation(
            name="scheduled.cancel",
            summary="Do not send it",
            tag=_TAG,
            command=of_scheduling.CancelScheduled,
            result=Done,
            handler=service.cancel,
            verb="DELETE",
            path="/scheduled/{id}",
            errors=(Invalid, ScheduledNotFound, Unavailable),
        ),
    ]


def business_operations(service: Businesses) -> list[Operation]:
    return [
        Operation(
            name="business.get",
            summary="The caller's profile as a business",
            tag=_TAG,
            command=of_business.GetOwnBusiness,
            result=of_business.Business,
            handler=service.get,
            verb="GET",
            path="/business",
            errors=(BusinessNotFound, Unavailable),
        ),
        Operation(
            name="business.put",
            summary="Become a business, or change all of its profile",
            tag=_TAG,
            command=of_business.PutBusiness,
            result=of_business.Business,
            handler=service.put,
            verb="PUT",
            path="/business",
            limits=(_WRITES,),
            errors=(Invalid, InvalidParticipants, NotAllowed, Unavailable),
        ),
        Operation(
            name="business.see",
            summary="What customers see of a business",
            tag=_TAG,
            command=of_business.GetBusiness,
            result=of_business.PublicBusiness,
            handler=service.get_public,
            verb="GET",
            path="/businesses/{user_id}",
            errors=(Invalid, BusinessNotFound, Unavailable),
        ),
        Operation(
            name="business.quick_replies",
            summary="Texts that agents have at hand in this dialog",
            tag=_TAG,
            command=of_business.ListQuickReplies,
            result=of_business.QuickReplies,
            handler=service.quick_replies,
            verb="GET",
            path="/dialogs/{dialog_id}/quick-replies",
            errors=_SEEN,
        ),
        Operation(
            name="business.assign",
            summary="Say who answers in this dialog",
            tag=_TAG,
            command=of_business.Assign,
            result=Dialog,
            handler=service.assign,
            verb="PUT",
            path="/dialogs/{dialog_id}/assignee",
            errors=(*_SEEN, MemberNotFound, DialogFull),
        ),
        Operation(
            name="business.conversation",
            summary="Close the conversation with a customer, or open it again",
            tag=_TAG,
            command=of_business.SetConversation,
            result=Dialog,
            handler=service.set_conversation,
            verb="PUT",
            path="/dialogs/{dialog_id}/conversation",
            errors=(*_SEEN, DialogFull),
        ),
    ]
