"""WebSocket sessions: who speaks, order, replies, and every way to end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tchatd.edge.dispatcher import DispatcherSettings
from tchatd.edge.session_models import SessionSettings
from tchatd.kernel.deferred import Deferred
from tchatd.kernel.errors import NotFound
from tchatd.kernel.routing import Access, Context, Operation, Reply
from tests.support.edge_fakes import Edge, Json, caller, user_id


class Say(msgspec.Struct, frozen=True):
    text: str


class Said(msgspec.Struct):
    text: str


class Room:
    """Handlers of every kind, and the order in which they began."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.contexts: list[Context] = []
        self.deferred: dict[str, Deferred[Any]] = {}
        self.gates: dict[str, trio.Event] = {}

    def operations(self) -> list[Operation]:
        return [
            self._operation("plain", self.plain),
            self._operation("later", self.later),
            self._operation("wait", self.wait),
            self._operation("load", self.load),
            self._operation("public", self.plain, Access.PUBLIC),
        ]

    def plain(self, context: Context, command: Say) -> Any:
        self._begin(context, command)
        if command.text == "refuse":
            raise NotFound("no such room")
        if command.text == "crash":
            raise RuntimeError
        if command.text == "odd":
            return object()
        return Reply(Said(command.text), 201)

    def later(self, context: Context, command: Say) -> Deferred[Any]:
        self._begin(context, command)
        return self.deferred.setdefault(command.text, Deferred())

    async def wait(self, context: Context, command: Say) -> Said:
        self._begin(context, command)
        await self.gates.setdefault(command.text, trio.Event()).wait()
        if command.text == "refuse":
            raise NotFound
        return Said(command.text)

    async def load(self, context: Context, command: Say) -> Deferred[Any]:
        """Has to load something, and then is answered by the journal."""
        self._begin(context, command)
        await self.gates.setdefault(command.text, trio.Event()).wait()
        return self.deferred.setdefault(command.text, Deferred())

    def _begin(self, context: Context, command: Say) -> None:
        self.began.append(command.text)
        self.contexts.append(context)

    def _operation(
        self, name: str, handler: Any, access: Access = Access.USER
    ) -> Operation:
        return Operation(
            name=name,
            summary="",
            tag="t",
            command=Say,
            result=Said,
            handler=handler,
            websocket=name,
            access=access,
        )


@asynccontextmanager
async def room(**settings: Any) -> AsyncIterator[tuple[Edge, Room]]:
    rooms = Room()
    edge = Edge(rooms.operations(), SessionSettings(**settings))
    async with trio.open_nursery() as nursery:
        await nursery.start(edge.dispatcher.run)
        yield edge, rooms
        nursery.cancel_scope.cancel()


def say(op: str, id: int, text: str) -> Json:
    return {"op": op, "id": id, "text": text}


def ids(envelopes: Sequence[Json]) -> list[tuple[str, Any]]:
    return [(envelope["op"], envelope["id"]) for envelope in envelopes]


async def test_a_command_is_answered_with_its_id() -> None:
    async with room() as (edge, rooms):
        edge.connect(1, "u7")
        edge.send(1, say("plain", 5, "hi"))

        assert edge.received(1) == [{"op": "reply", "id": 5, "result": {"text": "hi"}}]
        context = rooms.contexts[0]
        assert context.connection == 1
        assert context.user == caller(7)
        assert context.address == "192.0.2.1"


async def test_messagepack_has_the_same_shapes() -> None:
    async with room() as (edge, _):
        edge.connect(1, "u7", edge.msgpack)
        edge.send_msgpack(1, say("plain", 5, "hi"))

        assert edge.received(1) == [{"op": "reply", "id": 5, "result": {"text": "hi"}}]


async def test_refusals_are_problems() -> None:
    async with room() as (edge, _):
        edge.connect(1, "u7")
        for id, text in enumerate(("refuse", "crash", "odd")):
            edge.send(1, say("plain", id, text))

        answers = edge.received(1)

    assert ids(answers) == [("error", 0), ("error", 1), ("error", 2)]
    assert [answer["problem"]["status"] for answer in answers] == [404, 500, 500]
    assert answers[0]["problem"]["detail"] == "no such room"


