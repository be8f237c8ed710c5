"""Owns what every `BusinessStore` has to do; run over memory and over PostgreSQL."""

from __future__ import annotations

from uuid import UUID

import pytest
import trio
from msgspec import structs

from tchatd.domains.messaging.beside import (
    AWAY,
    GREETING,
    REOPEN,
    BusinessDialogRow,
    BusinessRow,
    BusinessStore,
    ReplyRow,
)

NOW, HOUR = 1_800_000_000_000, 3_600_000
SHOP = BusinessRow(5, UUID(int=5), 1, 1, '{"greeting":"สวัสดี"}')
DIALOG = BusinessDialogRow(1 << 41, 5, 9)


def message(seq: int, at_ms: int = NOW) -> ReplyRow:
    return ReplyRow(DIALOG.dialog_number, seq, 0, at_ms)


async def react(
    store: BusinessStore,
    seq: int,
    at_ms: int = NOW,
    *,
    greets: bool = True,
    away_gap_ms: int | None = None,
) -> list[int]:
    found = await store.react(
        message(seq, at_ms), greets=greets, away_gap_ms=away_gap_ms
    )
    assert found is not None
    assert found[0] == await store.business_dialog(DIALOG.dialog_number)
    return [row.kind for row in found[1]]


async def kept(store: BusinessStore) -> list[tuple[int, int]]:
    return [(row.seq, row.kind) for row in await store.replies(NOW, 99)]


