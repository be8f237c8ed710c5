"""Owns what search may show of dialogs and messages: to whom, as they are now.

A hit is read from the store without loading its dialog, as hits are of many dialogs and
most are looked at once. What memory has is newer and goes over it; the read is pinned
(loader.py), so that nothing is forgotten meanwhile of what the store did not have yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol
from uuid import UUID

from msgspec import UNSET, Struct

from tchatd.domains.messaging.access import ATTEMPTS_MAX, DialogAccess
from tchatd.domains.messaging.dialog import DialogState
from tchatd.domains.messaging.member import MemberExtra, extra_of
from tchatd.domains.messaging.message_state import (
    MessageState,
    message_of_state,
    state_of_row,
)
from tchatd.domains.messaging.models import Dialog, Message
from tchatd.domains.messaging.state import MessagingState
from tchatd.domains.messaging.store import TYPES, CommandLog, EventRow
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.errors import Unavailable

_TEXTS: Final = ("text", "caption", "name", "title", "question", "description")
_CHANNEL: Final = TYPES.index("channel")
_ANY: Final = 0
"""Number of no dialog: nothing is to stay in memory but what changes meanwhile."""


class FoundRow(Struct, frozen=True, gc=False):
    """A `message.new` that a member may see. dialog_id: its text. extra: the member's,
    as stored."""

    event: EventRow
    dialog_id: str
    is_pinned: bool
    extra: bytes | None


class FoundMessage(Struct, frozen=True, gc=False):
    """As the user may see it. texts: what it says in words, by field of its content."""

    message: Message
    texts: tuple[tuple[str, str], ...]

    @property
    def dialog_id(self) -> str:
        return self.message.dialog_id

    @property
    def text(self) -> str:
        return "\n".join(text for _, text in self.texts)


class FindingStore(Protocol):
    async def memberships(self, user_number: int) -> list[int]:
        """Numbers of the dialogs that a user is in."""
        ...

    async def pairs(self, user_number: int) -> list[tuple[int, bytes]]:
        """Number and members (Roaring bitmap) of a user's dialogs of two."""
        ...

    async def found(
        self, user_number: int, keys: Sequence[tuple[int, int]]
    ) -> list[FoundRow]:
        """Messages by (dialog number, seq), of dialogs that the user is in."""
        ...


