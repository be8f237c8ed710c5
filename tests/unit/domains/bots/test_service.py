"""Bots and their tokens, over memory."""

from __future__ import annotations

from collections.abc import Awaitable
from uuid import UUID, uuid4

import pytest
import trio

from tchatd.domains.bots.errors import (
    BotNotFound,
    BotsOwnNothing,
    TooManyBots,
    UsernameTaken,
)
from tchatd.domains.bots.models import Bot, BotCommand, CreateBot, FindBot, Nothing
from tchatd.domains.bots.rules import BotSettings
from tchatd.domains.bots.service import BotService
from tchatd.kernel.errors import Conflict
from tchatd.kernel.routing import Caller
from tests.support.bots import BotWorld, as_user


async def who(service: BotService, token: object) -> Caller | None:
    assert isinstance(token, str)
    found = service.authenticate(token)
    if isinstance(found, Awaitable):
        return await found
    return found


def named(bot: Bot) -> BotCommand:
    return BotCommand(UUID(bot.id))


async def test_a_new_bot_signs_in_with_its_token_at_once() -> None:
    world = BotWorld()
    bot = await world.make()
    caller = world.service.authenticate(str(bot.token))
    assert isinstance(caller, Caller)
    assert str(caller.user_id) == bot.id
    assert world.service.is_bot(caller.user_number)
    assert not world.service.is_bot(1)
    assert (bot.owner_id, bot.is_bot) == (str(as_user(1).user.user_id), True)


async def test_who_may_not_write_makes_no_bots_nor_any_with_a_bad_name() -> None:
    world = BotWorld()

    def check(user_number: int, text: str) -> None:
        if user_number == 2 or "Casino" in text or "poker_bot" in text:
            raise Conflict("not that")

    world.service.check_said = check
    for owner, name, username in (
        (2, "Echo", "a_bot"),
        (1, "Casino", "a_bot"),
        (1, "Echo", "poker_bot"),
    ):
        command = CreateBot(name=name, username=username)
        with pytest.raises(Conflict, match="not that"):
            await world.service.create(as_user(owner), command)
    bot = await world.make()
    number = await world.number_of(bot)
    assert world.service.owner_of(number) == 1
    assert world.service.owner_of(1) is None


async def test_the_token_is_shown_once() -> None:
    world = BotWorld()
    bot = await world.make()
    listed = await world.service.mine(as_user(1), Nothing())
    assert [b.id for b in listed.bots] == [bot.id]
    assert str(listed.bots[0].token) == "UNSET"
    found = await world.service.named(as_user(2), FindBot("echo_bot"))
    assert found == listed.bots[0]


async def test_another_process_reads_the_bot_once_for_many() -> None:
    world = BotWorld()
    bot = await world.make()
    other = await world.another()
    callers: list[Caller | None] = []

    async def sign_in() -> None:
        callers.append(await who(other.service, bot.token))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(sign_in)
    assert callers[0] is not None
    assert callers == [callers[0]] * 3
    assert isinstance(other.service.authenticate(str(bot.token)), Caller)
    assert other.service.is_bot(callers[0].user_number)


async def test_a_wrong_token_is_nobodys() -> None:
    world = BotWorld()
    bot = await world.make()
    token = str(bot.token)
    wrong = token[:-2] + ("AA" if token[-2:] != "AA" else "BA")
    assert await who(world.service, wrong) is None
    assert await who(world.service, token.replace(bot.id, str(uuid4()))) is None
    assert world.service.authenticate("bot:x:y") is None


async def test_a_changed_token_ends_the_old_one_and_its_connections() -> None:
    world = BotWorld()
    bot = await world.make()
    before = await who(world.service, bot.token)
    assert before is not None
    changed = await world.service.change_token(as_user(1), named(bot))
    assert await who(world.service, bot.token) is None
    after = await who(world.service, changed.token)
    assert after is not None
    assert after.session_id != before.session_id
    assert world.sessions.ended == [(before.session_id, before.user_number)]


async def test_who_reads_a_bot_while_it_is_changed_remembers_the_new_token() -> None:
    world = BotWorld()
    bot = await world.make()
    world.service._known.clear()
    changed: list[Bot] = []

    async def change() -> None:
        changed.append(await world.service.change_token(as_user(1), named(bot)))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(who, world.service, bot.token)
        nursery.start_soon(change)
        for _ in range(3):
            nursery.start_soon(who, world.service, bot.token)
    assert await who(world.service, bot.token) is None
    assert await who(world.service, changed[0].token) is not None


async def test_a_deleted_bot_is_gone() -> None:
    world = BotWorld()
    bot = await world.make()
    caller = await who(world.service, bot.token)
    assert caller is not None
    await world.service.delete(as_user(1), named(bot))
    assert await who(world.service, bot.token) is None
    assert not world.service.is_bot(caller.user_number)
    assert world.sessions.ended == [(caller.session_id, caller.user_number)]
    assert world.sessions.forgotten == [caller.user_number]
    with pytest.raises(BotNotFound):
        await world.service.delete(as_user(1), named(bot))
    with pytest.raises(BotNotFound):
        await world.service.named(as_user(1), FindBot("echo_bot"))


async def test_others_cannot_touch_it_nor_see_that_it_is_there() -> None:
    world = BotWorld()
    bot = await world.make()
    for act in (world.service.delete, world.service.change_token):
        with pytest.raises(BotNotFound):
            await act(as_user(2), named(bot))
    record = await world.service.owned(
        as_user(await world.number_of(bot)).user, UUID(bot.id), or_itself=True
    )
    assert str(record.id) == bot.id
    with pytest.raises(BotNotFound):
        await world.service.owned(as_user(record.number).user, record.id)


async def test_limits_and_names_are_held() -> None:
    world = BotWorld(BotSettings(bots_per_user_max=2))
    bot = await world.make("one_bot")
    with pytest.raises(UsernameTaken):
        await world.make("one_bot", owner=2)
    await world.make("two_bot")
    with pytest.raises(TooManyBots):
        await world.make("three_bot")
    with pytest.raises(BotsOwnNothing):
        await world.make("child_bot", owner=await world.number_of(bot))


@pytest.mark.parametrize("barred", ["bot", "owner"])
async def test_a_bot_is_shut_out_with_its_owner_or_alone(barred: str) -> None:
    world = BotWorld()
    bot = await world.make()
    number = await world.number_of(bot)
    banned = {number if barred == "bot" else 1}
    world.service.is_barred = lambda user: user in banned
    assert await who(world.service, bot.token) is None
    await world.service.end_sessions(next(iter(banned)))
    assert [user for _, user in world.sessions.ended] == [number]
    banned.clear()
    assert await who(world.service, bot.token) is not None