class BusinessStoreContract:
    """Subclasses give a `store` fixture."""

    @pytest.fixture
    async def opened(self, store: BusinessStore) -> BusinessStore:
        await store.put_business(SHOP)
        await store.open_business_dialog(DIALOG)
        return store

    async def test_a_profile_is_changed_by_who_knows_the_latest(
        self, store: BusinessStore
    ) -> None:
        assert await store.business(5) is None
        assert await store.put_business(SHOP)
        assert not await store.put_business(SHOP)
        second = structs.replace(SHOP, version=2, agents_version=2, profile="{}")
        assert not await store.put_business(structs.replace(second, version=3))
        assert await store.put_business(second)
        assert not await store.put_business(second)
        assert await store.business(5) == second

    async def test_a_dialog_is_opened_once(self, opened: BusinessStore) -> None:
        await react(opened, 2)
        await opened.open_business_dialog(DIALOG)
        row = await opened.business_dialog(DIALOG.dialog_number)
        assert row == structs.replace(DIALOG, greeted_seq=2)
        assert await opened.business_dialog(7) is None
        assert await opened.react(
            ReplyRow(7, 1, 0, NOW), greets=True, away_gap_ms=None
        ) is (None)

    async def test_a_conversation_is_greeted_once(self, opened: BusinessStore) -> None:
        assert await react(opened, 2) == [GREETING]
        assert await react(opened, 3) == []
        assert await kept(opened) == [(2, GREETING)]

    async def test_without_a_greeting_a_conversation_begins_all_the_same(
        self, opened: BusinessStore
    ) -> None:
        assert await react(opened, 2, greets=False) == []
        assert await react(opened, 3) == []

    async def test_a_message_to_a_closed_conversation_opens_and_greets_it(
        self, opened: BusinessStore
    ) -> None:
        await react(opened, 2)
        await opened.close_conversation(DIALOG.dialog_number, 4)
        assert await react(opened, 3) == []
        assert await react(opened, 5) == [REOPEN, GREETING]
        assert await react(opened, 6) == []
        await opened.close_conversation(DIALOG.dialog_number, 7)
        await opened.close_conversation(DIALOG.dialog_number, 0)
        assert await react(opened, 8) == []

    async def test_that_nobody_is_there_is_said_now_and_then(
        self, opened: BusinessStore
    ) -> None:
        gap = 4 * HOUR
        seen = [
            await react(opened, 2 + hour, NOW + hour * HOUR, away_gap_ms=gap)
            for hour in range(9)
        ]
        assert [AWAY in kinds for kinds in seen] == [hour % 4 == 0 for hour in range(9)]

    async def test_reacting_again_decides_the_same(self, opened: BusinessStore) -> None:
        for _ in range(2):
            await opened.close_conversation(DIALOG.dialog_number, 2)
            first = await react(opened, 3, away_gap_ms=HOUR)
            assert first == [REOPEN, GREETING, AWAY]
            assert await react(opened, 4, NOW + 1, away_gap_ms=HOUR) == []
        assert await kept(opened) == [(3, REOPEN), (3, GREETING), (3, AWAY)]

    async def test_many_at_once_greet_once(self, opened: BusinessStore) -> None:
        async with trio.open_nursery() as nursery:
            for seq in range(2, 12):
                nursery.start_soon(react_only, opened, seq)
        assert len(await kept(opened)) == 1

    async def test_what_is_done_is_forgotten(self, opened: BusinessStore) -> None:
        await opened.close_conversation(DIALOG.dialog_number, 1)
        await react(opened, 2, away_gap_ms=HOUR)
        first = await opened.replies(NOW, 1)
        assert [row.kind for row in first] == [REOPEN]
        for _ in range(2):
            await opened.replied(first[0])
        assert await kept(opened) == [(2, GREETING), (2, AWAY)]

    async def test_what_is_put_off_stands_in_nobodys_way(
        self, opened: BusinessStore
    ) -> None:
        other = structs.replace(DIALOG, dialog_number=3)
        await opened.open_business_dialog(other)
        await react(opened, 2, away_gap_ms=HOUR)
        await opened.react(ReplyRow(3, 1, 0, NOW + 5), greets=True, away_gap_ms=None)
        first = DIALOG.dialog_number
        assert await opened.next_reply_ms(NOW) is None
        await opened.put_off(first, NOW + 9)
        assert await opened.next_reply_ms(NOW) == NOW + 9
        assert [row.dialog_number for row in await opened.replies(NOW, 1)] == [3]
        # What is decided meanwhile waits, too, to be said in its order.
        await opened.close_conversation(first, 3)
        await react(opened, 4)
        assert await kept(opened) == [(1, GREETING)]
        due = await opened.replies(NOW + 9, 99)
        assert [(row.dialog_number, row.seq, row.kind) for row in due] == [
            *((3, 1, GREETING), (first, 2, GREETING), (first, 2, AWAY)),
            *((first, 4, REOPEN), (first, 4, GREETING)),
        ]
        for row in due:
            await opened.replied(row)
        await react(opened, 5, NOW + HOUR, away_gap_ms=HOUR)
        assert await kept(opened) == [(5, AWAY)]

    async def test_messages_of_the_same_time_get_one_away_reply(
        self, opened: BusinessStore
    ) -> None:
        """Of one millisecond, or while the clock is set back."""
        for seq in (2, 3, 4):
            await react(opened, seq, away_gap_ms=HOUR)
        for _ in range(2):
            await react(opened, 2, away_gap_ms=HOUR)
        await react(opened, 5, NOW - 7, away_gap_ms=HOUR)
        assert await kept(opened) == [(2, GREETING), (2, AWAY)]

    async def test_dialogs_follow_the_agents_of_their_business(
        self, opened: BusinessStore
    ) -> None:
        other = BusinessDialogRow(3, 6, 9)
        late = BusinessDialogRow(4, 5, 10, 1)
        for row in (other, late):
            await opened.open_business_dialog(row)
        assert await opened.behind(9) == [DIALOG]
        assert await opened.behind(9) == [DIALOG]
        await opened.caught_up(DIALOG.dialog_number, 1)
        assert await opened.behind(9) == []
        changed = structs.replace(SHOP, version=2, agents_version=2)
        await opened.put_business(changed)
        behind = {row.dialog_number for row in await opened.behind(9)}
        assert behind == {4, 1 << 41}
        assert len(await opened.behind(1)) == 1
        for number in behind:
            await opened.caught_up(number, 2)
        assert await opened.behind(9) == []
        # A row that a crash had prevented; its dialog may lack agents.
        mended = BusinessDialogRow(5, 5, 11)
        await opened.open_business_dialog(mended)
        assert await opened.behind(9) == [mended]
        await opened.caught_up(5, 2)
        assert await opened.behind(9) == []


async def react_only(store: BusinessStore, seq: int) -> None:
    await store.react(message(seq), greets=True, away_gap_ms=None)
