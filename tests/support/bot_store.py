"""Owns what every `BotStore` and `WebhookStore` has to do; run over memory and
PostgreSQL. The fixture `stores` gives both over one database with users 1 and 2."""

from __future__ import annotations

from typing import Any, TypeAlias
from uuid import UUID, uuid4

import msgspec
import pytest
import trio

from tchatd.domains.bots.errors import TooManyBots, UsernameTaken
from tchatd.domains.bots.models import (
    BotRecord,
    NewBot,
    OutgoingEvent,
    PendingEvent,
    WebhookRecord,
)
from tchatd.domains.bots.store import BotStore, WebhookStore

NOW = 1_800_000_000_000
Stores: TypeAlias = tuple[BotStore, WebhookStore]


def new_bot(username: str = "echo_bot", **changes: Any) -> NewBot:
    bot = NewBot(
        id=uuid4(),
        owner=1,
        name="Echo",
        username=username,
        token_hash=b"h" * 32,
        session_id=uuid4(),
        data_key=b"wrapped",
        data_key_id="m1",
        created_ms=NOW,
    )
    return msgspec.structs.replace(bot, **changes)


def hook(bot: BotRecord, **changes: Any) -> WebhookRecord:
    webhook = WebhookRecord(
        bot=bot.number,
        url="https://bot.example/hook",
        secret=b"sealed",
        events=("message.new", "button.pressed"),
        updated_ms=NOW,
    )
    return msgspec.structs.replace(webhook, **changes)


def event(bot: BotRecord, text: str = "a") -> OutgoingEvent:
    return OutgoingEvent(
        bot=bot.number, id=uuid4(), type="message.new", body=text, created_ms=NOW
    )


async def bodies(store: WebhookStore, bot: BotRecord) -> list[str]:
    return [event.body for event in await store.pending(bot.number, 100)]


async def first(store: WebhookStore, bot: BotRecord) -> PendingEvent:
    return (await store.pending(bot.number, 1))[0]


class BotStoreContract:
    async def test_a_bot_is_found_by_each_of_its_names(self, stores: Stores) -> None:
        bots, _ = stores
        new = new_bot()
        made = await bots.create_bot(new, 20)

        assert (made.id, made.name, made.username) == (new.id, "Echo", "echo_bot")
        assert made.owner == 1
        assert made.data_key == b"wrapped"
        assert await bots.bot(new.id) == made
        assert await bots.bot_numbered(made.number) == made
        assert await bots.bot_named("echo_bot") == made
        assert await bots.bots_of(1) == [made]
        assert await bots.owners() == [(made.number, 1)]
        assert await bots.bot(uuid4()) is None
        assert await bots.bot_named("other_bot") is None
        assert await bots.bots_of(2) == []

    async def test_a_username_is_taken_once_and_free_after_deletion(
        self, stores: Stores
    ) -> None:
        bots, _ = stores
        made = await bots.create_bot(new_bot(), 20)
        with pytest.raises(UsernameTaken):
            await bots.create_bot(new_bot(owner=2), 20)
        await bots.delete_bot(made.number, NOW)
        again = await bots.create_bot(new_bot(owner=2), 20)
        assert again.number != made.number

    async def test_an_owner_has_no_more_than_allowed_however_they_come(
        self, stores: Stores
    ) -> None:
        bots, _ = stores
        refused: list[int] = []

        async def make(number: int) -> None:
            try:
                await bots.create_bot(new_bot(f"number{number}_bot"), 3)
            except TooManyBots:
                refused.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(make, number)
        assert len(await bots.bots_of(1)) == len(refused) == 3
        await bots.create_bot(new_bot("hers_bot", owner=2), 3)

    async def test_a_changed_token_is_the_only_one(self, stores: Stores) -> None:
        bots, _ = stores
        made = await bots.create_bot(new_bot(), 20)
        session_id = uuid4()
        changed = await bots.change_token(made.number, b"n" * 32, session_id)
        assert changed is not None
        assert (changed.token_hash, changed.session_id) == (b"n" * 32, session_id)
        assert await bots.bot(made.id) == changed

    async def test_a_deleted_bot_is_gone_with_its_webhook(self, stores: Stores) -> None:
        bots, store = stores
        made = await bots.create_bot(new_bot(), 20)
        await store.put_webhook(hook(made))
        await store.append([event(made)])
        await bots.delete_bot(made.number, NOW)
        await bots.delete_bot(made.number, NOW)
        assert await bots.bot(made.id) is None
        assert await bots.bot_numbered(made.number) is None
        assert await bots.owners() == []
        assert await bots.change_token(made.number, b"x" * 32, uuid4()) is None
        assert await store.webhook(made.number) is None
        assert await store.waiting() == []


