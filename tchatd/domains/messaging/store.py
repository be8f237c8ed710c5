"""Owns what messaging asks of others, as Protocols and plain rows; implements nothing.

The store holds what was flushed: the log's events, and of each dialog and member a
snapshot as of the journal position it holds. What is later is in memory (state.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol
from uuid import UUID

from msgspec import Struct, field

from tchatd.domains.messaging.records import Record
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.deferred import Deferred

OWN: Final = 0
"""No event of the log: what a member keeps for themselves."""
DIALOG_CREATED: Final = 1
MESSAGE_NEW: Final = 2
MESSAGE_READ: Final = 3
MESSAGE_EDITED: Final = 4
MESSAGE_DELETED: Final = 5
REACTION_ADDED: Final = 6
REACTION_REMOVED: Final = 7
MESSAGE_PINNED: Final = 8
MESSAGE_UNPINNED: Final = 9
POLL_VOTED: Final = 10
MEMBER_ADDED: Final = 11
MEMBER_REMOVED: Final = 12
MEMBER_ROLE: Final = 13
DIALOG_UPDATED: Final = 14
DIALOG_DELETED: Final = 15

ROLES: Final = ("member", "owner", "admin", "guest")
"""A role is stored as its index here; most members are 0."""
MEMBER: Final = 0
OWNER: Final = 1
ADMIN: Final = 2
GUEST: Final = 3
STAFF: Final = (OWNER, ADMIN)
TYPES: Final = ("user", "group", "channel", "business")
"""A dialog's type is stored as its index here."""


IN_ROLE_MAX: Final = 1_000
"""Members with a role that are asked for at once."""


class EventRow(Struct, frozen=True, gc=False):
    """One event of a dialog's log.

    ordinal: of a message, its number among the dialog's messages; of a read, how
        many messages are read.
    actor, actor_id: user number and 16-byte id of who did it. body: JSON of what else
    the event says (see rows.py). client_id: 16 bytes.
    Of a message, which is stored as it is now: changed: what became of it since it was
    sent, MessagePack (message_state.py), None for nothing; thread_seq: of the message
    whose thread it is in, or 0; expires_ms: when it is to vanish, or 0.
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
    changed: bytes | None = None
    thread_seq: int = 0
    expires_ms: int = 0


class DialogRow(Struct, frozen=True, gc=False):
    """A dialog's snapshot.

    members: Roaring bitmap of user numbers; participants: 16-byte ids of the first
    100, in the bitmap's order. active_position, active_ms: of its creation or latest
    message. last_position: of its latest event. last_message: its row, if any.
    settings: as stored (settings.py). pins: ids of the pinned messages, the latest
    last. deleted: Roaring bitmap of the seqs of deleted messages; banned: of user
    numbers; None for nobody and nothing. is_dropped: deleted for everyone; its members
    are none, their rows stay as they were.
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
    settings: bytes | None = None
    pins: tuple[str, ...] = ()
    deleted: bytes | None = None
    banned: bytes | None = None
    is_dropped: bool = False


class MemberRow(Struct, frozen=True, gc=False):
    """A member's snapshot, also of one who has left.

    client_ms: the latest time in their client_ids; or -1. delivered_seq: everything up
    to it, and up to read_seq, has arrived at one of their devices. sent_ms: of their
    latest message. joined_*: of the event by which they came, 0 if at the creation.
    left_*: of the event by which they went, 0 while they are in. own_position: of the
    latest record that changed what is theirs alone (OwnState). mentions: Roaring bitmap
    of the seqs after read_seq that mention them, or None; those of deleted messages may
    be in it. extra: MemberExtra, MessagePack (member.py), or None.
    """

    dialog_number: int
    user_number: int
    role: int = MEMBER
    read_seq: int = 0
    read_ordinal: int = 0
    read_at_ms: int = 0
    client_ms: int = -1
    delivered_seq: int = 0
    sent_ms: int = 0
    joined_seq: int = 0
    joined_position: int = 0
    left_seq: int = 0
    left_position: int = 0
    own_position: int = 0
    mentions: bytes | None = None
    extra: bytes | None = None


