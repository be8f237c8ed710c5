"""Owns a dialog with things said in it, that are in memory or not as a test wants it.

Whatever a command needs may be in the tail, in the store only, or in a dialog so large
that not even its members are loaded; it has to answer the same.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from tchatd.domains.messaging.models import CreateDialog, GetDialog, Message
from tchatd.domains.messaging.state import StateLimits
from tchatd.domains.messaging.store import Bots
from tchatd.kernel.errors import DomainError
from tests.support.messaging import Core, loading, text, user_id

PLACES: Final = ("memory", "tail", "store", "large")
OUTSIDER: Final = 199
SMALL: Final = StateLimits(dialogs_max=1, tail_max=2, client_ids_max=2)


class Room:
    """1 is its owner, 2 to 5 are members (and many more of a large one).

    place: "memory": nothing is flushed. "tail": all is flushed before each command, and
    memory keeps little. "store": there is a new process before each. "large": so, too.
    """

    def __init__(
        self, place: str = "memory", *, type: str = "group", bots: Bots | None = None
    ) -> None:
        self.place = place
        self.type = type
        self.bots = bots
        self.core = self._core()
        self.processes = 1
        self.id = ""

    def _core(self) -> Core:
        limits = StateLimits() if self.place == "memory" else SMALL
        return Core(limits=limits, bots=self.bots)

    async def open(self, **fields: Any) -> Room:
        count = 151 if self.place == "large" else 6
        people = [user_id(number) for number in range(2, count)]
        if self.type == "user":
            people = people[:1]
        command = CreateDialog(
            type=self.type,  # type: ignore[arg-type]
            name="Room",
            participants=people,
            **fields,
        )
        self.id = (await self.do(1, command)).id
        return self

    @property
    def number(self) -> int:
        dialog = self.core.state.find(self.id)
        assert dialog is not None
        return dialog.number

    @property
    def entries(self) -> int:
        """How many records there are."""
        return len(self.core.journal.kept)

    async def forget(self) -> None:
        """What happens before each command."""
        if self.place != "memory":
            await self.core.flusher.flush()
        if self.place in ("store", "large"):
            await self.restart()

    async def restart(self) -> None:
        """A new process over the same store."""
        await self.core.flusher.flush()
        self.processes += 1
        self.core = await self.core.restart(
            limits=self.core.state._limits, bots=self.bots, seed=self.processes
        )

    async def do(self, user: int, command: Any, **around: Any) -> Any:
        await self.forget()
        async with loading(self.core):
            try:
                return await self.core.do(user, command, **around)
            except DomainError as error:
                refusal = error  # to be raised as it is, outside of the nursery
        raise refusal

    async def say(self, user: int = 2, words: str = "hello", **fields: Any) -> Message:
        message: Message = await self.do(user, text(self.id, words, **fields))
        return message

    async def fill(self, count: int = 6) -> None:
        """Others talk, so that what was said before is out of a short tail."""
        for _ in range(count):
            await self.say(5, "…")

    async def view(self, user: int) -> Any:
        return await self.do(user, GetDialog(self.id))

    @property
    def told(self) -> list[tuple[list[int], Any, int | None]]:
        return self.core.hub.told


def id_of(message: Any) -> UUID:
    return UUID(message.id)


class SomeBots:
    """These users are programs."""

    def __init__(self, *numbers: int) -> None:
        self._numbers = numbers

    def is_bot(self, user_number: int) -> bool:
        return user_number in self._numbers
