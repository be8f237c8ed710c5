"""Owns reports: what somebody saw and wants looked at, as it was when they saw it.

Who reports a thing must be able to see it. A reported message is copied, because it
can be edited or deleted before anybody looks; the copy is sealed under the key of who
wrote it, the comment under the key of who reported.
"""

from __future__ import annotations

from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from tchatd.domains.moderation.errors import OwnThing, UserNotFound
from tchatd.domains.moderation.models import (
    FILTERED,
    NewReport,
    ReportDialog,
    Reported,
    ReportMessage,
    ReportRecord,
    ReportUser,
    Thing,
)
from tchatd.domains.moderation.store import Conversations, ModerationStore, People
from tchatd.kernel.clock import Clock, rfc3339
from tchatd.kernel.errors import NotForBots
from tchatd.kernel.routing import Context

EVIDENCE_BYTES_MAX = 65_536
"""A message is smaller; of anything larger the head is kept."""
_encode = msgspec.json.Encoder().encode


class Reports:
    def __init__(
        self,
        store: ModerationStore,
        conversations: Conversations,
        people: People,
        clock: Clock,
    ) -> None:
        self._store = store
        self._conversations = conversations
        self._people = people
        self._clock = clock

    async def report_message(
        self, context: Context, command: ReportMessage
    ) -> Reported:
        """Raises: NotForBots, OwnThing, Unavailable, and what messaging refuses it
        with."""
        reporter = self._reporter(context)
        seen = await self._conversations.seen_message(reporter, command.message_id)
        return await self._keep(
            reporter,
            "message",
            command.message_id,
            dialog_id=seen.dialog_id,
            accused=seen.sender,
            reason=command.reason,
            comment=command.comment,
            evidence=_encode(seen.message),
        )

    async def report_user(self, context: Context, command: ReportUser) -> Reported:
        """Raises: NotForBots, UserNotFound, OwnThing, Unavailable."""
        reporter = self._reporter(context)
        number = await self._people.number_of(command.user_id)
        if number is None:
            raise UserNotFound
        return await self._keep(
            reporter,
            "user",
            command.user_id,
            accused=number,
            reason=command.reason,
            comment=command.comment,
        )

    async def report_dialog(self, context: Context, command: ReportDialog) -> Reported:
        """Raises: NotForBots, Unavailable, and what messaging refuses the dialog
        with."""
        reporter = self._reporter(context)
        seen = await self._conversations.seen_dialog(reporter, command.dialog_id)
        return await self._keep(
            reporter,
            "dialog",
            seen.id,
            dialog_id=seen.id,
            accused=seen.creator,
            reason=command.reason,
            comment=command.comment,
            evidence=_encode(seen.summary),
        )

    def _reporter(self, context: Context) -> int:
        """Raises: NotForBots."""
        number = context.user.user_number
        if self._people.is_bot(number):
            raise NotForBots
        return number

    async def flag(
        self, message_id: UUID, dialog_id: UUID | None, sender: int, message: object
    ) -> None:
        """A filter of ours reports a message. Raises: Unavailable."""
        await self._keep(
            0,
            "message",
            message_id,
            dialog_id=dialog_id,
            accused=sender,
            reason=FILTERED,
            evidence=_encode(message),
        )

    async def _keep(
        self,
        reporter: int,
        thing: Thing,
        thing_id: UUID,
        *,
        accused: int,
        reason: str,
        dialog_id: UUID | None = None,
        comment: str | UnsetType = UNSET,
        evidence: bytes | None = None,
    ) -> Reported:
        if reporter and accused == reporter and thing != "dialog":
            raise OwnThing
        now_ms = self._clock.now_ms()
        bound = context_of(thing, thing_id)
        sealed_comment = sealed_evidence = None
        if comment is not UNSET:
            sealed_comment = await self._people.seal(reporter, comment.encode(), bound)
        if evidence is not None and accused:
            sealed_evidence = await self._people.seal(
                accused, evidence[:EVIDENCE_BYTES_MAX], bound
            )
        await self._store.report(
            NewReport(
                thing=thing,
                thing_id=thing_id,
                dialog_id=dialog_id,
                reporter=reporter,
                accused=accused,
                reason=reason,
                comment=sealed_comment,
                evidence=sealed_evidence,
                now_ms=now_ms,
            )
        )
        return Reported(reported_at=rfc3339(now_ms))

    # For operators

    async def opened(self, report: ReportRecord) -> tuple[str | None, str | None]:
        """The comment and the evidence; None where there is none, or no more."""
        bound = context_of(report.thing, report.thing_id)
        comment = evidence = None
        if report.comment is not None:
            comment = await self._people.open(report.reporter, report.comment, bound)
        if report.evidence is not None:
            evidence = await self._people.open(report.accused, report.evidence, bound)
        return _text(comment), _text(evidence)


def context_of(thing: Thing, thing_id: UUID) -> bytes:
    return b"report/" + thing.encode() + b"/" + thing_id.bytes


def _text(plain: bytes | None) -> str | None:
    return None if plain is None else plain.decode("utf-8", "replace")
