"""Owns stored events as they are told, read and made once for all who ask for the same.

After a restart the members of a dialog come back together, and each has missed the same
events: read and made anew for each they would be most of what catching up costs.

What is kept of a dialog is as some query found it. What is later than that is in
memory, as long as a query that is as old is under way (`CommandLog.pinned`), and
whoever tells an event lays it over the stored one. When memory lets go of it, `forget`
is called.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Final, overload

from msgspec import Struct

from tchatd.domains.messaging.events import Event
from tchatd.domains.messaging.message_state import MessageState, state_of_row
from tchatd.domains.messaging.own_view import veiled
from tchatd.domains.messaging.rows import event_of
from tchatd.domains.messaging.store import EventRow
from tchatd.kernel.encoding import (
    Encoded,
    encode_json,
    encode_msgpack,
    json_array,
    msgpack_array,
)

EVENTS_MAX: Final = 20_000
"""A kilobyte or two each. They are dropped all at once: a crowd soon asks for its own
again."""
_EVENT_BYTES: Final = 256
"""Of what an event has beside its body, in a page."""


class _Made:
    """What is known of events only when first asked for: they in JSON and in
    MessagePack, and whether they name members to who may not see them."""

    __slots__ = ("_events", "_json", "_msgpack", "_names")

    def __init__(self, events: Sequence[Event]) -> None:
        self._events = events
        self._json: list[bytes] = []
        self._msgpack: list[bytes] = []
        self._names: bool | None = None

    @property
    def names_members(self) -> bool:
        if self._names is None:
            self._names = any(veiled(event) is not event for event in self._events)
        return self._names

    def json(self) -> list[bytes]:
        if not self._json:
            self._json = list(map(encode_json, self._events))
        return self._json

    def msgpack(self) -> list[bytes]:
        if not self._msgpack:
            self._msgpack = list(map(encode_msgpack, self._events))
        return self._msgpack


class Stretch(Struct, frozen=True):
    """Events of one dialog by seq; and before each, and after the last, the bytes of
    all that are before it. made: from `start` on, of these."""

    seqs: Sequence[int]
    events: Sequence[Event]
    bytes_before: Sequence[int]
    made: _Made
    start: int = 0

    def cut(self, floor: int, last: int) -> Stretch:
        """floor < seq <= last."""
        start, end = bisect_right(self.seqs, floor), bisect_right(self.seqs, last)
        if not start and end == len(self.seqs):
            return self
        return Stretch(
            self.seqs[start:end],
            self.events[start:end],
            self.bytes_before[start : end + 1],
            self.made,
            self.start + start,
        )

    @property
    def size(self) -> int:
        """Bytes, about."""
        return self.bytes_before[-1] - self.bytes_before[0]

    @property
    def names_members(self) -> bool:
        """Whether `veiled` may change something in it."""
        return self.made.names_members

    def json(self) -> list[bytes]:
        return self.made.json()[self.start : self.start + len(self.events)]

    def msgpack(self) -> list[bytes]:
        return self.made.msgpack()[self.start : self.start + len(self.events)]

    def __iter__(self) -> Iterator[tuple[int, Event, int]]:
        """Seq, event and size."""
        sizes = (after - before for before, after in pairwise(self.bytes_before))
        return zip(self.seqs, self.events, sizes, strict=True)


NOTHING: Final = Stretch((), (), (0,), _Made(()))


class Events(Sequence[Event], Encoded):
    """Of one page; those that others are told, too, are encoded once for all."""

    __slots__ = ("_all", "_parts")

    def __init__(self) -> None:
        self._all: list[Event] = []
        self._parts: list[Stretch | Event] = []

    def append(self, event: Event) -> None:
        self._all.append(event)
        self._parts.append(event)

    def share(self, stretch: Stretch) -> None:
        self._all += stretch.events
        self._parts.append(stretch)

    def json(self) -> bytes:
        items: list[bytes] = []
        for part in self._parts:
            items += part.json() if type(part) is Stretch else (encode_json(part),)
        return json_array(items)

    def msgpack(self) -> bytes:
        items: list[bytes] = []
        for part in self._parts:
            items += (
                part.msgpack() if type(part) is Stretch else (encode_msgpack(part),)
            )
        return msgpack_array(items)

    def __len__(self) -> int:
        return len(self._all)

    @overload
    def __getitem__(self, index: int) -> Event: ...

    @overload
    def __getitem__(self, index: slice) -> list[Event]: ...

    def __getitem__(self, index: int | slice) -> Event | list[Event]:
        return self._all[index]

    def __iter__(self) -> Iterator[Event]:
        return iter(self._all)

    def __eq__(self, other: object) -> bool:
        return self._all == (other._all if isinstance(other, Events) else other)

    __hash__ = None  # type: ignore[assignment]  # as a list


class Kept(Struct, frozen=True):
    """rows: all with floor < seq <= last, by seq. edited: see `event_of`. is_fixed:
    nothing in it depends on the time. made: as told while these are the pins."""

    floor: int
    last: int
    rows: Sequence[EventRow]
    edited: Mapping[int, MessageState]
    is_fixed: bool
    made: dict[tuple[str, ...], Stretch]

    def told(self, dialog_id: str, pins: tuple[str, ...], now_ms: int) -> Stretch:
        """As it is told. now_ms: see `as_of`."""
        made = self.made.get(pins)
        if made is None:
            made = self._make(dialog_id, pins, now_ms)
            if self.is_fixed:
                self.made.clear()
                self.made[pins] = made
        return made

    def _make(self, dialog_id: str, pins: tuple[str, ...], now_ms: int) -> Stretch:
        rows = self.rows
        sizes = (_EVENT_BYTES + len(row.body) + len(row.changed or b"") for row in rows)
        events = [event_of(row, dialog_id, pins, self.edited, now_ms) for row in rows]
        before = list(accumulate(sizes, initial=0))
        return Stretch([row.seq for row in rows], events, before, _Made(events))


class SharedEvents:
    """What is kept, by number of the dialog: one stretch of its events."""

    def __init__(self, events_max: int = EVENTS_MAX) -> None:
        self._events_max = events_max
        self._kept: dict[int, Kept] = {}
        self._count = 0

    def keep(
        self,
        number: int,
        floor: int,
        last: int,
        rows: Sequence[EventRow],
        edited: Sequence[EventRow],
    ) -> Kept:
        """rows: all of the dialog with floor < seq <= last, by seq. edited: the
        messages that edits among them are about."""
        self.forget([number])
        if self._count + len(rows) > self._events_max:
            self._kept.clear()
            self._count = 0
        is_fixed = not any(row.expires_ms for row in (*rows, *edited))
        states = {row.seq: state_of_row(row) for row in edited}
        kept = self._kept[number] = Kept(floor, last, rows, states, is_fixed, {})
        self._count += len(rows)
        return kept

    def find(self, number: int, floor: int, last: int) -> Kept | None:
        """All with floor < seq <= last, and perhaps more."""
        kept = self._kept.get(number)
        if kept is None or floor < kept.floor or kept.last < last:
            return None
        return kept

    def forget(self, numbers: Iterable[int]) -> None:
        """What is kept of these dialogs may not be all any more."""
        for number in numbers:
            kept = self._kept.pop(number, None)
            if kept is not None:
                self._count -= len(kept.rows)
