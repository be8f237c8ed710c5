"""Owns the commands that change dialogs: create, send, read.

Decide, make durable, then tell: a handler looks at the state, submits a record, and
answers with the `Deferred` that the log resolves when the record is durable. It does
so without a task while everything is in memory; else it is an awaitable, at whose end
again stands a `Deferred`, so that answers keep the journal's order.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from msgspec import UNSET, UnsetType

from tchatd.domains.messaging import rules
from tchatd.domains.messaging.access import ATTEMPTS_MAX, DialogAccess
from tchatd.domains.messaging.bans import Bans
from tchatd.domains.messaging.composing import (
    NOTHING,
    Beside,
    Nobody,
    beside,
    no_thread,
    says_more,
)
from tchatd.domains.messaging.content import Forward, PaymentContent
from tchatd.domains.messaging.dialog import DialogState
from tchatd.domains.messaging.editing import Editing
from tchatd.domains.messaging.errors import DialogNotFound, MessageNotFound
from tchatd.domains.messaging.forwarding import copied
from tchatd.domains.messaging.hiding import Hiding
from tchatd.domains.messaging.identifiers import (
    client_time_ms,
    keyed_dialog_id,
    message_address,
    message_id,
    user_dialog_id,
)
from tchatd.domains.messaging.membership import Membership
from tchatd.domains.messaging.message_access import MessageAccess, Missing
from tchatd.domains.messaging.message_commands import DeleteMessage, ForwardMessage
from tchatd.domains.messaging.message_reading import MessageReading
from tchatd.domains.messaging.models import (
    MEMBERS_SHOWN_MAX,
    CreateDialog,
    ReadMessages,
    ReadState,
    SendMessage,
)
from tchatd.domains.messaging.own import Own
from tchatd.domains.messaging.profile import Profiles
from tchatd.domains.messaging.reach import Blocks, NoBlocks, check_addable, may_reach
from tchatd.domains.messaging.reacting import Reacting
from tchatd.domains.messaging.reading import Reading
from tchatd.domains.messaging.records import (
    DialogRecord,
    MessageRecord,
    ReadRecord,
)
from tchatd.domains.messaging.roster import Roster
from tchatd.domains.messaging.rows import message_of
from tchatd.domains.messaging.settings import WRITE_FREELY, settings_bytes
from tchatd.domains.messaging.state import MessagingState
from tchatd.domains.messaging.store import (
    MESSAGE_NEW,
    Bots,
    CommandLog,
    DialogStore,
    Gate,
    Hub,
    UserDirectory,
)
from tchatd.domains.messaging.sync import Syncing
from tchatd.domains.messaging.typing import Typing, TypingSettings
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.clock import Clock
from tchatd.kernel.errors import Unavailable
from tchatd.kernel.ids import Ids
from tchatd.kernel.routing import Context, Reply

OpenBusiness = Callable[
    [Context, Sequence[UUID], Mapping[UUID, int]], Awaitable[Any | None]
]
"""A customer's dialog with a business (business.py); None: it is not with one."""


