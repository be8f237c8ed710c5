"""Owns who may change who is in a dialog, and the commands that do.

Decide and submit in one go: whatever a command has to wait for, it loads, and then
looks again from the start, so that two commands at once are as one after the other. So
a dialog never has more members than its type allows, and never loses its last owner: an
owner goes only while another one is seen in memory, at that moment.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from msgspec import UNSET

from tchatd.domains.messaging import rules
from tchatd.domains.messaging.access import ATTEMPTS_MAX, DialogAccess
from tchatd.domains.messaging.dialog import DialogState
from tchatd.domains.messaging.errors import (
    LastOwner,
    MemberNotFound,
    NotAllowed,
    TooManyBanned,
)
from tchatd.domains.messaging.events import MemberAdded
from tchatd.domains.messaging.identifiers import uuid_bytes
from tchatd.domains.messaging.joining import add_record
from tchatd.domains.messaging.member import Member
from tchatd.domains.messaging.member_models import (
    BANNED_MAX,
    AddMembers,
    ChangeMember,
    RemoveMember,
    until_ms,
)
from tchatd.domains.messaging.models import MEMBERS_SHOWN_MAX
from tchatd.domains.messaging.reach import Blocks, check_addable
from tchatd.domains.messaging.records import (
    DropRecord,
    RemoveRecord,
    RestrictRecord,
    RoleRecord,
)
from tchatd.domains.messaging.roster import shown_member
from tchatd.domains.messaging.rules import check_may, check_outranks, check_room
from tchatd.domains.messaging.settings import (
    ADD,
    HAND_OVER,
    LEAVE,
    PROMOTE,
    RANKS,
    REMOVE,
    SILENCE,
)
from tchatd.domains.messaging.store import (
    ADMIN,
    OWNER,
    ROLES,
    STAFF,
    CommandLog,
    DialogStore,
    UserDirectory,
)
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.clock import Clock, rfc3339
from tchatd.kernel.errors import Invalid, Unavailable
from tchatd.kernel.routing import Context

_TRIES: Final = ATTEMPTS_MAX + 3
"""A command that waits for a member, for all members, for names and for the owners
needs as many turns even when nothing comes in between; so does one that asks who may be
added."""
_NOBODY: Final = bytes(16)
"""Shown as the id of a member whose account is gone."""


class Membership:
    def __init__(
        self,
        log: CommandLog,
        store: DialogStore,
        access: DialogAccess,
        directory: UserDirectory,
        blocks: Blocks,
        clock: Clock,
    ) -> None:
        self._log = log
        self._store = store
        self._access = access
        self._directory = directory
        self._blocks = blocks
        self._clock = clock

    # Adding

    async def add(self, context: Context, command: AddMembers) -> Any:
        """A Deferred of MemberAdded; who is in already is passed over.

        Raises:
            DialogNotFound, NotAllowed, InvalidParticipants, Banned, TooManyMembers
        """
        caller = context.user
        role = ROLES.index(command.role)
        dialog = await self._access.open(caller.user_number, command.dialog_id)
        number = dialog.number
        _check_may_add(dialog, dialog.by_number[caller.user_number], role)
        found = await self._directory.numbers_of(command.user_ids)
        rules.check_known(command.user_ids, found, "user_ids")
        ids = {user: id for id, user in found.items()}
        wanted = BitMap(ids)
        asked = BitMap()
        for _ in range(_TRIES):
            dialog = await self._access.open_number(caller.user_number, number)
            _check_may_add(dialog, dialog.by_number[caller.user_number], role)
            coming = wanted - dialog.members
            if not coming:
                return self._nobody_added(context, dialog)
            if coming - asked:  # again, too: somebody may leave meanwhile
                new = {ids[user]: user for user in coming - asked}
                await check_addable(self._blocks, caller.user_number, new, "user_ids")
                asked = asked | coming
                continue
            rules.check_joining(dialog, coming)
            check_room(dialog)
            # Who has been here before has sent messages, and client_ids with them.
            missing = [user for user in coming if user not in dialog.by_number]
            if missing:
                await self._log.load(members=[(number, user) for user in missing])
                continue
            at_ms = self._now_ms(dialog)
            people = [(user, ids[user]) for user in coming]
            record = add_record(dialog, at_ms, caller, people, role)
            return self._log.submit(record, context.connection)
        raise Unavailable("Too much is being loaded.")

    def _nobody_added(self, context: Context, dialog: DialogState) -> Any:
        answer = MemberAdded(
            dialog.id,
            dialog.last_seq,
            (),
            0,
            "member",
            str(context.user.user_id),
            len(dialog.members),
            rfc3339(self._now_ms(dialog)),
        )
        return self._log.hold(answer, dialog.changed_position)

    # Roles and silence

    async def change(self, context: Context, command: ChangeMember) -> Any:
        """A Deferred of the DialogMember as it is then; what is so already changes
        nothing.

        Raises:
            DialogNotFound, MemberNotFound, NotAllowed, LastOwner, Invalid
        """
        if command.role is UNSET and command.silenced_until is UNSET:
            raise Invalid(fields={"role": "or silenced_until is required"})
        user, number, other = await self._both(
            context, command.dialog_id, command.user_id
        )
        asked = False
        for _ in range(_TRIES):
            dialog = await self._access.open_number(user, number)
            self._check_rights(dialog, dialog.by_number[user], command, user == other)
            member = _member(dialog, other)
            if member is None:
                await self._log.load(members=((number, other),))
                continue
            if self._steps_down(dialog, user, other, command) and not _has_other_owner(
                dialog, user
            ):
                if asked or dialog.all_loaded:
                    raise LastOwner
                await self._load_owners(number)
                asked = True
                continue
            return self._change(context, dialog, member, other, command)
        raise Unavailable("Too much is being loaded.")

    def _check_rights(
        self,
        dialog: DialogState,
        mine: Member,
        command: ChangeMember,
        is_self: bool,
    ) -> None:
        """Whether the caller may do such a thing at all, to whomever it is."""
        if command.silenced_until is not UNSET:
            check_may(dialog, mine, SILENCE)
        if command.role is UNSET:
            return
        role = ROLES.index(command.role)
        if is_self:
            # Owners and admins may step down, and nobody rises by themselves.
            if mine.role not in STAFF or RANKS[role] > RANKS[mine.role]:
                raise NotAllowed("Nobody gives themselves a role.")
        elif role == OWNER:
            check_may(dialog, mine, HAND_OVER, "Only an owner makes an owner.")
        else:
            check_may(dialog, mine, PROMOTE)
            if RANKS[role] > RANKS[mine.role]:
                raise NotAllowed("This role is above yours.")

    @staticmethod
    def _steps_down(
        dialog: DialogState, user: int, other: int, command: ChangeMember
    ) -> bool:
        return (
            user == other
            and dialog.by_number[user].role == OWNER
            and command.role not in (UNSET, "owner")
        )

    def _change(
        self,
        context: Context,
        dialog: DialogState,
        member: Member,
        other: int,
        command: ChangeMember,
    ) -> Any:
        """Decide and submit, with everything in memory."""
        caller, at_ms = context.user, self._now_ms(dialog)
        mine, other_id = dialog.by_number[caller.user_number], command.user_id.bytes
        head = dialog.number, at_ms, caller.user_number, caller.user_id.bytes
        records: list[RoleRecord | RestrictRecord] = []
        role = member.role if command.role is UNSET else ROLES.index(command.role)
        hands_over = role == OWNER and command.hands_over and member is not mine
        if role != member.role or (command.role is not UNSET and hands_over):
            if member is not mine and role != OWNER:
                check_outranks(mine, member)
            check_room(dialog)
            records.append(RoleRecord(*head, other, other_id, role, hands_over))
        if command.silenced_until is not UNSET:
            check_outranks(mine, member)
            until = until_ms(command.silenced_until, self._clock.now_ms())
            if until and RANKS[role] >= RANKS[ADMIN if hands_over else mine.role]:
                raise Invalid(fields={"silenced_until": "nobody could end it then"})
            if until != member.extra.silenced_until_ms:
                records.append(RestrictRecord(*head, other, other_id, until))
        elif member.extra.silenced_until_ms and role != member.role and role in STAFF:
            # Else nobody could end it, once they are above whoever could.
            records.append(RestrictRecord(*head, other, other_id, 0))
        for record in records:
            self._log.submit(record)
        sees_silence = dialog.may(mine, SILENCE) or member is mine
        now_ms = self._clock.now_ms() if sees_silence else None
        shown = shown_member(dialog, member, str(command.user_id), now_ms)
        return self._log.hold(shown, dialog.changed_position)

    # Removing and leaving

    async def remove(self, context: Context, command: RemoveMember) -> Any:
        """A Deferred of Done. Of oneself: leave; the last one closes the door.

        Raises:
            DialogNotFound, MemberNotFound, NotAllowed, LastOwner, TooManyBanned
        """
        user, number, other = await self._both(
            context, command.dialog_id, command.user_id
        )
        if user == other:
            if command.ban:
                raise Invalid(fields={"ban": "is not for oneself"})
            return await self._leave(context, number)
        reason = "banned" if command.ban else "removed"
        return await self.remove_other(context, number, other, command.user_id, reason)

    async def remove_other(
        self, context: Context, number: int, other: int, other_id: UUID, reason: str
    ) -> Any:
        """As `remove`, by number, of somebody else."""
        user = context.user.user_number
        ids: dict[int, bytes] = {}
        for _ in range(_TRIES):
            dialog = await self._access.open_number(user, number)
            mine = dialog.by_number[user]
            check_may(dialog, mine, REMOVE)
            member = _member(dialog, other)
            if member is None:
                await self._log.load(members=((number, other),))
                continue
            check_outranks(mine, member)
            if reason == "banned" and len(dialog.banned or ()) >= BANNED_MAX:
                raise TooManyBanned
            if await self._loads(dialog, other, ids):
                continue
            return self._submit_removal(context, dialog, other, other_id, reason, ids)
        raise Unavailable("Too much is being loaded.")

    async def _leave(self, context: Context, number: int) -> Any:
        caller = context.user
        user = caller.user_number
        ids: dict[int, bytes] = {}
        asked = False
        for _ in range(_TRIES):
            dialog = await self._access.open_number(user, number)
            mine = dialog.by_number[user]
            check_may(dialog, mine, LEAVE)
            if len(dialog.members) == 1:
                return self._drop(context, dialog)
            if mine.role == OWNER and not _has_other_owner(dialog, user):
                if asked or dialog.all_loaded:
                    raise LastOwner
                await self._load_owners(number)
                asked = True
                continue
            if await self._loads(dialog, user, ids):
                continue
            return self._submit_removal(
                context, dialog, user, caller.user_id, "left", ids
            )
        raise Unavailable("Too much is being loaded.")

    def _drop(self, context: Context, dialog: DialogState) -> Any:
        check_room(dialog)
        caller = context.user
        record = DropRecord(
            dialog.number,
            self._now_ms(dialog),
            caller.user_number,
            caller.user_id.bytes,
        )
        return self._log.submit(record, context.connection)

    def _submit_removal(
        self,
        context: Context,
        dialog: DialogState,
        other: int,
        other_id: UUID,
        reason: str,
        ids: dict[int, bytes],
    ) -> Any:
        check_room(dialog)
        caller = context.user
        known = _ids_of_shown(dialog)
        known.update(ids)
        shown = (dialog.members - BitMap((other,)))[:MEMBERS_SHOWN_MAX]
        record = RemoveRecord(
            dialog.number,
            self._now_ms(dialog),
            caller.user_number,
            caller.user_id.bytes,
            other,
            other_id.bytes,
            reason,
            b"".join(known[user] for user in shown),
        )
        return self._log.submit(record, context.connection)

    # What has to be in memory

    async def _both(
        self, context: Context, dialog_id: str, other_id: UUID
    ) -> tuple[int, int, int]:
        """Numbers of the caller, of their dialog and of the other one.

        Raises:
            DialogNotFound, MemberNotFound, Invalid
        """
        user = context.user.user_number
        dialog = await self._access.open(user, dialog_id)
        number = dialog.number
        if other_id == context.user.user_id:
            return user, number, user
        numbers = await self._directory.numbers_of((other_id,))
        # Whether such a user exists is not told: 0 is nobody, and in no dialog.
        return user, number, numbers.get(other_id, 0)

    async def _loads(
        self, dialog: DialogState, going: int, ids: dict[int, bytes]
    ) -> bool:
        """Whether something was awaited that the removal needs; then look again.

        ids: gets the ids of who will be shown and is not yet.
        """
        number = dialog.number
        left = dialog.members - BitMap((going,))
        if not dialog.all_loaded and len(left) <= MEMBERS_SHOWN_MAX:
            await self._log.load(whole=(number,))
            return True
        known = _ids_of_shown(dialog)
        missing = [
            user
            for user in left[:MEMBERS_SHOWN_MAX]
            if user not in known and user not in ids
        ]
        if not missing:
            return False
        found = await self._directory.ids_of(missing)
        for user in missing:
            ids[user] = found[user].bytes if user in found else _NOBODY
        return True

    async def _load_owners(self, number: int) -> None:
        """Bring the stored owners into memory. One who became an owner since is there
        already, or is missed: then the caller is refused once, and may ask again."""
        rows = await self._store.in_role(number, (OWNER,))
        await self._log.load(members=[(number, row.user_number) for row in rows])

    def _now_ms(self, dialog: DialogState) -> int:
        return max(self._clock.now_ms(), dialog.active_ms)


def _check_may_add(dialog: DialogState, mine: Member, role: int) -> None:
    check_may(dialog, mine, ADD)
    if role == OWNER:
        raise NotAllowed("An owner is made by handing over.")
    if role == ADMIN:
        check_may(dialog, mine, PROMOTE)


def _member(dialog: DialogState, user: int) -> Member | None:
    """None if they have to be loaded. Raises MemberNotFound: they are not in it."""
    if user not in dialog.members:
        raise MemberNotFound
    return dialog.member(user)


def _has_other_owner(dialog: DialogState, user: int) -> bool:
    """Whether memory shows one, now."""
    return any(
        member.role == OWNER and number != user and number in dialog.members
        for number, member in dialog.by_number.items()
    )


def _ids_of_shown(dialog: DialogState) -> dict[int, bytes]:
    known = {}
    for number, text in dialog.numbers_and_ids():
        raw = uuid_bytes(text)
        assert raw is not None
        known[number] = raw
    return known
