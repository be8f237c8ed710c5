"""Owns what can be refused to who owns, is, or presses the buttons of a bot."""

from __future__ import annotations

from tchatd.kernel.errors import (
    Conflict,
    DomainError,
    ErrorKind,
    Invalid,
    NotFound,
)


class BotNotFound(NotFound):
    code, title = "bot-not-found", "No such bot of yours"


class TooManyBots(DomainError):
    code, kind = "too-many-bots", ErrorKind.UNPROCESSABLE
    title = "You own as many bots as anybody may"


class UsernameTaken(Conflict):
    code, title = "username-taken", "Another bot has this username"


class BotsOwnNothing(DomainError):
    code, kind, title = "bots-own-nothing", ErrorKind.FORBIDDEN, "A bot owns no bots"


class BotsDoNotStart(DomainError):
    """People open dialogs with a bot, or add it to theirs."""

    code, kind = "bots-do-not-start", ErrorKind.FORBIDDEN
    title = "A bot does not open dialogs"


class WebhookNotFound(NotFound):
    code, title = "webhook-not-found", "This bot has no webhook"


class WebhookRefused(Invalid):
    code, title = "webhook-refused", "Nothing can be delivered to this address"


class ButtonNotFound(NotFound):
    code, title = "button-not-found", "No such button below a bot's message you see"


class CallbackNotFound(NotFound):
    """Answered already, over, or of another bot."""

    code, title = "callback-not-found", "Nobody waits for this answer any more"
