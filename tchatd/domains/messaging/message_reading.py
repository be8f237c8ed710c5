"""Owns what can be read of messages: pages, one, threads, pins, what they said before.

A page is put together of the tail in memory and of rows in the store. The tail is
looked at first: whatever is not in it is in the store by then, so there is no hole,
and nothing is taken twice because rows are asked for below the tail only. Meanwhile the
dialog is pinned: a row is as old as its query, and what happened to its message since
is then in memory (`shown_message`). An answer is held until the latest thing it shows
is durable.

What a member has deleted for themselves is left out; a page goes on below it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final
from uuid import UUID

from msgspec import UNSET, structs

from tchatd.domains.messaging import rules
from tchatd.domains.messaging.access import DialogAccess
from tchatd.domains.messaging.dialog import DialogState
from tchatd.domains.messaging.errors import MessageNotFound, NotTheSender
from tchatd.domains.messaging.identifiers import (
    message_address,
    message_id,
    uuid_bytes,
)
from tchatd.domains.messaging.member import HIDDEN_MAX, Hidden, Member, hidden_of
from tchatd.domains.messaging.message_access import MessageAccess, Target
from tchatd.domains.messaging.message_commands import (
    GetMessage,
    GetMessageHistory,
    ListPins,
    ListReactions,
    ListThread,
    MessageHistory,
    Pins,
    Reactor,
    ReactorPage,
    Version,
)
from tchatd.domains.messaging.message_state import (
    MessageChanges,
    MessageState,
    state_of_row,
)
from tchatd.domains.messaging.models import ListMessages, Message, MessagePage
from tchatd.domains.messaging.settings import DELETE_ANY, SEE_MEMBERS
from tchatd.domains.messaging.store import (
    MESSAGE_NEW,
    CommandLog,
    DialogStore,
    EventRow,
    UserDirectory,
    Wants,
)
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.clock import rfc3339
from tchatd.kernel.errors import Invalid
from tchatd.kernel.routing import Context

_HIDDEN_AT_ONCE: Final = 100
"""Rows that a query asks for beyond a page, because so many may be hidden."""
_QUERIES_MAX: Final = HIDDEN_MAX // _HIDDEN_AT_ONCE + 2
"""Of one page: each but the last passes over so many hidden messages."""
_CURSOR: Final = "r1."
_ROUNDS_MAX: Final = 10
"""Of looking for somebody to tell of, among those who reacted and are gone."""
_Say = Callable[[Context, Target], Any]


class MessageReading:
    def __init__(
        self,
        log: CommandLog,
        store: DialogStore,
        directory: UserDirectory,
        access: DialogAccess,
        messages: MessageAccess,
    ) -> None:
        self._log = log
        self._store = store
        self._directory = directory
        self._access = access
        self._messages = messages

    # One message

    def get_message(self, context: Context, command: GetMessage) -> Any:
        """Raises MessageNotFound."""
        return self._about(context, command.message_id, self._message)

    def _message(self, context: Context, target: Target) -> Message:
        return _shown(target.dialog, context.user.user_number, target.state)

    def message_history(self, context: Context, command: GetMessageHistory) -> Any:
        """Raises MessageNotFound, NotTheSender."""
        return self._about(context, command.message_id, _history)

    def _about(self, context: Context, id: UUID, say: _Say) -> Any:
        target = self._messages.find(context.user.user_number, id)
        if target is None:
            return self._about_later(context, id, say)
        position = target.dialog.changed_position
        return self._log.hold(say(context, target), position)

    async def _about_later(self, context: Context, id: UUID, say: _Say) -> Any:
        target = await self._messages.look(context.user.user_number, id)
        position = target.dialog.changed_position
        return self._log.hold(say(context, target), position)

    # Pages of a dialog

    def list_messages(self, context: Context, command: ListMessages) -> Any:
        if command.before is not UNSET and command.after is not UNSET:
            raise Invalid(fields={"after": "not together with before"})
        user = context.user.user_number
        if command.before is UNSET and command.after is UNSET:
            dialog = self._access.find(user, command.dialog_id)
            if dialog is not None:
                hidden = hidden_of(dialog.by_number[user].extra)
                tail = _tail_before(dialog, dialog.last_seq + 1, hidden)
                recent = _first(tail, command.limit + 1)
                enough = len(recent) > command.limit or dialog.tail_first_seq == 1
                if enough:
                    page = _page(dialog, user, recent, command.limit)
                    return self._log.hold(page, dialog.changed_position)
        return self._list_messages_later(user, command)

    async def _list_messages_later(self, user: int, command: ListMessages) -> Any:
        dialog = await self._access.open(user, command.dialog_id)
        number, limit = dialog.number, command.limit
        with self._log.pinned(number):
            edge = command.before if command.after is UNSET else command.after
            seq = 0
            if edge is not UNSET:
                seq = await self._seq_of(dialog, edge)
                dialog = await self._access.open_number(user, number)
            hidden = hidden_of(dialog.by_number[user].extra)
            if command.after is not UNSET:
                found = await self._after(dialog, seq, limit, hidden)
            else:
                before = seq or dialog.last_seq + 1
                found = await self.before(dialog, before, limit, hidden)
            dialog = await self._access.open_number(user, number)
            page = _page(dialog, user, found, limit)
        if command.after is not UNSET:
            page.messages.reverse()
        return self._log.hold(page, dialog.changed_position)

    async def before(
        self, dialog: DialogState, seq: int, limit: int, hidden: Hidden | None
    ) -> list[Message | MessageState]:
        """Newest first, one more than `limit` if there is one."""
        first = dialog.tail_first_seq
        found = _first(_tail_before(dialog, seq, hidden), limit + 1)
        below = min(seq, first)
        for _ in range(_QUERIES_MAX):
            wanted = limit + 1 - len(found)
            if wanted <= 0 or below <= _floor(hidden):
                break
            count = wanted + _extra(hidden)
            rows = await self._store.messages_before(dialog.number, below, count)
            found += _states(rows, hidden)[:wanted]
            if len(rows) < count:
                break
            below = rows[-1].seq
        return found

    async def _after(
        self, dialog: DialogState, seq: int, limit: int, hidden: Hidden | None
    ) -> list[Message | MessageState]:
        """Oldest first, one more than `limit` if there is one."""
        first = dialog.tail_first_seq
        tail = [
            entry.answer
            for entry in dialog.tail
            if entry.seq > seq
            and entry.kind == MESSAGE_NEW
            and (hidden is None or entry.seq not in hidden)
        ]
        found: list[Message | MessageState] = []
        above = max(seq, _floor(hidden) - 1)
        for _ in range(_QUERIES_MAX):
            wanted = limit + 1 - len(found)
            if wanted <= 0 or above + 1 >= first:
                break
            count = wanted + _extra(hidden)
            rows = await self._store.messages_after(
                dialog.number, above, first - 1, count
            )
            found += _states(rows, hidden)[:wanted]
            if len(rows) < count:
                break
            above = rows[-1].seq
        return [*found, *tail][: limit + 1]

    async def _seq_of(self, dialog: DialogState, id: UUID) -> int:
        """Raises MessageNotFound: the dialog has no such message."""
        address = message_address(id)
        if address is None or address[0] != dialog.number:
            raise MessageNotFound
        seq = address[1]
        entry = dialog.entry_at(seq)
        if entry is not None:
            if entry.kind != MESSAGE_NEW or entry.answer.id != str(id):
                raise MessageNotFound
            return seq
        rows = await self._store.events(dialog.number, seq - 1, seq, 1)
        if (
            not rows
            or rows[0].kind != MESSAGE_NEW
            or message_id(rows[0].at_ms, dialog.number, seq) != str(id)
        ):
            raise MessageNotFound
        return seq

    # The last message, for the list of dialogs

    async def last_message(self, dialog: DialogState, member: Member) -> Message | None:
        """The latest that the member has not hidden; the dialog may be one that was
        read from the store only."""
        if not dialog.lacks_last_message(member.extra):
            return dialog.last_message_for(member)
        hidden = hidden_of(member.extra)
        with self._log.pinned(dialog.number):
            seq = dialog.tail_first_seq
            found = await self.before(dialog, seq, 0, hidden)
            if not found:
                return None
            assert isinstance(found[0], MessageState)
            state = dialog.messages.get(found[0].seq, found[0])
            return dialog.with_readers(dialog.message_of(state), member)

    # Threads

    async def list_thread(self, context: Context, command: ListThread) -> MessagePage:
        """Raises MessageNotFound."""
        user = context.user.user_number
        target = await self._messages.look(user, command.message_id)
        dialog, root_seq = target.dialog, target.state.seq
        number, limit = dialog.number, command.limit
        with self._log.pinned(number):
            seq = dialog.last_seq + 1
            if command.before is not UNSET:
                seq = await self._seq_of(dialog, command.before)
                dialog = await self._access.open_number(user, number)
            hidden = hidden_of(dialog.by_number[user].extra)
            found = await self._thread_before(dialog, root_seq, seq, limit, hidden)
            dialog = await self._access.open_number(user, number)
            page = _page(dialog, user, found, limit)
        await self._log.durable(dialog.changed_position)
        return page

    async def _thread_before(
        self,
        dialog: DialogState,
        root_seq: int,
        seq: int,
        limit: int,
        hidden: Hidden | None,
    ) -> list[Message | MessageState]:
        """Newest first, one more than `limit` if there is one."""
        first = dialog.tail_first_seq
        tail = _tail_before(dialog, seq, hidden, thread_seq=root_seq)
        found = _first(tail, limit + 1)
        below = min(seq, first)
        for _ in range(_QUERIES_MAX):
            wanted = limit + 1 - len(found)
            if wanted <= 0 or below <= max(root_seq + 1, _floor(hidden)):
                break
            count = wanted + _extra(hidden)
            rows = await self._store.thread_before(
                dialog.number, root_seq, below, count
            )
            found += _states(rows, hidden)[:wanted]
            if len(rows) < count:
                break
            below = rows[-1].seq
        return found

    # Pins

    async def list_pins(self, context: Context, command: ListPins) -> Pins:
        """Raises DialogNotFound."""
        user = context.user.user_number
        dialog = await self._access.open(user, command.dialog_id)
        number = dialog.number
        with self._log.pinned(number):
            seqs = _seqs_of(dialog.pins)
            absent = {
                (number, seq) for seq in seqs if dialog.message_state(seq) is None
            }
            rows = []
            if absent:
                rows = (await self._store.load(Wants(messages=absent))).messages
                dialog = await self._access.open_number(user, number)
            states = {row.seq: state_of_row(row) for row in rows}
            extra = dialog.by_number[user].extra
            found = []
            for seq in reversed(_seqs_of(dialog.pins)):
                state = dialog.message_state(seq) or states.get(seq)
                if state is not None and not extra.hides(seq):
                    found.append(_shown(dialog, user, state))
        await self._log.durable(dialog.changed_position)
        return Pins(found)

    # Who reacted

    async def list_reactions(
        self, context: Context, command: ListReactions
    ) -> ReactorPage:
        """Who reacted, all of them; who may not see the members may not see that.

        Raises:
            MessageNotFound, NotAllowed
            Invalid: the cursor is not from here.
        """
        place = ("", 0)
        if command.cursor is not UNSET:
            place = await self._place_in(command.cursor)
        target = await self._messages.look(context.user.user_number, command.message_id)
        rules.check_may(target.dialog, target.member, SEE_MEMBERS)
        seen = target.dialog.changed_position
        changes = target.state.changes
        at = {(r.emoji, r.user_id): rfc3339(r.at_ms) for r in changes.shown}
        page: list[Reactor] = []
        next_cursor: Any = UNSET
        for _ in range(_ROUNDS_MAX):
            wanted = _reactors(changes, command, place)
            told = wanted[: command.limit]
            ids = await self._directory.ids_of(list({number for _, number in told}))
            page = [
                Reactor(emoji, str(id), at.get((emoji, id.bytes), UNSET))
                for emoji, number in told
                if (id := ids.get(number)) is not None
            ]
            if page or len(wanted) <= command.limit:
                break
            place = told[-1]  # of all of these nobody is left
        if len(wanted) > command.limit and page:
            next_cursor = f"{_CURSOR}{page[-1].user_id}.{page[-1].emoji}"
        await self._log.durable(seen)
        return ReactorPage(page, next_cursor)

    async def _place_in(self, cursor: str) -> tuple[str, int]:
        """The emoji and the user number of the last one told."""
        text, _, emoji = cursor.removeprefix(_CURSOR).partition(".")
        id = uuid_bytes(text)
        if id is None or not emoji or not cursor.startswith(_CURSOR):
            raise Invalid(fields={"cursor": "is not from here"})
        numbers = await self._directory.numbers_of([UUID(bytes=id)])
        if not numbers:
            raise Invalid(fields={"cursor": "is not from here"})
        [number] = numbers.values()
        return emoji, number


def _history(context: Context, target: Target) -> MessageHistory:
    state = target.state
    if state.sender != context.user.user_number and not target.dialog.may(
        target.member, DELETE_ANY
    ):
        raise NotTheSender("Only its sender and who moderates here can see it.")
    return MessageHistory(
        state.id,
        tuple(
            Version(past.content, rfc3339(past.until_ms))
            for past in state.changes.history
        ),
    )


def _page(
    dialog: DialogState,
    user: int,
    found: Sequence[Message | MessageState],
    limit: int,
) -> MessagePage:
    messages = [_shown(dialog, user, item) for item in found[:limit]]
    return MessagePage(messages, len(found) > limit, dialog.last_seq)


def _shown(dialog: DialogState, user: int, item: Message | MessageState) -> Message:
    """As it is by now, with who has read it, and what the user chose in a poll."""
    if isinstance(item, MessageState):
        state = dialog.messages.get(item.seq, item)
        message = dialog.message_of(state)
    else:
        message = dialog.shown_message(item)
    message = dialog.with_readers(message, dialog.by_number.get(user))
    if message.poll is UNSET:
        return message
    poll_state = dialog.message_state(item.seq)
    if poll_state is None:
        assert isinstance(item, MessageState)
        poll_state = item
    poll = structs.replace(message.poll, chosen=poll_state.choice_of(user))
    return structs.replace(message, poll=poll)


def _tail_before(
    dialog: DialogState,
    seq: int,
    hidden: Hidden | None,
    thread_seq: int | None = None,
) -> Iterator[Message]:
    """Messages in the tail, newest first; thread_seq: only of this thread."""
    for entry in reversed(dialog.tail):
        if entry.seq >= seq or entry.kind != MESSAGE_NEW:
            continue
        if hidden is not None and entry.seq in hidden:
            continue
        if thread_seq is not None and (
            entry.state is None or entry.state.thread_seq != thread_seq
        ):
            continue
        yield entry.answer


def _first(messages: Iterator[Message], count: int) -> list[Message | MessageState]:
    found: list[Message | MessageState] = []
    for message in messages:
        if len(found) == count:
            break
        found.append(message)
    return found


def _states(rows: list[EventRow], hidden: Hidden | None) -> list[MessageState]:
    return [
        state_of_row(row) for row in rows if hidden is None or row.seq not in hidden
    ]


def _floor(hidden: Hidden | None) -> int:
    """The first seq that may be seen."""
    return 1 if hidden is None else hidden.cleared_seq + 1


def _extra(hidden: Hidden | None) -> int:
    """How many rows more than wanted are asked for."""
    return 0 if hidden is None else min(len(hidden.seqs), _HIDDEN_AT_ONCE)


def _seqs_of(ids: tuple[str, ...]) -> list[int]:
    found = []
    for id in ids:
        address = message_address(UUID(id))
        assert address is not None
        found.append(address[1])
    return found


def _reactors(
    changes: MessageChanges, command: ListReactions, place: tuple[str, int]
) -> list[tuple[str, int]]:
    """(emoji, user number) after the place, one more than the page has."""
    count = command.limit + 1
    found: list[tuple[str, int]] = []
    for reactors in sorted(changes.reactions, key=lambda r: r.emoji):
        if reactors.emoji < place[0] or command.emoji not in (UNSET, reactors.emoji):
            continue
        numbers = BitMap.deserialize(reactors.users)
        rank = numbers.rank(place[1]) if reactors.emoji == place[0] else 0
        wanted = numbers[rank : rank + count - len(found)]
        found += [(reactors.emoji, number) for number in wanted]
    return found
