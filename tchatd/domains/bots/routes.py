"""Owns how bots are offered: routes and WebSocket commands, declared once."""

from __future__ import annotations

from tchatd.domains.bots.callbacks import Callbacks
from tchatd.domains.bots.errors import (
    BotNotFound,
    BotsOwnNothing,
    ButtonNotFound,
    CallbackNotFound,
    TooManyBots,
    UsernameTaken,
    WebhookNotFound,
    WebhookRefused,
)
from tchatd.domains.bots.models import (
    AnswerCallback,
    Bot,
    BotCommand,
    Bots,
    CreateBot,
    Done,
    FindBot,
    Nothing,
    PressButton,
    Pressed,
    PutWebhook,
    Webhook,
)
from tchatd.domains.bots.service import BotService
from tchatd.domains.bots.webhooks import Webhooks
from tchatd.kernel.errors import Unavailable
from tchatd.kernel.routing import Limit, Operation

_TAG = "Bots"
_DAY_MINUTES = 1_440
_CHANGES = (Limit(by="user", per_minute=30, burst=30),)


def operations(
    bots: BotService, webhooks: Webhooks, callbacks: Callbacks
) -> list[Operation]:
    return [*_bots(bots), *_webhooks(webhooks), *_buttons(callbacks)]


def _bots(bots: BotService) -> list[Operation]:
    # A day as many as one may own, so that deleting them makes no more of them.
    most = bots.settings.bots_per_user_max
    made = (Limit(by="user", per_minute=most / _DAY_MINUTES, burst=most),)
    return [
        Operation(
            name="bot.create",
            summary="Make a bot; its token is shown this once",
            tag=_TAG,
            command=CreateBot,
            result=Bot,
            handler=bots.create,
            verb="POST",
            path="/bots",
            status=201,
            limits=made,
            errors=(BotsOwnNothing, TooManyBots, UsernameTaken, Unavailable),
        ),
        Operation(
            name="bot.list",
            summary="The caller's bots",
            tag=_TAG,
            command=Nothing,
            result=Bots,
            handler=bots.mine,
            verb="GET",
            path="/bots",
            errors=(Unavailable,),
        ),
        Operation(
            name="bot.named",
            summary="The bot with this username, whoever owns it",
            tag=_TAG,
            command=FindBot,
            result=Bot,
            handler=bots.named,
            verb="GET",
            path="/bots/named/{username}",
            limits=(Limit(by="user", per_minute=120, burst=60),),
            errors=(BotNotFound, Unavailable),
        ),
        Operation(
            name="bot.delete",
            summary="Delete a bot; what it said stays",
            tag=_TAG,
            command=BotCommand,
            result=Done,
            handler=bots.delete,
            verb="DELETE",
            path="/bots/{id}",
            limits=_CHANGES,
            errors=(BotNotFound, Unavailable),
        ),
        Operation(
            name="bot.token",
            summary="Give a bot another token; the old one ends at once",
            tag=_TAG,
            command=BotCommand,
            result=Bot,
            handler=bots.change_token,
            verb="POST",
            path="/bots/{id}/token",
            limits=_CHANGES,
            errors=(BotNotFound, Unavailable),
        ),
    ]


def _webhooks(webhooks: Webhooks) -> list[Operation]:
    return [
        Operation(
            name="bot.webhook.put",
            summary="Have the bot's events delivered to a URL; enables it again",
            tag=_TAG,
            command=PutWebhook,
            result=Webhook,
            handler=webhooks.put,
            verb="PUT",
            path="/bots/{id}/webhook",
            limits=_CHANGES,
            errors=(BotNotFound, WebhookRefused, Unavailable),
        ),
        Operation(
            name="bot.webhook.get",
            summary="The bot's webhook, and how it fares",
            tag=_TAG,
            command=BotCommand,
            result=Webhook,
            handler=webhooks.get,
            verb="GET",
            path="/bots/{id}/webhook",
            errors=(BotNotFound, WebhookNotFound, Unavailable),
        ),
        Operation(
            name="bot.webhook.delete",
            summary="Deliver nothing any more; what waits is dropped",
            tag=_TAG,
            command=BotCommand,
            result=Done,
            handler=webhooks.delete,
            verb="DELETE",
            path="/bots/{id}/webhook",
            limits=_CHANGES,
            errors=(BotNotFound, Unavailable),
        ),
    ]


def _buttons(callbacks: Callbacks) -> list[Operation]:
    return [
        Operation(
            name="button.press",
            summary="Press a button below a bot's message",
            tag=_TAG,
            command=PressButton,
            result=Pressed,
            handler=callbacks.press,
            verb="POST",
            path="/messages/{message_id}/press",
            limits=(Limit(by="user", per_minute=120, burst=30),),
            errors=(ButtonNotFound, Unavailable),
            websocket="button.press",
        ),
        Operation(
            name="button.answer",
            summary="Answer, as the bot, whoever pressed a button",
            tag=_TAG,
            command=AnswerCallback,
            result=Done,
            handler=callbacks.answer,
            verb="POST",
            path="/callbacks/{callback_id}/answer",
            errors=(CallbackNotFound,),
            websocket="button.answer",
        ),
    ]
