"""Owns what a business does by itself: it greets, says that nobody is there, reopens.

Theory of operation
    It follows the log behind the journal (`Feed` of journal/flusher.py), so a message
    costs nothing more than it did. A batch is looked at before the store has it, and
    again after a crash, so none is missed. What is decided about a customer's message
    is kept in one transaction with what the next decision depends on; deciding again
    gives the same (`decide` in beside.py). Only then it is done: replies are messages
    of the business, with a client_id made of the dialog, the message's seq and the kind
    of reply, so that doing it again, here or on another node, sends nothing twice.

    Whether somebody is there is asked for the time of the message, not of the reply.

Who is an agent and who not any more is carried into dialogs later, dialog by dialog
(`follow`); each step looks at who is in, and may be repeated.

A business may leave a dialog of its own, as anybody may. It then does nothing there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

from msgspec import UNSET, structs

from tchatd.domains.messaging.beside import (
    GREETING,
    REOPEN,
    BusinessDialogRow,
    BusinessStore,
    ReplyRow,
)
from tchatd.domains.messaging.business import Businesses, caller_of
from tchatd.domains.messaging.dialog import DialogState
from tchatd.domains.messaging.entry import Entry
from tchatd.domains.messaging.joining import (
    Joining,
    add_record,
    check_entry,
    set_record,
)
from tchatd.domains.messaging.models import (
    MEMBERS_SHOWN_MAX,
    SEQ_MAX,
    SendMessage,
)
from tchatd.domains.messaging.records import RemoveRecord
from tchatd.domains.messaging.rules import check_room
from tchatd.domains.messaging.scheduling import MessageToSend, sent_by
from tchatd.domains.messaging.state import MessagingState
from tchatd.domains.messaging.store import (
    DIALOG_UPDATED,
    GUEST,
    MEMBER,
    MESSAGE_NEW,
    TYPES,
    CommandLog,
    UserDirectory,
)
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.clock import Clock
from tchatd.kernel.errors import DomainError, ErrorKind
from tchatd.kernel.lru import Lru
from tchatd.kernel.quarantine import Quarantine
from tchatd.kernel.routing import Caller, Context

AWAY_EVERY_S: Final = 4 * 3_600
BATCH_MAX: Final = 100
RETRY_MS: Final = 2_000
DIALOGS_KNOWN_MAX: Final = 10_000
_BUSINESS: Final = TYPES.index("business")
_LATER: Final = (ErrorKind.UNAVAILABLE, ErrorKind.RATE_LIMITED)


class BusinessReplies:
    """wake: called when there is something to be done."""

    def __init__(
        self,
        businesses: Businesses,
        joining: Joining,
        state: MessagingState,
        store: BusinessStore,
        log: CommandLog,
        directory: UserDirectory,
        send: MessageToSend,
        clock: Clock,
        away_every_s: float = AWAY_EVERY_S,
    ) -> None:
        self._businesses = businesses
        self._joining = joining
        self._state = state
        self._store = store
        self._log = log
        self._directory = directory
        self._send = send
        self._clock = clock
        self._away_gap_ms = round(1_000 * away_every_s)
        self._known: Lru[int, BusinessDialogRow] = Lru(DIALOGS_KNOWN_MAX)
        self.quarantine = Quarantine(clock)
        self.wake: Callable[[], None] = lambda: None

    # What is decided, following the log

    async def take(self, entries: Sequence[Entry]) -> None:
        """See `Feed`: called with every batch before it is stored."""
        for entry in entries:
            if entry.kind == MESSAGE_NEW and entry.role == GUEST:
                dialog = self._state.find_number(entry.dialog_number)
                if dialog is not None and dialog.type == _BUSINESS:
                    await self._react(dialog, entry)
            elif entry.kind == DIALOG_UPDATED:
                dialog = self._state.find_number(entry.dialog_number)
                if dialog is not None and dialog.type == _BUSINESS:
                    is_closed = entry.event.settings.is_closed
                    self._known.pop(dialog.number)
                    await self._store.close_conversation(
                        dialog.number, entry.seq if is_closed else 0
                    )

    async def _react(self, dialog: DialogState, entry: Entry) -> None:
        known = await self._businesses.known(dialog.creator)
        if known.row is None:
            return
        profile = known.profile
        is_away = bool(profile.away_message) and profile.is_away(entry.at_ms)
        seen = self._known.get(dialog.number)
        if seen is not None and not _decides(seen, entry, is_away, self._away_gap_ms):
            return
        row = ReplyRow(dialog.number, entry.seq, 0, entry.at_ms)
        for _ in range(2):
            found = await self._store.react(
                row,
                greets=bool(profile.greeting),
                away_gap_ms=self._away_gap_ms if is_away else None,
            )
            if found is not None:
                break
            # A crash came between the dialog's records and its row.
            await self._store.open_business_dialog(
                BusinessDialogRow(dialog.number, dialog.creator, entry.actor)
            )
        else:
            return
        after, decided = found
        self._known.put(dialog.number, after)
        if decided:
            self.wake()

    # What is done

    async def reply_due(self) -> int | None:
        """Do some of what was decided; when to go on, or None for nothing.

        Raises Unavailable: the store is away.
        """
        now_ms = self._clock.now_ms()
        limit = BATCH_MAX + len(self.quarantine)
        rows = await self._store.replies(now_ms, limit)
        put_off: set[int] = set()
        for row in rows:
            if row.dialog_number in put_off or self.quarantine.rests(row):
                continue
            with self.quarantine.around(row):
                try:
                    await self._do(row)
                except DomainError as error:
                    if error.kind in _LATER:
                        put_off.add(row.dialog_number)
                        wait_ms = max(RETRY_MS, 1_000 * (error.retry_after_s or 0))
                        due_ms = self._clock.now_ms() + wait_ms
                        await self._store.put_off(row.dialog_number, due_ms)
                        continue
                await self._store.replied(row)
        if len(rows) == limit:
            return self._clock.now_ms()
        return await self._store.next_reply_ms(now_ms)

    async def _do(self, row: ReplyRow) -> None:
        dialog = await self._joining.open(row.dialog_number)
        if dialog is None:
            return
        known = await self._businesses.known(dialog.creator)
        if known.row is None:
            return
        business = caller_of(known.row)
        if row.kind == REOPEN:
            await self._reopen(row, business)
            return
        profile = known.profile
        text = profile.greeting if row.kind == GREETING else profile.away_message
        if not text:
            return
        command = SendMessage(
            dialog_id=dialog.id,
            type="text",
            content={"text": text},
            client_id=reply_id(row),
        )
        context = Context(f"business-{dialog.id}", "", business)
        await sent_by(self._send, context, command)
        await self._log.durable(self._log.applied_position)

    async def _reopen(self, row: ReplyRow, business: Caller) -> None:
        """Unless somebody closed it again since."""
        now = await self._store.business_dialog(row.dialog_number)
        dialog = await self._joining.open(row.dialog_number)
        if dialog is None or business.user_number not in dialog.members:
            return
        if not dialog.settings.is_closed:
            return
        if now is not None and now.closed_seq > row.seq:
            return
        settings = structs.replace(dialog.settings, is_closed=False)
        now_ms = self._clock.now_ms()
        self._log.submit(set_record(dialog, business, now_ms, settings))
        await self._log.durable(self._log.applied_position)

    # Agents

    async def follow(self) -> int | None:
        """Let some dialogs follow who their business's agents are; when to go on."""
        limit = BATCH_MAX + len(self.quarantine)
        rows = await self._store.behind(limit)
        for row in rows:
            if not self.quarantine.rests(row.dialog_number):
                with self.quarantine.around(row.dialog_number):
                    await self._follow(row)
        return self._clock.now_ms() if len(rows) == limit else None

    async def _follow(self, row: BusinessDialogRow) -> None:
        known = await self._businesses.read(row.business)
        assert known.row is not None, "it has dialogs"
        profile = known.profile
        numbers = await self._directory.numbers_of(profile.former)
        agents = await self._businesses.addable(known)
        business = caller_of(known.row)
        for id in profile.former:
            if id in numbers:
                await self._dismiss(row, business, id, numbers[id])
        for id, user in agents.items():
            if user != row.customer:
                await self._call_in(row, business, id, user)
        await self._log.durable(self._log.applied_position)
        version = known.row.agents_version
        await self._store.caught_up(row.dialog_number, version)

    async def _open(
        self, row: BusinessDialogRow, business: Caller, user: int
    ) -> DialogState | None:
        """The dialog, with the user's row, until the next await; None if nothing there
        is the business's to do."""
        number = row.dialog_number
        await self._log.load(numbers=(number,), members=((number, user),))
        dialog = self._state.find_number(number)
        if dialog is None or business.user_number not in dialog.members:
            return None
        return dialog

    async def _call_in(
        self, row: BusinessDialogRow, business: Caller, id: UUID, user: int
    ) -> None:
        dialog = await self._open(row, business, user)
        if dialog is None or user in dialog.members:
            return
        if await self._joining.left_last(dialog, user):
            return
        dialog = await self._open(row, business, user)
        if dialog is None or user in dialog.members:
            return
        try:
            check_entry(dialog, user)
            check_room(dialog)
        except DomainError:  # banned, or no room: they stay out
            return
        at_ms = max(self._clock.now_ms(), dialog.active_ms)
        self._log.submit(add_record(dialog, at_ms, business, ((user, id),), MEMBER))

    async def _dismiss(
        self, row: BusinessDialogRow, business: Caller, id: UUID, user: int
    ) -> None:
        """One who is an agent no more. Who has another role there was given it by
        somebody, and stays."""
        dialog = await self._open(row, business, user)
        if dialog is None or user not in dialog.members:
            return
        member = dialog.member(user)
        if member is None or member.role != MEMBER or dialog.last_seq + 2 > SEQ_MAX:
            return
        now_ms = self._clock.now_ms()
        if dialog.settings.assignee_id == str(id):
            settings = structs.replace(dialog.settings, assignee_id=UNSET)
            self._log.submit(set_record(dialog, business, now_ms, settings))
        self._log.submit(removal(dialog, now_ms, business, id, user))


