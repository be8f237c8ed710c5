"""Owns what one member keeps for themselves in a dialog: settings and a draft.

Only their own devices are told, and nothing is journaled when nothing changes.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, structs

from tchatd.domains.messaging.access import DialogAccess
from tchatd.domains.messaging.dialog import DialogState
from tchatd.domains.messaging.errors import ForeignReply, MessageNotFound
from tchatd.domains.messaging.identifiers import message_address
from tchatd.domains.messaging.member import DraftState, MemberExtra, extra_bytes
from tchatd.domains.messaging.member_models import ChangeOwn, SaveDraft, until_ms
from tchatd.domains.messaging.records import OwnRecord
from tchatd.domains.messaging.store import CommandLog
from tchatd.kernel.clock import Clock
from tchatd.kernel.routing import Context


class Own:
    def __init__(self, log: CommandLog, access: DialogAccess, clock: Clock) -> None:
        self._log = log
        self._access = access
        self._clock = clock

    # Settings

    def change(self, context: Context, command: ChangeOwn) -> Any:
        """A Deferred of the OwnState. Raises DialogNotFound."""
        dialog = self._access.find(context.user.user_number, command.dialog_id)
        if dialog is None:
            return self._change_later(context, command)
        return self._change(context, dialog, command)

    async def _change_later(self, context: Context, command: ChangeOwn) -> Any:
        user = context.user.user_number
        dialog = await self._access.open(user, command.dialog_id)
        return self._change(context, dialog, command)

    def _change(self, context: Context, dialog: DialogState, command: ChangeOwn) -> Any:
        extra = dialog.by_number[context.user.user_number].extra
        if command.is_pinned is not UNSET:
            extra = structs.replace(extra, is_pinned=command.is_pinned)
        if command.is_archived is not UNSET:
            extra = structs.replace(extra, is_archived=command.is_archived)
        if command.muted_until is not UNSET:
            muted_ms = until_ms(command.muted_until, self._clock.now_ms())
            extra = structs.replace(extra, muted_until_ms=muted_ms)
        return self._keep(context, dialog, extra)

    # Draft

    def save_draft(self, context: Context, command: SaveDraft) -> Any:
        """A Deferred of the OwnState. Raises DialogNotFound, ForeignReply, …"""
        dialog = self._access.find(context.user.user_number, command.dialog_id)
        if dialog is None:
            return self._save_later(context, command)
        return self._save(context, dialog, command)

    async def _save_later(self, context: Context, command: SaveDraft) -> Any:
        user = context.user.user_number
        dialog = await self._access.open(user, command.dialog_id)
        return self._save(context, dialog, command)

    def _save(self, context: Context, dialog: DialogState, command: SaveDraft) -> Any:
        extra = dialog.by_number[context.user.user_number].extra
        reply_to: str | None = None
        if command.text and command.reply_to_id is not UNSET:
            # Whether the message is there is asked when the draft is sent.
            address = message_address(command.reply_to_id)
            if address is None:
                raise MessageNotFound(fields={"reply_to_id": "is no message"})
            if address[0] != dialog.number:
                raise ForeignReply(fields={"reply_to_id": "is not of this dialog"})
            reply_to = str(command.reply_to_id)
        before = extra.draft
        if before is not None and (before.text, before.reply_to_id) == (
            command.text,
            reply_to,
        ):
            return self._keep(context, dialog, extra)
        draft = None
        if command.text:
            draft = DraftState(command.text, reply_to, self._clock.now_ms())
        return self._keep(context, dialog, structs.replace(extra, draft=draft))

    def _keep(self, context: Context, dialog: DialogState, extra: MemberExtra) -> Any:
        caller = context.user
        member = dialog.by_number[caller.user_number]
        if extra == member.extra:
            return self._log.hold(dialog.own_state(member), dialog.changed_position)
        record = OwnRecord(
            dialog.number,
            max(self._clock.now_ms(), dialog.active_ms),
            caller.user_number,
            caller.user_id.bytes,
            extra_bytes(extra),
        )
        return self._log.submit(record, context.connection)
