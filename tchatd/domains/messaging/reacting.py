"""Owns what members do to a message that somebody sent: reactions, pins, votes.

What is there already is answered with the message and journals nothing, so that every
command can be repeated when its answer was lost.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec

from tchatd.domains.messaging import rules
from tchatd.domains.messaging.errors import (
    MessageGone,
    NotAPoll,
    NotTheSender,
    PollClosed,
    TooManyPins,
    TooManyReactions,
)
from tchatd.domains.messaging.message_access import MessageAccess, Target
from tchatd.domains.messaging.message_commands import (
    ClosePoll,
    PinMessage,
    React,
    UnpinMessage,
    Unreact,
    Vote,
    is_emoji,
)
from tchatd.domains.messaging.message_state import MessageState
from tchatd.domains.messaging.models import PINS_MAX, REACTION_KINDS_MAX
from tchatd.domains.messaging.records import PinRecord, ReactRecord, VoteRecord
from tchatd.domains.messaging.settings import DELETE_ANY, PIN, REACT
from tchatd.domains.messaging.store import CommandLog
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.clock import Clock
from tchatd.kernel.errors import Invalid
from tchatd.kernel.routing import Context


class Reacting:
    def __init__(self, log: CommandLog, clock: Clock, messages: MessageAccess) -> None:
        self._log = log
        self._clock = clock
        self._messages = messages

    # Reactions

    def react(self, context: Context, command: React) -> Any:
        """A Deferred of the Message.

        Raises:
            Invalid, MessageNotFound, NotAllowed, MessageGone, TooManyReactions,
            DialogFull
        """
        if not is_emoji(command.emoji):
            raise Invalid(fields={"emoji": "is no emoji"})
        decide = partial(self._react, context, command.emoji)
        user = context.user.user_number
        return self._messages.decide(user, command.message_id, decide, reaches=True)

    def _react(self, context: Context, emoji: str, target: Target) -> Any:
        rules.check_may(target.dialog, target.member, REACT)
        reactions = _living(target).changes.reactions
        same = [reactors.users for reactors in reactions if reactors.emoji == emoji]
        if not same and len(reactions) >= REACTION_KINDS_MAX:
            raise TooManyReactions
        if same and context.user.user_number in BitMap.deserialize(same[0]):
            return self._as_it_is(target)
        return self._submit_reaction(context, target, emoji, is_added=True)

    def unreact(self, context: Context, command: Unreact) -> Any:
        """A Deferred of the Message. Taking back one's own needs no right.

        Raises:
            MessageNotFound, DialogFull
        """
        decide = partial(self._unreact, context, command.emoji)
        user = context.user.user_number
        return self._messages.decide(user, command.message_id, decide)

    def _unreact(self, context: Context, emoji: str, target: Target) -> Any:
        user = context.user.user_number
        for reactors in target.state.changes.reactions:
            if reactors.emoji == emoji and user in BitMap.deserialize(reactors.users):
                return self._submit_reaction(context, target, emoji, is_added=False)
        return self._as_it_is(target)

    def _submit_reaction(
        self, context: Context, target: Target, emoji: str, *, is_added: bool
    ) -> Any:
        rules.check_room(target.dialog)
        record = ReactRecord(*self._by(context, target), emoji, is_added)
        return self._log.submit(record, context.connection)

    # Pins

    def pin_message(self, context: Context, command: PinMessage) -> Any:
        """A Deferred of the Message.

        Raises:
            MessageNotFound, NotAllowed, MessageGone, TooManyPins, DialogFull
        """
        decide = partial(self._pin, context, True)
        user = context.user.user_number
        return self._messages.decide(user, command.message_id, decide, reaches=True)

    def unpin_message(self, context: Context, command: UnpinMessage) -> Any:
        """A Deferred of the Message.

        Raises:
            MessageNotFound, NotAllowed, DialogFull
        """
        decide = partial(self._pin, context, False)
        user = context.user.user_number
        return self._messages.decide(user, command.message_id, decide)

    def _pin(self, context: Context, is_pinned: bool, target: Target) -> Any:
        dialog, state = target.dialog, target.state
        rules.check_may(dialog, target.member, PIN)
        if is_pinned:
            _living(target)
        if (state.id in dialog.pins) == is_pinned:
            return self._as_it_is(target)
        if is_pinned and len(dialog.pins) >= PINS_MAX:
            raise TooManyPins
        rules.check_room(dialog)
        record = PinRecord(*self._by(context, target), is_pinned)
        return self._log.submit(record, context.connection)

    # Polls

    def vote(self, context: Context, command: Vote) -> Any:
        """A Deferred of the Message. Who may react may vote.

        Raises:
            Invalid, MessageNotFound, NotAllowed, MessageGone, NotAPoll, PollClosed,
            DialogFull
        """
        decide = partial(self._vote, context, tuple(sorted(set(command.options))))
        user = context.user.user_number
        return self._messages.decide(user, command.message_id, decide, reaches=True)

    def _vote(self, context: Context, options: tuple[int, ...], target: Target) -> Any:
        rules.check_may(target.dialog, target.member, REACT)
        state = _living(target)
        content = _poll(state)
        if options and options[-1] >= len(content["options"]):
            raise Invalid(fields={"options": "names an option that is not there"})
        if len(options) > 1 and not content.get("is_multiple"):
            raise Invalid(fields={"options": "one only in this poll"})
        if state.is_closed_poll:
            raise PollClosed
        if options == state.choice_of(context.user.user_number):
            return self._as_it_is(target)
        rules.check_room(target.dialog)
        record = VoteRecord(*self._by(context, target), options)
        return self._log.submit(record, context.connection)

    def close_poll(self, context: Context, command: ClosePoll) -> Any:
        """A Deferred of the Message.

        Raises:
            MessageNotFound, NotTheSender, MessageGone, NotAPoll, DialogFull
        """
        decide = partial(self._close, context)
        user = context.user.user_number
        return self._messages.decide(user, command.message_id, decide)

    def _close(self, context: Context, target: Target) -> Any:
        dialog, state = target.dialog, target.state
        if state.sender != context.user.user_number and not dialog.may(
            target.member, DELETE_ANY
        ):
            raise NotTheSender("Only its sender and who moderates here can close it.")
        _poll(_living(target))
        if state.is_closed_poll:
            return self._as_it_is(target)
        rules.check_room(dialog)
        record = VoteRecord(*self._by(context, target), (), closes=True)
        return self._log.submit(record, context.connection)

    def _by(self, context: Context, target: Target) -> tuple[int, int, int, bytes, int]:
        """The first fields of each record here."""
        caller, dialog = context.user, target.dialog
        at_ms = max(self._clock.now_ms(), dialog.active_ms)
        user, id = caller.user_number, caller.user_id.bytes
        return dialog.number, at_ms, user, id, target.state.seq

    def _as_it_is(self, target: Target) -> Any:
        return self._log.hold(target.message, target.dialog.changed_position)


def _living(target: Target) -> MessageState:
    """Raises MessageGone."""
    if target.state.is_deleted:
        raise MessageGone
    return target.state


def _poll(state: MessageState) -> dict[str, Any]:
    """What it asks. Raises NotAPoll."""
    if state.body.type != "poll":
        raise NotAPoll
    content: dict[str, Any] = msgspec.to_builtins(state.body.content)
    return content
