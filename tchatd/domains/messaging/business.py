"""Owns businesses: a user's profile as one, its dialogs with customers, who answers.

A customer has one dialog with a business. The business's account is its owner, its
agents are members, the customer is a guest, who writes and reacts and may leave. The
dialog is made of two records, the creation and the customer's coming, submitted at
once; its id follows from the two, so that a crash between them is mended by whoever
opens it again. What happens by itself in it is in business_replies.py.

Opening one is asked of the gate, as opening any dialog is, and refused if one of the
two blocks the other. Who does not let the business add them becomes no agent of it;
who would not any more, or has left a dialog, is put into no other, or that one, again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, structs

from tchatd.domains.messaging.access import ATTEMPTS_MAX, DialogAccess
from tchatd.domains.messaging.beside import (
    BusinessDialogRow,
    BusinessRow,
    BusinessStore,
)
from tchatd.domains.messaging.business_hours import Hours, check_hours, is_open
from tchatd.domains.messaging.content import TO_THE_END
from tchatd.domains.messaging.dialog import DialogState
from tchatd.domains.messaging.errors import (
    BusinessNotFound,
    DialogNotFound,
    InvalidParticipants,
    MemberNotFound,
    NotAllowed,
)
from tchatd.domains.messaging.identifiers import business_dialog_id
from tchatd.domains.messaging.joining import (
    Joining,
    add_record,
    check_entry,
    set_record,
)
from tchatd.domains.messaging.member import Member
from tchatd.domains.messaging.models import IdText
from tchatd.domains.messaging.reach import Blocks, NoBlocks, check_addable
from tchatd.domains.messaging.records import DialogRecord
from tchatd.domains.messaging.settings import ASSIGN, DialogSettings
from tchatd.domains.messaging.state import MessagingState
from tchatd.domains.messaging.store import GUEST, CommandLog, Gate, UserDirectory
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.clock import Clock
from tchatd.kernel.errors import Unavailable
from tchatd.kernel.lru import Lru
from tchatd.kernel.routing import Caller, Context, Reply

AGENTS_MAX: Final = 20
QUICK_REPLIES_MAX: Final = 50
FORMER_AGENTS_MAX: Final = 200
"""Remembered to be removed from dialogs that have not followed yet."""
PROFILES_KNOWN_MAX: Final = 10_000
KNOWN_S: Final = 60
GENERATIONS_MAX: Final = 100
NOBODY: Final = UUID(int=0)

_Text = Annotated[str, Meta(max_length=4_096)]


class QuickReply(Struct, frozen=True, gc=False):
    shortcut: Annotated[
        str,
        Meta(
            pattern=r"^[a-z0-9_]{1,32}$" + TO_THE_END,
            description="1 to 32 of a-z, 0-9 and _",
        ),
    ]
    text: Annotated[str, Meta(min_length=1, max_length=4_096)]


class PutBusiness(Struct, frozen=True, kw_only=True):
    """All of it. greeting: the reply to the first message of a conversation, once.
    away_message: outside of the hours; without hours it is open always. Empty: none.
    """

    greeting: _Text = ""
    away_message: _Text = ""
    hours: Hours | UnsetType = UNSET
    quick_replies: Annotated[
        tuple[QuickReply, ...], Meta(max_length=QUICK_REPLIES_MAX)
    ] = ()
    agents: Annotated[tuple[UUID, ...], Meta(max_length=AGENTS_MAX)] = ()


class Profile(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """As stored. agents, former: user ids; former ones are agents no more, and may
    still be in dialogs."""

    greeting: str = ""
    away_message: str = ""
    hours: Hours | UnsetType = UNSET
    quick_replies: tuple[QuickReply, ...] = ()
    agents: tuple[UUID, ...] = ()
    former: tuple[UUID, ...] = ()

    def is_away(self, at_ms: int) -> bool:
        return self.hours is not UNSET and not is_open(self.hours, at_ms)


class GetOwnBusiness(Struct, frozen=True):
    """Of the caller."""


class Business(Struct, frozen=True, kw_only=True):
    user_id: str
    greeting: str
    away_message: str
    hours: Hours | UnsetType = UNSET
    quick_replies: tuple[QuickReply, ...]
    agents: tuple[UUID, ...]


class GetBusiness(Struct, frozen=True):
    user_id: UUID


class PublicBusiness(Struct, frozen=True, gc=False):
    """What customers see. is_open: now."""

    user_id: str
    is_open: bool
    hours: Hours | UnsetType = UNSET


class ListQuickReplies(Struct, frozen=True):
    dialog_id: IdText


class QuickReplies(Struct, frozen=True):
    quick_replies: tuple[QuickReply, ...]


class Assign(Struct, frozen=True):
    """user_id: who answers from now on; null for nobody."""

    dialog_id: IdText
    user_id: UUID | None


class SetConversation(Struct, frozen=True):
    """A closed conversation is opened again by the customer's next message, too."""

    dialog_id: IdText
    is_closed: bool


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Profile).decode


