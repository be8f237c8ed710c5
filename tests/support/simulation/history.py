"""Owns what people do at random, one history after another, and what must hold then."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch
from uuid import UUID

import trio
from msgspec import UNSET

from tchatd.domains.messaging import member_models as members
from tchatd.domains.messaging import message_commands as messages
from tchatd.domains.messaging import models, sync
from tests.support.messaging import client_id, loading, user_id
from tests.support.simulation.check import check_all
from tests.support.simulation.device import Device, Kept
from tests.support.simulation.world import World, repeatable

PEOPLE = (1, 2, 3, 4)
CROWD = tuple(range(1, 103))
EMOJI = ("👍", "🎉", "❤️")
SETTLES_MAX = 2_000
STEPS = 120
DIALOGS_MAX = 2
TRACE_MAX = 25


class History:
    """Some processes of a daemon, one after the other, each with some steps."""

    def __init__(self, world: World, steps: int) -> None:
        self.world = world
        self.choose = world.choose
        self.steps = steps
        self._made = 0

    async def run(self) -> None:
        world = self.world
        await world.core.applier.recover(world.core.flusher.flush)
        for process in range(self.choose.choice((1, 2, 2, 3))):
            if process:
                await world.crash()
            async with loading(world.core), trio.open_nursery() as nursery:
                world.nursery = nursery
                for device in world.devices:
                    if self.choose.random() < 0.8:
                        world.connect(device)
                await self.settle()
                if not process:
                    for device in world.devices[:3]:
                        world.start(device, self.create(device))
                    await self.settle()
                for _ in range(min(self.steps, self.choose.randint(10, 80))):
                    self.steps -= 1
                    self.step()
                    for _ in range(self.choose.choice((0, 0, 0, 1, 4))):
                        await trio.lowlevel.checkpoint()
                if not self.steps or self.choose.random() < 0.5:
                    await self.settle()
                    await check_all(world)
                nursery.cancel_scope.cancel()
        await world.crash()
        async with loading(world.core), trio.open_nursery() as nursery:
            world.nursery = nursery
            newcomers = [Device(f"{user} new", user) for user in PEOPLE]
            world.devices += newcomers
            for device in world.devices:
                world.connect(device)
            await self.settle()
            await check_all(world)
            del world.devices[-len(newcomers) :]

    def step(self) -> None:
        world, choose = self.world, self.choose
        world.core.clock.advance(choose.randrange(100))
        chance = choose.random()
        device = choose.choice(world.devices)
        if chance < 0.5:
            able = [d for d in world.devices if d.connection and not d.is_syncing]
            for device in able:
                if choose.random() < 0.35:
                    self.act(device)
        elif chance < 0.62:
            world.sync_disk()
        elif chance < 0.68:
            world.nursery.start_soon(world.flush)
        elif chance < 0.7:
            world.list_on(device)
        elif chance < 0.9:
            for device in choose.sample(world.devices, 2):
                for _ in range(min(len(device.inbox), choose.choice((1, 2, 20)))):
                    world.receive(device)
        elif device.connection is None:
            world.connect(device)
        elif chance < 0.95:
            world.note(f"{device.name} is gone")
            device.disconnect()
            if choose.random() < 0.2:
                device.forget()
        elif chance < 0.97:
            world.note(f"{device.name} was too slow")
            device.lose()

    # What is to hold when nothing is under way

    async def settle(self) -> None:
        """Everything is durable, told, and received by who is online."""
        world = self.world
        for _ in range(SETTLES_MAX):
            world.sync_disk(wholly=True)
            for device in world.devices:
                for _ in range(len(device.inbox)):
                    if device.inbox:
                        world.receive(device)
                world.list_on(device)
            if self.choose.random() < 0.1:
                world.nursery.start_soon(world.flush)
            await trio.sleep(world.rest_s)
            if world.is_quiet:
                return
        raise AssertionError("it never comes to rest")

    # What people do

    def act(self, device: Device) -> None:
        doing = self.choose.choices(_DOINGS, _WEIGHTS)[0]
        if self.choose.random() < 0.02:
            doing = History.create
        elif not device.dialogs:
            return
        command = doing(self, device)
        if command is not None:
            self.world.start(device, command)

    def dialog(self, device: Device) -> tuple[str, Kept]:
        id = self.choose.choice(list(device.dialogs))
        return id, device.dialogs[id]

    def message(self, device: Device, *, mine: bool = False) -> UUID | None:
        """One that the device knows, rather one of the latest."""
        _, kept = self.dialog(device)
        known = [
            m for m in kept.messages.values() if not mine or m.sender_id == device.me
        ]
        if not known:
            return None
        return UUID(self.choose.choice(known[-self.choose.choice((2, 9)) :]).id)

    def somebody(self, kept: Kept) -> UUID:
        here = [user for user in sorted(kept.people) if user in PEOPLE]
        return user_id(self.choose.choice(here if here else PEOPLE))

    def mentions(self, kept: Kept) -> Any:
        if self.choose.random() < 0.6:
            return UNSET
        return [self.somebody(kept) for _ in range(self.choose.choice((1, 2)))]

    def create(self, device: Device) -> Any:
        choose = self.choose
        if choose.random() < 0.3:
            other = choose.choice([user for user in PEOPLE if user != device.user])
            return models.CreateDialog(type="user", participants=[user_id(other)])
        people = choose.sample(PEOPLE, choose.choice((1, 2, 3, 4)))
        if choose.random() < 0.1:
            people = list(CROWD[: choose.choice((100, 101, 102))])
        return models.CreateDialog(
            type=choose.choice(("group", "group", "group", "channel")),
            name=f"talk {choose.randrange(99)}",
            participants=[user_id(user) for user in people],
        )

    def send(self, device: Device) -> Any:
        choose = self.choose
        if device.unanswered and choose.random() < 0.1:
            return choose.choice(list(device.unanswered.values()))
        id, kept = self.dialog(device)
        self._made += 1
        now_ms = self.world.core.clock.now_ms() - choose.choice((0, 0, 0, 50, 10_000))
        content: dict[str, Any] = {"text": f"words {self._made}"}
        type: Any = "text"
        if choose.random() < 0.1:
            type, content = (
                "poll",
                {"question": f"q {self._made}", "options": ["a", "b"]},
            )
        near = list(kept.messages.values())[-4:]
        command = models.SendMessage(
            dialog_id=id,
            type=type,
            content=content,
            client_id=client_id(now_ms, self._made),
            mentions=self.mentions(kept),
            reply_to_id=UUID(choose.choice(near).id)
            if near and choose.random() < 0.2
            else UNSET,
            thread_id=UUID(choose.choice(near).id)
            if near and choose.random() < 0.3
            else UNSET,
        )
        assert command.client_id is not UNSET
        device.unanswered[command.client_id] = command
        return command

    def forward(self, device: Device) -> Any:
        id, (to, _) = self.message(device), self.dialog(device)
        if id is None:
            return None
        return messages.ForwardMessage(message_id=id, dialog_id=to)

    def edit(self, device: Device) -> Any:
        id = self.message(device, mine=True)
        if id is None:
            return None
        self._made += 1
        _, kept = self.dialog(device)
        words = {"text": f"edited {self._made}"}
        return messages.EditMessage(
            message_id=id, content=words, mentions=self.mentions(kept)
        )

    def delete(self, device: Device) -> Any:
        mine = self.choose.random() < 0.5
        id = self.message(device, mine=mine)
        if id is None:
            return None
        whom: Any = self.choose.choice(("everyone", "me")) if mine else "me"
        return messages.DeleteMessage(message_id=id, for_=whom)

    def on_message(self, device: Device) -> Any:
        id = self.message(device)
        if id is None:
            return self.open(device)
        emoji = self.choose.choice(EMOJI)
        return self.choose.choice(
            [
                models.ReadMessages(id),
                models.ReadMessages(id),
                messages.DeliverMessages(id),
                messages.React(message_id=id, emoji=emoji),
                messages.React(message_id=id, emoji=emoji),
                messages.Unreact(message_id=id, emoji=emoji),
                messages.PinMessage(id),
                messages.UnpinMessage(id),
            ]
        )

    def open(self, device: Device) -> Any:
        """Some of the history."""
        id, kept = self.dialog(device)
        before: Any = UNSET
        if kept.messages and self.choose.random() < 0.5:
            before = UUID(kept.messages[min(kept.messages)].id)
        limit = self.choose.choice((1, 3, 50))
        return models.ListMessages(dialog_id=id, limit=limit, before=before)

    def vote(self, device: Device) -> Any:
        _, kept = self.dialog(device)
        polls = [m for m in kept.messages.values() if m.poll is not UNSET]
        if not polls:
            return None
        id = UUID(self.choose.choice(polls).id)
        if self.choose.random() < 0.2:
            return messages.ClosePoll(id)
        options = self.choose.choice(([], [0], [1]))
        return messages.Vote(message_id=id, options=options)

    def own(self, device: Device) -> Any:
        id, _ = self.dialog(device)
        self._made += 1
        flag = self.choose.random() < 0.5
        return self.choose.choice(
            [
                members.ChangeOwn(dialog_id=id, is_pinned=flag),
                members.ChangeOwn(dialog_id=id, is_archived=flag),
                members.SaveDraft(dialog_id=id, text=f"draft {self._made}"),
                members.SaveDraft(dialog_id=id, text=""),
                messages.ClearDialog(id),
            ]
        )

    def join(self, device: Device) -> Any:
        id, _ = self.dialog(device)
        people = [user_id(self.choose.choice(PEOPLE))]
        if self.choose.random() < 0.2:
            people.append(user_id(self.choose.choice(CROWD)))
        role: Any = self.choose.choice(("member", "member", "admin", "guest"))
        return members.AddMembers(dialog_id=id, user_ids=people, role=role)

    def go(self, device: Device) -> Any:
        id, kept = self.dialog(device)
        other, choose = self.somebody(kept), self.choose
        if kept.count > 95 and choose.random() < 0.5:
            other = user_id(choose.choice(CROWD))
        command: Any = choose.choice(
            [
                members.RemoveMember(dialog_id=id, user_id=other),
                members.RemoveMember(dialog_id=id, user_id=user_id(device.user)),
                members.RemoveMember(dialog_id=id, user_id=other, ban=True),
                members.BanUser(id, other),
                members.EndBan(id, user_id(choose.choice(PEOPLE))),
                members.EndBan(id, user_id(choose.choice(PEOPLE))),
            ]
        )
        if choose.random() < 0.08:
            return members.DropDialog(id)
        return command

    def rule(self, device: Device) -> Any:
        id, kept = self.dialog(device)
        other, choose = self.somebody(kept), self.choose
        role: Any = choose.choice(("owner", "admin", "member", "guest"))
        until = choose.choice((None, datetime(2100, 1, 1, tzinfo=UTC)))
        change = members.SettingsChange(slow_mode_s=choose.choice((0, 0, 1)))
        return choose.choice(
            [
                members.ChangeMember(dialog_id=id, user_id=other, role=role),
                members.ChangeMember(dialog_id=id, user_id=other, role=role),
                members.ChangeMember(
                    dialog_id=id, user_id=other, role=role, hands_over=False
                ),
                members.ChangeMember(dialog_id=id, user_id=other, silenced_until=until),
                members.ChangeDialog(dialog_id=id, name=f"name {choose.randrange(99)}"),
                members.ChangeDialog(dialog_id=id, settings=change),
            ]
        )


_CHOICES: dict[Callable[[History, Device], Any], int] = {
    History.send: 24,
    History.forward: 5,
    History.edit: 9,
    History.delete: 7,
    History.on_message: 26,
    History.open: 8,
    History.vote: 6,
    History.own: 7,
    History.join: 8,
    History.go: 6,
    History.rule: 7,
}
_DOINGS, _WEIGHTS = list(_CHOICES), list(_CHOICES.values())


class Diverged(AssertionError):
    """A device does not show what is true, or the core gave up. steps: how many of the
    seed's it took."""

    def __init__(self, seed: int, steps: int, trace: list[str], why: str) -> None:
        last = "\n  ".join(trace[-TRACE_MAX:])
        super().__init__(
            f"seed {seed} after {steps} steps: {why}\n  {last}\n"
            f"Again: python -m tests.support.simulation {seed} {steps}"
        )
        self.seed = seed
        self.why = why


async def play(world: World, steps: int) -> None:
    """One history. A device that begins anew gets few of its dialogs at once, as if
    everybody had very many."""
    with patch.object(sync, "DIALOGS_PAGE_MAX", DIALOGS_MAX):
        await History(world, steps).run()


def run(seed: int, steps: int = STEPS) -> World:
    """One history over memory, in a Trio of its own, the same each time.

    Raises:
        Diverged
    """
    world = World(seed)
    try:
        with repeatable(seed):
            trio.run(play, world, steps)
    except Exception as error:
        cause: BaseException = error
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        why = f"{type(cause).__name__}: {cause}"
        raise Diverged(seed, steps, world.trace, why) from error
    return world


def run_all(seeds: Iterable[int], steps: int = STEPS) -> int:
    """How many commands were accepted in all.

    Raises:
        Diverged: for the first seed that does, in as few steps as it takes.
    """
    taken = 0
    for seed in seeds:
        try:
            taken += len(run(seed, steps).truth.taken)
        except Diverged:
            for fewer in range(1, steps):
                run(seed, fewer)
            raise
    return taken