class MessagingService:
    """Handlers of every messaging operation; those that only read are delegated."""

    def __init__(
        self,
        state: MessagingState,
        log: CommandLog,
        store: DialogStore,
        directory: UserDirectory,
        hub: Hub,
        clock: Clock,
        ids: Ids,
        blocks: Blocks | None = None,
        typing: TypingSettings | None = None,
        bots: Bots | None = None,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._state = state
        self._log = log
        self._store = store
        self._directory = directory
        self._hub = hub
        self._clock = clock
        self._ids = ids
        self._access = DialogAccess(state, log)
        self.gate: Gate | None = None
        self._blocks = blocks or NoBlocks()
        self.typing = Typing(
            self._access, hub, self._blocks, clock, typing or TypingSettings(), now=now
        )
        self.start_typing = self.typing.start_typing
        self.stop_typing = self.typing.stop_typing
        self.membership = Membership(
            log, store, self._access, directory, self._blocks, clock
        )
        self.roster = Roster(log, store, self._access, directory, clock)
        self.bans = Bans(log, self._access, directory, self.membership, clock)
        self.own = Own(log, self._access, clock)
        self._bots = bots or Nobody()
        self._targets = targets = MessageAccess(log, store, self._access, self._blocks)
        self.messages = MessageReading(log, store, directory, self._access, targets)
        self.editing = Editing(log, directory, self._bots, clock, targets)
        self.hiding = Hiding(log, clock, self._access, targets)
        self.profiles = Profiles(
            log, self._access, self.hiding.clear_dialog, self._blocks, clock
        )
        self.reacting = Reacting(log, clock, targets)
        reading = Reading(state, log, store, self._access, self.messages)
        self.list_dialogs = reading.list_dialogs
        self.get_dialog = reading.get_dialog
        self.list_messages = self.messages.list_messages
        self.list_events = reading.list_events
        self.sync = Syncing(state, log, store, reading).sync
        self.open_business: OpenBusiness | None = None

    # Creating a dialog

    async def create_dialog(self, context: Context, command: CreateDialog) -> Any:
        """A Deferred of the new Dialog, or the one that these two have, with 200."""
        caller = context.user
        people = rules.participants_of(command, caller.user_id)
        found = await self._directory.numbers_of(people)
        numbers = {**found, caller.user_id: caller.user_number}
        rules.check_known(people, numbers)
        settings = rules.settings_at_first(command)
        if command.type == "business" and self.open_business is not None:
            opened = await self.open_business(context, people, numbers)
            if opened is not None:
                return opened
        is_new_for_sure = False
        if command.type == "user":
            id = user_dialog_id(people[0].bytes, people[1].bytes)
        elif context.idempotency_id is not None:
            id = keyed_dialog_id(caller.user_id.bytes, context.idempotency_id.bytes)
        else:
            id, is_new_for_sure = self._ids.v7().bytes, True
        is_checked = False
        while True:
            dialog = None if is_new_for_sure else await self._access.look_up(id)
            if dialog is not None:
                number = dialog.number
                dialog = await self._access.open_number(caller.user_number, number)
                view = dialog.view(dialog.member(caller.user_number))
                answer = Reply(view, 200) if command.type == "user" else view
                return self._log.hold(answer, dialog.changed_position)
            if is_checked:
                break  # and nobody has begun it meanwhile
            if self.gate is not None:
                self.gate.check_open(caller.user_number)
            await check_addable(self._blocks, caller.user_number, found, "participants")
            is_checked = True
        return self._create(context, command, id, numbers, settings_bytes(settings))

    def _create(
        self,
        context: Context,
        command: CreateDialog,
        id: bytes,
        numbers: Mapping[UUID, int],
        settings: bytes | None,
    ) -> Any:
        members = BitMap(numbers.values())
        ids = {number: id for id, number in numbers.items()}
        shown = members[:MEMBERS_SHOWN_MAX]
        record = DialogRecord(
            dialog_id=id,
            at_ms=self._clock.now_ms(),
            type=command.type,
            creator=context.user.user_number,
            creator_id=context.user.user_id.bytes,
            members=members.serialize(),
            participants=b"".join(ids[number].bytes for number in shown),
            name=command.name or None if command.type != "user" else None,
            avatar=command.avatar or None if command.type != "user" else None,
            settings=settings,
        )
        return self._log.submit(record, context.connection)

    # Sending

    def send_message(self, context: Context, command: SendMessage) -> Any:
        """A Deferred of the Message; a repeat gets the first answer.

        Raises:
            DialogNotFound, InvalidContent, MessageNotFound and the others of the route.
        """
        caller = context.caller
        assert caller is not None
        client_id = _client_id(context, command.client_id)
        dialog = self._access.find(caller.user_number, command.dialog_id)
        if dialog is not None:
            member = dialog.by_number[caller.user_number]
            if client_id is not None:
                if client_id in member.recent:
                    return self._first_answer(dialog, member.recent[client_id])
                if int.from_bytes(client_id[:6], "big") <= member.floor_ms:
                    return self._send_later(context, command, client_id)
            if (
                command.mentions
                or command.reply_to_id
                or command.thread_id
                or command.buttons
            ):
                return self._send_later(context, command, client_id)
            if not may_reach(self._blocks, dialog, caller.user_number):
                return self._send_later(context, command, client_id)
            return self._send(context, command, dialog, client_id)
        return self._send_later(context, command, client_id)

    def send_payment(
        self, context: Context, dialog_id: str, client_id: UUID, content: PaymentContent
    ) -> Any:
        """As `send_message`, of what was paid; by the payer. Not for clients.

        Raises: as `send_message`.
        """
        command = SendMessage(
            dialog_id=dialog_id,
            type="payment",
            content=content,  # type: ignore[arg-type]  # nothing that a client sends
            client_id=client_id,
        )
        return self.send_message(context, command)

    def _send(
        self,
        context: Context,
        command: SendMessage,
        dialog: DialogState,
        client_id: bytes | None,
        beside: Beside = NOTHING,
    ) -> Any:
        """Accept a message that is known to be new."""
        caller = context.user
        rules.check_room(dialog)
        reply_to = command.reply_to_id
        now_ms = self._clock.now_ms()
        member = dialog.by_number[caller.user_number]
        if (
            not dialog.rights[member.role] & WRITE_FREELY
            or member.extra.silenced_until_ms
        ):
            rules.check_may_write(dialog, member, now_ms)
        content = rules.content_of(command.type, command.content)
        if self.gate is not None:
            self.gate.admit(caller.user_number, dialog.number, content, beside.buttons)
        record = MessageRecord(
            dialog.number,
            now_ms if now_ms > dialog.active_ms else dialog.active_ms,
            caller.user_number,
            caller.user_id.bytes,
            command.type,
            content,
            client_id,
            str(reply_to) if reply_to else None,
            beside.mentions,
            beside.mention_numbers,
            beside.thread_seq,
            beside.forward,
            beside.buttons,
        )
        self.typing.sent(dialog.number, caller.user_number)
        return self._log.submit(record, context.connection)

    def delete_message(self, context: Context, command: DeleteMessage) -> Any:
        """For everyone, or for the caller alone."""
        if command.for_ == "me":
            return self.hiding.delete_for_me(context, command)
        return self.editing.delete_for_everyone(context, command)

    async def forward_message(self, context: Context, command: ForwardMessage) -> Any:
        """A Deferred of the new Message; a repeat gets the first answer.

        Raises:
            DialogNotFound: of where it is to go.
            MessageNotFound, MessageGone, NotForwardable, and as `send_message`.
        """
        user = context.user.user_number
        client_id = _client_id(context, command.client_id)
        dialog = await self._access.open(user, command.dialog_id)
        if client_id is not None:
            first = await self._sent(dialog, user, client_id, look_up=True)
            if first is not None:
                return first
        copy = copied(await self._targets.look(user, command.message_id))
        send = SendMessage(
            dialog_id=command.dialog_id,
            type=copy.type,  # type: ignore[arg-type]  # a message has it
            content=copy.content,
        )
        return await self._send_later(context, send, client_id, copy.origin)

    async def _send_later(
        self,
        context: Context,
        command: SendMessage,
        client_id: bytes | None,
        origin: Forward | None = None,
    ) -> Any:
        """As `send_message`, loading and looking up what is not in memory."""
        user = context.user.user_number
        dialog = await self._access.open(user, command.dialog_id)
        number = dialog.number
        if client_id is not None:
            # A repeat is not refused for what it mentions or replies to.
            look_up = says_more(command)
            first = await self._sent(dialog, user, client_id, look_up=look_up)
            if first is not None:
                return first
        people: Mapping[UUID, int] = {}
        if command.mentions:
            people = await self._directory.numbers_of(command.mentions)
        if command.reply_to_id:
            dialog = await self._access.open_number(user, number)
            seq = rules.reply_seq(dialog, command.reply_to_id)
            if seq is not None:
                await self._check_message(number, seq, command.reply_to_id)
        for _ in range(ATTEMPTS_MAX):
            dialog = await self._access.open_number(user, number)
            if not may_reach(self._blocks, dialog, user):
                await self._blocks.load(list(dialog.members))
                continue
            more = beside(command, dialog, user, people, origin, self._bots)
            if isinstance(more, Missing):
                await self._load_beside(user, number, command, more)
                continue
            member = dialog.by_number[user]
            if client_id is None:
                return self._send(context, command, dialog, None, more)
            if client_id in member.recent:
                return await self._first_answer_later(dialog, member.recent[client_id])
            if int.from_bytes(client_id[:6], "big") > member.floor_ms:
                return self._send(context, command, dialog, client_id, more)
            row = await self._log.sent(number, user, client_id)
            if row is not None:
                return message_of(row, dialog.id, dialog.pins)
            again = self._access.find_number(user, number)
            if again is None or not may_reach(self._blocks, again, user):
                continue
            more = beside(command, again, user, people, origin, self._bots)
            if isinstance(more, Missing):
                continue
            member = again.by_number[user]
            if client_id not in member.recent:
                return self._send(context, command, again, client_id, more)
        raise Unavailable("Too much is being loaded.")

    async def _load_beside(
        self, user: int, number: int, command: SendMessage, missing: Missing
    ) -> None:
        """Raises MessageNotFound: the message whose thread it is to be is none."""
        if missing.members:
            await self._log.load(members=[(number, n) for n in missing.members])
        else:
            assert command.thread_id is not UNSET
            try:
                await self._targets.open(user, command.thread_id)
            except MessageNotFound:
                raise no_thread() from None

    async def _sent(
        self, dialog: DialogState, user: int, client_id: bytes, *, look_up: bool
    ) -> Any | None:
        """The first answer to this client_id, if it can be seen that there was one.

        look_up: in the store, too, if memory cannot tell.
        """
        member = dialog.by_number[user]
        seq = member.recent.get(client_id)
        if seq is not None:
            return await self._first_answer_later(dialog, seq)
        if look_up and client_time_ms(client_id) <= member.floor_ms:
            row = await self._log.sent(dialog.number, user, client_id)
            return None if row is None else message_of(row, dialog.id, dialog.pins)
        return None

    def _first_answer(self, dialog: DialogState, seq: int) -> Any:
        """The message, as it is by now."""
        entry = dialog.entry_at(seq)
        if entry is None:
            return self._first_answer_later(dialog, seq)
        message = dialog.shown_message(entry.answer)
        return self._log.hold(message, dialog.changed_position)

    async def _first_answer_later(self, dialog: DialogState, seq: int) -> Any:
        entry = dialog.entry_at(seq)
        if entry is not None:
            return self._first_answer(dialog, seq)
        [row] = await self._store.events(dialog.number, seq - 1, seq, 1)
        return dialog.shown_message(message_of(row, dialog.id, dialog.pins))

    # Reading

    def read_messages(self, context: Context, command: ReadMessages) -> Any:
        """A Deferred of the ReadState; what is read already changes nothing."""
        number, seq = _address_of(command.message_id)
        try:
            dialog = self._access.find_number(context.user.user_number, number)
        except DialogNotFound:
            raise MessageNotFound from None
        if dialog is None:
            return self._read_later(context, command.message_id)
        entry = dialog.entry_at(seq)
        if entry is None:
            if seq > dialog.last_seq:
                raise MessageNotFound
            return self._read_later(context, command.message_id)
        if entry.kind != MESSAGE_NEW or entry.answer.id != str(command.message_id):
            raise MessageNotFound
        return self._read(context, dialog, seq, entry.ordinal, entry.answer.id)

    async def _read_later(self, context: Context, id: UUID) -> Any:
        number, seq = _address_of(id)
        user = context.user.user_number
        try:
            dialog = await self._access.open_number(user, number)
            entry = dialog.entry_at(seq)
            if entry is not None:
                if entry.kind != MESSAGE_NEW or entry.answer.id != str(id):
                    raise MessageNotFound
                ordinal = entry.ordinal
            else:
                ordinal = await self._check_message(number, seq, id)
                dialog = await self._access.open_number(user, number)
        except DialogNotFound:
            raise MessageNotFound from None
        return self._read(context, dialog, seq, ordinal, str(id))

    def _read(
        self, context: Context, dialog: DialogState, seq: int, ordinal: int, id: str
    ) -> Any:
        caller = context.user
        member = dialog.by_number[caller.user_number]
        if seq <= member.read_seq:
            unread = dialog.unread(member)
            now = ReadState(dialog.id, member.read_seq, unread, dialog.last_seq)
            return self._log.hold(now, dialog.changed_position)
        rules.check_room(dialog)
        record = ReadRecord(
            dialog.number,
            max(self._clock.now_ms(), dialog.active_ms),
            caller.user_number,
            caller.user_id.bytes,
            seq,
            ordinal,
            id,
        )
        return self._log.submit(record, context.connection)

    async def _check_message(self, number: int, seq: int, id: UUID) -> int:
        """The message's ordinal. Raises MessageNotFound: the store has no such one."""
        rows = await self._store.events(number, seq - 1, seq, 1)
        if (
            not rows
            or rows[0].kind != MESSAGE_NEW
            or message_id(rows[0].at_ms, number, seq) != str(id)
        ):
            raise MessageNotFound
        return rows[0].ordinal


def _client_id(context: Context, given: UUID | UnsetType) -> bytes | None:
    """The name of what is sent; None for none. Raises Invalid."""
    if given is not UNSET:
        return rules.client_id_bytes(given)
    if context.idempotency_id is not None:
        return rules.client_id_bytes(context.idempotency_id)
    return None


def _address_of(id: UUID) -> tuple[int, int]:
    address = message_address(id)
    if address is None:
        raise MessageNotFound
    return address
