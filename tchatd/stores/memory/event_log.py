"""Owns the event log, its subscriptions and letters in memory: the ports' meaning, for
tests. Transactions draw ids and positions as PostgreSQL's do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct, structs

from tchatd.events.horizon import Look
from tchatd.events.store import (
    Decided,
    Held,
    Letter,
    NewLetter,
    Row,
    SubscriptionRow,
    Wanted,
)
from tchatd.kernel.clock import Clock
from tchatd.kernel.events import Event, EventDraft


class Transaction:
    """Has an id from its first event on, or from `begin`; its events are seen by others
    once it is committed."""

    def __init__(self, log: MemoryEventLog) -> None:
        self._log = log
        self.xid: int | None = None
        self.events: list[Event] = []

    def begin(self) -> None:
        """Write something that is no event."""
        if self.xid is None:
            self.xid = self._log.draw_xid()
            self._log.running.add(self.xid)

    def append(self, drafts: Iterable[EventDraft]) -> None:
        for draft in drafts:
            self.begin()
            event = Event(position=self._log.draw_position(), **structs.asdict(draft))
            self.events.append(event)

    def commit(self) -> None:
        self._log.events.update({event.position: event for event in self.events})
        self.rollback()

    def rollback(self) -> None:
        if self.xid is not None:
            self._log.ended(self.xid)


class MemoryEventLog:
    """What the store's server is to all nodes."""

    def __init__(self) -> None:
        self.events: dict[int, Event] = {}
        self.running: set[int] = set()
        self._next_xid = 700
        self._latest_ended = 699
        self._position = 0

    def draw_xid(self) -> int:
        self._next_xid += 1
        return self._next_xid - 1

    def draw_position(self) -> int:
        self._position += 1
        return self._position

    def ended(self, xid: int) -> None:
        self.running.discard(xid)
        self._latest_ended = max(self._latest_ended, xid)

    @property
    def xmax(self) -> int:
        """One past the latest that has ended: not past the latest that has begun."""
        return self._latest_ended + 1

    @property
    def xmin(self) -> int:
        return min([self.xmax, *self.running])

    def begin(self) -> Transaction:
        return Transaction(self)

    def write(self, *drafts: EventDraft) -> list[Event]:
        transaction = self.begin()
        transaction.append(drafts)
        transaction.commit()
        return transaction.events


class _Subscription(Struct):
    position: int
    holder: str | None
    lease_until_ms: float


