"""Owns what a forwarded message takes along: what was said, and who said it first.

The origin is that of the first forward, however often it goes on. It names the place
only when that is a channel with a public name: what is said elsewhere does not tell
strangers where. Mentions, replies and buttons stay where they were.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct

from tchatd.domains.messaging.content import Forward
from tchatd.domains.messaging.dialog import DialogState
from tchatd.domains.messaging.errors import MessageGone, NotForwardable
from tchatd.domains.messaging.identifiers import uuid_text
from tchatd.domains.messaging.message_access import Target
from tchatd.domains.messaging.message_state import MessageState
from tchatd.domains.messaging.store import TYPES
from tchatd.kernel.clock import rfc3339

_FORWARDABLE: Final = frozenset({"text", "image", "video", "voice", "file", "location"})
"""A payment was made once; a poll is answered where it was asked."""
_CHANNEL: Final = TYPES.index("channel")


class Copied(Struct, frozen=True, gc=False):
    """content: as clients send it."""

    type: str
    content: dict[str, Any]
    origin: Forward


def copied(source: Target) -> Copied:
    """Raises MessageGone, NotForwardable."""
    state = source.state
    if state.is_deleted:
        raise MessageGone
    if state.body.type not in _FORWARDABLE:
        raise NotForwardable
    origin = state.body.forward
    if origin is UNSET:
        origin = _origin(source.dialog, state)
    return Copied(state.body.type, msgspec.to_builtins(state.body.content), origin)


def _origin(dialog: DialogState, state: MessageState) -> Forward:
    sender_id, sent_at = uuid_text(state.sender_id), rfc3339(state.at_ms)
    if dialog.type != _CHANNEL or dialog.settings.public_name is UNSET:
        return Forward(sender_id, sent_at)
    return Forward(sender_id, sent_at, dialog.id, state.id)
