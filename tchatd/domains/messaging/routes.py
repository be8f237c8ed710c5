"""Owns how messaging is offered: routes and WebSocket commands, declared once."""

from __future__ import annotations

from tchatd.domains.messaging import events, member_routes, message_routes, models
from tchatd.domains.messaging.errors import (
    DialogFull,
    DialogNotFound,
    ForeignReply,
    InvalidContent,
    InvalidMention,
    InvalidParticipants,
    MessageGone,
    MessageNotFound,
    NotAllowed,
    NoThreadHere,
    OnlyBots,
    ServerMade,
    Silenced,
    SlowMode,
)
from tchatd.domains.messaging.service import MessagingService
from tchatd.kernel.errors import Invalid, Unavailable
from tchatd.kernel.routing import Limit, Operation

_TAG = "Messaging"


def operations(service: MessagingService) -> list[Operation]:
    return [
        *_dialogs(service),
        *member_routes.operations(service),
        *_messages(service),
        *message_routes.operations(service),
        *_live(service),
    ]


def _dialogs(service: MessagingService) -> list[Operation]:
    return [
        Operation(
            name="dialog.list",
            summary="The caller's dialogs, latest activity first",
            tag=_TAG,
            command=models.ListDialogs,
            result=models.DialogPage,
            handler=service.list_dialogs,
            verb="GET",
            path="/dialogs",
            errors=(Invalid, Unavailable),
        ),
        Operation(
            name="dialog.create",
            summary="Open a dialog; between two people there is only one (200)",
            tag=_TAG,
            command=models.CreateDialog,
            result=models.Dialog,
            handler=service.create_dialog,
            verb="POST",
            path="/dialogs",
            status=201,
            other_statuses=(200,),
            limits=(Limit(by="user", per_minute=60, burst=60),),
            errors=(
                Invalid,
                InvalidParticipants,
                NotAllowed,
                DialogNotFound,  # of a repeat by its key: it is not theirs any more
                Unavailable,
            ),
        ),
        Operation(
            name="dialog.get",
            summary="One dialog of the caller",
            tag=_TAG,
            command=models.GetDialog,
            result=models.Dialog,
            handler=service.get_dialog,
            verb="GET",
            path="/dialogs/{dialog_id}",
            errors=(Invalid, DialogNotFound, Unavailable),
        ),
        Operation(
            name="dialog.events",
            summary="The dialog's log after a seq: gap recovery, any age",
            tag=_TAG,
            command=models.ListEvents,
            result=events.EventPage,
            handler=service.list_events,
            verb="GET",
            path="/dialogs/{dialog_id}/events",
            errors=(Invalid, DialogNotFound, Unavailable),
        ),
    ]


def _messages(service: MessagingService) -> list[Operation]:
    return [
        Operation(
            name="message.list",
            summary="Messages of a dialog, newest first",
            tag=_TAG,
            command=models.ListMessages,
            result=models.MessagePage,
            handler=service.list_messages,
            verb="GET",
            path="/dialogs/{dialog_id}/messages",
            errors=(Invalid, DialogNotFound, MessageNotFound, Unavailable),
            websocket="dialog.history",
        ),
        Operation(
            name="message.send",
            summary="Send a message; a repeated client_id gets the first answer",
            tag=_TAG,
            command=models.SendMessage,
            result=models.Message,
            handler=service.send_message,
            verb="POST",
            path="/dialogs/{dialog_id}/messages",
            status=201,
            errors=(
                Invalid,
                InvalidContent,
                ServerMade,
                DialogNotFound,
                MessageNotFound,
                ForeignReply,
                InvalidMention,
                MessageGone,
                NoThreadHere,
                OnlyBots,
                NotAllowed,
                Silenced,
                SlowMode,
                DialogFull,
                Unavailable,
            ),
            websocket="message.send",
        ),
        Operation(
            name="message.read",
            summary="Read everything up to a message",
            tag=_TAG,
            command=models.ReadMessages,
            result=models.ReadState,
            handler=service.read_messages,
            verb="POST",
            path="/messages/{message_id}/read",
            errors=(Invalid, MessageNotFound, DialogFull, Unavailable),
            websocket="message.read",
        ),
    ]


def _live(service: MessagingService) -> list[Operation]:
    return [
        Operation(
            name="typing.start",
            summary="Tell the other members that the caller is typing",
            tag=_TAG,
            command=models.StartTyping,
            result=models.Done,
            handler=service.start_typing,
            errors=(DialogNotFound, NotAllowed, Silenced, Unavailable),
            websocket="typing.start",
        ),
        Operation(
            name="typing.stop",
            summary="Tell the other members that the caller stopped typing",
            tag=_TAG,
            command=models.StopTyping,
            result=models.Done,
            handler=service.stop_typing,
            errors=(DialogNotFound, NotAllowed, Silenced, Unavailable),
            websocket="typing.stop",
        ),
        Operation(
            name="sync",
            summary="Every durable event missed since a cursor, in pages",
            tag=_TAG,
            command=models.Sync,
            result=events.SyncPage,
            handler=service.sync,
            verb="GET",
            path="/sync",
            errors=(Invalid, Unavailable),
            websocket="sync",
        ),
    ]
