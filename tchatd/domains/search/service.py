"""Owns answering what is searched for: the index proposes, what is now decides.

The index knows what was said a moment ago. So every hit is looked at as it is: whether
the caller is in its dialog, whether it is deleted or hidden from them, and whether it
still says what they look for. That is why a deleted message is not found at once.

Order: what matches as typed, the latest first, as people look for what was said lately;
then, only if that is little, what matches but for marks and slips.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

from msgspec import UNSET, Struct, UnsetType

from tchatd.domains.search.look import EXACT, LOOSE, Look
from tchatd.domains.search.models import (
    DialogHits,
    FoundChannel,
    Highlight,
    MessageHit,
    MessageHits,
    PeopleHits,
    SearchDialogs,
    SearchMessages,
    SearchPeople,
)
from tchatd.domains.search.store import (
    ORDER_MAX,
    Conversations,
    Directory,
    MessageAsk,
    People,
    SearchIndex,
    SeenMessage,
    first_order,
)
from tchatd.domains.search.text import parse
from tchatd.kernel.clock import moment_ms
from tchatd.kernel.errors import Invalid
from tchatd.kernel.routing import Context

FEW_HITS: Final = 10
"""With fewer exact hits in all, what matches loosely is shown after them."""
ROUNDS_MAX: Final = 5
"""Times the index is asked for one page; after it the page is shorter."""
ROUND_HITS_MIN: Final = 16
WORK_MAX: Final = 200_000
"""Of looking at what the index proposes for one page (about 50 ms); after it the page
is shorter."""
TURN_WORK: Final = 8_000
"""Of looking, after which all others have their turn (about 2 ms)."""
CANDIDATES_MAX: Final = 100
"""Dialogs or people that the index may propose for one answer."""
_CURSOR: Final = re.compile(r"([el])([0-9]{1,20})\.([0-9]{1,2})")
_STAGES: Final = {"e": EXACT, "l": LOOSE}
_LETTERS: Final = {EXACT: "e", LOOSE: "l"}
_IDENTIFIER: Final = re.compile(r"\s*(\+?[0-9][0-9 ()-]{6,20}|[^\s@]+@[^\s@]+)\s*")


_Hits: TypeAlias = list[tuple[int, int, MessageHit]]
"""Their stage and order, each."""


class SearchSettings(Struct, frozen=True, kw_only=True):
    """Searches a minute of one user, and their burst: as-you-type is several each."""

    per_user_minute: int = 120
    burst: int = 30


class _Place(Struct):
    """How far a page has come. end: only orders below it. exact: hits as typed on
    the pages before, up to FEW_HITS."""

    stage: int = EXACT
    end: int = ORDER_MAX
    exact: int = 0


class SearchService:
    """checkpoint: all others that could go on do so first."""

    def __init__(
        self,
        index: SearchIndex,
        conversations: Conversations,
        people: People,
        directory: Directory,
        settings: SearchSettings,
        checkpoint: Callable[[], Awaitable[None]],
    ) -> None:
        self.settings = settings
        self._index = index
        self._conversations = conversations
        self._people = people
        self._directory = directory
        self._checkpoint = checkpoint

    # Messages

    async def search_messages(
        self, context: Context, command: SearchMessages
    ) -> MessageHits:
        """Raises: Invalid, IndexUnavailable, and what `Conversations` raises for a
        dialog that the caller is not in."""
        user = context.user.user_number
        place = _place(command.cursor)
        ask = await self._ask(user, command)
        query = parse(command.q)
        if query is None or ask is None:
            return MessageHits([])
        hits: _Hits = []
        look, turn = Look(query), TURN_WORK
        for _ in range(ROUNDS_MAX):
            missing = command.limit + 1 - len(hits)
            limit = max(missing, ROUND_HITS_MIN)
            is_loose = place.stage == LOOSE
            end = min(place.end, ask.end)
            proposed = MessageAsk(
                query.clauses(loose=is_loose),
                ask.dialogs,
                limit,
                ask.first,
                end,
                ask.sender,
                ask.type,
            )
            found = await self._index.messages(proposed)
            keys = [(one.dialog_number, one.seq) for one in found]
            seen = await self._conversations.messages(user, keys) if keys else {}
            for one, key in zip(found, keys, strict=True):
                if len(hits) > command.limit or look.work >= WORK_MAX:
                    break
                if look.work >= turn:
                    await self._checkpoint()
                    turn = look.work + TURN_WORK
                place.end = one.order
                hit = _hit(look, seen.get(key), place.stage)
                if hit is not None:
                    hits.append((place.stage, one.order, hit))
            if len(hits) > command.limit:
                return _page(hits, command.limit, place.exact)
            if look.work >= WORK_MAX:
                break
            if len(found) == limit:
                continue
            few = place.stage == EXACT and place.exact + len(hits) < FEW_HITS
            if not (few and query.is_forgiving):
                return _page(hits, command.limit, place.exact)
            place = _Place(LOOSE, exact=place.exact)
        next_cursor = _cursor(place.stage, place.end, place.exact, hits)
        return MessageHits([hit for _, _, hit in hits], next_cursor)

    async def _ask(self, user: int, command: SearchMessages) -> MessageAsk | None:
        """Where and when to look; None: nowhere."""
        first = (
            first_order(moment_ms(command.since)) if command.since is not UNSET else 0
        )
        end = ORDER_MAX
        if command.until is not UNSET:
            end = first_order(moment_ms(command.until))
        dialogs: Any
        if command.dialog_id is not UNSET:
            dialogs = [await self._conversations.number_of(user, command.dialog_id)]
        else:
            dialogs = await self._conversations.memberships(user)
        sender = None
        if command.sender_id is not UNSET:
            numbers = await self._directory.numbers_of([command.sender_id])
            sender = numbers.get(command.sender_id)
            if sender is None:
                return None
        if not dialogs or first >= end:
            return None
        type = None if command.type is UNSET else command.type
        return MessageAsk((), dialogs, 0, first, end, sender, type)

    # Dialogs

    async def search_dialogs(
        self, context: Context, command: SearchDialogs
    ) -> DialogHits:
        """Own dialogs by their name, those of two by the other's; public channels by
        name and public name. Raises: IndexUnavailable."""
        user = context.user.user_number
        query = parse(command.q, every_word_open=True)
        if query is None:
            return DialogHits([], [])
        mine = await self._conversations.memberships(user)
        others = await self._conversations.acquaintances(user)
        limit = command.limit
        own: dict[int, None] = {}
        public: dict[int, None] = {}
        for loose in (False, True):
            clauses = query.clauses(loose=loose)
            own |= dict.fromkeys(await self._index.dialogs(clauses, mine, limit))
            people = await self._index.people(clauses, list(others), limit)
            own |= dict.fromkeys(others[number] for number in people)
            channels = await self._index.dialogs(clauses, None, CANDIDATES_MAX)
            public |= dict.fromkeys(channels)
            if len(own) + len(public) >= FEW_HITS:
                break
        dialogs = await self._conversations.dialogs(user, list(own)[:limit])
        found = await self._conversations.channels(user, list(public)[:CANDIDATES_MAX])
        return DialogHits(dialogs, [FoundChannel(**c) for c in found[:limit]])

    # People

    async def search_people(
        self, context: Context, command: SearchPeople
    ) -> PeopleHits:
        """By name whoever lets themselves be found; by phone or email the one whose it
        is. Raises: IndexUnavailable."""
        user = context.user.user_number
        if _IDENTIFIER.fullmatch(command.q):
            found = await self._people.identified(user, command.q.strip())
            return PeopleHits(list(found.values()))
        query = parse(command.q, every_word_open=True)
        if query is None:
            return PeopleHits([])
        known = [
            *await self._people.known(user),
            *await self._conversations.acquaintances(user),
        ]
        numbers: dict[int, None] = {}
        for loose in (False, True):
            clauses = query.clauses(loose=loose)
            for among in (known, None):
                if among is None or among:
                    proposed = await self._index.people(clauses, among, CANDIDATES_MAX)
                    numbers |= dict.fromkeys(proposed)
            if len(numbers) >= FEW_HITS:
                break
        numbers.pop(user, None)
        people = await self._people.found(user, list(numbers)[: 2 * CANDIDATES_MAX])
        return PeopleHits(list(people.values())[: command.limit])


def _hit(look: Look, seen: SeenMessage | None, stage: int) -> MessageHit | None:
    """None: it is not to be seen, or does not say so (any more), or so exactly."""
    if seen is None or not look.matches(seen.text, stage):
        return None
    marked = [(field, look.marks(text, stage)) for field, text in seen.texts]
    shown = tuple(Highlight(field, tuple(ranges)) for field, ranges in marked if ranges)
    return MessageHit(seen.message, seen.dialog_id, shown or UNSET)


def _page(hits: _Hits, limit: int, exact: int) -> MessageHits:
    shown = [hit for _, _, hit in hits[:limit]]
    if len(hits) <= limit:
        return MessageHits(shown)
    stage, order, _ = hits[limit - 1]
    return MessageHits(shown, _cursor(stage, order, exact, hits[:limit]))


def _cursor(stage: int, order: int, exact: int, hits: _Hits) -> str:
    """exact: hits as typed before these."""
    exact += sum(stage == EXACT for stage, _, _ in hits)
    return f"{_LETTERS[stage]}{order}.{min(exact, FEW_HITS)}"


def _place(cursor: str | UnsetType) -> _Place:
    """Raises: Invalid."""
    if cursor is UNSET:
        return _Place()
    found = _CURSOR.fullmatch(cursor)
    if found is None or int(found[2]) > ORDER_MAX:
        raise Invalid(fields={"cursor": "is not from here"})
    return _Place(_STAGES[found[1]], int(found[2]), int(found[3]))
