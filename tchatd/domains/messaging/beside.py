"""Owns the ports to what is kept beside the journal: invites, names, schedules, shops.

These are plain rows. What they come to in a dialog is a record of the journal, so two
things have to agree that no transaction spans. Each port says in which order they are
changed, and how a crash in between is found and set right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol
from uuid import UUID

from msgspec import Struct, structs


class InviteRow(Struct, frozen=True, gc=False):
    """See the migration. expires_ms, uses_max: 0 for never and any number.

    uses: who came by it, who is coming (claims), who waits to be let in (requests).
    """

    code_hash: bytes
    seed: bytes
    dialog_number: int
    creator: int
    creator_id: UUID
    created_ms: int
    expires_ms: int
    uses_max: int
    needs_approval: bool
    title: str
    uses: int = 0

    def is_in_time(self, now_ms: int) -> bool:
        return self.expires_ms == 0 or now_ms < self.expires_ms

    def is_open(self, now_ms: int) -> bool:
        has_uses = self.uses_max == 0 or self.uses < self.uses_max
        return has_uses and self.is_in_time(now_ms)


class Claim(Struct, frozen=True, gc=False):
    """A use taken for somebody who is about to join.

    token: of whoever took it last. is_new: the use was counted for this one; else it
    took over one that was there, such as after a crash.
    """

    code_hash: bytes
    user_number: int
    token: UUID
    is_new: bool = True
    dialog_number: int = 0


class JoinRequestRow(Struct, frozen=True, gc=False):
    """code_hash: of the invite a use of which is theirs; None: came by public name."""

    dialog_number: int
    user_number: int
    user_id: UUID
    asked_ms: int
    code_hash: bytes | None = None


class InviteStore(Protocol):
    """Uses are counted in the transaction that takes them, so never above uses_max.

    Joining: claim, record, settle. A crash in between leaves a claim, which is found
    (`claims_before`): whoever is in by then keeps the use, else it is given back.
    A request holds its use from the begin; approving is record, then `decide`.
    """

    async def create(self, row: InviteRow, now_ms: int, invites_max: int) -> bool:
        """False if the dialog has so many that have not expired."""
        ...

    async def invite(self, code_hash: bytes) -> InviteRow | None: ...

    async def invites_of(self, dialog_number: int) -> list[InviteRow]:
        """The latest first."""
        ...

    async def revoke(self, dialog_number: int, code_hash: bytes) -> bool: ...

    async def claim(
        self, code_hash: bytes, user_number: int, token: UUID, now_ms: int
    ) -> Claim | None:
        """Take a use; one that was taken for the same user is taken over.

        None: there is no such invite, or it is not open.
        """
        ...

    async def settle(self, claim: Claim) -> None:
        """They are in: the use stays. Nothing happens if it was settled."""
        ...

    async def give_back(self, claim: Claim) -> None:
        """They are not in: unless somebody took it over, the use is free again."""
        ...

    async def claims_before(self, taken_ms: int, limit: int) -> list[Claim]:
        """With their dialog numbers, the oldest first."""
        ...

    async def request(
        self, row: JoinRequestRow, now_ms: int, requests_max: int
    ) -> bool | None:
        """Ask to be let in, taking a use of the invite; True if it is new.

        None: too many ask already, or the invite is not open.
        """
        ...

    async def requested(
        self, dialog_number: int, user_number: int
    ) -> JoinRequestRow | None: ...

    async def requests_of(
        self, dialog_number: int, limit: int, after: tuple[int, UUID] | None = None
    ) -> tuple[list[JoinRequestRow], int]:
        """The oldest, and how many there are in all. after: asked_ms and user_id;
        they are in this order."""
        ...

    async def decide(
        self, dialog_number: int, user_number: int, *, approved: bool
    ) -> bool:
        """Forget the request; denied, it gives its use back. False: there is none."""
        ...

    async def forget_dialog(self, dialog_number: int) -> None:
        """It was deleted: nobody comes in any more, by whatever way."""
        ...

    async def prune_invites(self, expired_before_ms: int, limit: int) -> int: ...


class NameRow(Struct, frozen=True, gc=False):
    name: str
    dialog_number: int
    claimed_ms: int
    free_ms: int = 0
    is_settled: bool = False


class NameStore(Protocol):
    """Public names; the row decides who has one, the dialog's settings repeat it.

    Naming: claim, record, settle. A crash in between leaves a name that is not settled,
    which is found (`unsettled`) and, unless the dialog says it, given up.
    """

    async def claim_name(
        self, name: str, dialog_number: int, now_ms: int
    ) -> NameRow | None:
        """Take a free name, or one's own again; else None."""
        ...

    async def name(self, name: str) -> NameRow | None: ...

    async def names_held(self, dialog_number: int, but: str, now_ms: int) -> int:
        """How many names are the dialog's or held back for it, but for that one."""
        ...

    async def settle_name(self, name: str, dialog_number: int, free_ms: int) -> None:
        """The dialog is called so now, also if it gave the name up meanwhile; what else
        it had is held back until free_ms."""
        ...

    async def give_up_names(
        self, dialog_number: int, free_ms: int, name: str | None = None
    ) -> None:
        """Hold back the name, or all of the dialog's, until free_ms."""
        ...

    async def unsettled_names(
        self, claimed_before_ms: int, limit: int
    ) -> list[NameRow]: ...

    async def prune_names(self, free_before_ms: int, limit: int) -> int: ...


class ScheduledRow(Struct, frozen=True, gc=False):
    """message: JSON of what is sent. failed: why it was given up, an error's code.

    is_claimed: it may have been sent, so it cannot be changed any more.
    """

    id: UUID
    author: int
    author_id: UUID
    dialog_id: UUID
    send_at_ms: int
    message: str
    tries: int = 0
    is_claimed: bool = False
    failed: str | None = None


