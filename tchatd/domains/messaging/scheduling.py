"""Owns messages that are sent later, by their author, as if they were sent then.

What is sent is checked when it is scheduled, so that most mistakes show at once, and
again by `message.send` when it is due, because rights and members change. A due row is
claimed, sent with its own id as client_id, and forgotten once the message is durable. A
crash anywhere leaves a claimed row, which is due again when its lease is over; the
repeated client_id then gets the first message. So it is sent exactly once.

What is claimed may have been sent, so it can be neither changed nor taken back. What
was claimed more than once is looked for before it is given up. So what failed was not
sent, and its id is a fresh client_id when its author changes it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from tchatd.domains.messaging import rules
from tchatd.domains.messaging.beside import ScheduledRow, ScheduleStore
from tchatd.domains.messaging.content import (
    Buttons,
    ContentIn,
    ContentOut,
    TypeIn,
    TypeOut,
)
from tchatd.domains.messaging.errors import (
    NotAllowed,
    ScheduledNotFound,
    TooManyScheduled,
)
from tchatd.domains.messaging.identifiers import uuid_bytes
from tchatd.domains.messaging.joining import Joining
from tchatd.domains.messaging.models import MENTIONS_MAX, Done, IdText, SendMessage
from tchatd.domains.messaging.settings import WRITE
from tchatd.domains.messaging.store import CommandLog, Hub, UserDirectory
from tchatd.kernel.clock import Clock, rfc3339
from tchatd.kernel.deferred import Deferred
from tchatd.kernel.errors import DomainError, ErrorKind, Invalid
from tchatd.kernel.ids import Ids
from tchatd.kernel.quarantine import Quarantine
from tchatd.kernel.routing import Caller, Context

AHEAD_S_MAX: Final = 366 * 86_400
LISTED_MAX: Final = 1_000
LEASE_S: Final = 60
"""A claimed row that is still there after so long was left by a crash."""
TRIES_MAX: Final = 100
"""Of a message that is put off (slow mode, rates) until it is given up."""
FAILED_KEPT_S: Final = 30 * 86_400
BATCH_MAX: Final = 100
AWAITED_MAX: Final = 3
"""A handler that waits may answer with something to wait for, but not for ever."""
_PRUNE_MAX: Final = 1_000
_NOBODY: Final = UUID(int=0)

SendAt = Annotated[datetime, Meta(tz=True)]
MessageToSend = Callable[[Context, SendMessage], Any]


class Planned(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is sent; as in SendMessage."""

    type: TypeIn
    content: ContentIn
    reply_to_id: UUID | UnsetType = UNSET
    mentions: Annotated[list[UUID], Meta(max_length=MENTIONS_MAX)] | UnsetType = UNSET
    thread_id: UUID | UnsetType = UNSET
    buttons: Buttons | UnsetType = UNSET


class ScheduleMessage(Planned, frozen=True, kw_only=True):
    """send_at: from some seconds (10 by default) to a year from now."""

    dialog_id: IdText
    send_at: SendAt


class ListScheduled(Struct, frozen=True):
    dialog_id: IdText


class ChangeScheduled(Planned, frozen=True, kw_only=True):
    """All of it, as if it were new; also of one that had failed."""

    id: UUID
    send_at: SendAt


class CancelScheduled(Struct, frozen=True):
    id: UUID


class Scheduled(Struct, frozen=True, gc=False, kw_only=True):
    """failed: why it was not sent and is not tried again: a problem's code."""

    id: str
    dialog_id: str
    send_at: str
    type: TypeOut
    content: ContentOut
    reply_to_id: str | UnsetType = UNSET
    mentions: tuple[str, ...] | UnsetType = UNSET
    thread_id: str | UnsetType = UNSET
    buttons: Buttons | UnsetType = UNSET
    failed: str | UnsetType = UNSET


class ScheduledList(Struct, frozen=True):
    """The caller's own of this dialog, the next first."""

    scheduled: list[Scheduled]


class ScheduledSent(
    Struct, frozen=True, gc=False, tag_field="op", tag="scheduled.sent"
):
    """Live, to the author's devices; the message itself comes as to everybody."""

    id: str
    dialog_id: str
    message_id: str


