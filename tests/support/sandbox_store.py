"""Owns what every `SandboxStore` has to do; run over memory and PostgreSQL.

The fixture `store` gives an empty one.
"""

from __future__ import annotations

from typing import Any

import pytest
import trio
from msgspec import structs

from tchatd.domains.payment.providers import Method
from tchatd.domains.payment.sandbox import EntryState, SandboxEntry, SandboxStore
from tchatd.kernel.money import Currency

NOW = 1_800_000_000_000


def entry(id: str = "sbx_1", **changes: Any) -> SandboxEntry:
    values: dict[str, Any] = {
        "id": id,
        "kind": "charge",
        "key": f"key of {id}",
        "amount_minor": 10_050,
        "currency": Currency.THB,
        "country": "TH",
        "method": Method.PROMPTPAY,
        "state": "pending",
        "created_at_ms": NOW,
        "updated_at_ms": NOW,
        "expires_at_ms": NOW + 900_000,
        "description": "Top-up",
        "return_url": "https://app.example/back",
    }
    return SandboxEntry(**(values | changes))


def refund(id: str, of: str = "sbx_1", **changes: Any) -> SandboxEntry:
    values = {"kind": "refund", "state": "paid", "of": of, "amount_minor": 4_000}
    return entry(id, **(values | changes))


class SandboxStoreContract:
    async def test_an_entry_is_kept_as_it_was_made(self, store: SandboxStore) -> None:
        made = entry()
        assert await store.add(made) == made
        assert await store.entry("sbx_1") == made
        assert await store.by_key("charge", made.key) == made
        assert await store.by_key("payout", made.key) is None
        assert await store.entry("sbx_2") is None

    async def test_a_key_makes_one_entry_of_a_kind(self, store: SandboxStore) -> None:
        made = await store.add(entry())
        again = entry("sbx_2", key=made.key, amount_minor=1)
        assert await store.add(again) == made
        assert await store.entry("sbx_2") is None
        payout = entry("sbp_1", kind="payout", key=made.key, state="paid")
        assert await store.add(payout) == payout

    async def test_parallel_ones_with_a_key_find_one(self, store: SandboxStore) -> None:
        found: list[SandboxEntry] = []

        async def make(index: int) -> None:
            found.append(await store.add(entry(f"sbx_{index}", key="same")))

        async with trio.open_nursery() as nursery:
            for index in range(8):
                nursery.start_soon(make, index)
        assert len({made.id for made in found}) == 1

    @pytest.mark.parametrize("state", ["paid", "failed", "cancelled", "expired"])
    async def test_it_changes_once(
        self, store: SandboxStore, state: EntryState
    ) -> None:
        made = await store.add(entry())
        settled = await store.settle("sbx_1", state, NOW + 5)
        assert settled == structs.replace(made, state=state, updated_at_ms=NOW + 5)
        assert await store.settle("sbx_1", "paid", NOW + 6) is None
        assert await store.entry("sbx_1") == settled
        assert await store.settle("sbx_2", "paid", NOW) is None

    async def test_who_decides_first_decides(self, store: SandboxStore) -> None:
        await store.add(entry())
        decided: list[SandboxEntry | None] = []

        async def decide(state: EntryState) -> None:
            decided.append(await store.settle("sbx_1", state, NOW))

        async with trio.open_nursery() as nursery:
            states: tuple[EntryState, ...] = ("paid", "failed", "cancelled", "expired")
            for state in states:
                nursery.start_soon(decide, state)
        assert len([one for one in decided if one is not None]) == 1

    async def test_what_was_paid_is_given_back_and_no_more(
        self, store: SandboxStore
    ) -> None:
        await store.add(entry())
        assert await store.add_refund(refund("sbr_0")) is None
        await store.settle("sbx_1", "paid", NOW)
        first = await store.add_refund(refund("sbr_1"))
        assert first == refund("sbr_1")
        assert await store.add_refund(refund("sbr_9", key=refund("sbr_1").key)) == first
        assert await store.add_refund(refund("sbr_2", currency=Currency.USD)) is None
        assert await store.add_refund(refund("sbr_3", amount_minor=6_051)) is None
        assert await store.add_refund(refund("sbr_4", amount_minor=6_050)) is not None
        assert await store.refunded_minor("sbx_1") == 10_050
        assert await store.refunded_minor("sbx_2") == 0
        assert await store.add_refund(refund("sbr_5", of="sbx_2")) is None

    async def test_parallel_refunds_do_not_give_back_more(
        self, store: SandboxStore
    ) -> None:
        await store.add(entry())
        await store.settle("sbx_1", "paid", NOW)
        made: list[SandboxEntry | None] = []

        async def give(index: int) -> None:
            made.append(await store.add_refund(refund(f"sbr_{index}")))

        async with trio.open_nursery() as nursery:
            for index in range(6):
                nursery.start_soon(give, index)
        assert len([one for one in made if one is not None]) == 2
        assert await store.refunded_minor("sbx_1") == 8_000