class Finding:
    """The `Conversations` of search."""

    def __init__(
        self,
        state: MessagingState,
        log: CommandLog,
        access: DialogAccess,
        store: FindingStore,
    ) -> None:
        self._state = state
        self._log = log
        self._access = access
        self._store = store

    async def number_of(self, user_number: int, dialog_id: UUID) -> int:
        """Raises: DialogNotFound."""
        return (await self._access.open(user_number, str(dialog_id))).number

    async def memberships(self, user_number: int) -> list[int]:
        with self._log.pinned(_ANY):
            numbers = set(await self._store.memberships(user_number))
            for dialog in self._state.dirty_of(user_number):
                if user_number in dialog.members:
                    numbers.add(dialog.number)
                else:
                    numbers.discard(dialog.number)
        return sorted(numbers)

    async def acquaintances(self, user_number: int) -> dict[int, int]:
        """The number of the user's dialog of two by the other's number."""
        pairs = await self._store.pairs(user_number)
        found = {}
        for number, members in pairs:
            for other in BitMap.deserialize(members):
                if other != user_number:
                    found[other] = number
        return found

    async def messages(
        self, user_number: int, keys: Sequence[tuple[int, int]]
    ) -> dict[tuple[int, int], FoundMessage]:
        """Those of the keys that the user may see; all that is told is durable."""
        found: dict[tuple[int, int], FoundMessage] = {}
        position = 0
        with self._log.pinned(_ANY):
            rows = await self._store.found(user_number, keys)
            stored = {(row.event.dialog_number, row.event.seq): row for row in rows}
            for key in keys:
                dialog = self._state.find_number(key[0])
                row = stored.get(key)
                if dialog is None:
                    shown = None if row is None else _stored(row, self._state.now_ms())
                else:
                    shown = _loaded(dialog, user_number, key[1], row)
                    position = max(position, dialog.changed_position)
                if shown is not None:
                    found[key] = shown
        await self._log.durable(position)
        return found

    async def dialogs(self, user_number: int, numbers: Sequence[int]) -> list[Dialog]:
        """As the user sees them, those they are in; in the order of the numbers."""
        loaded = await self._load(user_number, numbers)
        views, position = [], 0
        for dialog in loaded:
            if user_number in dialog.members:
                views.append(dialog.view(dialog.member(user_number)))
                position = max(position, dialog.changed_position)
        await self._log.durable(position)
        return views

    async def channels(
        self, user_number: int, numbers: Sequence[int]
    ) -> list[dict[str, Any]]:
        """Channels with a public name that the user is not in, as anybody sees them."""
        loaded = await self._load(user_number, numbers)
        found, position = [], 0
        for dialog in loaded:
            public_name = dialog.settings.public_name
            if (
                dialog.type != _CHANNEL
                or public_name is UNSET
                or dialog.is_dropped
                or user_number in dialog.members
                or user_number in (dialog.banned or ())
            ):
                continue
            position = max(position, dialog.changed_position)
            found.append(
                {
                    "dialog_id": dialog.id,
                    "public_name": public_name,
                    "name": UNSET if dialog.name is None else dialog.name,
                    "avatar": UNSET if dialog.avatar is None else dialog.avatar,
                    "description": dialog.settings.description,
                    "member_count": len(dialog.members),
                }
            )
        await self._log.durable(position)
        return found

    async def _load(
        self, user_number: int, numbers: Sequence[int]
    ) -> list[DialogState]:
        """All of these dialogs that there are, the user's cursor too; use them before
        awaiting again."""
        for _ in range(ATTEMPTS_MAX):
            found = [self._state.find_number(number) for number in numbers]
            loaded = [
                dialog
                for dialog in found
                if dialog is not None and dialog.member(user_number) is not None
            ]
            if len(loaded) == len(numbers):
                return loaded
            # All of them, so that those which are here are not evicted for the others.
            exists = await self._log.load(
                numbers=numbers, members=[(number, user_number) for number in numbers]
            )
            if not exists:
                numbers = [n for n in numbers if self._state.find_number(n) is not None]
        raise Unavailable("Too much is being loaded.")


def texts_of(content: Any) -> tuple[tuple[str, str], ...]:
    """All that a message says in words, by field: `text`, `caption`, `options/0`, …"""

    def get(name: str) -> Any:
        if isinstance(content, Mapping):
            return content.get(name)
        return getattr(content, name, None)

    found = [(name, text) for name in _TEXTS if isinstance(text := get(name), str)]
    options: Iterable[Any] = get("options") or ()
    found += [
        (f"options/{index}", option)
        for index, option in enumerate(options)
        if isinstance(option, str)
    ]
    return tuple(found)


def _stored(row: FoundRow, now_ms: int) -> FoundMessage | None:
    """Of a dialog of which memory knows nothing newer."""
    state = state_of_row(row.event)
    if not _is_shown(state, extra_of(row.extra), now_ms):
        return None
    message = message_of_state(state, row.dialog_id, is_pinned=row.is_pinned)
    return FoundMessage(message, texts_of(state.body.content))


def _loaded(
    dialog: DialogState, user_number: int, seq: int, row: FoundRow | None
) -> FoundMessage | None:
    """row: None if the store lacks it, or did not let the user see it then."""
    if user_number not in dialog.members:
        return None
    if dialog.deleted is not None and seq in dialog.deleted:
        return None
    state = dialog.message_state(seq)
    if state is None:
        if row is None:
            return None
        state = state_of_row(row.event)
    member = dialog.by_number.get(user_number)
    stored = None if row is None else row.extra
    extra = extra_of(stored) if member is None else member.extra
    if not _is_shown(state, extra, dialog.now_ms()):
        return None
    return FoundMessage(dialog.message_of(state), texts_of(state.body.content))


def _is_shown(state: MessageState, extra: MemberExtra, now_ms: int) -> bool:
    is_over = 0 < state.expires_ms <= now_ms
    return not state.is_deleted and not is_over and not extra.hides(state.seq)
