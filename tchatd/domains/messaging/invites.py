"""Owns invite links: who has one may come in, so often, so long, or once approved.

A code is 16 bytes in base64url, computed with a secret key from a random seed in the
row, and looked up by its keyed hash: whoever reads the database has no code, and how
long a look-up takes says nothing about how close a guess was.

Joining takes a use first, then submits the record, then settles the use; see
`InviteStore` for what is done about a crash in between (`sweep`).
"""

from __future__ import annotations

import os
from base64 import urlsafe_b64encode
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Final

from msgspec import UNSET, Meta, Struct, UnsetType

from tchatd.domains.messaging.beside import InviteRow, InviteStore
from tchatd.domains.messaging.content import TO_THE_END
from tchatd.domains.messaging.dialog import DialogState
from tchatd.domains.messaging.errors import InviteNotFound, TooManyInvites
from tchatd.domains.messaging.joining import JoinAnswer, Joining, check_entry
from tchatd.domains.messaging.models import DialogType, Done, IdText
from tchatd.domains.messaging.settings import INVITE
from tchatd.domains.messaging.store import TYPES
from tchatd.kernel.clock import LAST_MS, Clock, moment_ms, rfc3339
from tchatd.kernel.crypto import KeyedHash
from tchatd.kernel.errors import DomainError, Invalid
from tchatd.kernel.ids import Ids
from tchatd.kernel.routing import Context

USES_MAX: Final = 100_000
CLAIM_S: Final = 60
"""Who has not joined so long after taking a use is not going to."""
EXPIRED_KEPT_S: Final = 7 * 86_400
SEED_BYTES: Final = 16
CODE_BYTES: Final = 16
_SWEEP_MAX: Final = 100

Code = Annotated[str, Meta(min_length=1, max_length=64)]


class CreateInvite(Struct, frozen=True, kw_only=True):
    """title: for the admins' own list. Absent: never expires, any number of uses."""

    dialog_id: IdText
    expires_at: Annotated[datetime, Meta(tz=True)] | UnsetType = UNSET
    uses_max: Annotated[int, Meta(ge=1, le=USES_MAX)] | UnsetType = UNSET
    needs_approval: bool = False
    title: Annotated[
        str,
        Meta(
            max_length=100,
            pattern=r"^[^\x00-\x1f\x7f]*$" + TO_THE_END,
            description="text without control characters",
        ),
    ] = ""


class ListInvites(Struct, frozen=True):
    dialog_id: IdText


class RevokeInvite(Struct, frozen=True):
    dialog_id: IdText
    code: Code


class GetInvite(Struct, frozen=True):
    code: Code


class JoinByInvite(Struct, frozen=True):
    code: Code


class Invite(Struct, frozen=True, gc=False):
    """uses: who came by it, and who waits to be let in."""

    code: str
    dialog_id: str
    created_by: str
    created_at: str
    uses: int
    needs_approval: bool
    title: str
    uses_max: int | UnsetType = UNSET
    expires_at: str | UnsetType = UNSET


class InviteList(Struct, frozen=True):
    """The latest first."""

    invites: list[Invite]


class InvitePreview(Struct, frozen=True, gc=False):
    """What somebody sees before they join. dialog_id: if they are in already."""

    type: DialogType
    member_count: int
    needs_approval: bool
    is_member: bool
    name: str | UnsetType = UNSET
    avatar: str | UnsetType = UNSET
    description: str = ""
    dialog_id: str | UnsetType = UNSET


