"""Owns the shapes of bots, webhooks and buttons: on the wire, and as stored."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

EVENTS_MAX: Final = 32
CALLBACK_S: Final = 60
"""How long a bot may take to answer a pressed button."""

Username: TypeAlias = Annotated[
    str,
    Meta(
        max_length=32,
        pattern=r"^[a-z][a-z0-9_]{1,28}bot$(?!\n)",
        description="5 to 32 of a-z, 0-9 and _, a letter first, bot at the end",
    ),
]
BotName: TypeAlias = Annotated[
    str,
    Meta(
        min_length=2,
        max_length=100,
        pattern=r"^\s*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f]\s*$",
        description="two visible characters at least, without control characters",
    ),
]
WebhookUrl: TypeAlias = Annotated[
    str,
    Meta(
        min_length=8,
        max_length=2_048,
        pattern=r"^https?://[!-~]+$(?!\n)",
        description="an ASCII URL that begins with http:// or https://",
    ),
]
Secret: TypeAlias = Annotated[
    str,
    Meta(
        min_length=16,
        max_length=256,
        pattern=r"^[!-~]+$(?!\n)",
        description="printable ASCII without spaces",
    ),
]
EventType: TypeAlias = Literal[
    "message.new",
    "message.all",
    "message.edited",
    "message.deleted",
    "reaction.added",
    "reaction.removed",
    "poll.voted",
    "member.added",
    "member.removed",
    "member.role",
    "dialog.created",
    "dialog.updated",
    "dialog.deleted",
    "button.pressed",
]
"""message.new: in a dialog of two, and where the bot is mentioned; message.all: every
message. member.*: of the bot itself and of others."""
DEFAULT_EVENTS: Final[tuple[EventType, ...]] = (
    "message.new",
    "button.pressed",
    "dialog.created",
    "member.removed",
)


class Nothing(Struct, frozen=True):
    """A command without input."""


class Done(Struct, frozen=True, kw_only=True):
    success: bool = True


class Bot(Struct, frozen=True, kw_only=True):
    """id: it is a user with this id. token: only when it has just been made."""

    id: str
    name: str
    username: str
    owner_id: str
    created_at: str
    token: str | UnsetType = UNSET
    is_bot: bool = True


class Bots(Struct, frozen=True):
    bots: list[Bot]


class CreateBot(Struct, frozen=True, kw_only=True):
    name: BotName
    username: Username


class BotCommand(Struct, frozen=True):
    id: UUID


class FindBot(Struct, frozen=True):
    username: Username


class Webhook(Struct, frozen=True, kw_only=True):
    """secret: only when the server has just made it. pending: events that wait.

    disabled_at, disabled_why: when nothing is delivered any more; PUT starts it again.
    """

    url: str
    events: tuple[str, ...]
    updated_at: str
    pending: int
    secret: str | UnsetType = UNSET
    disabled_at: str | UnsetType = UNSET
    disabled_why: str | UnsetType = UNSET


class PutWebhook(Struct, frozen=True, kw_only=True):
    """secret: absent keeps the one there is, or has the server make one."""

    id: UUID
    url: WebhookUrl
    secret: Secret | UnsetType = UNSET
    events: Annotated[
        tuple[EventType, ...], Meta(min_length=1, max_length=EVENTS_MAX)
    ] = DEFAULT_EVENTS


class PressButton(Struct, frozen=True):
    message_id: UUID
    data: Annotated[str, Meta(min_length=1, max_length=64)]


class Pressed(Struct, frozen=True):
    """The bot may answer until then, by `button.answered`."""

    callback_id: str
    expires_at: str


class AnswerCallback(Struct, frozen=True, kw_only=True):
    """text: shown to who pressed, as a passing note, or to be confirmed (alert).
    url: opened by their client."""

    callback_id: UUID
    text: Annotated[str, Meta(max_length=200)] | UnsetType = UNSET
    alert: bool = False
    url: (
        Annotated[
            str,
            Meta(
                max_length=2_048,
                pattern=r"^https?://[!-~]+$(?!\n)",
                description="an ASCII URL that begins with http:// or https://",
            ),
        ]
        | UnsetType
    ) = UNSET


# Live events, not in any dialog's log.


class ButtonPressed(
    Struct, frozen=True, gc=False, tag_field="op", tag="button.pressed"
):
    """To the bot."""

    callback_id: str
    dialog_id: str
    message_id: str
    user_id: str
    data: str
    at: str
    expires_at: str


class ButtonAnswered(
    Struct,
    frozen=True,
    gc=False,
    tag_field="op",
    tag="button.answered",
    omit_defaults=True,
):
    """To whoever pressed."""

    callback_id: str
    message_id: str
    text: str | UnsetType = UNSET
    alert: bool = False
    url: str | UnsetType = UNSET


class WebhookDisabled(
    Struct, frozen=True, gc=False, tag_field="op", tag="bot.webhook_disabled"
):
    """To the bot's owner."""

    bot_id: str
    why: str
    at: str


# Records: what a store keeps.


class BotRecord(Struct, frozen=True, kw_only=True):
    """owner: user number. data_key: of the bot's user, wrapped."""

    number: int
    id: UUID
    owner: int
    owner_id: UUID
    name: str
    username: str
    token_hash: bytes
    session_id: UUID
    created_ms: int
    data_key: bytes


class NewBot(Struct, frozen=True, kw_only=True):
    id: UUID
    owner: int
    name: str
    username: str
    token_hash: bytes
    session_id: UUID
    data_key: bytes
    data_key_id: str
    created_ms: int


class WebhookRecord(Struct, frozen=True, kw_only=True):
    """secret: sealed under the bot's data key."""

    bot: int
    url: str
    secret: bytes
    events: tuple[str, ...]
    updated_ms: int
    dead_run: int = 0
    disabled_ms: int | None = None
    disabled_why: str | None = None


class OutgoingEvent(Struct, frozen=True, kw_only=True):
    """About to be kept until it is delivered. body: JSON, as it is sent."""

    bot: int
    id: UUID
    type: str
    body: str
    created_ms: int


class PendingEvent(Struct, frozen=True, kw_only=True):
    number: int
    bot: int
    id: UUID
    type: str
    body: str
    created_ms: int
    due_ms: int
    attempts: int


class DeadLetter(Struct, frozen=True, kw_only=True):
    """bot_id: of the bot whose webhook did not take it."""

    number: int
    bot: int
    bot_id: UUID
    id: UUID
    type: str
    body: str
    created_ms: int
    attempts: int
    dead_ms: int
    why: str


class SeenMessage(Struct, frozen=True):
    """A message as one of its dialog's members sees it.

    sender: user number; message: as clients see it.
    """

    id: str
    dialog_id: str
    dialog_number: int
    sender: int
    sender_id: UUID
    message: Any
