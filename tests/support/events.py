"""Owns drafts of events for tests."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

from tchatd.kernel.events import EventDraft

NOW: int = 1_800_000_000_000
A, B, C = UUID(int=0xA), UUID(int=0xB), UUID(int=0xC)


def draft(aggregate_id: UUID = A, version: int = 1, **changes: Any) -> EventDraft:
    fields: dict[str, Any] = {
        "id": uuid4(),
        "aggregate_id": aggregate_id,
        "domain": "payment",
        "type": "transaction.completed",
        "version": version,
        "data": b'{"amount":%d}' % version,
        "created_ms": NOW,
    }
    return EventDraft(**fields | changes)


def drafts_of(aggregate_id: UUID = A, **changes: Any) -> Iterator[EventDraft]:
    """One version after the other."""
    return (draft(aggregate_id, n, **changes) for n in itertools.count(1))