async def test_ping_is_answered() -> None:
    async with room() as (edge, _):
        edge.connect(1, "u7")
        edge.send(1, {"op": "ping", "id": 3})

        assert edge.received(1)[0]["result"]["server_time"].endswith("Z")


async def test_deferred_replies_come_in_any_order_each_once() -> None:
    async with room() as (edge, rooms):
        edge.connect(1, "u7")
        for id, text in enumerate(("a", "b", "c")):
            edge.send(1, say("later", id, text))
        assert edge.received(1) == []
        assert rooms.began == ["a", "b", "c"]

        rooms.deferred["b"].resolve(Said("B"))
        rooms.deferred["c"].fail(NotFound())
        rooms.deferred["a"].resolve(Said("A"))

        assert ids(edge.received(1)) == [("reply", 1), ("error", 2), ("reply", 0)]


async def test_later_commands_wait_behind_one_that_waits() -> None:
    async with room() as (edge, rooms):
        edge.connect(1, "u7")
        edge.connect(2, "u8")
        edge.send(1, say("wait", 0, "first"))
        for id in range(1, 4):
            edge.send(1, say("plain", id, f"p{id}"))
        edge.send(2, say("plain", 9, "other"))
        await wait_all_tasks_blocked()
        assert rooms.began == ["other", "first"]

        rooms.gates["first"].set()
        await wait_all_tasks_blocked()

        assert rooms.began == ["other", "first", "p1", "p2", "p3"]
        assert ids(edge.received(1)) == [("reply", id) for id in range(4)]
        assert edge.transport.flushes > 0


async def test_two_that_wait_are_decided_one_after_the_other() -> None:
    async with room() as (edge, rooms):
        edge.connect(1, "u7")
        edge.send(1, say("wait", 0, "a"))
        edge.send(1, say("wait", 1, "refuse"))
        edge.send(1, say("plain", 2, "c"))
        await wait_all_tasks_blocked()
        assert rooms.began == ["a"]
        rooms.gates["a"].set()
        await wait_all_tasks_blocked()
        assert rooms.began == ["a", "refuse"]
        rooms.gates["refuse"].set()
        await wait_all_tasks_blocked()

        assert ids(edge.received(1)) == [("reply", 0), ("error", 1), ("reply", 2)]


async def test_a_command_that_is_decided_but_not_durable_holds_nobody_up() -> None:
    async with room() as (edge, rooms):
        edge.connect(1, "u7")
        edge.send(1, say("load", 0, "a"))
        edge.send(1, say("later", 1, "b"))
        await wait_all_tasks_blocked()
        rooms.gates["a"].set()
        await wait_all_tasks_blocked()
        assert rooms.began == ["a", "b"]
        assert edge.received(1) == []

        rooms.deferred["a"].resolve(Said("A"))
        rooms.deferred["b"].resolve(Said("B"))

        assert ids(edge.received(1)) == [("reply", 0), ("reply", 1)]


async def test_reading_stops_while_too_much_waits_and_goes_on_after() -> None:
    async with room(commands_waiting_max=3) as (edge, rooms):
        edge.connect(1, "u7")
        edge.send(1, say("wait", 0, "a"))
        for id in range(1, 3):
            edge.send(1, say("plain", id, "x"))
        assert edge.transport.paused == set()
        edge.send(1, say("plain", 3, "x"))
        assert edge.transport.paused == {1}
        await wait_all_tasks_blocked()

        rooms.gates["a"].set()
        await wait_all_tasks_blocked()

        assert edge.transport.paused == set()
        assert ids(edge.received(1)) == [("reply", id) for id in range(4)]


async def test_large_messages_that_wait_stop_reading_too() -> None:
    async with room(waiting_bytes_max=1_000) as (edge, _):
        edge.connect(1, "u7")
        edge.send(1, say("wait", 0, "a"))
        edge.send(1, say("plain", 1, "x" * 1_000))

        assert edge.transport.paused == {1}


