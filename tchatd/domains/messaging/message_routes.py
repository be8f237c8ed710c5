"""Owns how single messages are offered: routes and WebSocket commands, once each."""

from __future__ import annotations

from tchatd.domains.messaging import message_commands as commands
from tchatd.domains.messaging import models
from tchatd.domains.messaging.errors import (
    DialogFull,
    DialogNotFound,
    EditTooLate,
    InvalidContent,
    InvalidMention,
    MessageGone,
    MessageNotFound,
    NotAllowed,
    NotAPoll,
    NotEditable,
    NotForwardable,
    NotTheSender,
    OnlyBots,
    PollClosed,
    Silenced,
    SlowMode,
    TooManyHidden,
    TooManyPins,
    TooManyReactions,
)
from tchatd.domains.messaging.events import OwnState
from tchatd.domains.messaging.service import MessagingService
from tchatd.kernel.errors import Invalid, Unavailable
from tchatd.kernel.routing import Operation

_TAG = "Messaging"
_OF_ALL = (Invalid, MessageNotFound, DialogFull, Unavailable)


def operations(service: MessagingService) -> list[Operation]:
    return [
        *_what_it_says(service),
        *_gone(service),
        *_reactions(service),
        *_pins(service),
        *_polls(service),
        *_onwards(service),
    ]


def _what_it_says(service: MessagingService) -> list[Operation]:
    return [
        Operation(
            name="message.get",
            summary="One message, as it is now",
            tag=_TAG,
            command=commands.GetMessage,
            result=models.Message,
            handler=service.messages.get_message,
            verb="GET",
            path="/messages/{message_id}",
            errors=(Invalid, MessageNotFound, Unavailable),
            websocket="message.get",
        ),
        Operation(
            name="message.edit",
            summary="Say it differently; by its sender, for 24 hours",
            tag=_TAG,
            command=commands.EditMessage,
            result=models.Message,
            handler=service.editing.edit_message,
            verb="PUT",
            path="/messages/{message_id}",
            errors=(
                *_OF_ALL,
                InvalidContent,
                InvalidMention,
                NotTheSender,
                NotAllowed,
                Silenced,
                MessageGone,
                NotEditable,
                EditTooLate,
                OnlyBots,
            ),
            websocket="message.edit",
        ),
        Operation(
            name="message.history",
            summary="What the message said before; for its sender and moderators",
            tag=_TAG,
            command=commands.GetMessageHistory,
            result=commands.MessageHistory,
            handler=service.messages.message_history,
            verb="GET",
            path="/messages/{message_id}/history",
            errors=(Invalid, MessageNotFound, NotTheSender, Unavailable),
            websocket="message.history",
        ),
    ]


def _gone(service: MessagingService) -> list[Operation]:
    return [
        Operation(
            name="message.delete",
            summary="Delete it for everyone (its sender, moderators), or for oneself",
            tag=_TAG,
            command=commands.DeleteMessage,
            result=models.Done,  # for oneself: an OwnState; a union needs tags
            handler=service.delete_message,
            verb="DELETE",
            path="/messages/{message_id}",
            errors=(*_OF_ALL, NotTheSender, TooManyHidden),
            websocket="message.delete",
        ),
        Operation(
            name="dialog.clear",
            summary="Read and delete everything so far, for oneself",
            tag=_TAG,
            command=commands.ClearDialog,
            result=OwnState,
            handler=service.hiding.clear_dialog,
            verb="POST",
            path="/dialogs/{dialog_id}/clear",
            errors=(Invalid, DialogNotFound, DialogFull, Unavailable),
            websocket="dialog.clear",
        ),
        Operation(
            name="message.delivered",
            summary="Everything up to a message has arrived at this device",
            tag=_TAG,
            command=commands.DeliverMessages,
            result=models.Done,
            handler=service.hiding.deliver_messages,
            verb="POST",
            path="/messages/{message_id}/delivered",
            errors=(Invalid, MessageNotFound, Unavailable),
            websocket="message.delivered",
        ),
    ]


