"""Owns what an operator decides, and that each decision is written down with it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Final
from uuid import UUID

from tchatd.domains.moderation.errors import ActionImpossible
from tchatd.domains.moderation.models import (
    Action,
    Decision,
    ReportRecord,
    Sanction,
    SanctionKind,
)
from tchatd.domains.moderation.standing import Standing
from tchatd.domains.moderation.store import Conversations, ModerationStore, People
from tchatd.kernel.clock import Clock
from tchatd.kernel.errors import DomainError

SIGNED_OUT_AT_ONCE: Final = 100


class Decisions:
    """Reason and who are free text, kept for ever; until_ms 0: until it is ended.

    Who is banned is refused everywhere from then on; that their sessions end, too, is
    done again until it was (`finish`). on_unfinished: it is to be called.
    """

    def __init__(
        self,
        store: ModerationStore,
        conversations: Conversations,
        people: People,
        standing: Standing,
        clock: Clock,
    ) -> None:
        self._store = store
        self._conversations = conversations
        self._people = people
        self._standing = standing
        self._clock = clock
        self._signed_in: set[int] = set()
        self.on_unfinished: Callable[[], None] = lambda: None

    def resume(self) -> None:
        """The process has started, and knows who is banned."""
        self._signed_in.update(self._standing.banned())

    async def finish(self) -> int | None:
        """Sign out some of the banned who may be signed in; when to go on, in ms, or
        None. Raises: Unavailable."""
        for number in list(islice(self._signed_in, SIGNED_OUT_AT_ONCE)):
            if self._standing.is_banned(number):
                await self._people.sign_out(number)
            self._signed_in.discard(number)
        return self._clock.now_ms() if self._signed_in else None

    async def sanction(
        self,
        user_number: int,
        user_id: UUID,
        kind: SanctionKind,
        *,
        who: str,
        reason: str,
        until_ms: int = 0,
    ) -> int:
        """Ban (sessions end at once) or silence; how many sessions ended.

        Raises: Unavailable; if it holds already, `finish` ends the sessions.
        """
        self._standing.check_room()
        sanction = Sanction(
            number=user_number,
            kind=kind,
            until_ms=until_ms,
            since_ms=self._clock.now_ms(),
            reason=reason,
        )
        decision = self._decision(kind, f"user {user_id}", who, reason)
        await self._store.put_sanction(sanction, decision)
        self._standing.add(sanction)
        if kind != "ban":
            return 0
        self._signed_in.add(user_number)
        try:
            ended = await self._people.sign_out(user_number)
        except DomainError:
            self.on_unfinished()
            raise
        self._signed_in.discard(user_number)
        return ended

    async def end_sanction(
        self,
        user_number: int,
        user_id: UUID,
        kind: SanctionKind,
        *,
        who: str,
        reason: str,
    ) -> bool:
        """False if there was none. Raises: Unavailable."""
        decision = self._decision(f"un{kind}", f"user {user_id}", who, reason)
        ended = await self._store.end_sanction(user_number, kind, decision)
        self._standing.end(user_number, kind)
        return ended

    async def set_tier(
        self, user_number: int, user_id: UUID, tier: int, *, who: str, reason: str
    ) -> bool:
        """How well somebody is known, 1 to 3, which decides what they may pay; False if
        they are no more. Whoever has their profile in memory is to forget it.

        Raises: Unavailable.
        """
        decision = self._decision(f"tier {tier}", f"user {user_id}", who, reason)
        return await self._store.put_tier(user_number, tier, decision)

    async def remove(self, message_id: UUID, *, who: str, reason: str) -> None:
        """Delete a message for everyone; members are told the reason.

        Noted first: a crash in between leaves a note too many, never one too few.

        Raises: NotFound, Unavailable.
        """
        decision = self._decision("remove", f"message {message_id}", who, reason)
        await self._store.note(decision)
        await self._conversations.remove_message(message_id, reason)

    async def resolve(
        self,
        report: ReportRecord,
        action: Action,
        *,
        who: str,
        reason: str,
        until_ms: int = 0,
    ) -> int:
        """Act on a report, then close it and every other one of the same thing.

        Raises: ActionImpossible, NotFound, Unavailable.
        """
        if action == "remove":
            if report.thing != "message":
                raise ActionImpossible("Only a message can be removed.")
            await self.remove(report.thing_id, who=who, reason=reason)
        elif action in ("ban", "silence"):
            if report.accused_id is None:
                raise ActionImpossible("There is nobody to be sanctioned any more.")
            await self.sanction(
                report.accused,
                report.accused_id,
                action,
                who=who,
                reason=reason,
                until_ms=until_ms,
            )
        what = f"{report.thing} {report.thing_id}"
        decision = self._decision(f"resolve: {action}", what, who, reason)
        return await self._store.resolve(
            report.thing, report.thing_id, action, decision
        )

    def _decision(self, action: str, thing: str, who: str, reason: str) -> Decision:
        return Decision(
            at_ms=self._clock.now_ms(),
            who=who,
            action=action,
            thing=thing,
            reason=reason,
        )