async def test_who_goes_on_sending_while_paused_is_closed() -> None:
    async with room(messages_waiting_max=5) as (edge, _):
        edge.connect(1, "u7")
        edge.send(1, say("wait", 0, "a"))
        for id in range(1, 7):
            edge.send(1, say("plain", id, "x"))

        assert edge.transport.closed[1][0] == 1013


async def test_a_connection_that_goes_while_its_command_waits_is_forgotten() -> None:
    async with room() as (edge, rooms):
        edge.connect(1, "u7")
        edge.send(1, say("wait", 0, "a"))
        edge.send(1, say("plain", 1, "b"))
        await wait_all_tasks_blocked()
        edge.sessions.closed(1)
        rooms.gates["a"].set()
        await wait_all_tasks_blocked()

        assert rooms.began == ["a"]
        assert 7 not in edge.hub.online


def offer(edge: Edge, envelope: Json) -> bool:
    return edge.sessions.offer(1, msgspec.json.encode(envelope), True)


def turn(edge: Edge, envelope: Json) -> None:
    edge.sessions.turn(1, msgspec.json.encode(envelope), True)


async def test_a_newcomer_waits_its_turn_and_keeps_its_order() -> None:
    first, second, third = (say("plain", id, str(id)) for id in (1, 2, 3))
    async with room() as (edge, rooms):
        edge.connect(1, "u7")
        assert not offer(edge, first)
        assert not offer(edge, second)
        turn(edge, first)
        assert edge.sessions.is_behind(1)
        assert not offer(edge, third), "the second would come after it"
        turn(edge, second)
        turn(edge, third)
        assert not edge.sessions.is_behind(1)
        assert offer(edge, say("plain", 4, "4"))

        assert rooms.began == ["1", "2", "3", "4"]


async def test_who_says_hello_is_new_until_the_command_after_it() -> None:
    async with room() as (edge, rooms):
        edge.connect(1, None)
        hello = {"op": "hello", "id": 1, "token": "u7"}
        assert not offer(edge, hello)
        turn(edge, hello)
        assert not offer(edge, say("plain", 2, "a"))
        turn(edge, say("plain", 2, "a"))
        assert offer(edge, say("plain", 3, "b"))

        assert rooms.began == ["a", "b"]


async def test_a_hello_that_waits_its_turn_is_not_late() -> None:
    hello = {"op": "hello", "id": 1, "token": "u7"}
    async with room(hello_s=1) as (edge, _):
        edge.connect(1, None)
        assert not offer(edge, hello)
        edge.advance(2)
        edge.sessions.tick()
        turn(edge, hello)

        assert 1 not in edge.transport.closed
        assert 7 in edge.hub.online


async def test_a_newcomer_who_sends_much_is_not_read_until_its_turn() -> None:
    async with room() as (edge, _):
        edge.connect(1, "u7")
        messages = [say("plain", id, "x") for id in range(8)]
        for message in messages:
            assert not edge.transport.paused
            assert not offer(edge, message)
        assert edge.transport.paused == {1}
        for message in messages:
            turn(edge, message)
        assert not edge.transport.paused


async def test_a_turn_of_who_has_gone_is_nobody_s() -> None:
    async with room() as (edge, rooms):
        edge.connect(1, "u7")
        assert not offer(edge, say("plain", 1, "a"))
        edge.sessions.closed(1)
        turn(edge, say("plain", 1, "a"))

        assert not edge.sessions.is_behind(1)
        assert rooms.began == []


async def test_too_many_that_wait_in_the_whole_server_are_refused() -> None:
    rooms = Room()
    edge = Edge(rooms.operations(), dispatcher_settings=DispatcherSettings(tasks_max=1))
    async with trio.open_nursery() as nursery:
        await nursery.start(edge.dispatcher.run)
        edge.connect(1, "u7")
        edge.connect(2, "u8")
        edge.send(1, say("wait", 0, "a"))
        edge.send(2, say("wait", 0, "b"))

        assert edge.received(2)[0]["problem"]["status"] == 503
        nursery.cancel_scope.cancel()


# Malformed input.