def _reactions(service: MessagingService) -> list[Operation]:
    return [
        Operation(
            name="message.react",
            summary="React to a message",
            tag=_TAG,
            command=commands.React,
            result=models.Message,
            handler=service.reacting.react,
            verb="POST",
            path="/messages/{message_id}/reactions",
            errors=(*_OF_ALL, NotAllowed, MessageGone, TooManyReactions),
            websocket="message.react",
        ),
        Operation(
            name="message.unreact",
            summary="Take a reaction back",
            tag=_TAG,
            command=commands.Unreact,
            result=models.Message,
            handler=service.reacting.unreact,
            verb="DELETE",
            path="/messages/{message_id}/reactions",
            errors=_OF_ALL,
            websocket="message.unreact",
        ),
        Operation(
            name="message.reactions",
            summary="Who reacted to a message, all of them",
            tag=_TAG,
            command=commands.ListReactions,
            result=commands.ReactorPage,
            handler=service.messages.list_reactions,
            verb="GET",
            path="/messages/{message_id}/reactions",
            errors=(Invalid, MessageNotFound, NotAllowed, Unavailable),
            websocket="message.reactions",
        ),
    ]


def _pins(service: MessagingService) -> list[Operation]:
    return [
        Operation(
            name="message.pin",
            summary="Pin a message in its dialog",
            tag=_TAG,
            command=commands.PinMessage,
            result=models.Message,
            handler=service.reacting.pin_message,
            verb="POST",
            path="/messages/{message_id}/pin",
            errors=(*_OF_ALL, NotAllowed, MessageGone, TooManyPins),
            websocket="message.pin",
        ),
        Operation(
            name="message.unpin",
            summary="Unpin a message",
            tag=_TAG,
            command=commands.UnpinMessage,
            result=models.Message,
            handler=service.reacting.unpin_message,
            verb="DELETE",
            path="/messages/{message_id}/pin",
            errors=(*_OF_ALL, NotAllowed),
            websocket="message.unpin",
        ),
        Operation(
            name="dialog.pins",
            summary="Pinned messages of a dialog, the latest pin first",
            tag=_TAG,
            command=commands.ListPins,
            result=commands.Pins,
            handler=service.messages.list_pins,
            verb="GET",
            path="/dialogs/{dialog_id}/pins",
            errors=(Invalid, DialogNotFound, Unavailable),
            websocket="dialog.pins",
        ),
    ]


def _polls(service: MessagingService) -> list[Operation]:
    return [
        Operation(
            name="poll.vote",
            summary="Choose in a poll; no options take the vote back",
            tag=_TAG,
            command=commands.Vote,
            result=models.Message,
            handler=service.reacting.vote,
            verb="POST",
            path="/messages/{message_id}/votes",
            errors=(*_OF_ALL, NotAllowed, MessageGone, NotAPoll, PollClosed),
            websocket="poll.vote",
        ),
        Operation(
            name="poll.close",
            summary="End a poll; by its sender or a moderator",
            tag=_TAG,
            command=commands.ClosePoll,
            result=models.Message,
            handler=service.reacting.close_poll,
            verb="POST",
            path="/messages/{message_id}/close-poll",
            errors=(*_OF_ALL, NotTheSender, MessageGone, NotAPoll),
            websocket="poll.close",
        ),
    ]


def _onwards(service: MessagingService) -> list[Operation]:
    return [
        Operation(
            name="message.forward",
            summary="Say it in another dialog, with who said it first",
            tag=_TAG,
            command=commands.ForwardMessage,
            result=models.Message,
            handler=service.forward_message,
            verb="POST",
            path="/messages/{message_id}/forward",
            status=201,
            errors=(
                *_OF_ALL,
                DialogNotFound,
                NotAllowed,
                Silenced,
                SlowMode,
                MessageGone,
                NotForwardable,
            ),
            websocket="message.forward",
        ),
        Operation(
            name="message.thread",
            summary="Messages in the thread under a message, newest first",
            tag=_TAG,
            command=commands.ListThread,
            result=models.MessagePage,
            handler=service.messages.list_thread,
            verb="GET",
            path="/messages/{message_id}/thread",
            errors=(Invalid, MessageNotFound, Unavailable),
            websocket="message.thread",
        ),
    ]
