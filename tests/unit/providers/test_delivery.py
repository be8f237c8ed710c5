"""Deliveries on a clock that jumps: order, retries, dead letters, nobody delayed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest
import trio

from tchatd.domains.bots import rules
from tchatd.domains.bots.models import BotCommand, OutgoingEvent
from tchatd.kernel.crypto import Unreadable
from tchatd.kernel.errors import Unavailable
from tchatd.observe.metrics import Metrics
from tchatd.providers.delivery import (
    MISTAKE_S,
    NOT_SENT,
    Delivery,
    DeliverySettings,
)
from tests.support.bots import URL, BotWorld, FakeCourier, as_user

OTHER_URL = "https://other.example/hook"


class TrioClock:
    """The time of day moves with Trio's clock."""

    def now_ms(self) -> int:
        return 1_800_000_000_000 + round(trio.current_time() * 1000)


class Post:
    def __init__(self, world: BotWorld, **settings: Any) -> None:
        self.world = world
        self.courier = FakeCourier()
        clock: Any = TrioClock()
        world.webhooks._clock = clock
        self.delivery = Delivery(
            world.store,
            world.webhooks,
            self.courier,
            clock,
            Metrics(process=False),
            DeliverySettings(**settings),
            chance=lambda: 1.0,
        )

    async def say(self, bot: int, *texts: str) -> None:
        """The bot's webhook is to be told these."""
        at_ms = TrioClock().now_ms()
        events = [
            OutgoingEvent(
                bot=bot, id=uuid4(), type="poll.voted", body=text, created_ms=at_ms
            )
            for text in texts
        ]
        await self.world.webhooks._append(events, None)

    @property
    def bodies(self) -> list[str]:
        return [body.decode() for body in self.courier.bodies]

    @property
    def times(self) -> list[float]:
        first = self.courier.delivered[0][0]
        return [round(at_s - first, 3) for at_s, _, _ in self.courier.delivered]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.delivery.run)
            yield
            nursery.cancel_scope.cancel()


async def test_events_arrive_once_and_in_order(autojump_clock: object) -> None:
    post = Post(BotWorld())
    bot = await post.world.hooked()
    texts = [str(number) for number in range(35)]
    async with post.running():
        await post.say(bot, *texts[:30])
        await trio.sleep(1)
        await post.say(bot, *texts[30:])
        await trio.sleep(1)
    assert post.bodies == texts
    assert await post.world.store.count(bot) == 0
    assert post.world.webhooks.statistics()["pending"] == 0
    assert post.delivery._lane_of == {}


async def test_each_delivery_is_signed_and_named(autojump_clock: object) -> None:
    post = Post(BotWorld())
    bot = await post.world.hooked(secret="s" * 16)
    async with post.running():
        await post.say(bot, "a")
        await trio.sleep(1)
    [headers] = post.courier.headers
    at_s = int(headers["X-Tchat-Signature"].split(",")[0][2:])
    assert headers["X-Tchat-Signature"] == rules.signature("s" * 16, at_s, b"a")
    assert headers["X-Tchat-Event"] == "poll.voted"
    assert headers["X-Tchat-Attempt"] == "1"
    assert headers["X-Tchat-Event-Id"] == post.courier.delivered[0][2]


async def test_a_failure_is_tried_again_later_and_later_before_anything_else(
    autojump_clock: object,
) -> None:
    post = Post(BotWorld())
    post.courier.plans[URL] = ["answered 500", "answered 500", "answered 500", None]
    bot = await post.world.hooked()
    async with post.running():
        await post.say(bot, "a", "b")
        await trio.sleep(30)
    assert post.bodies == ["a", "a", "a", "a", "b"]
    assert post.times == [0, 1, 3, 7, 7]
    assert len({id for _, _, id in post.courier.delivered}) == 2
    assert [h["X-Tchat-Attempt"] for h in post.courier.headers] == list("12341")


async def test_new_events_do_not_shorten_the_wait(autojump_clock: object) -> None:
    post = Post(BotWorld())
    post.courier.plans[URL] = ["answered 500", None]
    bot = await post.world.hooked()
    async with post.running():
        await post.say(bot, "a")
        await trio.sleep(0.5)
        await post.say(bot, "b")
        await trio.sleep(5)
    assert post.bodies == ["a", "a", "b"]
    assert post.times == [0, 1, 1]


