"""Owns stored events as they are told, made once for all who ask for the same.

After a restart the members of a dialog come back together, and each has missed the same
events: made anew for each they would be most of what catching up costs. An event is
taken from here only for a row that is equal to the one it was made of.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tchatd.domains.messaging.events import Event
from tchatd.domains.messaging.message_state import MessageState
from tchatd.domains.messaging.rows import event_of
from tchatd.domains.messaging.store import MESSAGE_EDITED, EventRow

EVENTS_MAX: Final = 20_000
"""A kilobyte or two each. They are dropped all at once: a crowd soon asks for its own
again, and a use costs no more than looking it up."""


class SharedEvents:
    def __init__(self, events_max: int = EVENTS_MAX) -> None:
        self._events_max = events_max
        self._made: dict[tuple[int, int], tuple[EventRow, tuple[str, ...], Event]] = {}

    def of(
        self,
        row: EventRow,
        dialog_id: str,
        pins: tuple[str, ...],
        edited: Mapping[int, MessageState],
        now_ms: int,
    ) -> Event:
        """As `event_of`. What depends on more than its row is made each time."""
        if row.kind == MESSAGE_EDITED or row.expires_ms:
            return event_of(row, dialog_id, pins, edited, now_ms)
        key = row.dialog_number, row.seq
        known = self._made.get(key)
        if known is not None and known[1] == pins:
            made_of = known[0]
            if made_of is row or made_of == row:
                return known[2]
        event = event_of(row, dialog_id, pins)
        if len(self._made) >= self._events_max:
            self._made.clear()
        self._made[key] = row, pins, event
        return event
