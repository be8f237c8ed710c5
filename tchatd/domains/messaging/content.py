"""Owns what a message can carry: content by type, buttons, where it was first said.

Whoever sends it is checked against these (rules.py); members that a type does not know
are dropped. A payment's content is the server's to make, a system message's too.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias, get_args

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

POLL_OPTIONS_MAX: Final = 12
BUTTON_ROWS_MAX: Final = 8
BUTTONS_A_ROW_MAX: Final = 8
BUTTONS_BYTES_MAX: Final = 16_384
"""Of all of a message's buttons together, as JSON."""
TO_THE_END: Final = r"(?!\n)"
"""Behind `$`, which Python would also let match before a last newline."""

MessageType: TypeAlias = Literal[
    "text", "voice", "file", "image", "video", "payment", "location", "poll"
]
TypeIn: TypeAlias = Annotated[
    MessageType, Meta(extra_json_schema={"not": {"enum": ["payment"]}})
]
"""Of a message that a client sends: a payment's is made by the server."""
TypeOut: TypeAlias = Annotated[
    str, Meta(extra_json_schema={"enum": [*get_args(MessageType), "system"]})
]
Url: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"^https?://[^\s\x00-\x1f\x7f]+$" + TO_THE_END,
        max_length=2_048,
        description="a URL that begins with http:// or https://",
    ),
]
_Pixels: TypeAlias = Annotated[int, Meta(ge=1, le=100_000)]
_Caption: TypeAlias = Annotated[str, Meta(max_length=1_024)]
_DAY_MS: Final = 86_400_000


class TextContent(Struct, frozen=True, gc=False):
    text: Annotated[str, Meta(min_length=1, max_length=4_096)]


class ImageContent(Struct, frozen=True, gc=False):
    file_url: Url
    width: _Pixels
    height: _Pixels
    thumbnail_url: Url | UnsetType = UNSET
    caption: _Caption | UnsetType = UNSET


class VideoContent(Struct, frozen=True, gc=False):
    file_url: Url
    duration_ms: Annotated[int, Meta(ge=0, le=_DAY_MS)]
    width: _Pixels
    height: _Pixels
    thumbnail_url: Url | UnsetType = UNSET
    caption: _Caption | UnsetType = UNSET


class VoiceContent(Struct, frozen=True, gc=False):
    """waveform: loudness of equal parts of the recording, for drawing."""

    file_url: Url
    duration_ms: Annotated[int, Meta(ge=0, le=300_000)]
    waveform: (
        Annotated[list[Annotated[int, Meta(ge=0, le=255)]], Meta(max_length=512)]
        | UnsetType
    ) = UNSET


class FileContent(Struct, frozen=True, gc=False):
    file_url: Url
    name: Annotated[str, Meta(min_length=1, max_length=255)]
    size_bytes: Annotated[int, Meta(ge=0, le=1 << 42)]
    mime_type: Annotated[
        str,
        Meta(
            pattern=r"^[\w.+-]+/[\w.+-]+(;[ -~]*)?$" + TO_THE_END,
            max_length=127,
            description="a media type, such as image/png",
        ),
    ]


class LocationContent(Struct, frozen=True, gc=False):
    latitude: Annotated[float, Meta(ge=-90, le=90)]
    longitude: Annotated[float, Meta(ge=-180, le=180)]
    title: Annotated[str, Meta(max_length=255)] | UnsetType = UNSET


class PollContent(Struct, frozen=True, gc=False):
    """options: different ones. is_anonymous: nobody is told who chose what."""

    question: Annotated[str, Meta(min_length=1, max_length=300)]
    options: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=100)]],
        Meta(min_length=2, max_length=POLL_OPTIONS_MAX),
    ]
    is_multiple: bool = False
    is_anonymous: bool = False

    def __post_init__(self) -> None:
        if len(set(self.options)) != len(self.options):
            raise ValueError("two options are the same")


class PaymentContent(Struct, frozen=True, gc=False, omit_defaults=True):
    """Made by the server, when money was sent in the dialog. amount: in minor units.
    transaction_id: of the sender's side, by which each of the two finds their own."""

    amount: int
    currency: str
    transaction_id: str
    description: str | UnsetType = UNSET


CONTENT_TYPES: Final[dict[str, type[Struct]]] = {
    "text": TextContent,
    "image": ImageContent,
    "video": VideoContent,
    "voice": VoiceContent,
    "file": FileContent,
    "location": LocationContent,
    "poll": PollContent,
}


class Button(Struct, frozen=True, gc=False, omit_defaults=True):
    """Under a bot's message. data: what the bot is told when it is pressed; url: opened
    by the client itself. One of them is there."""

    text: Annotated[str, Meta(min_length=1, max_length=64)]
    data: Annotated[str, Meta(min_length=1, max_length=64)] | UnsetType = UNSET
    url: Url | UnsetType = UNSET

    def __post_init__(self) -> None:
        if (self.data is UNSET) == (self.url is UNSET):
            raise ValueError("a button has data or a url")


ButtonRow: TypeAlias = Annotated[
    tuple[Button, ...], Meta(min_length=1, max_length=BUTTONS_A_ROW_MAX)
]
Buttons: TypeAlias = Annotated[tuple[ButtonRow, ...], Meta(max_length=BUTTON_ROWS_MAX)]


class Forward(Struct, frozen=True, gc=False, omit_defaults=True):
    """Where a forwarded message was first said. dialog_id, message_id: of a public
    channel only; of other dialogs nothing but the sender is told."""

    sender_id: str
    sent_at: str
    dialog_id: str | UnsetType = UNSET
    message_id: str | UnsetType = UNSET


def _schema_of(type: type[Struct]) -> dict[str, Any]:
    schema: dict[str, Any] = msgspec.json.schema(type)["$defs"][type.__name__]
    return schema


_CONTENT_SCHEMA: Final = {"anyOf": [_schema_of(t) for t in CONTENT_TYPES.values()]}
ContentIn: TypeAlias = Annotated[
    dict[str, Any], Meta(extra_json_schema=_CONTENT_SCHEMA)
]
ContentOut: TypeAlias = Annotated[
    Any, Meta(extra_json_schema={"type": "object", "description": "By the type"})
]