class Known(Struct, frozen=True):
    """A business that is known; row None: the user is none. until_ms: then it is read
    again, since another node may have changed it."""

    row: BusinessRow | None
    profile: Profile
    until_ms: int


class Businesses:
    """follow: called when agents have changed, and dialogs are to follow."""

    def __init__(
        self,
        joining: Joining,
        access: DialogAccess,
        state: MessagingState,
        store: BusinessStore,
        log: CommandLog,
        directory: UserDirectory,
        clock: Clock,
        blocks: Blocks | None = None,
    ) -> None:
        self.gate: Gate | None = None
        self._blocks = blocks or NoBlocks()
        self._joining = joining
        self._access = access
        self._state = state
        self._store = store
        self._log = log
        self._directory = directory
        self._clock = clock
        self._known: Lru[int, Known] = Lru(PROFILES_KNOWN_MAX)
        self.follow: Callable[[], None] = lambda: None

    # The profile

    async def known(self, user: int) -> Known:
        """Whether the user is a business, and which; from memory where it can."""
        known = self._known.get(user)
        if known is None or self._clock.now_ms() >= known.until_ms:
            return await self.read(user)
        return known

    async def read(self, user: int) -> Known:
        """As `known`, from the store."""
        before = self._known.get(user)
        row = await self._store.business(user)
        after = self._known.get(user)
        if after is not None and after is not before:
            return after  # it was put meanwhile, and is newer than what was read
        profile = Profile() if row is None else _decode(row.profile)
        known = Known(row, profile, self._clock.now_ms() + 1_000 * KNOWN_S)
        self._known.put(user, known)
        return known

    async def put(self, context: Context, command: PutBusiness) -> Business:
        """Raises Invalid, InvalidParticipants (of an agent who does not exist),
        NotAllowed (of one who does not let the caller add them).
        """
        caller = context.user
        if command.hours is not UNSET:
            check_hours(command.hours)
        agents = tuple(
            id for id in dict.fromkeys(command.agents) if id != caller.user_id
        )
        numbers = await self._directory.numbers_of(agents)
        if len(numbers) != len(agents):
            raise InvalidParticipants(
                fields={"agents": "names somebody who does not exist"}
            )
        for _ in range(ATTEMPTS_MAX):
            before = await self._store.business(caller.user_number)
            old = Profile() if before is None else _decode(before.profile)
            new = {id: user for id, user in numbers.items() if id not in old.agents}
            await check_addable(self._blocks, caller.user_number, new, "agents")
            row, profile = _changed(before, caller, command, agents)
            if not await self._store.put_business(row):
                continue
            until_ms = self._clock.now_ms() + 1_000 * KNOWN_S
            self._known.put(caller.user_number, Known(row, profile, until_ms))
            if row.agents_version == row.version:
                self.follow()
            return _shown(row, profile)
        raise Unavailable("The profile is being changed elsewhere.")

    async def get(self, context: Context, command: GetOwnBusiness) -> Business:
        known = await self.known(context.user.user_number)
        if known.row is None:
            raise BusinessNotFound
        return _shown(known.row, known.profile)

    async def get_public(
        self, context: Context, command: GetBusiness
    ) -> PublicBusiness:
        numbers = await self._directory.numbers_of((command.user_id,))
        number = numbers.get(command.user_id)
        known = None if number is None else await self.known(number)
        if known is None or known.row is None:
            raise BusinessNotFound
        profile = known.profile
        away = profile.is_away(self._clock.now_ms())
        return PublicBusiness(str(command.user_id), not away, profile.hours)

    # Opening a dialog with one

    async def open(
        self, context: Context, people: Sequence[UUID], numbers: Mapping[UUID, int]
    ) -> Any | None:
        """The caller's dialog with a business, in a Reply with 200 if there was one.

        people: the caller first. None: it is not with one business alone, so that the
        caller makes a dialog of this type by themselves.

        Raises:
            Banned, DialogNotFound, NotAllowed, and what the gate does
        """
        if len(people) != 2:
            return None
        known = await self.known(numbers[people[1]])
        if known.row is None:
            return None
        business = caller_of(known.row)
        customer = context.user
        agents: Mapping[UUID, int] | None = None
        for generation in range(GENERATIONS_MAX):
            id = business_dialog_id(
                business.user_id.bytes, customer.user_id.bytes, generation
            )
            dialog = await self._access.look_up(id)
            if agents is None and (
                dialog is None
                or not (dialog.is_dropped or customer.user_number in dialog.members)
            ):
                await self._check_open(customer.user_number, business.user_number)
                agents = await self.addable(known)
                dialog = await self._access.look_up(id)
            if dialog is None:
                assert agents is not None
                return await self._create(context, id, known.row, agents)
            if not dialog.is_dropped:
                return await self._enter(context, dialog.number, known.row)
        raise DialogNotFound

    async def _check_open(self, customer: int, business: int) -> None:
        """Raises NotAllowed, Unavailable, and what the gate does."""
        if self.gate is not None:
            self.gate.check_open(customer)
        await self._blocks.load((customer, business))
        for by, user in ((customer, business), (business, customer)):
            is_blocked = self._blocks.is_blocked(by, user)
            if is_blocked:
                raise NotAllowed("Not allowed.")
            if is_blocked is None:
                raise Unavailable("Too much is being loaded.")

    async def addable(self, known: Known) -> Mapping[UUID, int]:
        """Of the agents those who let the business add them."""
        assert known.row is not None
        agents = await self._directory.numbers_of(known.profile.agents)
        refusing = await self._blocks.not_addable(
            known.row.user_number, list(agents.values())
        )
        return {id: user for id, user in agents.items() if user not in refusing}

    async def _create(
        self,
        context: Context,
        id: bytes,
        row: BusinessRow,
        agents: Mapping[UUID, int],
    ) -> Any:
        """Creation and the customer's coming are submitted without awaiting between."""
        customer, business = context.user, caller_of(row)
        ids = {number: id for id, number in agents.items()}
        ids.pop(customer.user_number, None)
        ids[row.user_number] = row.user_id
        members = BitMap(ids)
        record = DialogRecord(
            dialog_id=id,
            at_ms=self._clock.now_ms(),
            type="business",
            creator=row.user_number,
            creator_id=row.user_id.bytes,
            members=members.serialize(),
            participants=b"".join(ids[number].bytes for number in members),
        )
        self._log.submit(record)
        dialog = self._state.find_number(self._log.applied_position)
        assert dialog is not None
        # Nobody was in it before: there is nothing to load of who comes.
        dialog.by_number.setdefault(customer.user_number, Member())
        who = ((customer.user_number, customer.user_id),)
        self._log.submit(
            add_record(dialog, record.at_ms, business, who, GUEST), context.connection
        )
        view = dialog.view(dialog.member(customer.user_number))
        number = dialog.number
        await self._log.durable(self._log.applied_position)
        await self._store.open_business_dialog(
            BusinessDialogRow(
                number, row.user_number, customer.user_number, row.agents_version
            )
        )
        return view

    async def _enter(self, context: Context, number: int, row: BusinessRow) -> Reply:
        """Into a dialog that is there; who left comes back."""
        user = context.user.user_number
        for _ in range(ATTEMPTS_MAX):
            dialog = self._state.find_number(number)
            if dialog is None or user not in dialog.by_number:
                await self._log.load(numbers=(number,), members=((number, user),))
                if self._state.find_number(number) is None:
                    raise DialogNotFound
                continue
            if user not in dialog.members:
                check_entry(dialog, user)
                at_ms = max(self._clock.now_ms(), dialog.active_ms)
                who = ((user, context.user.user_id),)
                record = add_record(dialog, at_ms, caller_of(row), who, GUEST)
                self._log.submit(record, context.connection)
            view = dialog.view(dialog.member(user))
            await self._log.durable(dialog.changed_position)
            await self._store.open_business_dialog(
                BusinessDialogRow(number, row.user_number, user)
            )
            return Reply(view, 200)
        raise Unavailable("Too much is being loaded.")

    # For who answers

    async def quick_replies(
        self, context: Context, command: ListQuickReplies
    ) -> QuickReplies:
        user = context.user.user_number
        dialog = await self._joining.allowed(user, command.dialog_id, ASSIGN)
        known = await self.known(dialog.creator)
        return QuickReplies(known.profile.quick_replies)

    async def assign(self, context: Context, command: Assign) -> Any:
        """A Deferred of the Dialog.

        Raises:
            DialogNotFound, NotAllowed, MemberNotFound (nobody who could answer)
        """
        assignee_id: str | UnsetType = UNSET
        number = 0
        if command.user_id is not None:
            numbers = await self._directory.numbers_of((command.user_id,))
            number = numbers.get(command.user_id, 0)
            assignee_id = str(command.user_id)
        user = context.user.user_number
        dialog = await self._joining.allowed(user, command.dialog_id, ASSIGN)
        if assignee_id is not UNSET:
            member = dialog.member(number) if number in dialog.members else None
            if member is None or not dialog.may(member, ASSIGN):
                raise MemberNotFound(fields={"user_id": "cannot answer here"})
        return self._set(
            context, dialog, structs.replace(dialog.settings, assignee_id=assignee_id)
        )

    async def set_conversation(self, context: Context, command: SetConversation) -> Any:
        """A Deferred of the Dialog. Raises DialogNotFound, NotAllowed."""
        user = context.user.user_number
        dialog = await self._joining.allowed(user, command.dialog_id, ASSIGN)
        settings = structs.replace(dialog.settings, is_closed=command.is_closed)
        return self._set(context, dialog, settings)

    def _set(
        self, context: Context, dialog: DialogState, settings: DialogSettings
    ) -> Any:
        if settings == dialog.settings:
            view = dialog.view(dialog.member(context.user.user_number))
            return self._log.hold(view, dialog.changed_position)
        record = set_record(dialog, context.user, self._clock.now_ms(), settings)
        return self._log.submit(record, context.connection)


