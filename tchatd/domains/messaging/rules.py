"""Owns what may be said in a dialog and who may be in one; pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import UNSET, Struct, UnsetType, structs

from tchatd.domains.messaging.content import (
    BUTTONS_BYTES_MAX,
    CONTENT_TYPES,
    Buttons,
    LocationContent,
    PaymentContent,
)
from tchatd.domains.messaging.dialog import DialogState
from tchatd.domains.messaging.errors import (
    Banned,
    DialogFull,
    ForeignReply,
    InvalidContent,
    InvalidMention,
    InvalidParticipants,
    MessageNotFound,
    NotAllowed,
    ServerMade,
    Silenced,
    SlowMode,
    TooManyMembers,
)
from tchatd.domains.messaging.identifiers import message_address
from tchatd.domains.messaging.member import Member
from tchatd.domains.messaging.models import (
    BUSINESS_MEMBERS_MAX,
    CHANNEL_MEMBERS_MAX,
    GROUP_MEMBERS_MAX,
    SEQ_MAX,
    CreateDialog,
)
from tchatd.domains.messaging.settings import (
    PLAIN,
    RANKS,
    WRITE,
    WRITE_FREELY,
    DialogSettings,
)
from tchatd.domains.messaging.store import MESSAGE_NEW, TYPES
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.clock import rfc3339
from tchatd.kernel.errors import Invalid
from tchatd.kernel.refusals import located

_SIZE_MAX: Final = (2, GROUP_MEMBERS_MAX, CHANNEL_MEMBERS_MAX, BUSINESS_MEMBERS_MAX)
_NAMED: Final = ("group", "channel")
VANISH_AFTER_S_MIN: Final = 3_600
_ELSEWHERE: Final = ("public_name", "assignee_id", "is_closed")
"""Settings that are changed by routes of their own."""

assert len(_SIZE_MAX) == len(TYPES)


def content_of(type: str, content: dict[str, Any] | PaymentContent) -> Struct:
    """The content as its type wants it; members that it does not know are dropped.

    Raises:
        InvalidContent: with the field that does not fit.
        ServerMade: the type is not for clients.
    """
    if isinstance(content, PaymentContent):  # no client's: theirs is a dict
        return content
    of_type = CONTENT_TYPES.get(type)
    if of_type is None:
        raise ServerMade(fields={"type": "is not for clients"})
    try:
        fitting: Struct = msgspec.convert(content, of_type)
    except msgspec.ValidationError as error:
        place, why = located(error, of_type)
        where = f"content.{place}" if place else "content"
        raise InvalidContent(fields={where: why}) from None
    if of_type is LocationContent and not (
        math.isfinite(fitting.latitude) and math.isfinite(fitting.longitude)  # type: ignore[attr-defined]
    ):
        raise InvalidContent(fields={"content": "is no place"})
    return fitting


def check_buttons(buttons: Buttons | UnsetType) -> None:
    """Raises InvalidContent: together they are too large."""
    if buttons and len(msgspec.json.encode(buttons)) > BUTTONS_BYTES_MAX:
        told = f"are more than {BUTTONS_BYTES_MAX} bytes together"
        raise InvalidContent(fields={"buttons": told})


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
        InvalidParticipants, Invalid
    """
    everybody = list(dict.fromkeys([caller, *command.participants]))
    if command.type == "user" and len(everybody) != 2:
        raise InvalidParticipants(
            "A user dialog is between the caller and one other person.",
            fields={"participants": "must name one other person"},
        )
    if command.type in _NAMED and not (command.name and command.name.strip()):
        raise Invalid(fields={"name": f"is required for a {command.type}"})
    size_max = _SIZE_MAX[TYPES.index(command.type)]
    if len(everybody) > size_max:
        raise InvalidParticipants(
            fields={"participants": f"more than {size_max} members"}
        )
    return everybody


def settings_at_first(command: CreateDialog) -> DialogSettings:
    """Of a new dialog. Raises Invalid."""
    if command.settings is UNSET:
        return PLAIN
    check_settings(command.type, structs.asdict(command.settings), PLAIN)
    return command.settings


def check_settings(type: str, wanted: Mapping[str, Any], now: DialogSettings) -> None:
    """wanted: by name, of those that are asked for.

    Raises:
        Invalid: one of them is not set here, or not in a dialog of this type.
    """
    fields = {}
    for name, value in wanted.items():
        if value == getattr(now, name):
            continue
        if name in _ELSEWHERE:
            fields[f"settings.{name}"] = "has a route of its own"
        elif type == "user" and name != "vanish_after_s":
            fields[f"settings.{name}"] = "is not for a dialog of two"
        elif name == "vanish_after_s" and 0 < value < VANISH_AFTER_S_MIN:
            fields[f"settings.{name}"] = "is an hour at least, or 0 for never"
    if fields:
        raise Invalid(fields=fields)


# Rights


def check_may(
    dialog: DialogState, member: Member, right: int, detail: str = ""
) -> None:
    """Raises NotAllowed."""
    if not dialog.rights[member.role] & right:
        raise NotAllowed(detail)


def check_may_write(dialog: DialogState, member: Member, now_ms: int) -> None:
    """Whether the member may send a message now; to be asked only of one who is
    silenced, or may not WRITE_FREELY.

    Raises:
        NotAllowed, Silenced, SlowMode
    """
    check_may_speak(dialog, member, now_ms)
    if dialog.rights[member.role] & WRITE_FREELY:
        return
    wait_ms = member.sent_ms + 1_000 * dialog.settings.slow_mode_s - now_ms
    if wait_ms > 0:
        raise SlowMode(
            f"One message every {dialog.settings.slow_mode_s} seconds.",
            retry_after_s=-(-wait_ms // 1_000),
        )


def check_may_speak(dialog: DialogState, member: Member, now_ms: int) -> None:
    """As `check_may_write`, however fast: typing, editing.

    Raises:
        NotAllowed, Silenced
    """
    if not dialog.rights[member.role] & WRITE:
        raise NotAllowed("You may read here, and not write.")
    until_ms = member.extra.silenced_until_ms
    if until_ms > now_ms:
        until = rfc3339(until_ms)
        raise Silenced(
            f"A moderator has silenced you until {until}.",
            fields={"scope": "dialog", "silenced_until": until},
        )


# Who is in a dialog


def check_joining(dialog: DialogState, coming: BitMap) -> None:
    """coming: who is not in the dialog yet.

    Raises:
        Banned, TooManyMembers
    """
    if dialog.banned and dialog.banned & coming:
        raise Banned(fields={"scope": "dialog"})
    size_max = _SIZE_MAX[dialog.type]
    if len(dialog.members) + len(coming) > size_max:
        raise TooManyMembers(f"At most {size_max} people can be in it.")


def check_outranks(member: Member, other: Member) -> None:
    """Raises NotAllowed: nobody touches somebody of equal or higher rank."""
    if RANKS[other.role] >= RANKS[member.role]:
        raise NotAllowed("They have your role, or one above it.")


def check_known(
    people: Iterable[UUID], numbers: Mapping[UUID, int], field: str = "participants"
) -> None:
    """field: of the command, which names `people`.

    Raises InvalidParticipants: somebody does not exist.
    """
    unknown = sum(id not in numbers for id in set(people))
    if unknown:
        raise InvalidParticipants(
            f"{unknown} of these people do not exist.",
            fields={field: "names somebody who does not exist"},
        )