async def test_a_malformed_envelope_is_an_error_without_an_id() -> None:
    async with room() as (edge, _):
        edge.connect(1, "u7")
        edge.send(1, "{")
        edge.send(1, '{"op":"sing","id":4}')
        edge.send(1, '{"op":"plain","id":5}')

        answers = edge.received(1)

    assert ids(answers) == [("error", None), ("error", 4), ("error", 5)]
    assert answers[2]["problem"]["details"] == {"text": "is required"}


async def test_too_many_malformed_envelopes_are_against_the_policy() -> None:
    async with room(malformed_max=3) as (edge, _):
        edge.connect(1, "u7")
        for _ in range(5):
            edge.send(1, "{")

        assert edge.transport.closed[1] == (1008, "too many malformed envelopes")
        assert len(edge.received(1)) == 3


@pytest.mark.parametrize("is_text", [True, False])
async def test_the_wrong_type_of_message_is_unsupported(is_text: bool) -> None:
    async with room() as (edge, _):
        edge.connect(1, "u7", edge.msgpack if is_text else edge.json)
        edge.sessions.message(1, b"{}", is_text)

        assert edge.transport.closed[1][0] == 1003


async def test_commands_of_a_connection_are_limited() -> None:
    async with room(commands_per_second=1, commands_burst=2) as (edge, rooms):
        edge.connect(1, "u7")
        for id in range(4):
            edge.send(1, say("plain", id, "x"))
        answers = edge.received(1)
        edge.advance(1)
        edge.send(1, say("plain", 9, "x"))

        assert ids(answers) == [("reply", 0), ("reply", 1), ("error", 2), ("error", 3)]
        assert answers[2]["problem"]["retry_after"] == 1
        assert ids(edge.received(1)) == [("reply", 9)]
        assert len(rooms.began) == 3


async def test_envelopes_that_cannot_be_run_are_limited_too() -> None:
    async with room(commands_per_second=1, commands_burst=2) as (edge, _):
        edge.connect(1, "u7")
        for id in range(4):
            edge.send(1, {"op": "nothing-like-it", "id": id})

        errors = [answer["problem"]["error"] for answer in edge.received(1)]
        assert errors == ["invalid_request"] * 2 + ["rate_limited"] * 2


# Who speaks.


async def test_hello_says_who_speaks() -> None:
    async with room() as (edge, _):
        edge.connect(1, None)
        assert 7 not in edge.hub.online
        assert edge.transport.known == set()
        edge.send(1, {"op": "hello", "token": "u7"})
        edge.send(1, say("plain", 1, "hi"))

        first, second = edge.received(1)

        assert (first["op"], first["id"]) == ("reply", None)
        assert first["result"]["user_id"] == str(user_id(7))
        assert first["result"]["session_id"] == str(caller(7).session_id)
        assert second["id"] == 1
        assert edge.transport.known == {1}
        assert 7 in edge.hub.online


async def test_before_hello_only_public_commands_are_taken() -> None:
    async with room() as (edge, rooms):
        edge.connect(1, None)
        edge.send(1, say("plain", 1, "hi"))
        edge.send(1, say("public", 2, "hi"))
        edge.send(1, {"op": "ping", "id": 3})

        answers = edge.received(1)
        assert ids(answers) == [("error", 1), ("reply", 2), ("reply", 3)]
        assert answers[0]["problem"]["status"] == 401
        assert rooms.began == ["hi"]


async def test_commands_behind_a_hello_that_is_looked_up_wait_for_it() -> None:
    async with room() as (edge, _):
        edge.authenticator.slow[7] = trio.Event()
        edge.connect(1, None)
        edge.send(1, {"op": "hello", "token": "u7", "id": 0})
        edge.send(1, say("plain", 1, "hi"))
        await wait_all_tasks_blocked()
        assert edge.received(1) == []

        edge.authenticator.slow[7].set()
        await wait_all_tasks_blocked()

        assert ids(edge.received(1)) == [("reply", 0), ("reply", 1)]


