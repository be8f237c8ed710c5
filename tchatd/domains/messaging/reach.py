"""Owns whether somebody may write to another, or put them into a dialog.

Who blocks whom is another's to keep. Here it is asked in user dialogs alone, from
memory, so that a message costs no query; what is not in memory is loaded, and then
asked again. A refusal does not say who refuses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol
from uuid import UUID

from tchatd.domains.messaging.dialog import DialogState
from tchatd.domains.messaging.errors import NotAllowed
from tchatd.domains.messaging.store import TYPES

USER_DIALOG: Final = TYPES.index("user")


class Blocks(Protocol):
    """What people decided about who may reach them."""

    def is_blocked(self, by: int, user: int) -> bool | None:
        """Whether `by` blocks `user`; None: `by` has to be loaded."""
        ...

    async def load(self, numbers: Sequence[int]) -> None:
        """Have what they decided in memory. Raises: Unavailable."""
        ...

    async def not_addable(self, adder: int, numbers: Sequence[int]) -> list[int]:
        """Those of `numbers` who do not let `adder` put them into a dialog."""
        ...


class NoBlocks:
    """Where nobody blocks anybody: a test, a tool."""

    def is_blocked(self, by: int, user: int) -> bool:
        return False

    async def load(self, numbers: Sequence[int]) -> None:
        return

    async def not_addable(self, adder: int, numbers: Sequence[int]) -> list[int]:
        return []


def other_of(dialog: DialogState, user: int) -> int:
    """Whom a user dialog is with; of any other, and of one's own, 0."""
    if dialog.type != USER_DIALOG:
        return 0
    members = dialog.members
    first, last = members.min(), members.max()
    other: int = last if first == user else first
    return 0 if other == user else other


def may_reach(blocks: Blocks, dialog: DialogState, user: int) -> bool:
    """False: it is not known yet, load the dialog's members.

    Raises: NotAllowed, if the other of a user dialog blocks the user.
    """
    other = other_of(dialog, user)
    if not other:
        return True
    is_blocked = blocks.is_blocked(other, user)
    if is_blocked:
        raise NotAllowed("Not allowed.")
    return is_blocked is not None


async def check_addable(
    blocks: Blocks, adder: int, people: Mapping[UUID, int], field: str
) -> None:
    """field: of the command, which names `people`.

    Raises: NotAllowed, and says whom it is about.
    """
    others = {number: id for id, number in people.items() if number != adder}
    refusing = await blocks.not_addable(adder, list(others))
    if refusing:
        told = ", ".join(str(others[number]) for number in refusing)
        raise NotAllowed(
            "Some of these people do not let you add them.", fields={field: told}
        )
