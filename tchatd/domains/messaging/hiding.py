"""Owns what a member does with messages for themselves, and what has reached them.

Deleting for oneself keeps the seqs of what is hidden with the member (member.py), up to
`HIDDEN_MAX` of them in a dialog; clearing it hides all that was said so far, whatever
it is, and makes room for more.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from msgspec import structs

from tchatd.domains.messaging import rules
from tchatd.domains.messaging.access import DialogAccess
from tchatd.domains.messaging.dialog import DialogState
from tchatd.domains.messaging.errors import TooManyHidden
from tchatd.domains.messaging.member import (
    HIDDEN_MAX,
    Hidden,
    MemberExtra,
    extra_bytes,
)
from tchatd.domains.messaging.message_access import MessageAccess, Target
from tchatd.domains.messaging.message_commands import (
    ClearDialog,
    DeleteMessage,
    DeliverMessages,
)
from tchatd.domains.messaging.models import Done
from tchatd.domains.messaging.records import DeliverRecord, OwnRecord, ReadRecord
from tchatd.domains.messaging.store import CommandLog
from tchatd.kernel.clock import Clock
from tchatd.kernel.routing import Context


class Hiding:
    def __init__(
        self,
        log: CommandLog,
        clock: Clock,
        access: DialogAccess,
        messages: MessageAccess,
    ) -> None:
        self._log = log
        self._clock = clock
        self._access = access
        self._messages = messages

    def delete_for_me(self, context: Context, command: DeleteMessage) -> Any:
        """A Deferred of the OwnState; what is hidden already stays so.

        Raises:
            MessageNotFound, TooManyHidden
        """
        return self._messages.decide(
            context.user.user_number,
            command.message_id,
            partial(self._hide, context),
            sees_hidden=True,
        )

    def _hide(self, context: Context, target: Target) -> Any:
        dialog, extra, seq = target.dialog, target.member.extra, target.state.seq
        hidden = Hidden(extra)
        if seq in hidden:
            own = dialog.own_state(target.member)
            return self._log.hold(own, dialog.changed_position)
        if len(hidden.seqs) >= HIDDEN_MAX:
            raise TooManyHidden
        hidden.seqs.add(seq)
        kept = structs.replace(extra, hidden=hidden.seqs.serialize())
        return self._keep(context, dialog, kept)

    def clear_dialog(self, context: Context, command: ClearDialog) -> Any:
        """A Deferred of the OwnState: everything so far is read and hidden.

        Raises:
            DialogNotFound, DialogFull
        """
        dialog = self._access.find(context.user.user_number, command.dialog_id)
        if dialog is None:
            return self._clear_later(context, command)
        return self._clear(context, dialog)

    async def _clear_later(self, context: Context, command: ClearDialog) -> Any:
        user = context.user.user_number
        return self._clear(context, await self._access.open(user, command.dialog_id))

    def _clear(self, context: Context, dialog: DialogState) -> Any:
        """Reading comes first and by itself: the others are told of it as ever."""
        caller = context.user
        member = dialog.by_number[caller.user_number]
        last = dialog.last_message
        if last is None or member.extra.cleared_seq >= last.seq:
            return self._log.hold(dialog.own_state(member), dialog.changed_position)
        if last.seq > member.read_seq:
            rules.check_room(dialog)
            read = ReadRecord(
                dialog.number,
                max(self._clock.now_ms(), dialog.active_ms),
                caller.user_number,
                caller.user_id.bytes,
                last.seq,
                dialog.message_count,
                last.id,
            )
            self._log.submit(read)
        kept = structs.replace(member.extra, hidden=None, cleared_seq=dialog.last_seq)
        return self._keep(context, dialog, kept)

    def _keep(self, context: Context, dialog: DialogState, extra: MemberExtra) -> Any:
        caller = context.user
        record = OwnRecord(
            dialog.number,
            max(self._clock.now_ms(), dialog.active_ms),
            caller.user_number,
            caller.user_id.bytes,
            extra_bytes(extra),
        )
        return self._log.submit(record, context.connection)

    def deliver_messages(self, context: Context, command: DeliverMessages) -> Any:
        """A Deferred of Done; what has been delivered or read changes nothing.

        Raises:
            MessageNotFound
        """
        user, id = context.user.user_number, command.message_id
        target = self._messages.find(user, id, sees_hidden=True)
        if target is None:
            return self._deliver_later(context, command)
        return self._deliver(context, target)

    async def _deliver_later(self, context: Context, command: DeliverMessages) -> Any:
        user, id = context.user.user_number, command.message_id
        target = await self._messages.look(user, id, sees_hidden=True)
        return self._deliver(context, target)

    def _deliver(self, context: Context, target: Target) -> Any:
        """Of a large dialog nobody is shown what has been delivered, so it costs no
        record there: a post in a channel would bring back one from every device."""
        caller, dialog, member = context.user, target.dialog, target.member
        seq = target.state.seq
        if seq <= member.delivered_seq or dialog.is_large:
            return self._log.hold(Done(), dialog.changed_position)
        record = DeliverRecord(
            dialog.number,
            max(self._clock.now_ms(), dialog.active_ms),
            caller.user_number,
            caller.user_id.bytes,
            seq,
        )
        return self._log.submit(record, context.connection)