@pytest.mark.parametrize(
    ("token", "code"), [("expired", 4001), ("nonsense", 1008), ("", None)]
)
async def test_a_hello_that_does_not_hold_ends_the_connection(
    token: str, code: int | None
) -> None:
    async with room() as (edge, _):
        edge.connect(1, None)
        edge.send(1, {"op": "hello", "token": token, "id": 0})

        assert ids(edge.received(1)) == [("error", 0)]
        assert edge.transport.closed.get(1, (None,))[0] == code


async def test_a_connection_without_hello_is_closed_after_its_time() -> None:
    async with room(hello_s=10) as (edge, _):
        edge.connect(1, None)
        edge.connect(2, None)
        edge.send(2, {"op": "hello", "token": "u7"})
        edge.advance(9)
        assert edge.transport.closed == {}
        edge.advance(3)

        assert set(edge.transport.closed) == {1}


async def test_a_newer_token_on_the_same_connection_keeps_it_open() -> None:
    async with room() as (edge, _):
        edge.connect(1, "u7")
        edge.connect(2, "u8")
        edge.advance(800)
        edge.send(1, {"op": "hello", "token": "u7s2", "id": 0})
        edge.advance(110)

        assert edge.transport.closed == {2: (4001, "token expired")}
        edge.advance(800)
        assert set(edge.transport.closed) == {1, 2}


async def test_a_token_of_another_user_is_refused() -> None:
    async with room() as (edge, _):
        edge.connect(1, "u7")
        edge.send(1, {"op": "hello", "token": "u8", "id": 0})
        edge.send(1, {"op": "hello", "token": "nonsense", "id": 1})

        answers = edge.received(1)
        assert [answer["problem"]["status"] for answer in answers] == [409, 401]
        assert edge.transport.closed == {}
        assert list(edge.hub.online) == [7]


async def test_a_revoked_session_is_told_and_closed_and_others_stay() -> None:
    async with room() as (edge, _):
        edge.connect(1, "u7s1")
        edge.connect(2, "u7s2")
        edge.connect(3, "u8s1")

        edge.sessions.ended(caller(7, 1).session_id, 7)

        assert edge.received(1) == [
            {"op": "session.revoked", "session_id": str(caller(7, 1).session_id)}
        ]
        assert edge.transport.closed == {1: (4002, "session revoked")}
        assert set(edge.hub.online) == {7, 8}


async def test_the_oldest_of_too_many_connections_is_replaced() -> None:
    async with room(connections_per_user_max=2) as (edge, _):
        edge.connect(1, "u7s1")
        edge.connect(2, "u7s2")
        edge.connect(3, "u7s2")
        assert edge.transport.closed == {2: (4003, "replaced")}
        edge.connect(4, "u7s9")

        assert set(edge.transport.closed) == {1, 2}
        assert len(edge.hub.sessions_of(7)) == 2


async def test_replacing_the_only_connection_keeps_the_user_online() -> None:
    async with room(connections_per_user_max=1) as (edge, _):
        edge.connect(1, "u7")
        edge.connect(2, "u7")
        edge.advance(60)

        assert edge.presence.status_of(7) == "online"
        assert list(edge.hub.online) == [7]


async def test_going_away_tells_each_when_to_come_back() -> None:
    async with room(reconnect_spread_s=10) as (edge, _):
        for connection in range(600):
            edge.connect(connection, f"u{connection + 1}")
        edge.connect(900, None)

        await edge.sessions.close_all()

        assert len(edge.transport.closed) == 601
        assert set(edge.transport.closed.values()) == {(1001, '{"reconnect_ms":5000}')}
        assert not edge.hub.online


async def test_messages_of_unknown_connections_do_nothing() -> None:
    async with room() as (edge, rooms):
        edge.send(1, say("plain", 1, "x"))
        edge.sessions.closed(1)
        edge.sessions.ended(UUID(int=1), 99)

        assert rooms.began == []


async def test_who_asks_is_told_of_connections_of_users_that_are_gone() -> None:
    edge = Edge()
    gone: list[int] = []
    edge.sessions.on_gone = gone.append
    edge.connect(1, "u1")
    edge.connect(2, None)
    for connection in (2, 1, 1):
        edge.sessions.closed(connection)
    assert gone == [1]
