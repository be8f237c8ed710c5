"""Owns what search asks of others, as Protocols and plain rows; implements nothing.

The index is derived: everything in it is in the store, too, and it can be built again
at any time. It has the journal position up to which it knows the log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType

from tchatd.domains.search.text import Clause

MessageKey = tuple[int, int]
"""Number of the dialog, and seq."""
_ORDER_BITS: Final = 22
_MULTIPLIER: Final = 2_654_435_761
ORDER_MAX: Final = (1 << 64) - 1


class MessageDoc(
    Struct, frozen=True, gc=False, array_like=True, tag_field="kind", tag=0
):
    """A message as it is found. text: all that is said in it; empty: it is not found
    (any more)."""

    dialog_number: int
    seq: int
    at_ms: int
    sender: int
    type: str
    text: str

    @property
    def order(self) -> int:
        """By time, then such that two of one millisecond hardly ever are equal."""
        spread = (self.dialog_number * _MULTIPLIER + self.seq) % (1 << _ORDER_BITS)
        return first_order(self.at_ms) + spread


class DialogDoc(
    Struct, frozen=True, gc=False, array_like=True, tag_field="kind", tag=1
):
    """A dialog as it is found by name. text: name and public name; empty: it is not
    found. is_public: by everybody."""

    number: int
    text: str
    is_public: bool


class PersonDoc(
    Struct, frozen=True, gc=False, array_like=True, tag_field="kind", tag=2
):
    """name: empty: they are not found (any more)."""

    number: int
    name: str
    updated_ms: int


def dialog_doc(
    number: int, name: str | None, public_name: str | UnsetType
) -> DialogDoc:
    if public_name is UNSET:
        return DialogDoc(number, name or "", False)
    return DialogDoc(number, f"{name or ''}\n{public_name}", True)


Doc = MessageDoc | DialogDoc | PersonDoc
Change = tuple[Doc | int, bool]
"""What is found from now on, and whether it is new in the index; a number is of a
dialog that is gone."""


def first_order(at_ms: int) -> int:
    """The least order of a message of that time or later."""
    return min(max(at_ms, 0) << _ORDER_BITS, ORDER_MAX)


class MessageAsk(Struct, frozen=True):
    """dialogs: numbers of those to look in. first, end: orders, the end excluded."""

    clauses: Sequence[Clause]
    dialogs: Sequence[int]
    limit: int
    first: int = 0
    end: int = ORDER_MAX
    sender: int | None = None
    type: str | None = None


class FoundMessage(Struct, frozen=True, gc=False):
    order: int
    dialog_number: int
    seq: int


class SearchIndex(Protocol):
    """What is found. Whoever feeds it is one task; any number may ask.

    position: of the log, up to which it is committed. people_ms: likewise, the greatest
    `updated_ms`. is_ready: it can be asked.
    """

    @property
    def position(self) -> int: ...

    @property
    def people_ms(self) -> int: ...

    @property
    def is_ready(self) -> bool: ...

    async def open(self) -> bool:
        """Whether there is one that can be used; else it has to be renewed.

        Raises: IndexStuck.
        """
        ...

    async def renew(self) -> None:
        """Begin an empty one; the old one, if any, is asked until `publish`.

        Raises: IndexStuck.
        """
        ...

    def put(self, doc: Doc, *, is_new: bool = False) -> None:
        """This is what is found, from the next commit on. is_new: it is not in it yet.

        At most `PUTS_MAX` between two `hand_over`. Raises: IndexStuck.
        """
        ...

    def drop_dialog(self, number: int) -> None:
        """All of the dialog's messages, and itself. Raises: IndexStuck."""
        ...

    async def hand_over(self) -> None:
        """What was put goes to whoever writes it, which may take its time.

        Raises: IndexStuck.
        """
        ...

    async def commit(self, position: int, people_ms: int) -> None:
        """Raises: IndexStuck: nothing of it is kept; `open` again."""
        ...

    async def publish(self) -> None:
        """The committed new one takes the place of the old one. Raises: IndexStuck."""
        ...

    async def close(self) -> None: ...

    async def messages(self, ask: MessageAsk) -> list[FoundMessage]:
        """By order, the greatest first. Raises: IndexUnavailable."""
        ...

    async def dialogs(
        self, clauses: Sequence[Clause], among: Sequence[int] | None, limit: int
    ) -> list[int]:
        """Numbers, of these or of the public ones. Raises: IndexUnavailable."""
        ...

    async def people(
        self, clauses: Sequence[Clause], among: Sequence[int] | None, limit: int
    ) -> list[int]:
        """User numbers, of these or of all. Raises: IndexUnavailable."""
        ...


PUTS_MAX: Final = 5_000
"""In memory until they are handed over: 1.5 MB of common messages."""


class SearchSource(Protocol):
    """Where the index is built from. Everything raises `Unavailable`, too."""

    async def prepare(self) -> None:
        """Much is about to be asked of `changes`, up to what is there now."""
        ...

    async def changes(self, after: int, until: int) -> Sequence[Change]:
        """What records with after < position <= until made of messages and dialogs, as
        it is now. New: it was said by one of them."""
        ...

    async def messages(
        self, after: MessageKey, until: int, limit: int
    ) -> list[MessageDoc]:
        """Those said by records with position <= until, as they are now, by key."""
        ...

    async def dialogs(self, after: int, limit: int) -> list[DialogDoc]:
        """By number."""
        ...

    async def people(
        self, after_ms: int, after_number: int, limit: int
    ) -> list[PersonDoc]:
        """By (updated_ms, number)."""
        ...


class SeenMessage(Protocol):
    """text: all of `texts`, which is what is said, by field of the content."""

    @property
    def message(self) -> Any: ...

    @property
    def dialog_id(self) -> str: ...

    @property
    def texts(self) -> tuple[tuple[str, str], ...]: ...

    @property
    def text(self) -> str: ...


class Conversations(Protocol):
    """What of messaging the caller may see, as it is now."""

    async def number_of(self, user_number: int, dialog_id: UUID) -> int:
        """Raises: the domain's own error, if the caller is not in it."""
        ...

    async def memberships(self, user_number: int) -> Sequence[int]: ...

    async def acquaintances(self, user_number: int) -> Mapping[int, int]:
        """With whom the user has a dialog of two: its number by theirs."""
        ...

    async def messages(
        self, user_number: int, keys: Sequence[MessageKey]
    ) -> Mapping[MessageKey, SeenMessage]: ...

    async def dialogs(self, user_number: int, numbers: Sequence[int]) -> list[Any]:
        """In the order of the numbers."""
        ...

    async def channels(
        self, user_number: int, numbers: Sequence[int]
    ) -> Sequence[Mapping[str, Any]]:
        """Those with a public name that the user is not in: fields of FoundChannel."""
        ...


class People(Protocol):
    async def known(self, viewer: int) -> Sequence[int]:
        """The viewer's contacts."""
        ...

    async def found(self, viewer: int, numbers: Sequence[int]) -> Mapping[int, Any]:
        """Profiles of those who let themselves be found by name, or are contacts."""
        ...

    async def identified(self, viewer: int, text: str) -> Mapping[int, Any]:
        """The profile of whose phone or email this is, if they let it be found."""
        ...


class Directory(Protocol):
    async def numbers_of(self, ids: Sequence[UUID]) -> Mapping[UUID, int]: ...
