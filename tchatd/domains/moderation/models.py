"""Owns the shapes of reports, sanctions and decisions: on the wire, and as stored."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

Reason: TypeAlias = Literal[
    "spam",
    "fraud",
    "abuse",
    "hate",
    "violence",
    "sexual",
    "child_safety",
    "self_harm",
    "impersonation",
    "illegal",
    "other",
]
FILTERED: Final = "filter"
"""The reason of what a filter of ours reports."""
Comment: TypeAlias = Annotated[str, Meta(min_length=1, max_length=1_000)]
Thing: TypeAlias = Literal["message", "user", "dialog"]
SanctionKind: TypeAlias = Literal["ban", "silence"]
Action: TypeAlias = Literal["remove", "silence", "ban", "none"]
ACTIONS: Final[tuple[Action, ...]] = ("remove", "silence", "ban", "none")
IdText: TypeAlias = Annotated[
    str, Meta(min_length=36, max_length=36, extra_json_schema={"format": "uuid"})
]


class ReportMessage(Struct, frozen=True, kw_only=True):
    message_id: UUID
    reason: Reason
    comment: Comment | UnsetType = UNSET


class ReportUser(Struct, frozen=True, kw_only=True):
    user_id: UUID
    reason: Reason
    comment: Comment | UnsetType = UNSET


class ReportDialog(Struct, frozen=True, kw_only=True):
    dialog_id: IdText
    reason: Reason
    comment: Comment | UnsetType = UNSET


class Reported(Struct, frozen=True, kw_only=True):
    """It is kept, and somebody will look at it."""

    reported_at: str
    success: bool = True


# Records: what a store keeps.


class NewReport(Struct, frozen=True, kw_only=True):
    """reporter, accused: user numbers; 0: a filter of ours, nobody.

    comment, evidence: sealed under the data keys of reporter and accused.
    """

    thing: Thing
    thing_id: UUID
    dialog_id: UUID | None
    reporter: int
    accused: int
    reason: str
    comment: bytes | None
    evidence: bytes | None
    now_ms: int


class ReportRecord(Struct, frozen=True, kw_only=True):
    """reporter_id, accused_id: None when there is none, or no more."""

    number: int
    thing: Thing
    thing_id: UUID
    dialog_id: UUID | None
    reporter: int
    accused: int
    reason: str
    comment: bytes | None
    evidence: bytes | None
    created_ms: int
    updated_ms: int
    resolved_ms: int | None
    action: str | None
    reporter_id: UUID | None
    accused_id: UUID | None


class Sanction(Struct, frozen=True, kw_only=True):
    """until_ms: 0 until it is ended."""

    number: int
    kind: SanctionKind
    until_ms: int
    since_ms: int
    reason: str


class Decision(Struct, frozen=True, kw_only=True):
    """A line of the moderation log."""

    at_ms: int
    who: str
    action: str
    thing: str
    reason: str


class SeenMessage(Struct, frozen=True):
    """sender: user number. message: as the members see it."""

    dialog_id: UUID
    sender: int
    message: Any


class SeenDialog(Struct, frozen=True):
    """creator: user number. summary: what is told of it."""

    id: UUID
    creator: int
    summary: Any
