"""Owns what messaging asks of others, as Protocols and plain rows; implements nothing.

The store holds what was flushed: the log's events, and of each dialog and member a
snapshot as of the journal position it holds. What is later is in memory (state.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol
from uuid import UUID

from msgspec import Struct, field

from tchatd.domains.messaging.records import Record
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.deferred import Deferred

DIALOG_CREATED: Final = 1
MESSAGE_NEW: Final = 2
MESSAGE_READ: Final = 3

ROLES: Final = ("member", "owner", "admin", "guest")
"""A role is stored as its index here; most members are 0."""
MEMBER: Final = 0
OWNER: Final = 1
TYPES: Final = ("user", "group", "channel", "business")
"""A dialog's type is stored as its index here."""


class EventRow(Struct, frozen=True, gc=False):
    """One event of a dialog's log.

    ordinal: of a message, its number among the dialog's messages; of a read, how
        many messages are read.
    actor, actor_id: user number and 16-byte id of who did it. body: JSON of what else
    the event says (see rows.py). client_id: 16 bytes.
    """

    dialog_number: int
    seq: int
    kind: int
    position: int
    at_ms: int
    ordinal: int
    actor: int
    actor_id: bytes
    body: str
    client_id: bytes | None = None


class DialogRow(Struct, frozen=True, gc=False):
    """A dialog's snapshot.

    members: Roaring bitmap of user numbers; participants: 16-byte ids of the first
    100, in the bitmap's order. active_position, active_ms: of its creation or latest
    message. last_position: of its latest event. last_message: its row, if any.
    """

    number: int
    id: bytes
    type: int
    name: str | None
    avatar: str | None
    creator: int
    created_ms: int
    members: bytes
    participants: bytes
    last_seq: int
    message_count: int
    active_position: int
    active_ms: int
    last_position: int
    last_message: EventRow | None = None


class MemberRow(Struct, frozen=True, gc=False):
    """A member's snapshot. client_ms: the latest time in their client_ids; or -1."""

    dialog_number: int
    user_number: int
    role: int = MEMBER
    read_seq: int = 0
    read_ordinal: int = 0
    read_at_ms: int = 0
    client_ms: int = -1


class Wants(Struct):
    """What is missing in memory; asked for in one round trip.

    ids: 16-byte ids of dialogs. numbers: of dialogs. members: (dialog number, user
    number). sent: (dialog number, sender, client_id). A dialog of up to 100 members
    comes with all of its members.
    """

    ids: set[bytes] = field(default_factory=set)
    numbers: set[int] = field(default_factory=set)
    members: set[tuple[int, int]] = field(default_factory=set)
    sent: set[tuple[int, int, bytes]] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.ids) + len(self.numbers) + len(self.members) + len(self.sent)


class Found(Struct):
    """sent: the `message.new` rows of the client_ids that are known."""

    dialogs: list[DialogRow]
    members: list[MemberRow]
    sent: list[EventRow]


class EventColumns(Struct):
    """EventRow, column by column, in journal order."""

    dialog_number: list[int] = field(default_factory=list)
    seq: list[int] = field(default_factory=list)
    kind: list[int] = field(default_factory=list)
    position: list[int] = field(default_factory=list)
    at_ms: list[int] = field(default_factory=list)
    ordinal: list[int] = field(default_factory=list)
    actor: list[int] = field(default_factory=list)
    actor_id: list[bytes] = field(default_factory=list)
    body: list[str] = field(default_factory=list)
    client_id: list[bytes | None] = field(default_factory=list)


class DialogChange(Struct, frozen=True, gc=False):
    """What of a dialog's snapshot moves, as of the batch's last record.

    last_message_seq, active_position, active_ms: 0 when they stay as they are.
    """

    number: int
    last_seq: int
    message_count: int
    last_message_seq: int
    active_position: int
    active_ms: int
    last_position: int


class FlushBatch(Struct):
    """What the records in (previous_position, position] changed.

    created: dialogs new in it, as created; `changes` and `members` come after.
    members: whole rows. Of a new dialog `memberships` has who joins with which role.
    """

    previous_position: int
    position: int
    events: EventColumns
    created: list[DialogRow]
    memberships: list[tuple[int, int, int]]
    changes: list[DialogChange]
    members: list[MemberRow]


