"""Owns what is left beside the journal of dialogs that were deleted for everyone.

It follows the log (`Feed` of journal/flusher.py), which gives it every deletion, some
of them again after a crash: forgetting twice is no more than forgetting.
"""

from __future__ import annotations

from collections.abc import Sequence

from tchatd.domains.messaging.beside import InviteStore, NameStore
from tchatd.domains.messaging.entry import Entry
from tchatd.domains.messaging.store import DIALOG_DELETED


class Leftovers:
    """held_back_s: how long its public name is kept from others (public_names.py)."""

    def __init__(
        self, invites: InviteStore, names: NameStore, held_back_s: float
    ) -> None:
        self._invites = invites
        self._names = names
        self._held_back_ms = round(1_000 * held_back_s)

    async def take(self, entries: Sequence[Entry]) -> None:
        """See `Feed`: called with every batch before it is stored."""
        for entry in entries:
            if entry.kind == DIALOG_DELETED:
                number = entry.dialog_number
                await self._invites.forget_dialog(number)
                free_ms = entry.at_ms + self._held_back_ms
                await self._names.give_up_names(number, free_ms)
