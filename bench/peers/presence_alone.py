"""Owns presence without sockets: what it keeps of many users, and what a change costs.

Prints one JSON object. Every user is online, away, watched by two connections and has
a last time; sessions, the hub and who they are were there before and are not counted.
The transport takes frames and throws them away: a change costs here what presence and
the hub do, without the kernel.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import trio

from tchatd.edge.hub import Hub, Lane
from tchatd.edge.last_seen import LastSeen
from tchatd.edge.presence import Presence, PresenceSettings
from tchatd.edge.presence_models import SetPresence, WatchPresence
from tchatd.edge.session_models import Session
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.clock import ManualClock
from tchatd.kernel.routing import Caller, Context
from tchatd.observe.metrics import Metrics

WATCHED_AT_ONCE = 500
EACH_WATCHED_BY = 2
SPREAD = 7
"""Numbers of those who are tracked lie so far apart: not everybody is online."""
CHANGES = 200


class Sink:
    """A transport that takes everything."""

    def __init__(self) -> None:
        self.taken = 0

    def queue(self, connection: int, frame: Any, /) -> bool:
        self.taken += 1
        return True

    def fan_out(self, connections: Sequence[int], frame: Any, /) -> int:
        self.taken += len(connections)
        return len(connections)

    def flush(self) -> None:
        return

    def close(self, connection: int, code: int, reason: str = "", /) -> bool:
        return True

    def pause(self, connection: int, /) -> None:
        return

    def resume(self, connection: int, /) -> None:
        return

    def authenticated(self, connection: int, /) -> None:
        return


class Everybody:
    """Directory, visibility, members and last times, none of which cost anything."""

    async def numbers_of(self, ids: Sequence[UUID]) -> Mapping[UUID, int]:
        return {id: id.int for id in ids}

    async def ids_of(self, numbers: Sequence[int]) -> Mapping[int, UUID]:
        return {number: UUID(int=number) for number in numbers}

    def cached_id(self, number: int) -> UUID | None:
        return UUID(int=number)

    async def load(self, numbers: Sequence[int]) -> None:
        return

    def sight(self, viewer: int, target: int) -> Any:
        return "exact"

    async def members_of(self, user_number: int, dialog_id: str) -> BitMap:
        return BitMap()

    async def last_seen(self, numbers: Sequence[int]) -> Mapping[int, int]:
        return {}

    async def keep_last_seen(self, seen: Mapping[int, int]) -> None:
        return


def rss_bytes() -> int:
    gc.collect()
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no Rss")


class World:
    def __init__(self, users: int) -> None:
        everybody, clock = Everybody(), ManualClock()
        metrics = Metrics(process=False)
        self.sink = Sink()
        self.hub = Hub(metrics)
        self.lane = Lane(self.sink, bytes, is_msgpack=False)
        self.hub.add_lane(self.lane)
        self.now_s = 0.0
        self.last_seen = LastSeen(everybody, clock, times_max=1 << 20, write_s=60)
        self.presence = Presence(
            self.hub,
            everybody,
            everybody,
            everybody,
            self.last_seen,
            clock,
            metrics,
            PresenceSettings(shown_at_once_max=1 << 30, watches_max=1 << 30),
            now=lambda: self.now_s,
        )
        self.handlers = {op.name: op.handler for op in self.presence.operations()}
        self.callers = [
            Caller(UUID(int=SPREAD * i), SPREAD * i, UUID(int=i))
            for i in range(1, users + 1)
        ]
        for index, caller in enumerate(self.callers):
            session = Session(self.lane, (1 << 32) + index, "192.0.2.1", index)
            session.caller = caller
            self.hub.add(session)

    def context(self, index: int) -> Context:
        return Context("r", "192.0.2.1", self.callers[index], (1 << 32) + index)

    def set(self, index: int, status: Any) -> None:
        self.handlers["presence.set"](self.context(index), SetPresence(status))

    async def watch(self, index: int, targets: Sequence[int]) -> None:
        ids = [self.callers[target].user_id for target in targets]
        await self.handlers["presence.watch"](self.context(index), WatchPresence(ids))


async def memory(users: int) -> float:
    """Bytes a tracked user."""
    world = World(users)
    before = rss_bytes()
    for index, caller in enumerate(world.callers):
        world.presence.arrived(caller, (1 << 32) + index)
    world.now_s += 10
    world.presence.tick()
    for index in range(users):
        world.set(index, "away")
    watcher = 0
    for _ in range(EACH_WATCHED_BY):
        for first in range(0, users, WATCHED_AT_ONCE):
            last = min(users, first + WATCHED_AT_ONCE)
            await world.watch(watcher, range(first, last))
            watcher += 1
    return (rss_bytes() - before) / users


async def change_us(watchers: int) -> float:
    """Microseconds of one change that is told to so many."""
    world = World(watchers + 1)
    for index, caller in enumerate(world.callers):
        world.presence.arrived(caller, (1 << 32) + index)
    world.now_s += 10
    world.presence.tick()
    for index in range(1, watchers + 1):
        await world.watch(index, [0])
    world.sink.taken = 0
    began = time.perf_counter()
    for i in range(CHANGES):
        world.set(0, ("away", "online")[i % 2])
    took_s = time.perf_counter() - began
    assert world.sink.taken == CHANGES * watchers
    return took_s / CHANGES * 1e6


async def main(users: int) -> None:
    answer = {"bytes_a_user": await memory(users)}
    for watchers in (1, 100, 10_000):
        answer[f"change_{watchers}_us"] = await change_us(watchers)
    print(json.dumps(answer))


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]))
