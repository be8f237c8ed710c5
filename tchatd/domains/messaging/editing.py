"""Owns what somebody says differently or takes back: edits, deletions for everyone.

Who may not write any more (the dialog was set so, or a moderator silenced them) does
not edit either, which would be to go on by what they said before. To take it back stays
theirs. Moderators delete what should not stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import UNSET

from tchatd.domains.messaging import rules
from tchatd.domains.messaging.errors import (
    EditTooLate,
    MessageGone,
    NotEditable,
    NotTheSender,
    OnlyBots,
)
from tchatd.domains.messaging.message_access import MessageAccess, Missing, Target
from tchatd.domains.messaging.message_commands import DeleteMessage, EditMessage
from tchatd.domains.messaging.message_state import MessageBody
from tchatd.domains.messaging.models import Done
from tchatd.domains.messaging.records import DeleteRecord, EditRecord
from tchatd.domains.messaging.settings import DELETE_ANY
from tchatd.domains.messaging.store import Bots, CommandLog, Gate, UserDirectory
from tchatd.kernel.clock import Clock
from tchatd.kernel.errors import Invalid
from tchatd.kernel.routing import Context

EDIT_MS_MAX: Final = 24 * 3_600_000
_EDITABLE: Final = frozenset({"text", "image", "video", "voice", "file", "location"})
_NO_NUMBERS: Final[Mapping[UUID, int]] = {}


class Editing:
    def __init__(
        self,
        log: CommandLog,
        directory: UserDirectory,
        bots: Bots,
        clock: Clock,
        messages: MessageAccess,
    ) -> None:
        self._log = log
        self._directory = directory
        self._bots = bots
        self.gate: Gate | None = None
        self._clock = clock
        self._messages = messages

    # Editing

    def edit_message(self, context: Context, command: EditMessage) -> Any:
        """A Deferred of the Message; an edit that changes nothing is none.

        Raises:
            MessageNotFound, NotTheSender, MessageGone, NotEditable, EditTooLate,
            InvalidContent, InvalidMention, OnlyBots, DialogFull
            NotAllowed: of who is blocked.
        """
        if command.mentions:
            return self._edit_later(context, command)
        decide = partial(self._edit, context, command, _NO_NUMBERS)
        user = context.user.user_number
        return self._messages.decide(user, command.message_id, decide, reaches=True)

    async def _edit_later(self, context: Context, command: EditMessage) -> Any:
        assert command.mentions is not UNSET
        numbers = await self._directory.numbers_of(command.mentions)
        decide = partial(self._edit, context, command, numbers)
        user = context.user.user_number
        return await self._messages.decide_later(
            user, command.message_id, decide, reaches=True
        )

    def _edit(
        self,
        context: Context,
        command: EditMessage,
        numbers: Mapping[UUID, int],
        target: Target,
    ) -> Any:
        caller, dialog, state = context.user, target.dialog, target.state
        body = state.body
        now_ms = self._clock.now_ms()
        _check_editable(target, caller.user_number, now_ms)
        rules.check_may_speak(dialog, target.member, now_ms)
        content = rules.content_of(body.type, command.content)
        texts, mentioned = _mentioned(command, target, numbers)
        buttons: Any = body.buttons
        if command.buttons is not UNSET:
            if command.buttons and not self._bots.is_bot(caller.user_number):
                raise OnlyBots
            rules.check_buttons(command.buttons)
            buttons = command.buttons or UNSET
        if (
            msgspec.to_builtins(content) == msgspec.to_builtins(body.content)
            and texts == body.mentions
            and buttons == body.buttons
        ):
            return self._log.hold(target.message, dialog.changed_position)
        unmentioned = tuple(
            number
            for number in body.mentioned
            if number not in mentioned and number in dialog.members
        )
        missing = tuple(
            number
            for number in {*mentioned, *unmentioned}
            if number in dialog.members and dialog.member(number) is None
        )
        if missing:
            return Missing(members=missing)
        rules.check_room(dialog)
        if self.gate is not None:
            self.gate.admit_edit(caller.user_number, content, buttons)
        record = EditRecord(
            dialog.number,
            max(now_ms, dialog.active_ms),
            caller.user_number,
            caller.user_id.bytes,
            state.seq,
            content,
            texts,
            mentioned,
            unmentioned,
            None if buttons is UNSET else buttons,
        )
        return self._log.submit(record, context.connection)

    # Deleting for everyone

    def delete_for_everyone(self, context: Context, command: DeleteMessage) -> Any:
        """A Deferred of Done; what is deleted already stays so.

        Raises:
            MessageNotFound, NotTheSender, DialogFull
            Invalid: a reason of somebody who does not moderate.
        """
        return self._messages.decide(
            context.user.user_number,
            command.message_id,
            partial(self._delete, context, command),
            sees_hidden=True,
        )

    def _delete(self, context: Context, command: DeleteMessage, target: Target) -> Any:
        caller, dialog, state = context.user, target.dialog, target.state
        moderates = dialog.may(target.member, DELETE_ANY)
        if state.sender != caller.user_number and not moderates:
            raise NotTheSender("Only its sender and who moderates here can delete it.")
        if command.reason is not UNSET and not moderates:
            raise Invalid(fields={"reason": "is for who moderates the dialog"})
        if state.is_deleted:
            return self._log.hold(Done(), dialog.changed_position)
        if state.thread_seq and dialog.message_state(state.thread_seq) is None:
            return Missing(seqs=(state.thread_seq,))
        rules.check_room(dialog)
        record = DeleteRecord(
            dialog.number,
            max(self._clock.now_ms(), dialog.active_ms),
            caller.user_number,
            caller.user_id.bytes,
            state.seq,
            state.thread_seq,
            None if command.reason is UNSET else command.reason,
        )
        return self._log.submit(record, context.connection)


def _check_editable(target: Target, user: int, now_ms: int) -> None:
    """A forwarded message is somebody else's words, and its origin is shown.

    Raises:
        NotTheSender, MessageGone, NotEditable, EditTooLate
    """
    state = target.state
    if state.sender != user:
        raise NotTheSender
    if state.is_deleted:
        raise MessageGone
    if state.body.type not in _EDITABLE or state.body.forward is not UNSET:
        raise NotEditable
    if now_ms - state.at_ms > EDIT_MS_MAX:
        raise EditTooLate


def _mentioned(
    command: EditMessage, target: Target, numbers: Mapping[UUID, int]
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Who is mentioned from now on. Who was mentioned before may have left since.

    Raises:
        InvalidMention
    """
    body: MessageBody = target.state.body
    if command.mentions is UNSET:
        return body.mentions, body.mentioned
    known = dict(zip(body.mentions, body.mentioned, strict=True))
    unique = list(dict.fromkeys(command.mentions))
    fresh = [id for id in unique if str(id) not in known]
    texts, found = rules.mentioned(target.dialog, fresh, numbers)
    known.update(zip(texts, found, strict=True))
    return tuple(map(str, unique)), tuple(known[str(id)] for id in unique)
