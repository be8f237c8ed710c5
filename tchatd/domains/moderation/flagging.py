"""Owns that messages which a filter flags are looked at: each becomes a report.

It follows the journal's flusher (`journal.flusher.Feed`): what is durable is judged
once more before it is flushed, so that no crash loses a report, and sending waits for
nothing. A message that comes again after a crash replaces its own report.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol
from uuid import UUID

from tchatd.domains.moderation.filters import texts_of
from tchatd.domains.moderation.gate import Gate
from tchatd.domains.moderation.service import Reports

_SAYING = ("message.new", "message.edited")


class Said(Protocol):
    """One journalled change."""

    @property
    def actor(self) -> int: ...
    @property
    def event(self) -> Any: ...


class Flagging:
    def __init__(self, gate: Gate, reports: Reports) -> None:
        self._gate = gate
        self._reports = reports

    async def take(self, entries: Sequence[Said]) -> None:
        """Raises: Unavailable; then all of them come again."""
        if self._gate.filter is None:
            return
        for entry in entries:
            event = entry.event
            if event is None or event.__struct_config__.tag not in _SAYING:
                continue
            message = event.message
            text = texts_of(message.content, message.buttons)
            # What would be refused got in before it was listed.
            if text and self._gate.filter.judge(text) != "allow":
                await self._reports.flag(
                    UUID(message.id), UUID(message.dialog_id), entry.actor, message
                )
