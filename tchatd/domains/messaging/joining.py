"""Owns how people come into a dialog by themselves: at once, or waiting to be let in.

A request to join is a row (`InviteStore`), letting somebody in is a record. Approving
is the record first, then the row: a crash in between leaves the request of somebody who
is in, and whoever lists or decides it again finds that and does nothing more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from tchatd.domains.messaging.access import ATTEMPTS_MAX, DialogAccess
from tchatd.domains.messaging.beside import InviteStore, JoinRequestRow
from tchatd.domains.messaging.dialog import DialogState
from tchatd.domains.messaging.errors import (
    DialogNotFound,
    InviteNotFound,
    RequestNotFound,
    TooManyRequests,
)
from tchatd.domains.messaging.events import MemberRemoved
from tchatd.domains.messaging.identifiers import message_id, uuid_bytes
from tchatd.domains.messaging.models import (
    MEMBERS_SHOWN_MAX,
    Cursor,
    Dialog,
    Done,
    IdText,
)
from tchatd.domains.messaging.records import AddRecord, ProfileRecord
from tchatd.domains.messaging.rows import event_of
from tchatd.domains.messaging.rules import check_joining, check_may, check_room
from tchatd.domains.messaging.settings import ADD, DialogSettings, settings_bytes
from tchatd.domains.messaging.state import MessagingState
from tchatd.domains.messaging.store import (
    ADMIN,
    MEMBER,
    OWNER,
    CommandLog,
    DialogStore,
    Hub,
    UserDirectory,
)
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.clock import Clock, rfc3339
from tchatd.kernel.errors import Invalid, Unavailable
from tchatd.kernel.routing import Caller, Context, Reply

REQUESTS_PAGE_MAX: Final = 100
_CURSOR: Final = re.compile(r"j1\.([0-9]{1,15})\.(.*)")
"""When the last of a page asked, and their id."""


class JoinAnswer(Struct, frozen=True, gc=False):
    """status: joined, with the dialog, or requested, and an admin has to decide."""

    status: Literal["joined", "requested"]
    dialog: Dialog | UnsetType = UNSET


class JoinRequested(
    Struct, frozen=True, gc=False, tag_field="op", tag="join.requested"
):
    """Live, to owners and admins: somebody waits to be let in."""

    dialog_id: str
    user_id: str
    at: str


class JoinDecided(Struct, frozen=True, gc=False, tag_field="op", tag="join.decided"):
    """Live, to who asked, and to owners and admins."""

    dialog_id: str
    user_id: str
    approved: bool
    at: str


class ListJoinRequests(Struct, frozen=True, kw_only=True):
    dialog_id: IdText
    limit: Annotated[int, Meta(ge=1, le=REQUESTS_PAGE_MAX)] = 50
    cursor: Cursor | UnsetType = UNSET


class JoinRequest(Struct, frozen=True, gc=False):
    user_id: str
    requested_at: str


class JoinRequestPage(Struct, frozen=True):
    """The oldest first. total: of all who wait. next_cursor: absent at the end; before
    it a page may have fewer requests than were asked for."""

    requests: list[JoinRequest]
    total: int
    has_more: bool
    next_cursor: str | UnsetType = UNSET


class DecideJoinRequest(Struct, frozen=True):
    dialog_id: IdText
    user_id: UUID
    approve: bool


class Joining:
    def __init__(
        self,
        state: MessagingState,
        log: CommandLog,
        access: DialogAccess,
        dialogs: DialogStore,
        invites: InviteStore,
        directory: UserDirectory,
        hub: Hub,
        clock: Clock,
        requests_max: int = 1_000,
    ) -> None:
        """requests_max: people who may wait to be let into one dialog."""
        self._state = state
        self._log = log
        self._access = access
        self._dialogs = dialogs
        self._invites = invites
        self._directory = directory
        self._hub = hub
        self._clock = clock
        self._requests_max = requests_max

    async def open(self, number: int) -> DialogState | None:
        """The dialog, whoever asks, until the next await; None if it was dropped."""
        for _ in range(ATTEMPTS_MAX):
            dialog = self._state.find_number(number)
            if dialog is not None:
                return None if dialog.is_dropped else dialog
            if not await self._log.load(numbers=(number,)):
                return None
        raise Unavailable("Too much is being loaded.")

    async def allowed(self, user: int, dialog_id: str, right: int) -> DialogState:
        """The dialog of a member who may do this, until the next await.

        Raises:
            DialogNotFound, NotAllowed, Invalid, Unavailable
        """
        dialog = self._access.find(user, dialog_id)
        if dialog is None:
            dialog = await self._access.open(user, dialog_id)
        check_may(dialog, dialog.by_number[user], right)
        return dialog

    async def durable(self, dialog: DialogState) -> None:
        """Return once what is seen of it now may be told."""
        await self._log.durable(dialog.changed_position)

    async def sent(self, dialog_id: UUID, user: int, client_id: UUID) -> str | None:
        """The id of the user's message with this client_id, whether or not they are in
        the dialog any more; None if there is none."""
        dialog = await self._access.look_up(dialog_id.bytes)
        if dialog is None:
            return None
        number = dialog.number
        row = await self._log.sent(number, user, client_id.bytes)
        if row is not None:
            return message_id(row.at_ms, number, row.seq)
        dialog = self._state.find_number(number)
        member = None if dialog is None else dialog.by_number.get(user)
        if dialog is None or member is None or client_id.bytes not in member.recent:
            return None
        entry = dialog.entry_at(member.recent[client_id.bytes])
        return None if entry is None else str(entry.answer.id)

    async def left_last(self, dialog: DialogState, user: int) -> bool:
        """Whether the last of a loaded user here was to leave by themselves."""
        seq = dialog.by_number[user].left_seq
        if not seq:
            return False
        entry = dialog.entry_at(seq)
        if entry is not None:
            event = entry.event
        else:
            [row] = await self._dialogs.events(dialog.number, seq - 1, seq, 1)
            event = event_of(row, dialog.id)
        assert type(event) is MemberRemoved
        return event.reason == "left"

    # Coming in

    async def join(self, context: Context, number: int) -> tuple[Any, bool]:
        """The dialog as the caller sees it once they are in, durably; and whether they
        came now: False for who was in already.

        Raises:
            DialogNotFound: it was dropped.
            Banned, TooManyMembers, DialogFull, Unavailable
        """
        caller = context.user
        return await self._enter(number, caller, caller, context.connection)

    async def _enter(
        self, number: int, caller: Caller, actor: Caller, connection: int | None
    ) -> tuple[Any, bool]:
        user = caller.user_number
        people = {user, actor.user_number}
        for _ in range(ATTEMPTS_MAX):
            dialog = self._state.find_number(number)
            if dialog is None or not people <= dialog.by_number.keys():
                # Their row, too: who was in before has sent messages.
                members = [(number, one) for one in people]
                await self._log.load(numbers=(number,), members=members)
                if self._state.find_number(number) is None:
                    raise DialogNotFound
                continue
            if user in dialog.members:
                view = dialog.view(dialog.member(user))
                await self._log.durable(dialog.changed_position)
                return view, False
            if actor is not caller:
                self._check_right(dialog, actor)
            check_entry(dialog, user)
            check_room(dialog)
            at_ms = max(self._clock.now_ms(), dialog.active_ms)
            record = add_record(dialog, at_ms, actor, ((user, caller.user_id),), MEMBER)
            answer = self._log.submit(record, connection)
            await self._log.durable(self._log.applied_position)
            return answer.result(), True
        raise Unavailable("Too much is being loaded.")

    def _check_right(self, dialog: DialogState, actor: Caller) -> None:
        if actor.user_number not in dialog.members:
            raise DialogNotFound
        check_may(dialog, dialog.by_number[actor.user_number], ADD)

    # Asking to be let in

    async def ask(self, context: Context, number: int, code_hash: bytes | None) -> Any:
        """Reply 202. Asking again changes nothing.

        Raises:
            InviteNotFound: it was used up or revoked meanwhile.
            TooManyRequests, Unavailable
        """
        caller, now_ms = context.user, self._clock.now_ms()
        row = JoinRequestRow(
            number, caller.user_number, caller.user_id, now_ms, code_hash
        )
        is_new = await self._invites.request(row, now_ms, self._requests_max)
        if is_new is None:
            invite = None
            if code_hash is not None:
                invite = await self._invites.invite(code_hash)
                if invite is None or not invite.is_open(now_ms):
                    raise InviteNotFound
            raise TooManyRequests
        if is_new:
            dialog = await self.open(number)
            if dialog is not None:
                event = JoinRequested(
                    dialog.id, str(caller.user_id), rfc3339(row.asked_ms)
                )
                await self._tell(number, event)
        return Reply(JoinAnswer("requested"), 202)

    async def list_requests(
        self, context: Context, command: ListJoinRequests
    ) -> JoinRequestPage:
        """Raises DialogNotFound, NotAllowed, Invalid."""
        user, limit = context.user.user_number, command.limit
        after = None if command.cursor is UNSET else _place_in(command.cursor)
        number = (await self.allowed(user, command.dialog_id, ADD)).number
        rows, total = await self._invites.requests_of(number, limit + 1, after)
        has_more = len(rows) > limit
        rows = rows[:limit]
        dialog = await self.open(number)
        members = BitMap() if dialog is None else dialog.members
        waiting = []
        for row in rows:
            if row.user_number in members:  # they came in by another way
                await self._invites.decide(number, row.user_number, approved=True)
                total -= 1
            else:
                waiting.append(JoinRequest(str(row.user_id), rfc3339(row.asked_ms)))
        last = f"j1.{rows[-1].asked_ms}.{rows[-1].user_id}" if has_more else UNSET
        return JoinRequestPage(waiting, total, has_more, last)

    async def decide(self, context: Context, command: DecideJoinRequest) -> Done:
        """Let somebody in, or not.

        Raises:
            DialogNotFound, NotAllowed, RequestNotFound, Banned, TooManyMembers
        """
        caller = context.user
        dialog = await self.allowed(caller.user_number, command.dialog_id, ADD)
        number, dialog_id = dialog.number, dialog.id
        numbers = await self._directory.numbers_of((command.user_id,))
        user = numbers.get(command.user_id)
        row = None if user is None else await self._invites.requested(number, user)
        if user is None or row is None:
            raise RequestNotFound
        if command.approve:
            who = Caller(command.user_id, user, caller.session_id)
            await self._enter(number, who, caller, None)
        if not await self._invites.decide(number, user, approved=command.approve):
            raise RequestNotFound
        event = JoinDecided(
            dialog_id,
            str(command.user_id),
            command.approve,
            rfc3339(self._clock.now_ms()),
        )
        await self._tell(number, event, also=(user,))
        return Done()

    async def _tell(self, number: int, event: Any, also: Iterable[int] = ()) -> None:
        """Owners and admins, of whom memory knows better where it knows them."""
        rows = await self._dialogs.in_role(number, (OWNER, ADMIN))
        people = {row.user_number for row in rows}
        dialog = self._state.find_number(number)
        if dialog is not None:
            for user, member in dialog.by_number.items():
                if user in dialog.members and member.role in (OWNER, ADMIN):
                    people.add(user)
                else:
                    people.discard(user)
        for user in people.union(also):
            self._hub.deliver_user(user, event)
        self._hub.flush()


def _place_in(cursor: str) -> tuple[int, UUID]:
    found = _CURSOR.fullmatch(cursor)
    id = None if found is None else uuid_bytes(found[2])
    if found is None or id is None:
        raise Invalid(fields={"cursor": "is not from here"})
    return int(found[1]), UUID(bytes=id)


def check_entry(dialog: DialogState, user: int) -> None:
    """Raises Banned, TooManyMembers, DialogNotFound (it was dropped)."""
    if dialog.is_dropped:
        raise DialogNotFound
    check_joining(dialog, BitMap((user,)))


def add_record(
    dialog: DialogState,
    at_ms: int,
    actor: Caller,
    people: Iterable[tuple[int, UUID]],
    role: int,
) -> AddRecord:
    """people: number and id of who comes; none of them is in, all are loaded.

    Who is shown of the new membership was shown of the old one, or comes now.
    """
    ids = {number: id.bytes for number, id in people}
    added = BitMap(ids)
    shown_ids = dict(ids)
    for number, text in dialog.numbers_and_ids():
        raw = uuid_bytes(text)
        assert raw is not None
        shown_ids[number] = raw
    shown = (dialog.members | added)[:MEMBERS_SHOWN_MAX]
    return AddRecord(
        dialog.number,
        at_ms,
        actor.user_number,
        actor.user_id.bytes,
        added.serialize(),
        b"".join(ids[number] for number in added[:MEMBERS_SHOWN_MAX]),
        b"".join(shown_ids[number] for number in shown),
        role,
    )


def set_record(
    dialog: DialogState, actor: Caller, now_ms: int, settings: DialogSettings
) -> ProfileRecord:
    """The dialog as it is, but for how it is set. Raises DialogFull."""
    check_room(dialog)
    return ProfileRecord(
        dialog.number,
        max(now_ms, dialog.active_ms),
        actor.user_number,
        actor.user_id.bytes,
        dialog.name,
        dialog.avatar,
        settings_bytes(settings),
    )
