"""Owns what may be said in a dialog and who may be in one; pure functions."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import Struct

from tchatd.domains.messaging.content import (
    CONTENT_TYPES,
    LocationContent,
)
from tchatd.domains.messaging.dialog import DialogState
from tchatd.domains.messaging.errors import (
    DialogFull,
    ForeignReply,
    InvalidContent,
    InvalidMention,
    InvalidParticipants,
    MessageNotFound,
    ServerMade,
    TypeNotAvailable,
)
from tchatd.domains.messaging.identifiers import message_address
from tchatd.domains.messaging.models import (
    GROUP_MEMBERS_MAX,
    SEQ_MAX,
    CreateDialog,
)
from tchatd.domains.messaging.store import MESSAGE_NEW
from tchatd.kernel.errors import Invalid

_PLACE: Final = re.compile(r"^(.*) - at `\$\.?([^`]*)`$", re.DOTALL)
_AVAILABLE: Final = frozenset({"user", "group"})


def content_of(type: str, content: dict[str, Any]) -> Struct:
    """The content as its type wants it; members that it does not know are dropped.

    Raises:
        InvalidContent: with the field that does not fit.
        ServerMade: the type is not for clients.
    """
    of_type = CONTENT_TYPES.get(type)
    if of_type is None:
        raise ServerMade(fields={"type": "is not for clients"})
    try:
        fitting: Struct = msgspec.convert(content, of_type)
    except msgspec.ValidationError as error:
        raise _unfit(str(error)) from None
    if of_type is LocationContent and not (
        math.isfinite(fitting.latitude) and math.isfinite(fitting.longitude)  # type: ignore[attr-defined]
    ):
        raise InvalidContent(fields={"content": "is no place"})
    return fitting


def _unfit(message: str) -> InvalidContent:
    found = _PLACE.match(message)
    text, place = (found[1], found[2]) if found else (message, "")
    return InvalidContent(fields={f"content.{place}" if place else "content": text})


def client_id_bytes(id: UUID) -> bytes:
    """Raises Invalid: it is no version 7 UUID, whose time the dedup needs."""
    value = id.int
    if value >> 76 & 0xF != 7 or value >> 62 & 0b11 != 0b10:
        raise Invalid(fields={"client_id": "must be a version 7 UUID"})
    return value.to_bytes(16, "big")


def check_room(dialog: DialogState) -> None:
    """Raises DialogFull."""
    if dialog.last_seq >= SEQ_MAX:
        raise DialogFull


def reply_seq(dialog: DialogState, reply_to: UUID) -> int | None:
    """None if the tail shows the message; else the seq to look it up at.

    Raises:
        ForeignReply: the message is of another dialog.
        MessageNotFound: there is no such message.
    """
    address = message_address(reply_to)
    if address is None:
        raise MessageNotFound(fields={"reply_to_id": "is no message"})
    number, seq = address
    if number != dialog.number:
        raise ForeignReply(fields={"reply_to_id": "is not of this dialog"})
    entry = dialog.entry_at(seq)
    if entry is None and seq < dialog.tail_first_seq:
        return seq
    if entry is None or entry.kind != MESSAGE_NEW or entry.answer.id != str(reply_to):
        raise MessageNotFound(fields={"reply_to_id": "is no message"})
    return None


def mentioned(
    dialog: DialogState, mentions: Iterable[UUID], numbers: Mapping[UUID, int]
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Ids and numbers of who is mentioned, each once.

    Raises:
        InvalidMention: of somebody who is not in the dialog.
    """
    unique = list(dict.fromkeys(mentions))
    for id in unique:
        if numbers.get(id, 0) not in dialog.members:
            raise InvalidMention(fields={"mentions": "names somebody who is not here"})
    return tuple(str(id) for id in unique), tuple(numbers[id] for id in unique)


def participants_of(command: CreateDialog, caller: UUID) -> list[UUID]:
    """Everybody in the new dialog, each once, the caller first.

    Raises:
        TypeNotAvailable, InvalidParticipants, Invalid
    """
    if command.type not in _AVAILABLE:
        raise TypeNotAvailable(
            f"Dialogs of type {command.type} are not available yet.",
            fields={"type": "is not available yet"},
        )
    everybody = list(dict.fromkeys([caller, *command.participants]))
    if command.type == "user" and len(everybody) != 2:
        raise InvalidParticipants(
            "A user dialog is between the caller and one other person.",
            fields={"participants": "must name one other person"},
        )
    if command.type == "group":
        if not command.name or not command.name.strip():
            raise Invalid(fields={"name": "is required for a group"})
        if len(everybody) > GROUP_MEMBERS_MAX:
            raise InvalidParticipants(
                fields={"participants": f"more than {GROUP_MEMBERS_MAX} members"}
            )
    return everybody


def check_known(people: Sequence[UUID], numbers: Mapping[UUID, int]) -> None:
    """Raises InvalidParticipants: somebody does not exist."""
    unknown = sum(id not in numbers for id in people)
    if unknown:
        raise InvalidParticipants(
            f"{unknown} of the participants do not exist.",
            fields={"participants": "names somebody who does not exist"},
        )
