"""Who is online where, and what reaches whom."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from tchatd.edge.hub import Hub, Lane
from tchatd.edge.session_models import Session
from tchatd.kernel.bitmaps import BitMap
from tchatd.observe.metrics import Metrics
from tests.support.edge_fakes import FakeTransport, caller


class Event(msgspec.Struct, tag="event", tag_field="op"):
    seq: int


class World:
    """Two transports, each with both lanes."""

    def __init__(self) -> None:
        self.hub = Hub(Metrics(process=False))
        self.transports = [FakeTransport(), FakeTransport()]
        self.lanes = [
            Lane(transport, bytes, is_msgpack=is_msgpack)
            for transport in self.transports
            for is_msgpack in (False, True)
        ]
        for lane in self.lanes:
            self.hub.add_lane(lane)
        self.sessions: dict[int, Session] = {}

    def connect(self, number: int, connection: int, lane: int = 0) -> None:
        session = Session(self.lanes[lane], connection, "192.0.2.1", connection)
        session.caller = caller(number)
        self.sessions[connection] = session
        self.hub.add(session)

    def leave(self, connection: int) -> None:
        self.hub.remove(self.sessions.pop(connection))

    def received(self) -> dict[int, list[Any]]:
        self.hub.flush()
        got: dict[int, list[Any]] = {}
        for transport in self.transports:
            for connection, frames in transport.sent.items():
                is_msgpack = self.sessions[connection].lane.is_msgpack
                module: Any = msgspec.msgpack if is_msgpack else msgspec.json
                got[connection] = [module.decode(frame)["seq"] for frame in frames]
            transport.sent = {}
        return got


@pytest.fixture
def world() -> World:
    return World()


def test_members_who_are_online_get_it_in_their_subprotocol(world: World) -> None:
    world.connect(1, 101)
    world.connect(2, 102, lane=1)
    world.connect(3, 103, lane=3)
    world.connect(4, 104)

    world.hub.deliver(BitMap([1, 2, 3, 9]), Event(5))

    assert world.received() == {101: [5], 102: [5], 103: [5]}


def test_every_connection_of_a_user_gets_it_but_the_one_that_asked(
    world: World,
) -> None:
    for connection, lane in ((101, 0), (102, 0), (103, 0), (104, 1)):
        world.connect(1, connection, lane)

    world.hub.deliver(BitMap([1]), Event(1), except_connection=102)
    world.hub.deliver_user(1, Event(2), except_connection=104)
    world.hub.deliver_user(2, Event(3))

    assert world.received() == {101: [1, 2], 102: [2], 103: [1, 2], 104: [1]}


def test_an_asker_who_is_no_member_changes_nothing(world: World) -> None:
    world.connect(1, 101)
    world.connect(2, 102)

    world.hub.deliver(BitMap([1]), Event(1), except_connection=102)
    world.hub.deliver(BitMap([1]), Event(2), except_connection=999)

    assert world.received() == {101: [1, 2]}


def test_nothing_leaves_before_flush(world: World) -> None:
    world.connect(1, 101)

    world.hub.deliver(BitMap([1]), Event(1))

    assert world.transports[0].sent == {}
    assert world.transports[0].queued != {}


def test_an_event_nobody_gets_is_not_encoded(world: World) -> None:
    world.connect(1, 101)

    world.hub.deliver(BitMap([2]), object())


def test_chosen_connections_get_it(world: World) -> None:
    world.connect(1, 101)
    world.connect(2, 102, lane=1)
    world.connect(3, 103, lane=2)

    world.hub.deliver_connections([101, 102, 999], Event(1))

    assert world.received() == {101: [1], 102: [1]}


@pytest.mark.parametrize("seed", range(20))
def test_whoever_comes_and_goes_online_is_right(world: World, seed: int) -> None:
    chance = random.Random(seed)
    expected: dict[int, int] = {}

    for connection in range(300):
        if expected and chance.random() < 0.5:
            gone = chance.choice(list(expected))
            del expected[gone]
            world.leave(gone)
        expected[connection] = chance.randint(1, 12)
        world.connect(expected[connection], connection, chance.randrange(4))

        assert set(world.hub.online) == set(expected.values())
    members = BitMap(chance.sample(range(1, 13), 6))
    world.hub.deliver(members, Event(1))
    assert set(world.received()) == {c for c, n in expected.items() if n in members}
    for number in range(1, 13):
        mine = {session.connection for session in world.hub.sessions_of(number)}
        assert mine == {c for c, n in expected.items() if n == number}
    for gone in expected:
        world.leave(gone)
    assert not world.hub.online
    assert all(not lane.connections and not lane.online for lane in world.lanes)


def test_removing_twice_is_harmless(world: World) -> None:
    world.connect(1, 101)
    session = world.sessions[101]

    world.hub.remove(session)
    world.hub.remove(session)

    assert not world.hub.online