class ScheduledFailed(
    Struct, frozen=True, gc=False, tag_field="op", tag="scheduled.failed"
):
    """Live, to the author's devices. reason: a problem's code."""

    id: str
    dialog_id: str
    reason: str


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Planned).decode
_shown: Final = msgspec.json.Decoder(dict[str, Any]).decode


class Scheduling:
    """send: `message.send`. wake: called when a row may be due before any other."""

    def __init__(
        self,
        joining: Joining,
        store: ScheduleStore,
        log: CommandLog,
        directory: UserDirectory,
        hub: Hub,
        send: MessageToSend,
        clock: Clock,
        ids: Ids,
        per_user_max: int = 100,
        ahead_s_min: float = 10,
    ) -> None:
        """per_user_max: waiting ones and failed ones of one author."""
        self._joining = joining
        self._store = store
        self._log = log
        self._directory = directory
        self._hub = hub
        self._send = send
        self._clock = clock
        self._ids = ids
        self._per_user_max = per_user_max
        self._ahead_ms_min = round(1_000 * ahead_s_min)
        self.quarantine = Quarantine(clock)
        self.wake: Callable[[], None] = lambda: None

    # For the author

    async def schedule(self, context: Context, command: ScheduleMessage) -> Scheduled:
        caller = context.user
        send_at_ms = self._time_of(command.send_at)
        message = _checked(command)
        dialog = await self._joining.allowed(
            caller.user_number, command.dialog_id, WRITE
        )
        row = ScheduledRow(
            context.idempotency_id or self._ids.v7(),
            caller.user_number,
            caller.user_id,
            UUID(dialog.id),
            send_at_ms,
            message,
        )
        if not await self._store.schedule(row, self._per_user_max):
            raise TooManyScheduled(f"At most {self._per_user_max} are scheduled.")
        self.wake()
        return _scheduled(row)

    async def list(self, context: Context, command: ListScheduled) -> ScheduledList:
        """Also of a dialog that the caller has left: they are theirs to cancel."""
        id = uuid_bytes(command.dialog_id)
        if id is None:
            raise Invalid(fields={"dialog_id": "must be a UUID"})
        rows = await self._store.scheduled_of(
            context.user.user_number, UUID(bytes=id), LISTED_MAX
        )
        return ScheduledList([_scheduled(row) for row in rows])

    async def change(self, context: Context, command: ChangeScheduled) -> Scheduled:
        """Raises ScheduledNotFound: it is not the caller's, or is being sent."""
        send_at_ms = self._time_of(command.send_at)
        message = _checked(command)
        row = await self._own(context, command.id)
        dialog_id = str(row.dialog_id)
        user = context.user.user_number
        await self._joining.allowed(user, dialog_id, WRITE)
        if not await self._store.reschedule(row.id, send_at_ms, message):
            raise ScheduledNotFound
        self.wake()
        return _scheduled(
            msgspec.structs.replace(
                row, send_at_ms=send_at_ms, message=message, failed=None
            )
        )

    async def cancel(self, context: Context, command: CancelScheduled) -> Done:
        """Raises ScheduledNotFound: it is not the caller's, or is being sent."""
        row = await self._own(context, command.id)
        if not await self._store.unschedule(row.id):
            raise ScheduledNotFound
        return Done()

    async def _own(self, context: Context, id: UUID) -> ScheduledRow:
        row = await self._store.scheduled(id)
        if row is None or row.author != context.user.user_number or row.is_claimed:
            raise ScheduledNotFound
        return row

    def _time_of(self, send_at: datetime) -> int:
        at_ms = round(send_at.timestamp() * 1_000)
        ahead_ms = at_ms - self._clock.now_ms()
        if not self._ahead_ms_min <= ahead_ms <= 1_000 * AHEAD_S_MAX:
            raise Invalid(fields={"send_at": "is too near, or over a year away"})
        return at_ms

    # In the background

    async def send_due(self) -> int | None:
        """Send some of what is due; the time of what comes next, or None for nothing.

        Raises Unavailable: the store is away; what was claimed is due again later.
        """
        now_ms = self._clock.now_ms()
        limit = BATCH_MAX + len(self.quarantine)
        rows = await self._store.claim_due(now_ms, now_ms + 1_000 * LEASE_S, limit)
        begun = []
        for row in rows:
            if not self.quarantine.rests(row.id):
                with self.quarantine.around(row.id):
                    begun.append((row, await self._begin(row)))
        if rows:
            await self._log.durable(self._log.applied_position)
        sent = []
        for row, answer in begun:
            if isinstance(answer, DomainError):
                message_id = await self._refused(row, answer)
            elif isinstance(answer, Deferred):
                message_id = answer.result().id
            else:
                message_id = answer.id
            if message_id is None:
                continue
            sent.append(row.id)
            event = ScheduledSent(str(row.id), str(row.dialog_id), message_id)
            self._hub.deliver_user(row.author, event)
        if sent:
            await self._store.sent(sent)
        self._hub.flush()
        if len(rows) == limit:
            return now_ms
        return await self._store.next_due_ms()

    async def _begin(self, row: ScheduledRow) -> Any:
        """The message, a Deferred of it, or why it is refused."""
        planned = _decode(row.message)
        command = SendMessage(
            dialog_id=str(row.dialog_id),
            client_id=row.id,
            **{name: getattr(planned, name) for name in planned.__struct_fields__},
        )
        caller = Caller(row.author_id, row.author, _NOBODY)
        context = Context(f"scheduled-{row.id}", "", caller)
        try:
            if row.author not in await self._directory.ids_of((row.author,)):
                return NotAllowed("The author is no more.")
            return await sent_by(self._send, context, command)
        except DomainError as error:
            return error

    async def _refused(self, row: ScheduledRow, error: DomainError) -> str | None:
        """A store that is away is waited for, however long; who writes too fast is
        given up some time. Answers the message's id if it was sent by an earlier claim:
        a repeat is refused, too, when its author has left meanwhile."""
        now_ms = self._clock.now_ms()
        is_away = error.kind is ErrorKind.UNAVAILABLE
        is_early = error.kind is ErrorKind.RATE_LIMITED and row.tries < TRIES_MAX
        if is_away or is_early:
            wait_s = max(error.retry_after_s or 1, min(row.tries, LEASE_S))
            due_ms = now_ms + 1_000 * wait_s
            await self._store.postpone(row.id, due_ms, is_claimed=is_away)
            return None
        if row.tries > 1:
            message_id = await self._joining.sent(row.dialog_id, row.author, row.id)
            if message_id is not None:
                return message_id
        await self._store.fail(row.id, error.code, now_ms)
        event = ScheduledFailed(str(row.id), str(row.dialog_id), error.code)
        self._hub.deliver_user(row.author, event)
        return None

    async def prune(self) -> int:
        before_ms = self._clock.now_ms() - 1_000 * FAILED_KEPT_S
        return await self._store.prune_failed(before_ms, _PRUNE_MAX)


async def sent_by(send: MessageToSend, context: Context, command: SendMessage) -> Any:
    """What `message.send` answers: the message, or a Deferred of it."""
    return await awaited(send(context, command))


async def awaited(answer: Any) -> Any:
    """What a handler's answer is in the end: a value, or a Deferred of it."""
    for _ in range(AWAITED_MAX):
        if not hasattr(type(answer), "__await__"):
            break
        answer = await answer
    return answer


def _checked(command: Planned) -> str:
    """What is sent, as JSON, without what its type does not know.

    Raises:
        InvalidContent, ServerMade
    """
    content: Any = rules.content_of(command.type, command.content)
    rules.check_buttons(command.buttons)
    fields = {name: getattr(command, name) for name in Planned.__struct_fields__}
    return _encode(Planned(**fields | {"content": content})).decode()


def _scheduled(row: ScheduledRow) -> Scheduled:
    return Scheduled(
        id=str(row.id),
        dialog_id=str(row.dialog_id),
        send_at=rfc3339(row.send_at_ms),
        failed=UNSET if row.failed is None else row.failed,
        **_shown(row.message),
    )