class WebhookStoreContract:
    @pytest.fixture
    async def bot(self, stores: Stores) -> BotRecord:
        return await stores[0].create_bot(new_bot(), 20)

    async def test_a_webhook_is_kept_as_it_was_put(
        self, stores: Stores, bot: BotRecord
    ) -> None:
        _, store = stores
        assert await store.webhook(bot.number) is None
        await store.put_webhook(hook(bot))
        other = hook(bot, url="https://other.example/", events=("message.all",))
        await store.put_webhook(other)
        assert await store.webhook(bot.number) == other
        assert await store.webhooks() == [(other, bot.id)]
        await store.delete_webhook(bot.number)
        assert await store.webhook(bot.number) is None

    async def test_events_wait_in_order_until_each_is_delivered(
        self, stores: Stores, bot: BotRecord
    ) -> None:
        _, store = stores
        await store.put_webhook(hook(bot))
        assert await store.append([event(bot, "a"), event(bot, "b")])
        assert await store.append([event(bot, "c")])
        assert await bodies(store, bot) == ["a", "b", "c"]
        assert await store.count(bot.number) == 3
        assert await store.waiting() == [(bot.number, 3, NOW)]
        await store.delivered(await first(store, bot))
        assert await bodies(store, bot) == ["b", "c"]
        await store.delete_webhook(bot.number)
        assert await bodies(store, bot) == []

    async def test_nothing_is_kept_without_a_webhook(
        self, stores: Stores, bot: BotRecord
    ) -> None:
        _, store = stores
        assert await store.append([event(bot)], 5)
        assert await bodies(store, bot) == []
        assert await store.position() == 5

    async def test_a_position_is_passed_once(
        self, stores: Stores, bot: BotRecord
    ) -> None:
        _, store = stores
        await store.put_webhook(hook(bot))
        assert await store.position() == 0
        assert await store.append([event(bot, "a")], 7)
        assert not await store.append([event(bot, "a")], 7)
        assert not await store.append([event(bot, "a")], 6)
        assert await store.append([event(bot, "b")])
        assert await store.append([event(bot, "c")], 8)
        assert await bodies(store, bot) == ["a", "b", "c"]
        assert await store.position() == 8

    async def test_a_failed_attempt_is_counted_and_put_off(
        self, stores: Stores, bot: BotRecord
    ) -> None:
        _, store = stores
        await store.put_webhook(hook(bot))
        await store.append([event(bot)])
        await store.put_off(await first(store, bot), NOW + 5_000)
        again = await first(store, bot)
        assert (again.attempts, again.due_ms) == (1, NOW + 5_000)
        assert await store.waiting() == [(bot.number, 1, NOW + 5_000)]
        await store.put_webhook(hook(bot))
        again = await first(store, bot)
        assert (again.attempts, again.due_ms) == (0, 0)

    async def test_a_run_of_dead_letters_disables_the_webhook(
        self, stores: Stores, bot: BotRecord
    ) -> None:
        _, store = stores
        await store.put_webhook(hook(bot))
        await store.append([event(bot, text) for text in "abcd"])
        assert not await store.bury(await first(store, bot), NOW, "answered 500", 2)
        await store.delivered(await first(store, bot))
        assert not await store.bury(await first(store, bot), NOW + 1, "no answer", 2)
        last = await first(store, bot)
        assert await store.bury(last, NOW + 2, "answered 500", 2)
        assert not await store.bury(last, NOW + 3, "twice", 2)
        webhook = await store.webhook(bot.number)
        assert webhook is not None
        assert webhook.disabled_ms == NOW + 2
        assert webhook.disabled_why == "answered 500"
        letters, total = await store.dead_letters(2)
        assert total == 3
        assert [letter.body for letter in letters] == ["d", "c"]
        assert (letters[0].bot_id, letters[0].attempts) == (bot.id, 1)
        assert await store.dead_letter(last.number) == letters[0]
        await store.append([event(bot)])
        assert await store.waiting() == []

    async def test_a_webhook_is_disabled_once_and_enabled_by_another_put(
        self, stores: Stores, bot: BotRecord
    ) -> None:
        _, store = stores
        assert not await store.disable(bot.number, NOW, "why")
        await store.put_webhook(hook(bot))
        assert await store.disable(bot.number, NOW, "why")
        assert not await store.disable(bot.number, NOW, "why")
        await store.put_webhook(hook(bot))
        assert await store.webhook(bot.number) == hook(bot)

    async def test_a_dead_letter_is_tried_again_behind_the_others_or_dropped(
        self, stores: Stores, bot: BotRecord
    ) -> None:
        _, store = stores
        await store.put_webhook(hook(bot))
        await store.append([event(bot, text) for text in "abc"])
        one = await first(store, bot)
        await store.bury(one, NOW, "why", 9)
        two = await first(store, bot)
        await store.bury(two, NOW, "why", 9)
        retried = await store.retry(one.number, NOW + 9)
        assert retried is not None
        assert retried.id == one.id
        assert await bodies(store, bot) == ["c", "a"]
        assert await store.retry(one.number, NOW) is None
        assert await store.drop(two.number)
        assert not await store.drop(two.number)
        assert await store.dead_letters(9) == ([], 0)

    async def test_old_dead_letters_are_pruned(
        self, stores: Stores, bot: BotRecord
    ) -> None:
        _, store = stores
        await store.put_webhook(hook(bot))
        await store.append([event(bot, text) for text in "abc"])
        for age in range(3):
            await store.bury(await first(store, bot), NOW + age, "why", 9)
        assert await store.prune(NOW + 2, 1) == 1
        assert await store.prune(NOW + 2, 9) == 1
        assert await store.prune(NOW + 2, 9) == 0
        letters, _ = await store.dead_letters(9)
        assert [letter.body for letter in letters] == ["c"]

    async def test_what_waits_for_a_webhook_that_is_long_disabled_is_pruned(
        self, stores: Stores, bot: BotRecord
    ) -> None:
        bots, store = stores
        other = await bots.create_bot(new_bot("other_bot"), 20)
        for of in (bot, other):
            await store.put_webhook(hook(of))
            await store.append([event(of, text) for text in "abc"])
        await store.disable(bot.number, NOW + 5, "why")
        assert await store.prune(NOW + 5, 9) == 0
        assert await store.prune(NOW + 6, 2) == 2
        assert await store.prune(NOW + 6, 2) == 1
        assert await bodies(store, bot) == []
        assert await bodies(store, other) == ["a", "b", "c"]


def owners() -> dict[int, UUID]:
    return {1: UUID(int=1), 2: UUID(int=2)}