class Invites:
    def __init__(
        self,
        joining: Joining,
        store: InviteStore,
        key: KeyedHash,
        clock: Clock,
        ids: Ids,
        random: Callable[[int], bytes] = os.urandom,
        invites_max: int = 100,
    ) -> None:
        """invites_max: of one dialog that have not expired."""
        self._joining = joining
        self._store = store
        self._key = key
        self._clock = clock
        self._ids = ids
        self._random = random
        self._invites_max = invites_max

    # For who may invite

    async def create(self, context: Context, command: CreateInvite) -> Invite:
        caller, now_ms = context.user, self._clock.now_ms()
        expires_ms = 0
        if command.expires_at is not UNSET:
            expires_ms = moment_ms(command.expires_at)
            if expires_ms <= now_ms:
                raise Invalid(fields={"expires_at": "is not in the future"})
        dialog = await self._joining.allowed(
            caller.user_number, command.dialog_id, INVITE
        )
        seed = self._random(SEED_BYTES)
        row = InviteRow(
            self._hash(self._code(seed)),
            seed,
            dialog.number,
            caller.user_number,
            caller.user_id,
            now_ms,
            expires_ms,
            0 if command.uses_max is UNSET else command.uses_max,
            command.needs_approval,
            command.title,
        )
        id = dialog.id
        if not await self._store.create(row, now_ms, self._invites_max):
            raise TooManyInvites(f"A dialog has at most {self._invites_max} invites.")
        return self._shown(row, id)

    async def list(self, context: Context, command: ListInvites) -> InviteList:
        user = context.user.user_number
        dialog = await self._joining.allowed(user, command.dialog_id, INVITE)
        number, id = dialog.number, dialog.id
        rows = await self._store.invites_of(number)
        return InviteList([self._shown(row, id) for row in rows])

    async def revoke(self, context: Context, command: RevokeInvite) -> Done:
        """Nobody comes by it from now on; who waits to be let in goes on waiting."""
        user = context.user.user_number
        dialog = await self._joining.allowed(user, command.dialog_id, INVITE)
        if not await self._store.revoke(dialog.number, self._hash(command.code)):
            raise InviteNotFound
        return Done()

    # For who has a link

    async def preview(self, context: Context, command: GetInvite) -> InvitePreview:
        row, dialog = await self._open(command.code)
        is_member = context.user.user_number in dialog.members
        seen = InvitePreview(
            TYPES[dialog.type],
            len(dialog.members),
            row.needs_approval or dialog.settings.needs_approval,
            is_member,
            UNSET if dialog.name is None else dialog.name,
            UNSET if dialog.avatar is None else dialog.avatar,
            dialog.settings.description,
            dialog.id if is_member else UNSET,
        )
        await self._joining.durable(dialog)
        return seen

    async def join(self, context: Context, command: JoinByInvite) -> Any:
        """A JoinAnswer: with the dialog, or 202 while an admin has to decide.

        Raises:
            InviteNotFound, Banned, TooManyMembers, TooManyRequests, Unavailable
        """
        user = context.user.user_number
        row, dialog = await self._open(command.code, is_joining=True)
        number = dialog.number
        if user not in dialog.members:
            check_entry(dialog, user)
            if row.needs_approval or dialog.settings.needs_approval:
                return await self._joining.ask(context, number, row.code_hash)
            return await self._join(context, row)
        view, _ = await self._joining.join(context, number)
        return JoinAnswer("joined", view)

    async def _join(self, context: Context, row: InviteRow) -> JoinAnswer:
        claim = await self._store.claim(
            row.code_hash,
            context.user.user_number,
            self._ids.v7(),
            self._clock.now_ms(),
        )
        if claim is None:
            raise InviteNotFound
        try:
            view, came = await self._joining.join(context, row.dialog_number)
        except DomainError:
            await self._store.give_back(claim)
            raise
        if came or not claim.is_new:
            await self._store.settle(claim)
        else:  # they came by another way meanwhile
            await self._store.give_back(claim)
        return JoinAnswer("joined", view)

    # In the background

    async def sweep(self) -> int:
        """Decide what became of uses that were neither settled nor given back, of
        those taken a minute ago or longer; how many there were."""
        taken_ms = self._clock.now_ms() - 1_000 * CLAIM_S
        claims = await self._store.claims_before(taken_ms, _SWEEP_MAX)
        for claim in claims:
            dialog = await self._joining.open(claim.dialog_number)
            if dialog is not None and claim.user_number in dialog.members:
                await self._store.settle(claim)
            else:
                await self._store.give_back(claim)
        return len(claims)

    async def prune(self) -> int:
        before_ms = self._clock.now_ms() - 1_000 * EXPIRED_KEPT_S
        return await self._store.prune_invites(before_ms, _SWEEP_MAX)

    async def _open(
        self, code: str, *, is_joining: bool = False
    ) -> tuple[InviteRow, DialogState]:
        """The dialog until the next await. is_joining: its uses are counted later.

        Raises InviteNotFound: whatever is wrong with it.
        """
        row = await self._store.invite(self._hash(code))
        now_ms = self._clock.now_ms()
        if row is None or not (
            row.is_in_time(now_ms) if is_joining else row.is_open(now_ms)
        ):
            raise InviteNotFound
        dialog = await self._joining.open(row.dialog_number)
        if dialog is None:
            raise InviteNotFound
        return row, dialog

    def _code(self, seed: bytes) -> str:
        digest = self._key.digest(b"code", seed)[:CODE_BYTES]
        return urlsafe_b64encode(digest).rstrip(b"=").decode()

    def _hash(self, code: str) -> bytes:
        return self._key.digest(b"look-up", code.encode(errors="replace"))

    def _shown(self, row: InviteRow, dialog_id: str) -> Invite:
        return Invite(
            self._code(row.seed),
            dialog_id,
            str(row.creator_id),
            rfc3339(row.created_ms),
            row.uses,
            row.needs_approval,
            row.title,
            row.uses_max or UNSET,
            rfc3339(min(row.expires_ms, LAST_MS)) if row.expires_ms else UNSET,
        )
