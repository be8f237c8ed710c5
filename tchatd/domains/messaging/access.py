"""Owns finding a dialog for one of its members, loading it if need be."""

from __future__ import annotations

from typing import Final

from tchatd.domains.messaging.dialog import DialogState
from tchatd.domains.messaging.errors import DialogNotFound
from tchatd.domains.messaging.identifiers import uuid_bytes, uuid_text
from tchatd.domains.messaging.settings import SEE_MEMBERS
from tchatd.domains.messaging.state import MessagingState
from tchatd.domains.messaging.store import CommandLog
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.errors import Invalid, Unavailable

ATTEMPTS_MAX: Final = 5
"""How often something that was loaded may be evicted again before it is used."""


class DialogAccess:
    """A dialog is to be seen by its members alone; for others it does not exist."""

    def __init__(self, state: MessagingState, log: CommandLog) -> None:
        self._state = state
        self._log = log

    def find(self, user_number: int, id: str) -> DialogState | None:
        """The loaded dialog, its member's cursor too; None if it must be opened.

        Raises:
            DialogNotFound: the user is not in it.
        """
        dialog = self._state.find(id)
        return None if dialog is None else _for_member(dialog, user_number)

    def find_number(self, user_number: int, number: int) -> DialogState | None:
        """As `find`, by the dialog's number."""
        dialog = self._state.find_number(number)
        return None if dialog is None else _for_member(dialog, user_number)

    async def open(self, user_number: int, id: str) -> DialogState:
        """As `find`, loading what is missing; use it before awaiting again.

        Raises:
            Invalid: it is no id at all.
            DialogNotFound: there is none, or the user is not in it.
            Unavailable: the store is away.
        """
        raw = uuid_bytes(id)
        if raw is None:
            raise Invalid(fields={"dialog_id": "must be a UUID"})
        dialog = await self.look_up(raw)
        if dialog is None:
            raise DialogNotFound
        return await self.open_number(user_number, dialog.number)

    async def open_number(self, user_number: int, number: int) -> DialogState:
        """As `open`, by the dialog's number."""
        for _ in range(ATTEMPTS_MAX):
            dialog = self.find_number(user_number, number)
            if dialog is not None:
                return dialog
            exists = await self._log.load(
                numbers=(number,), members=((number, user_number),)
            )
            if not exists and self._state.find_number(number) is None:
                raise DialogNotFound
        raise Unavailable("Too much is being loaded.")

    async def members_of(self, user_number: int, dialog_id: str) -> tuple[BitMap, bool]:
        """Who is in it, and whether this one of them may know who they are.

        Raises: as `open`.
        """
        dialog = await self.open(user_number, dialog_id)
        sees = dialog.may(dialog.by_number[user_number], SEE_MEMBERS)
        return dialog.members, sees

    async def look_up(self, id: bytes) -> DialogState | None:
        """The dialog whoever asks; None if there is none, until the next await."""
        text = uuid_text(id)
        for _ in range(ATTEMPTS_MAX):
            dialog = self._state.find(text)
            if dialog is not None:
                return dialog
            exists = await self._log.load(ids=(id,))
            if not exists and self._state.find(text) is None:
                return None
        raise Unavailable("Too much is being loaded.")


def _for_member(dialog: DialogState, user_number: int) -> DialogState | None:
    if user_number not in dialog.members:
        raise DialogNotFound
    return None if dialog.member(user_number) is None else dialog
