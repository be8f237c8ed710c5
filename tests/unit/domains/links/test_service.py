"""Previews: made once for all who ask, kept for a while, never waited for in vain."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from tchatd.domains.links import service
from tchatd.domains.links.errors import NoPreview, PreviewsOff
from tchatd.domains.links.models import GetLinkPreview, LinkPreview, LinkSettings
from tchatd.domains.links.service import LinkPreviews
from tchatd.kernel.clock import ManualClock
from tchatd.kernel.deferred import Deferred
from tchatd.kernel.errors import Unavailable
from tests.support.bots import as_user

URL = "https://a.example/page"


class FakePreviewer:
    """answers: by URL; an exception is raised. gate: when it answers."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers: dict[str, Any] = {URL: LinkPreview(url=URL, title="A page")}
        self.gate = trio.Event()
        self.gate.set()

    async def preview(self, url: str) -> LinkPreview | None:
        self.asked.append(url)
        await self.gate.wait()
        answer: LinkPreview | Exception | None = self.answers.get(url)
        if isinstance(answer, Exception):
            raise answer
        return answer


class World:
    def __init__(self, **settings: Any) -> None:
        self.clock = ManualClock()
        self.previewer = FakePreviewer()
        self.service = LinkPreviews(
            self.previewer, self.clock, LinkSettings(enabled=True, **settings)
        )

    async def get(self, url: str = URL) -> LinkPreview:
        return await self.settle(self.ask(url))

    def ask(self, url: str = URL) -> Any:
        return self.service.get(as_user(1), GetLinkPreview(url))

    async def settle(self, answer: Any) -> LinkPreview:
        """The value of whatever a handler answered."""
        if hasattr(type(answer), "__await__"):
            answer = await answer
        if isinstance(answer, Deferred):
            done = trio.Event()
            answer.on_done(lambda _: done.set())
            await done.wait()
            answer = answer.result()
        assert isinstance(answer, LinkPreview)
        return answer


async def test_a_preview_is_kept_for_a_while_and_then_made_again() -> None:
    world = World(cached_s=60)
    assert (await world.get()).title == "A page"
    assert (await world.get(URL + "#part")).url == URL + "#part"
    assert world.previewer.asked == [URL]
    world.clock.advance(60_000)
    await world.get()
    assert world.previewer.asked == [URL, URL]


async def test_that_there_is_none_is_kept_too() -> None:
    world = World()
    for _ in range(2):
        with pytest.raises(NoPreview):
            await world.get("https://nothing.example/")
    assert len(world.previewer.asked) == 1


async def test_who_asks_at_the_same_time_waits_for_the_same_answer() -> None:
    world = World()
    world.previewer.gate = trio.Event()
    titles: list[object] = []

    async def ask() -> None:
        titles.append((await world.get()).title)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        world.previewer.gate.set()
    assert titles == ["A page"] * 5
    assert world.previewer.asked == [URL]


async def test_all_who_wait_learn_of_a_failure_and_nothing_is_kept() -> None:
    world = World()
    world.previewer.gate = trio.Event()
    world.previewer.answers[URL] = Unavailable("busy")
    failures: list[Exception] = []

    async def ask() -> None:
        try:
            await world.get()
        except Unavailable as error:
            failures.append(error)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        world.previewer.gate.set()
    assert len(failures) == 3
    assert len(world.service) == 0


async def test_nobody_waits_for_one_who_was_given_up() -> None:
    world = World()
    world.previewer.gate = trio.Event()
    failures: list[Exception] = []

    async def second() -> None:
        with pytest.raises(Unavailable) as failed:
            await world.get()
        failures.append(failed.value)

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            nursery.start_soon(second)
            nursery.start_soon(_cancel_when_blocked, scope)
            await world.get()
    assert len(failures) == 1
    world.previewer.gate.set()
    assert (await world.get()).title == "A page"


async def _cancel_when_blocked(scope: trio.CancelScope) -> None:
    await trio.testing.wait_all_tasks_blocked()
    scope.cancel()


async def test_too_many_who_wait_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "WAITING_MAX", 1)
    world = World()
    world.previewer.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(world.get)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(Unavailable):
            await world.get()
        world.previewer.gate.set()


async def test_so_many_are_kept() -> None:
    world = World(cached_max=2)
    for number in range(4):
        with pytest.raises(NoPreview):
            await world.get(f"https://n{number}.example/")
    assert len(world.service) == 2


async def test_without_a_previewer_there_are_none() -> None:
    off = LinkPreviews(None, ManualClock(), LinkSettings())
    with pytest.raises(PreviewsOff):
        off.get(as_user(1), GetLinkPreview(URL))


async def test_nobody_waits_for_one_who_was_turned_away(autojump_clock: object) -> None:
    world = World()
    world.ask().close()  # as the dispatcher does when too many requests wait
    with trio.fail_after(1):
        assert (await world.get()).title == "A page"


async def test_who_asks_before_the_first_has_begun_waits_for_the_same_answer() -> None:
    world = World()
    first, second = world.ask(), world.ask(URL + "#part")
    world.previewer.gate = trio.Event()
    found: list[LinkPreview] = []

    async def settle(answer: Any) -> None:
        found.append(await world.settle(answer))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(settle, first)
        nursery.start_soon(settle, second)
        await trio.testing.wait_all_tasks_blocked()
        world.previewer.gate.set()
    assert sorted(preview.url for preview in found) == [URL, URL + "#part"]
    assert world.previewer.asked == [URL]
