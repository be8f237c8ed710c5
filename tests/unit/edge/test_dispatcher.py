"""Running one command: limits, answers now and later, our own mistakes."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tchatd.edge.dispatcher import (
    Awaited,
    Dispatcher,
    DispatcherSettings,
    Overtime,
    RequestIds,
    outcome_of,
)
from tchatd.edge.problems import Internal
from tchatd.kernel.deferred import Deferred
from tchatd.kernel.errors import NotFound, RateLimited, Unavailable
from tchatd.kernel.routing import Access, Context, Limit, Operation
from tchatd.observe import logging
from tchatd.observe.metrics import Metrics
from tests.support.edge_fakes import caller


class Ask(msgspec.Struct):
    pass


CONTEXT = Context("r-1", "192.0.2.1", caller(1))


def operation(handler: Callable[..., Any], *limits: Limit) -> Operation:
    return Operation(
        name="a.b",
        summary="",
        tag="t",
        command=Ask,
        result=None,
        handler=handler,
        websocket="a.b",
        access=Access.USER,
        limits=limits,
    )


def dispatcher_of(
    handler: Callable[..., Any], *limits: Limit, **settings: Any
) -> Dispatcher:
    return Dispatcher(
        [operation(handler, *limits)],
        Metrics(process=False),
        DispatcherSettings(**settings),
        now=lambda: 0.0,
    )


@asynccontextmanager
async def running(dispatcher: Dispatcher) -> AsyncIterator[Dispatcher]:
    async with trio.open_nursery() as nursery:
        await nursery.start(dispatcher.run)
        yield dispatcher
        dispatcher.close()


def invoke(dispatcher: Dispatcher, context: Context = CONTEXT) -> Any:
    return dispatcher.invoke(dispatcher.entries["a.b"], context, Ask())


def test_a_plain_result_is_answered_without_a_task() -> None:
    assert invoke(dispatcher_of(lambda context, command: 7)) == 7


def test_a_deferred_is_passed_on_as_it_is() -> None:
    deferred: Deferred[int] = Deferred()

    assert invoke(dispatcher_of(lambda context, command: deferred)) is deferred


async def test_an_awaitable_runs_in_a_task_and_answers_later() -> None:
    async def handler(context: Context, command: Ask) -> int:
        await trio.lowlevel.checkpoint()
        return 7

    async with running(dispatcher_of(handler)) as dispatcher:
        awaited = invoke(dispatcher)
        assert type(awaited) is Awaited
        await wait_all_tasks_blocked()

    assert awaited.result() == 7


async def test_a_mistake_of_whoever_waited_ends_nothing_else() -> None:
    def told(_: Deferred[Any]) -> None:
        raise KeyError

    async def handler(context: Context, command: Ask) -> int:
        await trio.lowlevel.checkpoint()
        return 7

    async with running(dispatcher_of(handler)) as dispatcher:
        invoke(dispatcher).on_done(told)
        await wait_all_tasks_blocked()
        awaited = invoke(dispatcher)
        await wait_all_tasks_blocked()

    assert awaited.result() == 7


async def test_a_refusal_reaches_who_waits() -> None:
    async def handler(context: Context, command: Ask) -> None:
        raise NotFound

    async with running(dispatcher_of(handler)) as dispatcher:
        awaited = invoke(dispatcher)
        await wait_all_tasks_blocked()

    assert isinstance(awaited.error, NotFound)


async def test_a_command_that_takes_too_long_is_cancelled(autojump_clock: Any) -> None:
    cancelled = trio.Event()

    async def handler(context: Context, command: Ask) -> None:
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async with running(dispatcher_of(handler, request_s=2.0)) as dispatcher:
        awaited = invoke(dispatcher)
        await trio.sleep(3)

    assert isinstance(awaited.error, Overtime)
    assert cancelled.is_set()


async def test_only_so_many_commands_wait_at_once() -> None:
    release = trio.Event()

    async def handler(context: Context, command: Ask) -> None:
        await release.wait()

    async with running(dispatcher_of(handler, tasks_max=2)) as dispatcher:
        waiting = [invoke(dispatcher) for _ in range(2)]
        with pytest.raises(Unavailable):
            invoke(dispatcher)
        release.set()
        await wait_all_tasks_blocked()
        invoke(dispatcher)

    assert all(awaited.done for awaited in waiting)


async def test_nothing_waits_before_it_runs_and_after_it_was_closed() -> None:
    async def handler(context: Context, command: Ask) -> None:
        raise AssertionError

    dispatcher = dispatcher_of(handler)
    with pytest.raises(Unavailable):
        invoke(dispatcher)
    async with running(dispatcher):
        pass
    with pytest.raises(Unavailable):
        invoke(dispatcher)


async def test_what_began_before_close_is_finished() -> None:
    release = trio.Event()

    async def handler(context: Context, command: Ask) -> int:
        await release.wait()
        return 7

    async with running(dispatcher_of(handler)) as dispatcher:
        awaited = invoke(dispatcher)
        dispatcher.close()
        await wait_all_tasks_blocked()
        release.set()

    assert awaited.result() == 7


def test_our_mistake_becomes_internal_and_is_logged_without_values() -> None:
    def handler(context: Context, command: Ask) -> None:
        raise ValueError("somebody@example.com")

    lines = io.StringIO()
    logging.configure("info", "json", lines)
    try:
        with pytest.raises(Internal) as failed:
            invoke(dispatcher_of(handler))
    finally:
        logging.configure()

    assert "example" not in failed.value.detail
    line = msgspec.json.decode(lines.getvalue())
    assert line["request_id"] == "r-1"
    assert line["error"] == "ValueError"
    assert any(place.endswith(" handler") for place in line["at"])
    assert "example" not in lines.getvalue()


async def test_our_mistake_in_a_task_becomes_internal() -> None:
    async def handler(context: Context, command: Ask) -> None:
        raise KeyError("secret")

    async with running(dispatcher_of(handler)) as dispatcher:
        awaited = invoke(dispatcher)
        await wait_all_tasks_blocked()

    assert isinstance(awaited.error, Internal)


def test_limits_of_an_operation_count_users_and_addresses_apart() -> None:
    dispatcher = dispatcher_of(
        lambda context, command: 7,
        Limit(by="user", per_minute=1, burst=2),
        Limit(by="address", per_minute=1, burst=3),
    )
    other = Context("r", "192.0.2.1", caller(2))
    invoke(dispatcher)
    invoke(dispatcher)

    with pytest.raises(RateLimited) as refused:
        invoke(dispatcher)
    assert refused.value.retry_after_s == 60
    with pytest.raises(RateLimited):
        invoke(dispatcher, other)
    assert invoke(dispatcher, Context("r", "192.0.2.2", caller(2))) == 7


def test_outcomes_are_counted_by_command() -> None:
    metrics = Metrics(process=False)
    dispatcher = Dispatcher([operation(lambda context, command: 7)], metrics)
    entry = dispatcher.entries["a.b"]

    entry.count(outcome_of(None), 0.0)
    entry.count(outcome_of(NotFound()), 0.0)
    entry.count(outcome_of(NotFound()), 0.0)

    text = metrics.render().decode()
    assert 'tchatd_commands_total{command="a.b",outcome="ok"} 1.0' in text
    assert 'tchatd_commands_total{command="a.b",outcome="not_found"} 2.0' in text
    assert 'tchatd_command_seconds_count{command="a.b"} 3.0' in text


def test_request_ids_differ_and_two_starts_differ() -> None:
    first, second = RequestIds(lambda size: b"\1" * size), RequestIds()

    assert first.next() == "010101010101-1"
    assert first.next() == "010101010101-2"
    assert second.next() != RequestIds().next()