class CursorRow(Struct, frozen=True, gc=False):
    """What reading or sending moves of a MemberRow; both clear `mentions`, which are
    written whole where some are left. sent_ms: 0 leaves it. own_position: 0 leaves it.
    delivered_seq becomes at least read_seq."""

    dialog_number: int
    user_number: int
    read_seq: int
    read_ordinal: int
    read_at_ms: int
    client_ms: int
    sent_ms: int = 0
    own_position: int = 0


class Wants(Struct):
    """What is missing in memory; asked for in one round trip.

    ids: 16-byte ids of dialogs. numbers: of dialogs. members: (dialog number, user
    number). sent: (dialog number, sender, client_id). messages: (dialog number, seq).
    whole: numbers of dialogs of which all members are wanted. A dialog of up to 100
    members comes with all of its members anyway.
    """

    ids: set[bytes] = field(default_factory=set)
    numbers: set[int] = field(default_factory=set)
    members: set[tuple[int, int]] = field(default_factory=set)
    sent: set[tuple[int, int, bytes]] = field(default_factory=set)
    messages: set[tuple[int, int]] = field(default_factory=set)
    whole: set[int] = field(default_factory=set)

    def __len__(self) -> int:
        return (
            len(self.ids)
            + len(self.numbers)
            + len(self.members)
            + len(self.sent)
            + len(self.messages)
            + len(self.whole)
        )


class Found(Struct):
    """sent: the `message.new` rows of the client_ids that are known. messages: those
    `message.new` rows that were asked for by seq. whole: dialogs all of whose members,
    now, are in `members`; those who have left may be, too."""

    dialogs: list[DialogRow]
    members: list[MemberRow]
    sent: list[EventRow]
    messages: list[EventRow] = field(default_factory=list)
    whole: set[int] = field(default_factory=set)


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
    changed: list[bytes | None] = field(default_factory=list)
    thread_seq: list[int] = field(default_factory=list)
    expires_ms: list[int] = field(default_factory=list)


class MessageUpdate(Struct, frozen=True, gc=False):
    """A message that is stored is this from now on."""

    dialog_number: int
    seq: int
    body: str
    changed: bytes | None
    expires_ms: int


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


class DialogProfile(Struct, frozen=True, gc=False):
    """What changes rarely of a dialog's snapshot, whole; see DialogRow."""

    number: int
    name: str | None
    avatar: str | None
    members: bytes
    participants: bytes
    settings: bytes | None
    pins: tuple[str, ...]
    deleted: bytes | None
    banned: bytes | None
    is_dropped: bool


class FlushBatch(Struct):
    """What the records in (previous_position, position] changed.

    events: new in the log, messages as the batch leaves them. updates: of messages that
        were stored before the batch.
    created: dialogs new in it, as created; everything else comes after.
    memberships: of a new dialog (number, user, role) of who is in it from its creation,
        unless the row is in `members`.
    changes: of each dialog with an event at most one; profiles likewise, and only of
        dialogs in `changes`.
    members: whole rows, new or not; cursors: of rows that are there, none of which is
        in `members`; both may be of a new dialog's members.
    """

    previous_position: int
    position: int
    events: EventColumns
    created: list[DialogRow]
    memberships: list[tuple[int, int, int]]
    changes: list[DialogChange]
    members: list[MemberRow]
    cursors: list[CursorRow] = field(default_factory=list)
    profiles: list[DialogProfile] = field(default_factory=list)
    updates: list[MessageUpdate] = field(default_factory=list)


class ListedDialog(Struct, frozen=True, gc=False):
    dialog: DialogRow
    member: MemberRow