async def test_what_never_arrives_is_given_up_and_the_next_has_its_turn(
    autojump_clock: object,
) -> None:
    post = Post(BotWorld(), attempts_max=3)
    post.courier.plans[URL] = ["no answer"] * 3 + [None]
    bot = await post.world.hooked()
    async with post.running():
        await post.say(bot, "a", "b")
        await trio.sleep(60)
    assert post.bodies == ["a", "a", "a", "b"]
    [letter], total = await post.world.store.dead_letters(9)
    assert (letter.body, letter.attempts, letter.why, total) == ("a", 3, "no answer", 1)
    webhook = await post.world.store.webhook(bot)
    assert webhook is not None
    assert webhook.dead_run == 0


async def test_dead_letters_in_a_row_disable_it_and_a_new_url_starts_again(
    autojump_clock: object,
) -> None:
    post = Post(BotWorld(), attempts_max=2, dead_max=2)
    post.courier.plans[URL] = ["answered 410"]
    world = post.world
    bot = await world.make()
    await world.put(bot)
    number = await world.number_of(bot)
    async with post.running():
        await post.say(number, "a", "b", "c")
        await trio.sleep(600)
        assert post.bodies == ["a", "a", "b", "b"]
        assert [event.why for _, event, _ in world.hub.told] == ["answered 410"]
        webhook = await world.store.webhook(number)
        assert webhook is not None
        assert webhook.disabled_why == "answered 410"
        await world.put(bot, url=OTHER_URL)
        await trio.sleep(1)
    assert post.bodies[4:] == ["c"]


async def test_a_new_url_is_tried_at_once_whatever_failed_before(
    autojump_clock: object,
) -> None:
    post = Post(BotWorld())
    post.courier.plans[URL] = ["answered 500"]
    world = post.world
    bot = await world.make()
    await world.put(bot)
    async with post.running():
        await post.say(await world.number_of(bot), "a")
        await trio.sleep(100)
        failed = len(post.bodies)
        await world.put(bot, url=OTHER_URL)
        await trio.sleep(0.1)
        assert len(post.bodies) == failed + 1
        assert post.courier.delivered[-1][1] == OTHER_URL
        await trio.sleep(1_000)
        assert len(post.bodies) == failed + 1
    assert await world.store.count(await world.number_of(bot)) == 0


async def test_endpoints_that_hang_delay_nobody_else(autojump_clock: object) -> None:
    post = Post(BotWorld(), concurrency_max=2)
    hanging = []
    for number in range(6):
        url = f"https://slow{number}.example/"
        post.courier.plans[url] = [10.0]
        hanging.append(await post.world.hooked(f"slow{number}_bot", url=url))
    good = await post.world.hooked("good_bot", url=OTHER_URL)
    async with post.running():
        for bot in hanging:
            await post.say(bot, "slow")
        await trio.sleep(60)  # all of them have failed once: they are in their own lane
        asked_s = trio.current_time()
        for _ in range(20):
            await post.say(good, "fast")
            await trio.sleep(0.5)
    times = [at for at, url, _ in post.courier.delivered if url == OTHER_URL]
    assert len(times) == 20
    assert times[-1] - asked_s < 10
    assert max(b - a for a, b in pairwise(times)) < 1


async def test_a_restart_goes_on_where_it_was(autojump_clock: object) -> None:
    first = Post(BotWorld())
    first.courier.plans[URL] = ["answered 500"]
    bot = await first.world.hooked()
    async with first.running():
        await first.say(bot, "a", "b")
        await trio.sleep(4)
    again = Post(await first.world.another())
    async with again.running():
        await trio.sleep(0.5)
        assert again.bodies == []
        await trio.sleep(60)
    assert again.bodies == ["a", "b"]
    assert again.courier.headers[0]["X-Tchat-Attempt"] == "4"


