"""Owns invites, uses of them and requests to join, in memory: the port's meaning."""

from __future__ import annotations

from uuid import UUID

from msgspec import structs

from tchatd.domains.messaging.beside import Claim, InviteRow, JoinRequestRow


class MemoryInviteStore:
    """Nothing here awaits, so that each call is one transaction."""

    def __init__(self) -> None:
        self._invites: dict[bytes, InviteRow] = {}
        self._claims: dict[tuple[bytes, int], tuple[Claim, int]] = {}
        self._requests: dict[tuple[int, int], JoinRequestRow] = {}

    async def create(self, row: InviteRow, now_ms: int, invites_max: int) -> bool:
        alive = [
            one
            for one in self._invites.values()
            if one.dialog_number == row.dialog_number and one.is_in_time(now_ms)
        ]
        if len(alive) >= invites_max:
            return False
        self._invites[row.code_hash] = row
        return True

    async def invite(self, code_hash: bytes) -> InviteRow | None:
        return self._invites.get(code_hash)

    async def invites_of(self, dialog_number: int) -> list[InviteRow]:
        rows = [
            row for row in self._invites.values() if row.dialog_number == dialog_number
        ]
        return sorted(rows, key=lambda row: (-row.created_ms, row.code_hash))

    async def revoke(self, dialog_number: int, code_hash: bytes) -> bool:
        row = self._invites.get(code_hash)
        if row is None or row.dialog_number != dialog_number:
            return False
        self._forget(code_hash)
        return True

    async def claim(
        self, code_hash: bytes, user_number: int, token: UUID, now_ms: int
    ) -> Claim | None:
        row = self._invites.get(code_hash)
        if row is None or not row.is_in_time(now_ms):
            return None
        key = code_hash, user_number
        is_new = key not in self._claims
        if is_new and not row.is_open(now_ms):
            return None
        if is_new:
            self._use(code_hash, 1)
        claim = Claim(code_hash, user_number, token, is_new, row.dialog_number)
        self._claims[key] = claim, now_ms
        return claim

    async def settle(self, claim: Claim) -> None:
        self._claims.pop((claim.code_hash, claim.user_number), None)

    async def give_back(self, claim: Claim) -> None:
        key = claim.code_hash, claim.user_number
        held = self._claims.get(key)
        if held is not None and held[0].token == claim.token:
            del self._claims[key]
            self._use(claim.code_hash, -1)

    async def claims_before(self, taken_ms: int, limit: int) -> list[Claim]:
        old = [(at, claim) for claim, at in self._claims.values() if at < taken_ms]
        old.sort(key=lambda one: one[0])
        return [claim for _, claim in old[:limit]]

    async def request(
        self, row: JoinRequestRow, now_ms: int, requests_max: int
    ) -> bool | None:
        key = row.dialog_number, row.user_number
        if key in self._requests:
            return False
        if sum(number == key[0] for number, _ in self._requests) >= requests_max:
            return None
        if row.code_hash is not None:
            invite = self._invites.get(row.code_hash)
            if invite is None or not invite.is_open(now_ms):
                return None
            self._use(row.code_hash, 1)
        self._requests[key] = row
        return True

    async def requested(
        self, dialog_number: int, user_number: int
    ) -> JoinRequestRow | None:
        return self._requests.get((dialog_number, user_number))

    async def requests_of(
        self, dialog_number: int, limit: int, after: tuple[int, UUID] | None = None
    ) -> tuple[list[JoinRequestRow], int]:
        rows = [
            row for row in self._requests.values() if row.dialog_number == dialog_number
        ]
        total = len(rows)
        if after is not None:
            rows = [row for row in rows if (row.asked_ms, row.user_id) > after]
        rows.sort(key=lambda row: (row.asked_ms, row.user_id))
        return rows[:limit], total

    async def decide(
        self, dialog_number: int, user_number: int, *, approved: bool
    ) -> bool:
        row = self._requests.pop((dialog_number, user_number), None)
        if row is None:
            return False
        if row.code_hash is not None and not approved:
            self._use(row.code_hash, -1)
        return True

    async def forget_dialog(self, dialog_number: int) -> None:
        for row in await self.invites_of(dialog_number):
            self._forget(row.code_hash)
        for key in [key for key in self._requests if key[0] == dialog_number]:
            del self._requests[key]

    async def prune_invites(self, expired_before_ms: int, limit: int) -> int:
        old = [
            row.code_hash
            for row in self._invites.values()
            if 0 < row.expires_ms < expired_before_ms
        ]
        for code_hash in old[:limit]:
            self._forget(code_hash)
        return min(len(old), limit)

    def _use(self, code_hash: bytes, count: int) -> None:
        row = self._invites.get(code_hash)
        if row is not None:
            uses = row.uses + count
            assert uses >= 0
            self._invites[code_hash] = structs.replace(row, uses=uses)

    def _forget(self, code_hash: bytes) -> None:
        del self._invites[code_hash]
        for key in [key for key in self._claims if key[0] == code_hash]:
            del self._claims[key]
