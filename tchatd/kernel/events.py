"""Owns what an event is: what happened to one aggregate, as whoever owns it writes it
down (`EventDraft`), as it is read (`Event`), and who reads it (`Subscriber`).

How events are kept and handed on: `tchatd.events`; for authors: docs/events.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, Protocol
from uuid import UUID

from msgspec import Struct

DATA_BYTES_MAX: Final = 65_536
NAME_CHARS_MAX: Final = 100
"""Of domains, types and subscribers."""
NO_TYPES: Final[frozenset[str]] = frozenset()


class EventMetadata(Struct, frozen=True, omit_defaults=True):
    """actor: who did it; None: we ourselves. request_id: of the request that it came
    from. causation: of the event that it follows from. region: where it happened."""

    actor: UUID | None = None
    request_id: str | None = None
    causation: UUID | None = None
    region: str | None = None


NO_METADATA: Final = EventMetadata()


class EventDraft(Struct, frozen=True, kw_only=True):
    """What is written in the transaction of the change itself.

    id: a UUIDv7. domain: the topic, as `payment`. type: what happened, in the past, as
    `transaction.completed`. version: of the aggregate, dense from 1; who writes holds
    the lock on the aggregate's row, and takes the version from it. data: a JSON object.
    """

    id: UUID
    aggregate_id: UUID
    domain: str
    type: str
    version: int
    data: bytes
    created_ms: int
    metadata: EventMetadata = NO_METADATA

    def __post_init__(self) -> None:
        assert self.version >= 1
        assert 0 < len(self.domain) <= NAME_CHARS_MAX
        assert "." in self.type
        assert len(self.type) <= NAME_CHARS_MAX
        assert self.data[:1] == b"{", "data is a JSON object"
        assert len(self.data) <= DATA_BYTES_MAX


class Event(Struct, frozen=True, kw_only=True):
    """A draft that is in the log. position: rises with the versions of an aggregate; of
    all events it rises, too, but with gaps, and says nothing of time."""

    position: int
    id: UUID
    aggregate_id: UUID
    domain: str
    type: str
    version: int
    data: bytes
    created_ms: int
    metadata: EventMetadata = NO_METADATA


class Subscriber(Protocol):
    """Gets events at least once, those of one aggregate in the order of their versions.

    domains: what it is told of; types: of these only; none: of all types. begins: with
    the oldest event that is kept or with the next one, when it is there for the first
    time; later it goes on where it was, under its name.
    """

    @property
    def name(self) -> str: ...

    @property
    def domains(self) -> frozenset[str]: ...

    @property
    def types(self) -> frozenset[str]: ...

    @property
    def begins(self) -> Literal["oldest", "latest"]: ...

    async def handle(self, events: Sequence[Event]) -> None:
        """Have the effect of all of them, in this order. Idempotent: the same events
        may come again, alone or with others, after any failure or crash.

        Raises:
            Unavailable: something it needs is away; the same events come again, for as
                long as it takes. Anything else: one of the events cannot be handled.
                It is tried again a few times by itself, then becomes a dead letter.
        """
        ...