def caller_of(row: BusinessRow) -> Caller:
    """The business's account, as who does what is done for it."""
    return Caller(row.user_id, row.user_number, NOBODY)


def _changed(
    before: BusinessRow | None,
    caller: Caller,
    command: PutBusiness,
    agents: tuple[UUID, ...],
) -> tuple[BusinessRow, Profile]:
    old = Profile() if before is None else _decode(before.profile)
    former = [id for id in (*old.former, *old.agents) if id not in agents]
    profile = Profile(
        greeting=command.greeting,
        away_message=command.away_message,
        hours=command.hours,
        quick_replies=command.quick_replies,
        agents=agents,
        former=tuple(dict.fromkeys(former))[-FORMER_AGENTS_MAX:],
    )
    version = 1 if before is None else before.version + 1
    is_same = before is not None and set(old.agents) == set(agents)
    row = BusinessRow(
        caller.user_number,
        caller.user_id,
        version,
        before.agents_version if is_same and before is not None else version,
        _encode(profile).decode(),
    )
    return row, profile


def _shown(row: BusinessRow, profile: Profile) -> Business:
    return Business(
        user_id=str(row.user_id),
        greeting=profile.greeting,
        away_message=profile.away_message,
        hours=profile.hours,
        quick_replies=profile.quick_replies,
        agents=profile.agents,
    )
