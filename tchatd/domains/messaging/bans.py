"""Owns the commands that keep people out of a dialog, and let them come back.

A member is removed with the reason "banned"; of somebody who is not in it, all that
changes is the set of those who may not come.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from tchatd.domains.messaging.access import ATTEMPTS_MAX, DialogAccess
from tchatd.domains.messaging.dialog import DialogState
from tchatd.domains.messaging.errors import MemberNotFound, TooManyBanned
from tchatd.domains.messaging.member_models import BANNED_MAX, BanUser, EndBan
from tchatd.domains.messaging.membership import Membership
from tchatd.domains.messaging.models import Done
from tchatd.domains.messaging.records import BanRecord
from tchatd.domains.messaging.rules import check_may, check_room
from tchatd.domains.messaging.settings import REMOVE
from tchatd.domains.messaging.store import CommandLog, UserDirectory
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.clock import Clock
from tchatd.kernel.errors import Invalid, Unavailable
from tchatd.kernel.routing import Context


class Bans:
    def __init__(
        self,
        log: CommandLog,
        access: DialogAccess,
        directory: UserDirectory,
        membership: Membership,
        clock: Clock,
    ) -> None:
        self._log = log
        self._access = access
        self._directory = directory
        self._membership = membership
        self._clock = clock

    async def ban(self, context: Context, command: BanUser) -> Any:
        """A Deferred of Done; who is banned already stays so.

        Raises:
            DialogNotFound, MemberNotFound, NotAllowed, TooManyBanned, Invalid
        """
        if command.user_id == context.user.user_id:
            raise Invalid(fields={"user_id": "is your own"})
        user, number, other = await self._look(
            context, command.dialog_id, command.user_id
        )
        for _ in range(ATTEMPTS_MAX):
            dialog = await self._open(user, number)
            if other not in dialog.members:
                banned = BitMap(dialog.banned or ())
                if other not in banned and len(banned) >= BANNED_MAX:
                    raise TooManyBanned
                banned.add(other)
                return self._submit(context, dialog, banned)
            try:
                return await self._membership.remove_other(
                    context, number, other, command.user_id, "banned"
                )
            except MemberNotFound:
                continue  # they left meanwhile
        raise Unavailable("They come and go.")

    async def end(self, context: Context, command: EndBan) -> Any:
        """A Deferred of Done; who is not banned stays so.

        Raises:
            DialogNotFound, MemberNotFound, NotAllowed, Invalid
        """
        user, number, other = await self._look(
            context, command.dialog_id, command.user_id
        )
        dialog = await self._open(user, number)
        banned = BitMap(dialog.banned or ())
        banned.discard(other)
        return self._submit(context, dialog, banned)

    async def _look(
        self, context: Context, dialog_id: str, other_id: UUID
    ) -> tuple[int, int, int]:
        """Numbers of the caller, of their dialog and of the other one."""
        user = context.user.user_number
        dialog = await self._access.open(user, dialog_id)
        check_may(dialog, dialog.by_number[user], REMOVE)
        number = dialog.number
        numbers = await self._directory.numbers_of((other_id,))
        if other_id not in numbers:
            raise MemberNotFound("There is no such user.")
        return user, number, numbers[other_id]

    async def _open(self, user: int, number: int) -> DialogState:
        dialog = await self._access.open_number(user, number)
        check_may(dialog, dialog.by_number[user], REMOVE)
        return dialog

    def _submit(self, context: Context, dialog: DialogState, banned: BitMap) -> Any:
        if banned != (dialog.banned or BitMap()):
            check_room(dialog)
            record = BanRecord(
                dialog.number,
                max(self._clock.now_ms(), dialog.active_ms),
                context.user.user_number,
                context.user.user_id.bytes,
                banned.serialize(),
            )
            self._log.submit(record)
        return self._log.hold(Done(), dialog.changed_position)