class ListedDialog(Struct, frozen=True, gc=False):
    dialog: DialogRow
    member: MemberRow


class ChangedDialog(Struct, frozen=True, gc=False):
    """floor_seq, last_seq: of its last events up to the two positions asked about."""

    number: int
    id: bytes
    floor_seq: int
    last_seq: int


class DialogStore(Protocol):
    """Everything here raises kernel `Unavailable` when the store is away."""

    async def position(self) -> int:
        """Of the last record that was flushed; 0 at first."""
        ...

    async def flush(self, batch: FlushBatch) -> None:
        """Write it all with its position, or nothing. A repeat changes nothing.

        Raises:
            StoreDiverged: the store is neither at the batch's begin nor its end.
        """
        ...

    async def load(self, wants: Wants) -> Found: ...

    async def events(
        self, number: int, after: int, until: int, limit: int
    ) -> list[EventRow]:
        """Of one dialog, after < seq <= until, ascending."""
        ...

    async def messages_before(
        self, number: int, seq: int, limit: int
    ) -> list[EventRow]:
        """`message.new` with a lower seq, descending."""
        ...

    async def messages_after(
        self, number: int, seq: int, until: int, limit: int
    ) -> list[EventRow]:
        """`message.new` with seq < its seq <= until, ascending."""
        ...

    async def listed(
        self,
        user_number: int,
        *,
        type: int | None,
        without: Sequence[int],
        before: int | None,
        offset: int,
        limit: int,
    ) -> tuple[list[ListedDialog], int]:
        """Dialogs of a user by active_position, descending, and how many in all.

        without: numbers to leave out, also of the count. before: only with a lower
        active_position (the count is of all).
        """
        ...

    async def changed(
        self,
        user_number: int,
        *,
        after_position: int,
        until_position: int,
        from_number: int,
        limit: int,
    ) -> list[ChangedDialog]:
        """Dialogs of a user with an event after `after_position`, by number, from
        `from_number` on; those whose events are all after `until_position`, too."""
        ...

    async def ranges(
        self, ranges: Sequence[tuple[int, int, int]], until_position: int
    ) -> list[EventRow]:
        """Events of many (number, after, until seq), by number and seq."""
        ...


class StoreDiverged(Exception):
    """Something else wrote to the store: the process must stop, an operator look."""


class UserDirectory(Protocol):
    """Users by id; those who do not exist are left out of the answer."""

    async def numbers_of(self, ids: Sequence[UUID]) -> Mapping[UUID, int]: ...


class Hub(Protocol):
    """Brings events to whoever is online of those concerned."""

    def deliver(
        self, members: BitMap, event: Any, *, except_connection: int | None = None
    ) -> object:
        """To every connection of the members, queued until `flush`."""
        ...

    def deliver_user(
        self, user_number: int, event: Any, *, except_connection: int | None = None
    ) -> object: ...

    def flush(self) -> object: ...


class CommandLog(Protocol):
    """The journal and the state behind it, as the service uses them.

    applied_position: of the last record taken; state is as of it.
    durable_position: nobody may be told of anything later.
    """

    @property
    def applied_position(self) -> int: ...

    @property
    def durable_position(self) -> int: ...

    def submit(self, record: Record, connection: int | None = None) -> Deferred[Any]:
        """Journal it and apply it; answered and told to others once it is durable.

        connection: of who asked; it gets the answer, not the event.

        Raises:
            Unavailable: no room in the journal; nothing has changed.
        """
        ...

    def hold(self, value: Any, position: int) -> Any:
        """The value if position is durable, else a Deferred of it."""
        ...

    async def durable(self, position: int) -> None:
        """Return once position is durable."""
        ...

    async def load(
        self,
        *,
        ids: Iterable[bytes] = (),
        numbers: Iterable[int] = (),
        members: Iterable[tuple[int, int]] = (),
    ) -> bool:
        """Bring into state what exists of these; one query for all who wait.

        Answers whether all of the dialogs exist; until the caller awaits again they are
        in state. What does not exist can be created, without awaiting in between.

        Raises:
            Unavailable: the store is away, or too many wait.
        """
        ...

    async def sent(self, number: int, sender: int, client_id: bytes) -> EventRow | None:
        """The stored message with this client_id; None if state has it or nobody.

        On return look into state before deciding, without awaiting in between.
        """
        ...