def removal(
    dialog: DialogState, now_ms: int, actor: Caller, id: UUID, user: int
) -> RemoveRecord:
    """dialog: of no more people than are shown."""
    assert len(dialog.members) <= MEMBERS_SHOWN_MAX
    shown = dict(dialog.numbers_and_ids())
    left = dialog.members - BitMap((user,))
    return RemoveRecord(
        dialog.number,
        max(now_ms, dialog.active_ms),
        actor.user_number,
        actor.user_id.bytes,
        user,
        id.bytes,
        "removed",
        b"".join(UUID(shown[number]).bytes for number in left),
    )


def reply_id(row: ReplyRow) -> UUID:
    """The client_id of a reply: a version 7 UUID that follows from what it answers."""
    text: Any = f"tchatd reply\0{row.dialog_number}\0{row.seq}\0{row.kind}"
    digest = int.from_bytes(sha256(text.encode()).digest()[:10], "big")
    value = row.at_ms << 80 | 0x7 << 76 | (digest >> 62 & 0xFFF) << 64
    return UUID(int=value | 0b10 << 62 | digest & (1 << 62) - 1)


def _decides(
    seen: BusinessDialogRow, entry: Entry, is_away: bool, away_gap_ms: int
) -> bool:
    """Whether anything can come of a message, by what was decided last."""
    if not seen.greeted_seq or seen.closed_seq or seen.greeted_seq == entry.seq:
        return True
    return is_away and (
        entry.at_ms >= seen.away_ms + away_gap_ms or entry.seq == seen.away_seq
    )