class ScheduleStore(Protocol):
    """Sending: claim, record, `sent`. A crash in between leaves a claimed row, which
    is due again after its lease and is sent with the same client_id, its own id."""

    async def schedule(self, row: ScheduledRow, per_user_max: int) -> bool:
        """False if the author has so many."""
        ...

    async def scheduled(self, id: UUID) -> ScheduledRow | None: ...

    async def scheduled_of(
        self, author: int, dialog_id: UUID, limit: int
    ) -> list[ScheduledRow]:
        """The author's of this dialog, the next first."""
        ...

    async def reschedule(self, id: UUID, send_at_ms: int, message: str) -> bool:
        """As if new, also one that had failed. False: it is gone, or claimed."""
        ...

    async def unschedule(self, id: UUID) -> bool:
        """False: it is gone, or claimed."""
        ...

    async def claim_due(
        self, now_ms: int, lease_until_ms: int, limit: int
    ) -> list[ScheduledRow]:
        """Those that are due, the oldest first; nobody else gets them until then."""
        ...

    async def next_due_ms(self) -> int | None: ...

    async def sent(self, ids: Sequence[UUID]) -> None:
        """Forget them."""
        ...

    async def postpone(self, id: UUID, due_ms: int, *, is_claimed: bool) -> None:
        """Try again then. is_claimed: whether it may have been sent."""
        ...

    async def fail(self, id: UUID, code: str, now_ms: int) -> None: ...

    async def prune_failed(self, before_ms: int, limit: int) -> int: ...


class BusinessRow(Struct, frozen=True, gc=False):
    """profile: JSON. version: goes up with each change; agents_version: the version
    that changed who its agents are."""

    user_number: int
    user_id: UUID
    version: int
    agents_version: int
    profile: str


class BusinessDialogRow(Struct, frozen=True, gc=False):
    """greeted_seq: of the message that began the conversation, 0 before the first.
    closed_seq: of the event that closed it; 0 while it is open. away_ms, away_seq: of
    the latest message that was answered by an away reply."""

    dialog_number: int
    business: int
    customer: int
    agents_version: int = 0
    greeted_seq: int = 0
    closed_seq: int = 0
    away_ms: int = 0
    away_seq: int = 0


REOPEN: Final = 1
GREETING: Final = 2
AWAY: Final = 3


class ReplyRow(Struct, frozen=True, gc=False):
    """What was decided to be done about a message. at_ms: of the message."""

    dialog_number: int
    seq: int
    kind: int
    at_ms: int


class BusinessStore(Protocol):
    """Replying: decide (`react`), record, `replied`. A crash in between leaves the
    decision, which is carried out later with the same client_id. A message may be
    reacted to again: what was decided about it is decided again, and nothing else.
    """

    async def business(self, user_number: int) -> BusinessRow | None: ...

    async def put_business(self, row: BusinessRow) -> bool:
        """False: its version is not the next after the one that is there."""
        ...

    async def open_business_dialog(self, row: BusinessDialogRow) -> None:
        """Nothing happens if it is there."""
        ...

    async def business_dialog(self, dialog_number: int) -> BusinessDialogRow | None: ...

    async def close_conversation(self, dialog_number: int, seq: int) -> None:
        """seq: of the event that closed it; 0: it is open again."""
        ...

    async def react(
        self, row: ReplyRow, *, greets: bool, away_gap_ms: int | None
    ) -> tuple[BusinessDialogRow, list[ReplyRow]] | None:
        """Decide what is done about a customer's message, and keep it to be done.

        row: its dialog, seq and time. greets: the business has a greeting, which a
        conversation begins with. away_gap_ms: nobody is there, which is said at most so
        often; None: somebody is. Answers the dialog's row from then on; None: there is
        no such dialog.
        """
        ...

    async def replies(self, now_ms: int, limit: int) -> list[ReplyRow]:
        """Decided, not known to be done and due; the oldest first, behind them those
        that were put off."""
        ...

    async def put_off(self, dialog_number: int, due_ms: int) -> None:
        """Nothing is done in this dialog until then, so that its replies stay in their
        order; nor what is decided until the first of them is done."""
        ...

    async def next_reply_ms(self, now_ms: int) -> int | None:
        """When the next of those is due that are not yet; None: all are."""
        ...

    async def replied(self, row: ReplyRow) -> None:
        """It is done, or will never be."""
        ...

    async def behind(self, limit: int) -> list[BusinessDialogRow]:
        """Dialogs that do not follow their business's agents yet, in no order."""
        ...

    async def caught_up(self, dialog_number: int, agents_version: int) -> None: ...


def decide(
    dialog: BusinessDialogRow, row: ReplyRow, *, greets: bool, away_gap_ms: int | None
) -> tuple[BusinessDialogRow, list[ReplyRow]]:
    """The rule of `BusinessStore.react`, for its transaction."""
    kinds = []
    reopens = 0 < dialog.closed_seq < row.seq
    if reopens:
        kinds.append(REOPEN)
    if not dialog.greeted_seq or reopens or dialog.greeted_seq == row.seq:
        dialog = structs.replace(dialog, greeted_seq=row.seq, closed_seq=0)
        if greets:
            kinds.append(GREETING)
    if away_gap_ms is not None and (
        row.at_ms >= dialog.away_ms + away_gap_ms or row.seq == dialog.away_seq
    ):
        dialog = structs.replace(dialog, away_ms=row.at_ms, away_seq=row.seq)
        kinds.append(AWAY)
    return dialog, [structs.replace(row, kind=kind) for kind in kinds]