class MemoryEventStore:
    """An `EventStore` and a `LetterStore`. clock: the server's."""

    def __init__(self, clock: Clock, log: MemoryEventLog | None = None) -> None:
        self.log = MemoryEventLog() if log is None else log
        self.decisions: list[tuple[str, str, Decided]] = []
        self._clock = clock
        self._subscriptions: dict[str, _Subscription] = {}
        self._letters: dict[int, Letter] = {}
        self._next_letter = 1

    # The relay's.

    async def look(self, after: int, limit: int) -> Look:
        positions = sorted(p for p in self.log.events if p > after)
        last = max(self.log.events, default=0)
        return Look(positions=positions[:limit], last=last, xmin=self.log.xmin)

    async def draw_fence(self) -> int:
        xid = self.log.draw_xid()
        self.log.ended(xid)
        return xid

    async def furthest(self) -> int:
        return max((s.position for s in self._subscriptions.values()), default=0)

    async def page(
        self, subscriber: str, wanted: Wanted, after: int, upto: int, limit: int
    ) -> list[Row]:
        blocked = {letter.event.aggregate_id for letter in self._of(subscriber)}
        found = [
            Row(event, event.aggregate_id in blocked)
            for position, event in sorted(self.log.events.items())
            if after < position <= upto
            and event.domain in wanted.domains
            and (not wanted.types or event.type in wanted.types)
        ]
        return found[:limit]

    async def acquire(
        self, subscriber: str, holder: str, lease_s: float, first: int | None
    ) -> int | None:
        kept = self._subscriptions.get(subscriber)
        if kept is None:
            if first is None:
                return None
            kept = self._subscriptions[subscriber] = _Subscription(first, None, 0)
        if kept.holder not in (None, holder) and self._is_held(kept):
            return None
        kept.holder = holder
        kept.lease_until_ms = self._clock.now_ms() + 1000 * lease_s
        return kept.position

    async def renew(
        self, holder: str, positions: Mapping[str, int], lease_s: float
    ) -> Mapping[str, Held]:
        held = {}
        for name, position in positions.items():
            if self._move(name, holder, position, lease_s):
                letters = self._of(name)
                released = any(letter.is_released for letter in letters)
                held[name] = Held(len(letters), released)
        return held

    async def release(self, holder: str, positions: Mapping[str, int]) -> None:
        for name, position in positions.items():
            if self._move(name, holder, position, 0):
                self._subscriptions[name].holder = None

    async def settle(
        self,
        subscriber: str,
        holder: str,
        position: int,
        letters: Sequence[NewLetter],
        lease_s: float,
    ) -> bool:
        if not self._move(subscriber, holder, position, lease_s):
            return False
        before = self._of(subscriber)
        for new in letters:
            same = [
                letter
                for letter in before
                if letter.event.aggregate_id == new.event.aggregate_id
            ]
            if any(letter.event.id == new.event.id for letter in same):
                continue
            letter = Letter(
                number=self._next_letter,
                subscriber=subscriber,
                event=new.event,
                attempts=new.attempts,
                error=new.error,
                dead_ms=new.dead_ms,
                is_released=not new.is_held and all(s.is_released for s in same),
            )
            self._letters[letter.number] = letter
            self._next_letter += 1
        return True

    async def released(self, subscriber: str, limit: int) -> list[Letter]:
        return [letter for letter in self._of(subscriber) if letter.is_released][:limit]

    async def handled(
        self, subscriber: str, holder: str, numbers: Sequence[int]
    ) -> bool:
        if not self._holds(subscriber, holder):
            return False
        for number in numbers:
            self._letters.pop(number, None)
        return True

    async def failed_again(
        self, subscriber: str, holder: str, letter: Letter, error: str, now_ms: int
    ) -> bool:
        if not self._holds(subscriber, holder):
            return False
        if letter.number in self._letters:
            self._letters[letter.number] = structs.replace(
                letter, attempts=letter.attempts + 1, error=error, dead_ms=now_ms
            )
        self._release(self._same(letter), is_released=False)
        return True

    # Operators'.

    async def letters(
        self, subscriber: str | None, limit: int
    ) -> tuple[list[Letter], int]:
        chosen = [
            letter
            for letter in self._letters.values()
            if subscriber in (None, letter.subscriber)
        ]
        return chosen[:limit], len(chosen)

    async def letter(self, number: int) -> Letter | None:
        return self._letters.get(number)

    async def first_of(self, letter: Letter) -> int | None:
        return next((same.number for same in self._same(letter)), None)

    async def retry(self, letter: Letter, decided: Decided) -> int:
        same = self._same(letter)
        self._release(same)
        if same:
            self._note("dlq retry", _about(letter), decided)
        return len(same)

    async def retry_all(self, subscriber: str, decided: Decided) -> int:
        waiting = [one for one in self._of(subscriber) if not one.is_released]
        self._release(waiting)
        if waiting:
            self._note("dlq retry", f"{subscriber}: all", decided)
        return len(waiting)

    async def drop(self, letter: Letter, decided: Decided) -> bool:
        if letter.number not in self._letters:
            return False
        is_first = await self.first_of(letter) == letter.number
        del self._letters[letter.number]
        if is_first:
            self._release(self._same(letter))
        self._note("dlq drop", _about(letter), decided)
        return True

    async def subscriptions(self) -> list[SubscriptionRow]:
        return [
            SubscriptionRow(
                name,
                kept.position,
                kept.holder if self._is_held(kept) else None,
                len(self._of(name)),
            )
            for name, kept in sorted(self._subscriptions.items())
        ]

    async def forget(self, subscriber: str, decided: Decided) -> bool:
        kept = self._subscriptions.get(subscriber)
        if kept is None or (kept.holder is not None and self._is_held(kept)):
            return False
        del self._subscriptions[subscriber]
        for letter in self._of(subscriber):
            del self._letters[letter.number]
        self._note("events forget", subscriber, decided)
        return True

    def _of(self, subscriber: str) -> list[Letter]:
        """In the order of their positions."""
        letters = [
            one for one in self._letters.values() if one.subscriber == subscriber
        ]
        return sorted(letters, key=lambda letter: letter.event.position)

    def _same(self, letter: Letter) -> list[Letter]:
        aggregate_id = letter.event.aggregate_id
        return [
            same
            for same in self._of(letter.subscriber)
            if same.event.aggregate_id == aggregate_id
        ]

    def _release(self, letters: Iterable[Letter], *, is_released: bool = True) -> None:
        for letter in letters:
            self._letters[letter.number] = structs.replace(
                letter, is_released=is_released
            )

    def _is_held(self, kept: _Subscription) -> bool:
        return self._clock.now_ms() < kept.lease_until_ms

    def _holds(self, subscriber: str, holder: str) -> bool:
        kept = self._subscriptions.get(subscriber)
        return kept is not None and kept.holder == holder

    def _move(self, name: str, holder: str, position: int, lease_s: float) -> bool:
        if not self._holds(name, holder):
            return False
        kept = self._subscriptions[name]
        kept.position = max(kept.position, position)
        kept.lease_until_ms = self._clock.now_ms() + 1000 * lease_s
        return True

    def _note(self, action: str, thing: str, decided: Decided) -> None:
        self.decisions.append((action, thing, decided))


def _about(letter: Letter) -> str:
    return f"{letter.subscriber}: event {letter.event.id}"
