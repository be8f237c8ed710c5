"""Owns what every `InviteStore` has to do; run over memory and over PostgreSQL."""

from __future__ import annotations

from uuid import UUID

import trio
from msgspec import structs

from tchatd.domains.messaging.beside import (
    Claim,
    InviteRow,
    InviteStore,
    JoinRequestRow,
)

NOW = 1_800_000_000_000
DIALOG, OTHER = 7, (1 << 42) + 7


def id_of(number: int) -> UUID:
    return UUID(int=(0x7000_8000 << 64) + number)


def invite(number: int = 1, dialog: int = DIALOG, **changes: object) -> InviteRow:
    row = InviteRow(
        bytes([number]) * 32,
        bytes([number]) * 16,
        dialog,
        1,
        id_of(1),
        NOW + number,
        0,
        0,
        False,
        "for everybody",
    )
    return structs.replace(row, **changes)


def request(user: int, at_ms: int = NOW, **changes: object) -> JoinRequestRow:
    row = JoinRequestRow(DIALOG, user, id_of(user), at_ms)
    return structs.replace(row, **changes)


async def uses(store: InviteStore, row: InviteRow) -> int:
    found = await store.invite(row.code_hash)
    assert found is not None
    return found.uses


class InviteStoreContract:
    """Subclasses give a `store` fixture."""

    async def test_an_invite_comes_back_as_it_was_made(
        self, store: InviteStore
    ) -> None:
        row = invite(expires_ms=NOW + 5, uses_max=3, needs_approval=True)
        assert await store.create(row, NOW, 9)
        assert await store.invite(row.code_hash) == row
        assert await store.invite(b"x" * 32) is None

    async def test_a_dialog_has_only_so_many_that_have_not_expired(
        self, store: InviteStore
    ) -> None:
        assert await store.create(invite(1, expires_ms=NOW + 5), NOW, 2)
        assert await store.create(invite(2), NOW, 2)
        assert not await store.create(invite(3), NOW, 2)
        assert await store.create(invite(4, OTHER), NOW, 2)
        assert await store.create(invite(3), NOW + 5, 2)
        listed = await store.invites_of(DIALOG)
        assert [row.code_hash[0] for row in listed] == [3, 2, 1]

    async def test_many_who_create_at_once_do_not_exceed_it(
        self, store: InviteStore
    ) -> None:
        made: list[bool] = []

        async def create(number: int) -> None:
            made.append(await store.create(invite(number), NOW, 3))

        async with trio.open_nursery() as nursery:
            for number in range(1, 9):
                nursery.start_soon(create, number)
        assert sum(made) == len(await store.invites_of(DIALOG)) == 3

    async def test_only_its_own_dialog_revokes_it(self, store: InviteStore) -> None:
        row = invite()
        await store.create(row, NOW, 9)
        await store.claim(row.code_hash, 5, id_of(1), NOW)
        assert not await store.revoke(OTHER, row.code_hash)
        assert await store.revoke(DIALOG, row.code_hash)
        assert not await store.revoke(DIALOG, row.code_hash)
        assert await store.claim(row.code_hash, 6, id_of(1), NOW) is None
        assert await store.claims_before(NOW + 1, 9) == []

    async def test_uses_never_exceed_their_most_however_many_come_at_once(
        self, store: InviteStore
    ) -> None:
        row = invite(uses_max=3)
        await store.create(row, NOW, 9)
        got: list[Claim | None] = []

        async def take(user: int) -> None:
            got.append(await store.claim(row.code_hash, user, id_of(user), NOW))

        async with trio.open_nursery() as nursery:
            for user in range(1, 11):
                nursery.start_soon(take, user)
        taken = [claim for claim in got if claim is not None]
        assert len(taken) == await uses(store, row) == 3
        await store.give_back(taken[0])
        await store.settle(taken[1])
        assert await uses(store, row) == 2
        assert await store.claim(row.code_hash, 99, id_of(99), NOW) is not None
        assert await store.claim(row.code_hash, 98, id_of(98), NOW) is None

    async def test_an_expired_one_has_no_use(self, store: InviteStore) -> None:
        row = invite(expires_ms=NOW + 5)
        await store.create(row, NOW, 9)
        assert await store.claim(row.code_hash, 1, id_of(1), NOW + 4) is not None
        assert await store.claim(row.code_hash, 2, id_of(2), NOW + 5) is None

    async def test_a_second_attempt_takes_over_the_use_of_the_first(
        self, store: InviteStore
    ) -> None:
        row = invite(uses_max=1)
        await store.create(row, NOW, 9)
        first = await store.claim(row.code_hash, 5, id_of(1), NOW)
        second = await store.claim(row.code_hash, 5, id_of(2), NOW + 1)
        assert first is not None
        assert second is not None
        assert (first.is_new, second.is_new) == (True, False)
        await store.give_back(first)
        assert await uses(store, row) == 1
        await store.give_back(second)
        await store.give_back(second)
        assert await uses(store, row) == 0

    async def test_a_settled_use_stays(self, store: InviteStore) -> None:
        row = invite(uses_max=2)
        await store.create(row, NOW, 9)
        claim = await store.claim(row.code_hash, 5, id_of(1), NOW)
        assert claim is not None
        for _ in range(2):
            await store.settle(claim)
        await store.give_back(claim)
        assert await uses(store, row) == 1
        assert await store.claims_before(NOW + 1, 9) == []

    async def test_unsettled_uses_are_found_the_oldest_first(
        self, store: InviteStore
    ) -> None:
        await store.create(invite(1), NOW, 9)
        await store.create(invite(2, OTHER), NOW, 9)
        for user, number in ((5, 1), (6, 2), (7, 1)):
            code_hash = bytes([number]) * 32
            await store.claim(code_hash, user, id_of(user), NOW + user)
        found = await store.claims_before(NOW + 7, 9)
        assert [(c.user_number, c.dialog_number) for c in found] == [
            (5, DIALOG),
            (6, OTHER),
        ]
        assert [c.user_number for c in await store.claims_before(NOW + 9, 1)] == [5]

    async def test_asking_again_changes_nothing(self, store: InviteStore) -> None:
        row = invite(uses_max=5)
        await store.create(row, NOW, 9)
        first = request(5, code_hash=row.code_hash)
        assert await store.request(first, NOW, 9) is True
        assert await store.request(request(5, NOW + 9), NOW, 9) is False
        assert await store.requested(DIALOG, 5) == first
        assert await store.requested(OTHER, 5) is None
        assert await uses(store, row) == 1

    async def test_a_denied_request_gives_its_use_back_an_approved_one_does_not(
        self, store: InviteStore
    ) -> None:
        row = invite(uses_max=2)
        await store.create(row, NOW, 9)
        for user in (5, 6):
            asked = request(user, code_hash=row.code_hash)
            assert await store.request(asked, NOW, 9) is True
        assert await store.request(request(7, code_hash=row.code_hash), NOW, 9) is None
        assert await store.decide(DIALOG, 5, approved=True)
        assert await store.decide(DIALOG, 6, approved=False)
        assert not await store.decide(DIALOG, 6, approved=False)
        assert await uses(store, row) == 1

    async def test_only_so_many_may_wait(self, store: InviteStore) -> None:
        asked: list[bool | None] = []

        async def ask(user: int) -> None:
            asked.append(await store.request(request(user, NOW + user), NOW, 3))

        async with trio.open_nursery() as nursery:
            for user in range(1, 9):
                nursery.start_soon(ask, user)
        assert (asked.count(True), asked.count(None)) == (3, 5)
        rows, total = await store.requests_of(DIALOG, 2)
        assert (len(rows), total) == (2, 3)
        assert rows[0].asked_ms < rows[1].asked_ms
        assert await store.requests_of(OTHER, 2) == ([], 0)

    async def test_who_waits_is_read_on_whoever_was_let_in_meanwhile(
        self, store: InviteStore
    ) -> None:
        for user in (5, 9, 7, 6, 8):  # two each at a time, but for the last
            await store.request(request(user, NOW + user // 2), NOW, 9)
        first, total = await store.requests_of(DIALOG, 2)
        assert ([row.user_number for row in first], total) == ([5, 6], 5)
        for user in (5, 6):
            await store.decide(DIALOG, user, approved=True)
        last = first[-1]
        after = last.asked_ms, last.user_id
        rows, total = await store.requests_of(DIALOG, 9, after)
        assert ([row.user_number for row in rows], total) == ([7, 8, 9], 3)
        after = rows[-1].asked_ms, rows[-1].user_id
        assert await store.requests_of(DIALOG, 9, after) == ([], 3)

    async def test_a_deleted_dialog_leaves_nothing_behind(
        self, store: InviteStore
    ) -> None:
        for number, dialog in ((1, DIALOG), (2, DIALOG), (3, OTHER)):
            await store.create(invite(number, dialog), NOW, 9)
        await store.claim(bytes([1]) * 32, 5, id_of(5), NOW)
        await store.request(request(6), NOW, 9)
        for _ in range(2):
            await store.forget_dialog(DIALOG)
            assert await store.invites_of(DIALOG) == []
            assert await store.requests_of(DIALOG, 9) == ([], 0)
            assert await store.claims_before(NOW + 1, 9) == []
        assert len(await store.invites_of(OTHER)) == 1

    async def test_old_ones_are_pruned_in_batches(self, store: InviteStore) -> None:
        for number in range(1, 6):
            await store.create(invite(number, expires_ms=NOW + number), NOW, 9)
        await store.create(invite(9), NOW, 9)
        assert await store.prune_invites(NOW + 5, 3) == 3
        assert await store.prune_invites(NOW + 5, 3) == 1
        assert [row.code_hash[0] for row in await store.invites_of(DIALOG)] == [9, 5]
