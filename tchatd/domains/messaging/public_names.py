"""Owns public names: how a channel or a group is found and joined without an invite.

The row of a name decides who has it; the dialog's settings repeat it for its members.
Naming claims the row, submits the record, then settles the row. A crash in between
leaves a name that is not settled, which `repair` finds: if the dialog says it, it is
settled, else it is given up. Both may be done again without harm.

A name that is given up is held back for a day: its own dialog may have it again, others
wait, so that nobody picks up the readers of a channel that was just renamed. The name
of a dialog that was dropped is given up when somebody looks for it, or wants it.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import UNSET, Meta, Struct, UnsetType, structs

from tchatd.domains.messaging.access import ATTEMPTS_MAX
from tchatd.domains.messaging.beside import NameStore
from tchatd.domains.messaging.dialog import DialogState
from tchatd.domains.messaging.errors import (
    ChannelNotFound,
    NameReserved,
    NameTaken,
    NotAllowed,
    TooManyNames,
)
from tchatd.domains.messaging.joining import (
    JoinAnswer,
    Joining,
    check_entry,
    set_record,
)
from tchatd.domains.messaging.models import (
    MESSAGES_PAGE_MAX,
    DialogType,
    IdText,
    Message,
    MessagePage,
)
from tchatd.domains.messaging.rows import message_of
from tchatd.domains.messaging.settings import SET_PROFILE
from tchatd.domains.messaging.store import (
    MESSAGE_NEW,
    TYPES,
    CommandLog,
    DialogStore,
)
from tchatd.kernel.clock import Clock
from tchatd.kernel.routing import Context

NAMES_MAX: Final = 5
"""Of one dialog, those that are held back for it among them."""
HELD_BACK_S: Final = 86_400
UNSETTLED_S: Final = 60
"""Whoever has not settled a name so long after claiming it is not going to."""
_REPAIR_MAX: Final = 100
_NAMED: Final = ("group", "channel")
_RESERVED_WORDS: Final = """
about abuse account accounts admin administrator admins announcement announcements
anonymous api billing business channel channels contact deleted dialog dialogs
everyone group groups guest health help helpdesk invite invites legal login logout
mail member members message messages metrics moderator moderators nobody
notification notifications official operator owner owners password payment payments
police postmaster privacy public ready root safety security server service settings
signin signup staff status support system tchat tchatd team terms transaction
transactions undefined user users verified wallet wallets webhook webhooks
webmaster websocket
"""
RESERVED: Final = frozenset(_RESERVED_WORDS.split())
_RESERVED_BEGIN: Final = ("tchat", "admin_", "official_", "support_")

Word = Annotated[str, Meta(min_length=1, max_length=64)]


class SetPublicName(Struct, frozen=True):
    """name: 5 to 32 of a-z, 0-9 and _, a letter first; its case does not matter."""

    dialog_id: IdText
    name: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z][A-Za-z0-9_]{4,31}$",
            max_length=32,
            description="5 to 32 of a-z, 0-9 and _, a letter first",
        ),
    ]


class DropPublicName(Struct, frozen=True):
    dialog_id: IdText


class GetChannel(Struct, frozen=True):
    name: Word


class ListChannelMessages(Struct, frozen=True, kw_only=True):
    name: Word
    limit: Annotated[int, Meta(ge=1, le=MESSAGES_PAGE_MAX)] = 50


class JoinChannel(Struct, frozen=True):
    name: Word


class PublicChannel(Struct, frozen=True, gc=False):
    """What anybody who is signed in sees of it. dialog_id: if they are in."""

    public_name: str
    type: DialogType
    name: str
    member_count: int
    needs_approval: bool
    is_member: bool
    description: str = ""
    avatar: str | UnsetType = UNSET
    dialog_id: str | UnsetType = UNSET


class PublicNames:
    def __init__(
        self,
        joining: Joining,
        names: NameStore,
        dialogs: DialogStore,
        log: CommandLog,
        clock: Clock,
        held_back_s: float = HELD_BACK_S,
    ) -> None:
        self._joining = joining
        self._names = names
        self._dialogs = dialogs
        self._log = log
        self._clock = clock
        self._held_back_ms = round(1_000 * held_back_s)

    # For who may set it

    async def set(self, context: Context, command: SetPublicName) -> Any:
        """The dialog, as the caller sees it.

        Raises:
            NameReserved, NameTaken, TooManyNames, DialogNotFound, NotAllowed
        """
        name = command.name.lower()
        if name in RESERVED or name.startswith(_RESERVED_BEGIN):
            raise NameReserved(fields={"name": "is reserved"})
        dialog = await self._settable(context, command.dialog_id)
        number, now_ms = dialog.number, self._clock.now_ms()
        if await self._names.names_held(number, name, now_ms) >= NAMES_MAX:
            raise TooManyNames(
                f"A dialog keeps {NAMES_MAX} names, those it gave up lately among them."
            )
        if not await self._claim(name, number):
            raise NameTaken(fields={"name": "is taken"})
        view = await self._rename(context, command.dialog_id, name)
        await self._settle(number)
        return view

    async def drop(self, context: Context, command: DropPublicName) -> Any:
        """The dialog, as the caller sees it; having no name is no mistake."""
        dialog = await self._settable(context, command.dialog_id)
        number = dialog.number
        view = await self._rename(context, command.dialog_id, None)
        await self._settle(number)
        return view

    async def _settle(self, number: int) -> None:
        """The rows say what the dialog says, also when two rename it at once."""
        for _ in range(ATTEMPTS_MAX):
            name = await self._name_of(number)
            if name is None:
                await self._names.give_up_names(number, self._free_ms())
            else:
                await self._names.settle_name(name, number, self._free_ms())
            if await self._name_of(number) == name:
                return

    async def _name_of(self, number: int) -> str | None:
        dialog = await self._joining.open(number)
        name = UNSET if dialog is None else dialog.settings.public_name
        return None if name is UNSET else name

    async def _settable(self, context: Context, dialog_id: str) -> DialogState:
        user = context.user.user_number
        dialog = await self._joining.allowed(user, dialog_id, SET_PROFILE)
        if TYPES[dialog.type] not in _NAMED:
            raise NotAllowed("Only channels and groups have public names.")
        return dialog

    async def _claim(self, name: str, number: int) -> bool:
        """Ours now. Looks once whether whoever has it still exists."""
        for _ in range(2):
            now_ms = self._clock.now_ms()
            if await self._names.claim_name(name, number, now_ms) is not None:
                return True
            if await self._holder(name) is not None:
                return False
        return False

    async def _rename(self, context: Context, dialog_id: str, name: str | None) -> Any:
        dialog = await self._settable(context, dialog_id)
        public_name = UNSET if name is None else name
        if dialog.settings.public_name == public_name:
            view = dialog.view(dialog.member(context.user.user_number))
            await self._log.durable(dialog.changed_position)
            return view
        settings = structs.replace(dialog.settings, public_name=public_name)
        record = set_record(dialog, context.user, self._clock.now_ms(), settings)
        answer = self._log.submit(record, context.connection)
        await self._log.durable(self._log.applied_position)
        return answer.result()

    # For everybody

    async def get(self, context: Context, command: GetChannel) -> PublicChannel:
        dialog = await self._found(command.name)
        settings = dialog.settings
        is_member = context.user.user_number in dialog.members
        assert isinstance(settings.public_name, str)
        shown = PublicChannel(
            settings.public_name,
            TYPES[dialog.type],
            dialog.name or "",
            len(dialog.members),
            settings.needs_approval,
            is_member,
            settings.description,
            UNSET if dialog.avatar is None else dialog.avatar,
            dialog.id if is_member else UNSET,
        )
        await self._log.durable(dialog.changed_position)
        return shown

    async def messages(
        self, context: Context, command: ListChannelMessages
    ) -> MessagePage:
        """The latest of a public channel, for who is not in it, too: messages, and
        nothing of its members but how many reacted. Further back one reads as one.

        Raises ChannelNotFound: also of a group, whose messages are its members'.
        """
        dialog = await self._found(command.name)
        if TYPES[dialog.type] != "channel":
            raise ChannelNotFound
        limit, first = command.limit, dialog.tail_first_seq
        found: list[Message] = [
            entry.answer for entry in reversed(dialog.tail) if entry.kind == MESSAGE_NEW
        ][: limit + 1]
        with self._log.pinned(dialog.number):  # see message_reading.py
            if len(found) <= limit and first > 1:
                rows = await self._dialogs.messages_before(
                    dialog.number, first, limit + 1 - len(found)
                )
                dialog = await self._found(command.name)
                found += [message_of(row, dialog.id, dialog.pins) for row in rows]
            page = [
                structs.replace(dialog.shown_message(message), reactions=())
                for message in found[:limit]
            ]
        last_seq = dialog.last_seq
        await self._log.durable(dialog.changed_position)
        return MessagePage(page, len(found) > limit, last_seq)

    async def join(self, context: Context, command: JoinChannel) -> Any:
        """As joining by an invite (invites.py)."""
        dialog = await self._found(command.name)
        user, number = context.user.user_number, dialog.number
        if user not in dialog.members:
            check_entry(dialog, user)
            if dialog.settings.needs_approval:
                return await self._joining.ask(context, number, None)
        view, _ = await self._joining.join(context, number)
        return JoinAnswer("joined", view)

    async def _found(self, name: str) -> DialogState:
        """Until the next await. Raises ChannelNotFound."""
        dialog = await self._holder(name.lower())
        if dialog is None:
            raise ChannelNotFound
        return dialog

    async def _holder(self, name: str) -> DialogState | None:
        """Whose name it is, until the next await; one that is nobody's is given up,
        unless somebody may be about to take it."""
        row = await self._names.name(name)
        if row is None or row.free_ms:
            return None
        dialog = await self._joining.open(row.dialog_number)
        if dialog is not None and dialog.settings.public_name == name:
            return dialog
        if row.is_settled or row.claimed_ms < self._unsettled_ms():
            await self._names.give_up_names(row.dialog_number, self._free_ms(), name)
        return None

    # In the background

    async def repair(self) -> int:
        """Decide what became of names that were claimed and not settled; how many."""
        rows = await self._names.unsettled_names(self._unsettled_ms(), _REPAIR_MAX)
        for row in rows:
            await self._settle(row.dialog_number)
        return len(rows)

    async def prune(self) -> int:
        """Forget names that nobody holds back any more."""
        return await self._names.prune_names(self._clock.now_ms(), _REPAIR_MAX)

    def _free_ms(self) -> int:
        return self._clock.now_ms() + self._held_back_ms

    def _unsettled_ms(self) -> int:
        return self._clock.now_ms() - 1_000 * UNSETTLED_S
