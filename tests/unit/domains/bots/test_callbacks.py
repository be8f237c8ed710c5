"""Pressed buttons: told to the bot, answered once, over after a minute."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from msgspec import UNSET

from tchatd.domains.bots.errors import ButtonNotFound, CallbackNotFound
from tchatd.domains.bots.models import (
    AnswerCallback,
    ButtonAnswered,
    ButtonPressed,
    PressButton,
    SeenMessage,
)
from tchatd.domains.bots.rules import BotSettings
from tests.support.bots import BotWorld, as_user

MESSAGE = uuid4()


class Button(msgspec.Struct):
    text: str
    data: Any = UNSET
    url: Any = UNSET


class Message(msgspec.Struct):
    buttons: Any = UNSET


async def offer(world: BotWorld, sender: int, *, buttons: Any = None) -> None:
    rows = ((Button("Yes", "yes"), Button("Site", url="https://a.example/")),)
    message = Message(rows if buttons is None else buttons)
    seen = SeenMessage(str(MESSAGE), "d", 7, sender, uuid4(), message)
    world.conversations.messages[MESSAGE] = seen


async def press(world: BotWorld, data: str = "yes", user: int = 2) -> Any:
    return await world.callbacks.press(as_user(user, 4), PressButton(MESSAGE, data))


def answer(world: BotWorld, callback_id: str, bot: int, **fields: Any) -> None:
    command = AnswerCallback(callback_id=UUID(callback_id), **fields)
    world.callbacks.answer(as_user(bot), command)


async def test_a_press_is_told_to_the_bot_and_its_webhook() -> None:
    world = BotWorld()
    bot = await world.hooked()
    await offer(world, bot)
    pressed = await press(world)
    [(told, event, _)] = world.hub.told
    assert told == [bot]
    assert isinstance(event, ButtonPressed)
    assert (event.callback_id, event.data) == (pressed.callback_id, "yes")
    assert event.user_id == str(as_user(2).user.user_id)
    assert (event.message_id, event.dialog_id) == (str(MESSAGE), "d")
    [outgoing] = await world.store.pending(bot, 9)
    assert outgoing.type == "button.pressed"
    assert msgspec.json.decode(outgoing.body)["data"]["data"] == "yes"


async def test_an_answer_reaches_who_pressed_once() -> None:
    world = BotWorld()
    bot = await world.hooked()
    await offer(world, bot)
    pressed = await press(world)
    answer(world, pressed.callback_id, bot, text="Done", alert=True)
    told, event, _ = world.hub.told[-1]
    assert told == [2]
    assert event == ButtonAnswered(pressed.callback_id, str(MESSAGE), "Done", True)
    with pytest.raises(CallbackNotFound):
        answer(world, pressed.callback_id, bot)


async def test_another_bot_cannot_answer_nor_spoil_it() -> None:
    world = BotWorld()
    bot = await world.hooked()
    await offer(world, bot)
    pressed = await press(world)
    with pytest.raises(CallbackNotFound):
        answer(world, pressed.callback_id, bot + 1)
    with pytest.raises(CallbackNotFound):
        answer(world, str(uuid4()), bot)
    answer(world, pressed.callback_id, bot)


@pytest.mark.parametrize(("after_ms", "is_over"), [(59_999, False), (60_000, True)])
async def test_a_press_is_over_after_a_minute(after_ms: int, is_over: bool) -> None:
    world = BotWorld()
    bot = await world.hooked()
    await offer(world, bot)
    pressed = await press(world)
    world.clock.advance(after_ms)
    if is_over:
        with pytest.raises(CallbackNotFound):
            answer(world, pressed.callback_id, bot)
    else:
        answer(world, pressed.callback_id, bot)


async def test_what_is_no_button_cannot_be_pressed() -> None:
    world = BotWorld()
    bot = await world.hooked()
    await offer(world, bot)
    for data in ("no", "https://a.example/"):
        with pytest.raises(ButtonNotFound):
            await press(world, data)
    await offer(world, bot, buttons=UNSET)
    with pytest.raises(ButtonNotFound):
        await press(world)
    await offer(world, sender=3)
    with pytest.raises(ButtonNotFound):
        await press(world)
    assert world.hub.told == []


async def test_of_too_many_presses_the_oldest_is_forgotten() -> None:
    world = BotWorld(BotSettings(callbacks_max=2))
    bot = await world.hooked()
    await offer(world, bot)
    first, *others = [await press(world) for _ in range(3)]
    with pytest.raises(CallbackNotFound):
        answer(world, first.callback_id, bot)
    for pressed in others:
        answer(world, pressed.callback_id, bot)