async def test_a_store_that_is_away_is_asked_again(
    autojump_clock: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    post = Post(BotWorld())
    bot = await post.world.hooked()
    delivered = post.world.store.delivered
    failures = [1]

    async def fail(event: Any) -> None:
        if failures:
            failures.pop()
            raise Unavailable("away")
        await delivered(event)

    monkeypatch.setattr(post.world.store, "delivered", fail)
    async with post.running():
        await post.say(bot, "a", "b")
        await trio.sleep(60)
    assert post.bodies == ["a", "a", "b"]  # at least once
    assert len({id for _, _, id in post.courier.delivered}) == 2


async def test_a_deleted_webhook_is_delivered_nothing(autojump_clock: object) -> None:
    post = Post(BotWorld())
    post.courier.plans[URL] = ["answered 500"]
    world = post.world
    bot = await world.make()
    await world.put(bot)
    async with post.running():
        await post.say(await world.number_of(bot), "a")
        await trio.sleep(0.5)
        await world.webhooks.delete(as_user(1), BotCommand(UUID(bot.id)))
        await trio.sleep(60)
    assert post.bodies == ["a"]


async def test_what_nobody_foresaw_is_a_failed_attempt_and_ends_nothing(
    autojump_clock: object,
) -> None:
    post = Post(BotWorld(), attempts_max=2)
    post.courier.plans[URL] = [KeyError("a frame"), KeyError("a frame"), None]
    bot = await post.world.hooked()
    reported: list[Exception] = []
    post.delivery.report = reported.append
    async with post.running():
        await post.say(bot, "a", "b")
        await trio.sleep(60)
    assert post.bodies == ["a", "a", "b"]
    [letter], _ = await post.world.store.dead_letters(9)
    assert (letter.body, letter.why) == ("a", NOT_SENT)
    assert len(reported) == 2


async def test_an_event_that_cannot_be_made_is_given_up_and_the_next_has_its_turn(
    autojump_clock: object,
) -> None:
    post = Post(BotWorld(), attempts_max=2)
    bot = await post.world.hooked()
    await post.world.store.append(
        [OutgoingEvent(bot=bot, id=uuid4(), type="message.new", body="?", created_ms=1)]
    )
    async with post.running():
        await post.say(bot, "a")
        await trio.sleep(60)
    assert post.bodies == ["a"]
    assert (await post.world.store.dead_letters(9))[1] == 1


async def test_a_secret_that_cannot_be_read_rests_and_delays_nobody(
    autojump_clock: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    post = Post(BotWorld())
    locked = await post.world.hooked("locked_bot", url=OTHER_URL)
    bot = await post.world.hooked()
    target = post.world.webhooks.target
    keys: list[object] = []

    async def without_a_key(number: int) -> tuple[str, str] | None:
        if number == locked and not keys:
            raise Unreadable("master key 'm0' is not here")
        return await target(number)

    monkeypatch.setattr(post.world.webhooks, "target", without_a_key)
    async with post.running():
        await post.say(locked, "kept")
        await post.say(bot, "a")
        await trio.sleep(60)
        assert post.bodies == ["a"]
        keys.append("it is back")
        await trio.sleep(MISTAKE_S)
    assert post.bodies == ["a", "kept"]


async def test_a_start_that_fails_is_made_again(
    autojump_clock: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = BotWorld()
    bot = await world.hooked()
    await Post(world).say(bot, "a")
    post = Post(await world.another())
    waiting = world.store.waiting
    failures: list[Exception] = [KeyError("a row"), Unavailable("away")]

    async def fail() -> list[tuple[int, int, int]]:
        if failures:
            raise failures.pop()
        return await waiting()

    monkeypatch.setattr(world.store, "waiting", fail)
    async with post.running():
        await trio.sleep(MISTAKE_S + 60)
    assert post.bodies == ["a"]


async def test_nothing_more_goes_to_an_old_url(autojump_clock: object) -> None:
    post = Post(BotWorld())
    world = post.world
    bot = await world.make()
    await world.put(bot)
    post.courier.on_delivering = lambda: world.put(bot, url=OTHER_URL)
    async with post.running():
        await post.say(await world.number_of(bot), "a", "b", "c")
        await trio.sleep(1)
    urls = [url for _, url, _ in post.courier.delivered]
    assert urls == [URL, OTHER_URL, OTHER_URL]
    assert post.bodies == ["a", "b", "c"]


@pytest.mark.parametrize("end", ["webhook", "bot"])
async def test_nothing_more_goes_to_who_is_gone(
    autojump_clock: object, end: str
) -> None:
    post = Post(BotWorld())
    world = post.world
    bot = await world.make()
    await world.put(bot)
    delete = world.webhooks.delete if end == "webhook" else world.service.delete
    command = BotCommand(UUID(bot.id))
    post.courier.on_delivering = lambda: delete(as_user(1), command)
    async with post.running():
        await post.say(await world.number_of(bot), "a", "b", "c")
        await trio.sleep(60)
    assert post.bodies == ["a"]


async def test_a_bot_that_is_shut_out_is_delivered_nothing_until_it_is_let_in(
    autojump_clock: object,
) -> None:
    post = Post(BotWorld())
    bot = await post.world.hooked()
    banned: set[int] = set()
    post.world.service.is_barred = lambda user: user in banned

    async def ban() -> None:
        banned.add(1)

    post.courier.on_delivering = ban
    async with post.running():
        await post.say(bot, "a", "b")
        await trio.sleep(1)
        assert post.bodies == ["a"]
        await trio.sleep(3_600)
        assert post.bodies == ["a"]
        banned.clear()
        await post.say(bot, "c")
        await trio.sleep(1)
    assert post.bodies == ["a", "b", "c"]
