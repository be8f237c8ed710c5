"""Owns how memberships, settings and drafts are offered: routes, declared once."""

from __future__ import annotations

from tchatd.domains.messaging import member_models as m
from tchatd.domains.messaging.errors import (
    Banned,
    DialogFull,
    DialogNotFound,
    ForeignReply,
    InvalidParticipants,
    LastOwner,
    MemberNotFound,
    MessageNotFound,
    NotAllowed,
    TooManyBanned,
    TooManyMembers,
)
from tchatd.domains.messaging.events import MemberAdded, OwnState
from tchatd.domains.messaging.models import Dialog, Done
from tchatd.domains.messaging.service import MessagingService
from tchatd.kernel.errors import Invalid, Unavailable
from tchatd.kernel.routing import Limit, Operation

_TAG = "Messaging"
_READS = (Invalid, DialogNotFound, NotAllowed, Unavailable)
_CHANGES = (*_READS, DialogFull)
_LIMITS = (Limit(by="user", per_minute=120, burst=120),)
_KEEPS = (Limit(by="user", per_minute=240, burst=240),)
"""Of drafts: one every few seconds on each device."""


def operations(service: MessagingService) -> list[Operation]:
    return [*_dialogs(service), *_members(service), *_bans(service), *_own(service)]


def _dialogs(service: MessagingService) -> list[Operation]:
    return [
        Operation(
            name="dialog.update",
            summary="Name, avatar and settings of a dialog; what is absent stays",
            tag=_TAG,
            command=m.ChangeDialog,
            result=Dialog,
            handler=service.profiles.change,
            verb="PUT",
            path="/dialogs/{dialog_id}",
            limits=_LIMITS,
            errors=_CHANGES,
        ),
        Operation(
            name="dialog.delete",
            summary="Delete it for everybody; of two people: one's own history of it",
            tag=_TAG,
            command=m.DropDialog,
            result=Done,
            handler=service.profiles.drop,
            verb="DELETE",
            path="/dialogs/{dialog_id}",
            limits=_LIMITS,
            errors=_CHANGES,
        ),
    ]


def _members(service: MessagingService) -> list[Operation]:
    return [
        Operation(
            name="member.list",
            summary="Who is in a dialog, page by page",
            tag=_TAG,
            command=m.ListMembers,
            result=m.MemberPage,
            handler=service.roster.list_members,
            verb="GET",
            path="/dialogs/{dialog_id}/members",
            errors=_READS,
        ),
        Operation(
            name="member.add",
            summary="Add up to 1,000 people; who is in already is passed over",
            tag=_TAG,
            command=m.AddMembers,
            result=MemberAdded,
            handler=service.membership.add,
            verb="POST",
            path="/dialogs/{dialog_id}/members",
            limits=_LIMITS,
            errors=(*_CHANGES, InvalidParticipants, Banned, TooManyMembers),
        ),
        Operation(
            name="member.update",
            summary="Give a member another role, hand the dialog over, or silence",
            tag=_TAG,
            command=m.ChangeMember,
            result=m.DialogMember,
            handler=service.membership.change,
            verb="PUT",
            path="/dialogs/{dialog_id}/members/{user_id}",
            limits=_LIMITS,
            errors=(*_CHANGES, MemberNotFound, LastOwner),
        ),
        Operation(
            name="member.remove",
            summary="Remove a member; oneself: leave",
            tag=_TAG,
            command=m.RemoveMember,
            result=Done,
            handler=service.membership.remove,
            verb="DELETE",
            path="/dialogs/{dialog_id}/members/{user_id}",
            limits=_LIMITS,
            errors=(*_CHANGES, MemberNotFound, LastOwner, TooManyBanned),
        ),
    ]


def _bans(service: MessagingService) -> list[Operation]:
    return [
        Operation(
            name="ban.list",
            summary="Who may not come into a dialog",
            tag=_TAG,
            command=m.ListBans,
            result=m.BanPage,
            handler=service.roster.list_bans,
            verb="GET",
            path="/dialogs/{dialog_id}/bans",
            errors=_READS,
        ),
        Operation(
            name="ban.create",
            summary="Keep somebody out; a member is removed",
            tag=_TAG,
            command=m.BanUser,
            result=Done,
            handler=service.bans.ban,
            verb="POST",
            path="/dialogs/{dialog_id}/bans",
            limits=_LIMITS,
            errors=(*_CHANGES, MemberNotFound, TooManyBanned),
        ),
        Operation(
            name="ban.delete",
            summary="Let somebody come back",
            tag=_TAG,
            command=m.EndBan,
            result=Done,
            handler=service.bans.end,
            verb="DELETE",
            path="/dialogs/{dialog_id}/bans/{user_id}",
            limits=_LIMITS,
            errors=(*_CHANGES, MemberNotFound),
        ),
    ]


def _own(service: MessagingService) -> list[Operation]:
    return [
        Operation(
            name="dialog.settings",
            summary="The caller's own: pinned, archived, muted",
            tag=_TAG,
            command=m.ChangeOwn,
            result=OwnState,
            handler=service.own.change,
            verb="PUT",
            path="/dialogs/{dialog_id}/settings",
            limits=_KEEPS,
            errors=(Invalid, DialogNotFound, Unavailable),
            websocket="dialog.settings",
        ),
        Operation(
            name="dialog.draft",
            summary="What the caller has begun to write; an empty text deletes it",
            tag=_TAG,
            command=m.SaveDraft,
            result=OwnState,
            handler=service.own.save_draft,
            verb="PUT",
            path="/dialogs/{dialog_id}/draft",
            limits=_KEEPS,
            errors=(
                Invalid,
                DialogNotFound,
                MessageNotFound,
                ForeignReply,
                Unavailable,
            ),
            websocket="dialog.draft",
        ),
    ]