class ChangedDialog(Struct, frozen=True, gc=False):
    """A dialog of a user, or one that the user has left since.

    floor_seq, last_seq: of its last events up to the two positions asked about; of one
    that was left, last_seq is at most the event by which they went. log_seq: of its
    last event of all; the counts, pins and the member's row are as of that one.
    """

    number: int
    id: bytes
    type: int
    floor_seq: int
    last_seq: int
    log_seq: int
    message_count: int
    pins: tuple[str, ...]
    deleted: bytes | None
    is_dropped: bool
    member: MemberRow


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
        """Dialogs a user is in by active_position, descending, and how many in all.

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
        also: Sequence[int],
        limit: int,
        count_max: int,
    ) -> tuple[list[ChangedDialog], int]:
        """By number, from `from_number` on, dialogs of a user with an event after
        `after_position` (those whose events are all after `until_position`, too) or
        with own_position after it; dialogs that the user has left or that were
        dropped, if that was after it. And how many there are of them, counted up to
        `count_max`, which is at least `limit`.

        also: numbers of dialogs that are taken for changed.
        """
        ...

    async def ranges(
        self, ranges: Sequence[tuple[int, int, int]], until_position: int
    ) -> tuple[list[EventRow], list[EventRow]]:
        """Events of many (number, after, until seq), by number and seq; and the
        messages, as they are now, that `message.edited` ones of them are about."""
        ...

    async def thread_before(
        self, number: int, thread_seq: int, seq: int, limit: int
    ) -> list[EventRow]:
        """Messages of a thread with a lower seq, descending."""
        ...

    async def members_of(self, number: int, users: Sequence[int]) -> list[MemberRow]:
        """The rows of these, in no order; who has none has the default one."""
        ...

    async def in_role(
        self,
        number: int,
        roles: Sequence[int],
        *,
        after: int = 0,
        limit: int = IN_ROLE_MAX,
    ) -> list[MemberRow]:
        """Members, not gone, with one of these roles (none of them the default), by
        user number, which is greater than `after`."""
        ...

    async def expired(self, now_ms: int, limit: int) -> list[tuple[int, int]]:
        """(dialog number, seq) of messages whose time is over, the oldest first; those
        deleted already are not among them."""
        ...


class StoreDiverged(Exception):
    """Something else wrote to the store: the process must stop, an operator look."""


class UserDirectory(Protocol):
    """Users by id and back; those who do not exist are left out of the answer."""

    async def numbers_of(self, ids: Sequence[UUID]) -> Mapping[UUID, int]: ...

    async def ids_of(self, numbers: Sequence[int]) -> Mapping[int, UUID]: ...


class Bots(Protocol):
    """Who among the users is a program."""

    def is_bot(self, user_number: int) -> bool: ...


class Gate(Protocol):
    """Refuses for reasons that are no dialog's: sanctions, rates, filters, bots."""

    def check_open(self, user_number: int) -> None:
        """May the user open a new dialog? Raises: a DomainError that says why not."""
        ...

    def admit(
        self, user_number: int, dialog_number: int, content: Any, buttons: Any
    ) -> None:
        """May this go in? Asked once, of a message that is new and would be accepted.

        Raises: a DomainError that says why not.
        """
        ...

    def admit_edit(self, user_number: int, content: Any, buttons: Any) -> None: ...


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

        connection: of who asked; it gets the answer, and not the event when that has
            no more to tell (a message, a dialog, what was read, what is one's own).

        Raises:
            Unavailable: no room in the journal; nothing has changed.
        """
        ...

    def hold(self, value: Any, position: int) -> Any:
        """The value if position is durable, else a Deferred of it."""
        ...

    async def turn(self, *, is_long: bool = False) -> None:
        """Wait for one's turn at something that takes a while: few have it between two
        moments in which everybody else gets theirs; only one if it is long."""
        ...

    async def durable(self, position: int) -> None:
        """Return once position is durable."""
        ...

    def pinned(self, *numbers: int) -> AbstractContextManager[None]:
        """Meanwhile these dialogs are not evicted, and state keeps all that changes in
        any: what the store answers is as old as its query, and state has all that is
        later."""
        ...

    async def load(
        self,
        *,
        ids: Iterable[bytes] = (),
        numbers: Iterable[int] = (),
        members: Iterable[tuple[int, int]] = (),
        messages: Iterable[tuple[int, int]] = (),
        whole: Iterable[int] = (),
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
