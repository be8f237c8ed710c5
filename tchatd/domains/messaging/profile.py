"""Owns the commands that change a dialog for all of its members, or end it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import UNSET, structs

from tchatd.domains.messaging.access import ATTEMPTS_MAX, DialogAccess
from tchatd.domains.messaging.dialog import DialogState
from tchatd.domains.messaging.errors import NotAllowed
from tchatd.domains.messaging.member_models import (
    ChangeDialog,
    DropDialog,
    SettingsChange,
)
from tchatd.domains.messaging.message_commands import ClearDialog
from tchatd.domains.messaging.models import Done
from tchatd.domains.messaging.reach import Blocks, may_reach
from tchatd.domains.messaging.records import DropRecord, ProfileRecord
from tchatd.domains.messaging.rules import check_may, check_room, check_settings
from tchatd.domains.messaging.settings import (
    DROP,
    SET_PROFILE,
    DialogSettings,
    settings_bytes,
)
from tchatd.domains.messaging.store import TYPES, CommandLog
from tchatd.kernel.clock import Clock
from tchatd.kernel.errors import Invalid, Unavailable
from tchatd.kernel.routing import Context


class Profiles:
    """clear: hides a dialog's history from the caller alone."""

    def __init__(
        self,
        log: CommandLog,
        access: DialogAccess,
        clear: Callable[[Context, ClearDialog], Any],
        blocks: Blocks,
        clock: Clock,
    ) -> None:
        self._log = log
        self._access = access
        self._clear = clear
        self._blocks = blocks
        self._clock = clock

    async def change(self, context: Context, command: ChangeDialog) -> Any:
        """A Deferred of the Dialog; what is so already changes nothing.

        Raises:
            DialogNotFound, Invalid
            NotAllowed: also of who is blocked, in a dialog of two.
        """
        caller = context.user
        dialog = await self._reached(caller.user_number, command.dialog_id)
        member = dialog.by_number[caller.user_number]
        check_may(dialog, member, SET_PROFILE)
        name, avatar, settings = dialog.name, dialog.avatar, dialog.settings
        if command.name is not UNSET:
            name = _name(dialog, command.name)
        if command.avatar is not UNSET:
            if TYPES[dialog.type] == "user":
                raise Invalid(fields={"avatar": "is not for a dialog of two"})
            avatar = command.avatar
        if command.settings is not UNSET:
            settings = changed_settings(dialog, command.settings)
        if (name, avatar, settings) == (dialog.name, dialog.avatar, dialog.settings):
            return self._log.hold(dialog.view(member), dialog.changed_position)
        check_room(dialog)
        record = ProfileRecord(
            dialog.number,
            max(self._clock.now_ms(), dialog.active_ms),
            caller.user_number,
            caller.user_id.bytes,
            name,
            avatar,
            settings_bytes(settings),
        )
        return self._log.submit(record, context.connection)

    async def _reached(self, user: int, id: str) -> DialogState:
        """The dialog, until the next await. Raises: see `change`."""
        for _ in range(ATTEMPTS_MAX):
            dialog = await self._access.open(user, id)
            if may_reach(self._blocks, dialog, user):
                return dialog
            await self._blocks.load(list(dialog.members))
        raise Unavailable("Too much is being loaded.")

    async def drop(self, context: Context, command: DropDialog) -> Any:
        """A Deferred: the dialog is gone for everybody; of two people it stays, and its
        history so far is gone for the caller.

        Raises:
            DialogNotFound, NotAllowed, Invalid
        """
        caller = context.user
        dialog = await self._access.open(caller.user_number, command.dialog_id)
        if not dialog.may(dialog.by_number[caller.user_number], DROP):
            raise NotAllowed(
                "Only an owner deletes it; to leave, delete yourself from its members."
            )
        if TYPES[dialog.type] == "user":
            # In memory as the dialog is, so that it needs no awaiting. What has become
            # of it is not in the answer, so every device is told.
            everywhere = Context(context.request_id, context.address, context.caller)
            self._clear(everywhere, ClearDialog(dialog.id))
            return self._log.hold(Done(), dialog.changed_position)
        check_room(dialog)
        record = DropRecord(
            dialog.number,
            max(self._clock.now_ms(), dialog.active_ms),
            caller.user_number,
            caller.user_id.bytes,
        )
        return self._log.submit(record, context.connection)


def _name(dialog: DialogState, name: str) -> str:
    if TYPES[dialog.type] == "user":
        raise Invalid(fields={"name": "is not for a dialog of two"})
    if not name.strip():
        raise Invalid(fields={"name": "is empty"})
    return name


def changed_settings(dialog: DialogState, change: SettingsChange) -> DialogSettings:
    """All of the settings from then on. Raises Invalid."""
    wanted = {
        name: UNSET if value is None else value
        for name, value in structs.asdict(change).items()
        if value is not UNSET
    }
    check_settings(TYPES[dialog.type], wanted, dialog.settings)
    return structs.replace(dialog.settings, **wanted)
