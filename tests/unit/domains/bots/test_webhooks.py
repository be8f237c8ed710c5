"""What webhooks are set to, and that each durable change reaches the outbox once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

import msgspec
import pytest

from tchatd.domains.bots.errors import BotNotFound, WebhookNotFound, WebhookRefused
from tchatd.domains.bots.models import BotCommand, PutWebhook, WebhookDisabled
from tchatd.domains.bots.rules import BotSettings
from tchatd.domains.bots.webhooks import TOO_FAR_BEHIND
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.errors import Unavailable
from tests.support.bots import URL, BotWorld, as_user
from tests.support.messaging import (
    Core,
    group_of,
    loading,
    shape,
    text,
    user_id,
    with_user,
)


class Told(msgspec.Struct, frozen=True, tag_field="op", tag="member.removed"):
    dialog_id: str


class Change(msgspec.Struct):
    """One journalled change, in short."""

    position: int
    members: BitMap | None
    event: Any = Told("d")
    changes: Any = None
    kind: int = 12
    at_ms: int = 1_800_000_000_000
    actor: int = 1


def changes(members: Iterable[int], *positions: int) -> list[Change]:
    return [Change(position, BitMap(members)) for position in positions]


async def bodies(world: BotWorld, bot: int) -> list[dict[str, Any]]:
    events = await world.store.pending(bot, 1_000)
    return [msgspec.json.decode(await world.webhooks.shown(event)) for event in events]


async def test_a_secret_is_made_and_shown_once() -> None:
    world = BotWorld()
    bot = await world.make()
    made = await world.put(bot)
    again = await world.put(bot, url="https://other.example/")
    number = await world.number_of(bot)
    assert len(made.secret) == 43
    assert str(again.secret) == "UNSET"
    assert await world.webhooks.target(number) == (
        "https://other.example/",
        made.secret,
    )
    given = await world.put(bot, secret="x" * 16)
    assert str(given.secret) == "UNSET"
    assert await world.webhooks.target(number) == (URL, "x" * 16)


async def test_a_secret_is_sealed_where_it_is_kept() -> None:
    world = BotWorld()
    number = await world.hooked(secret="a-secret-of-mine")
    kept = await world.store.webhook(number)
    assert kept is not None
    assert b"a-secret-of-mine" not in kept.secret


async def test_only_the_owner_and_the_bot_itself_set_it() -> None:
    world = BotWorld()
    bot = await world.make()
    command = PutWebhook(id=UUID(bot.id), url=URL)
    itself = as_user(await world.number_of(bot))
    with pytest.raises(BotNotFound):
        await world.webhooks.put(as_user(2), command)
    with pytest.raises(WebhookNotFound):
        await world.webhooks.get(itself, BotCommand(UUID(bot.id)))
    await world.webhooks.put(itself, command)
    shown = await world.webhooks.get(as_user(1), BotCommand(UUID(bot.id)))
    assert (shown.url, shown.pending) == (URL, 0)
    await world.webhooks.delete(itself, BotCommand(UUID(bot.id)))
    with pytest.raises(WebhookNotFound):
        await world.webhooks.get(itself, BotCommand(UUID(bot.id)))
    with pytest.raises(WebhookRefused):
        await world.put(bot, url="https://127.0.0.1/")


async def test_messages_of_a_dialog_become_events_as_clients_see_them() -> None:
    world = BotWorld()
    core = Core()
    core.flusher.feeds.append(world.webhooks)
    bot = await world.hooked(events=("message.new", "dialog.created"))
    ids = {user_id(2): 2, UUID(int=9): bot}
    core.service._directory._numbers |= ids  # type: ignore[attr-defined]
    async with loading(core):
        dialog = await core.do(
            1, msgspec.structs.replace(with_user(2), participants=[UUID(int=9)])
        )
        sent = await core.do(1, text(dialog.id, "hello bot"))
        await core.do(1, text((await core.do(1, group_of([2]))).id, "not for bots"))
    await core.flusher.flush()
    world.conversations.now[UUID(sent.id)] = sent
    created, said = await bodies(world, bot)
    assert created["type"] == "dialog.created"
    assert created["data"]["dialog"]["id"] == dialog.id
    assert said["data"]["message"]["content"] == {"text": "hello bot"}
    assert said["data"]["message"]["id"] == sent.id
    assert said["data"]["op"] == said["type"] == "message.new"
    assert said["bot_id"] == world.webhooks._hooks[bot].bot_id


async def test_a_bot_is_not_told_of_what_it_does() -> None:
    world = BotWorld()
    bot = await world.hooked(events=("member.removed",))
    change = msgspec.structs.replace(changes([1, bot], 1)[0], actor=bot)
    await world.webhooks.take([change])
    assert await bodies(world, bot) == []


@pytest.mark.parametrize("barred", ["bot", "owner"])
@pytest.mark.parametrize("restarted", [False, True])
async def test_nothing_is_kept_for_a_bot_that_is_shut_out(
    barred: str, restarted: bool
) -> None:
    world = BotWorld()
    bot = await world.hooked(events=("member.removed", "button.pressed"))
    if restarted:
        world = await world.another()
    banned: set[int] = set()
    world.service.is_barred = lambda user: user in banned
    await world.webhooks.take(changes([2, bot], 1))
    banned.add(bot if barred == "bot" else 1)
    await world.webhooks.take(changes([2, bot], 2))
    assert not await world.webhooks.tell(bot, "button.pressed", Told("d"))
    assert await world.webhooks.target(bot) is None
    assert not world.webhooks.is_hooked(bot)
    banned.clear()
    await world.webhooks.take(changes([2, bot], 3))
    assert await world.webhooks.tell(bot, "button.pressed", Told("d"))
    assert await world.webhooks.target(bot) is not None
    waiting = await world.store.pending(bot, 10)
    kinds = ["member.removed", "member.removed", "button.pressed"]
    assert [event.type for event in waiting] == kinds


async def test_each_bot_of_a_dialog_is_told_once_and_others_are_not() -> None:
    world = BotWorld()
    one = await world.hooked("one_bot", events=("member.removed",))
    two = await world.hooked("two_bot", events=("member.removed",))
    other = await world.hooked("other_bot", events=("member.removed",))
    deaf = await world.hooked("deaf_bot", events=("button.pressed",))
    await world.webhooks.take(changes([1, 2, one, two, deaf], 1, 2))
    assert [e["id"] for e in await bodies(world, one)] != [
        e["id"] for e in await bodies(world, two)
    ]
    assert [len(await bodies(world, bot)) for bot in (one, two, other, deaf)] == [
        *(2, 2, 0, 0)
    ]


async def test_who_is_told_something_else_is_told_that() -> None:
    world = BotWorld()
    bot = await world.hooked(events=("member.removed",))

    class Aside(msgspec.Struct):
        told: Any

    aside = Aside(((BitMap([bot]), Told("aside")),))
    await world.webhooks.take([Change(1, BitMap([1]), changes=aside)])
    assert [event["data"]["dialog_id"] for event in await bodies(world, bot)] == [
        "aside"
    ]


async def test_a_replay_after_a_crash_keeps_nothing_twice() -> None:
    world = BotWorld()
    bot = await world.hooked(events=("member.removed",))
    await world.webhooks.take(changes([bot], 1, 2))
    again = await world.another()
    await again.webhooks.take(changes([bot], 1, 2, 3))
    await again.webhooks.take(changes([bot], 3, 4))
    ids = [event["id"] for event in await bodies(world, bot)]
    assert len(ids) == len(set(ids)) == 4


async def test_a_lost_answer_of_the_store_keeps_nothing_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = BotWorld()
    bot = await world.hooked(events=("member.removed",))
    append = world.store.append

    async def lose(*args: Any) -> bool:
        await append(*args)
        raise Unavailable("lost")

    monkeypatch.setattr(world.store, "append", lose)
    with pytest.raises(Unavailable):
        await world.webhooks.take(changes([bot], 1))
    monkeypatch.setattr(world.store, "append", append)
    await world.webhooks.take(changes([bot], 1))
    assert len(await bodies(world, bot)) == 1


async def test_who_falls_too_far_behind_is_disabled_and_the_owner_told() -> None:
    world = BotWorld(BotSettings(webhook_pending_max=2))
    bot = await world.make()
    await world.put(bot, events=("member.removed",))
    number = await world.number_of(bot)
    await world.webhooks.take(changes([number], 1, 2, 3))
    shown = await world.webhooks.get(as_user(1), BotCommand(UUID(bot.id)))
    assert shown.disabled_why == TOO_FAR_BEHIND
    assert shown.pending == 3
    [(told, event, _)] = world.hub.told
    assert told == [1]
    assert isinstance(event, WebhookDisabled)
    assert event.bot_id == bot.id
    await world.webhooks.take(changes([number], 4))
    assert await world.webhooks.target(number) is None
    changed: list[int] = []
    world.webhooks.on_changed = changed.append
    shown = await world.put(bot, events=("member.removed",))
    assert (shown.pending, changed) == (3, [number])
    assert world.webhooks.statistics() == {"webhooks": 1, "pending": 3}


async def test_a_restart_knows_who_has_a_webhook_and_what_waits() -> None:
    world = BotWorld()
    bot = await world.hooked(events=("member.removed",))
    off = await world.hooked("off_bot", events=("member.removed",))
    await world.webhooks.disable(off, "why")
    await world.webhooks.take(changes([bot, off], 1))
    again = await world.another()
    assert again.webhooks.statistics() == {"webhooks": 1, "pending": 1}


async def test_a_deleted_bot_is_told_nothing() -> None:
    world = BotWorld()
    bot = await world.make()
    await world.put(bot, events=("member.removed",))
    number = await world.number_of(bot)
    await world.service.delete(as_user(1), BotCommand(UUID(bot.id)))
    await world.webhooks.take(changes([number], 1))
    assert await bodies(world, number) == []
    assert not await world.webhooks.tell(number, "button.pressed", Told("d"))


async def test_nothing_that_a_message_says_waits_and_what_it_is_by_then_is_shown() -> (
    None
):
    world = BotWorld()
    core = Core()
    core.flusher.feeds.append(world.webhooks)
    bot = await world.hooked(events=("message.new",))
    core.service._directory._numbers[UUID(int=9)] = bot  # type: ignore[attr-defined]
    async with loading(core):
        command = msgspec.structs.replace(with_user(), participants=[UUID(int=9)])
        dialog = await core.do(1, command)
        sent = await core.do(1, text(dialog.id, "a slip of the tongue"))
    await core.flusher.flush()
    [kept] = await world.store.pending(bot, 9)
    assert "tongue" not in kept.body
    [gone] = await bodies(world, bot)
    left = gone["data"]["message"]
    assert (left["id"], left["seq"], left["content"]) == (sent.id, 2, {})
    assert left["is_hidden"]
    edited = msgspec.structs.replace(sent, content={"text": "better"}, is_edited=True)
    world.conversations.now[UUID(sent.id)] = edited
    [shown] = await bodies(world, bot)
    assert shown["data"]["message"] == shape(edited)
