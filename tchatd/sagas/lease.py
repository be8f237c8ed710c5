"""Owns the lease of one life of an engine: its beats, and what others' silence means.

A life registers, buries former ones of its node, and beats. It gives up by itself when
it could not beat for `lease_s`, counted from before the last beat that arrived; others
bury it when they have seen its beats stand still for as long, so later. Each looks at
its own clock only.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection
from typing import Final
from uuid import UUID

import trio

from tchatd.kernel.errors import DomainError
from tchatd.observe.logging import get_logger
from tchatd.sagas.store import Runner, SagaStore

ORPHANS_MAX: Final = 5_000
"""Released in one statement."""
BEATS_A_LEASE: Final = 3
RETIRE_S: Final = 2.0
"""Longest time at the end to let others have what is left."""
_log = get_logger("sagas")


class Lease:
    """runner: the life it is of. running: the sagas that it knows it runs.

    released: told that there may be something to claim.
    """

    def __init__(
        self,
        store: SagaStore,
        runner: UUID,
        node: str,
        lease_s: float,
        running: Collection[UUID],
        released: Callable[[], object],
    ) -> None:
        self._store = store
        self._runner = runner
        self._node = node
        self._lease_s = lease_s
        self._running = running
        self._released = released
        self.report: Callable[[Exception], object] = lambda _: None
        self.lost = trio.Event()
        """It is not sure any more that nobody else has its sagas."""

    async def register(self) -> None:
        """Let the store know this life, and no former one of its node.

        Raises: Unavailable.
        """
        await self._store.register(Runner(self._runner, self._node, 0))
        for other in await self._store.runners():
            if other.node == self._node and other.id != self._runner:
                await self._store.bury(other.id, None)
        await self._release_orphans()

    async def beat(self) -> None:
        """Until it is `lost`."""
        with trio.CancelScope(deadline=trio.current_time() + self._lease_s) as sure:
            is_alive = True
            while is_alive:
                sent_s = trio.current_time()
                try:
                    is_alive = await self._store.beat(self._runner)
                    sure.deadline = sent_s + self._lease_s
                except DomainError as error:
                    _log.warning("a beat of sagas is late", why=error.code)
                await trio.sleep(self._lease_s / BEATS_A_LEASE)
        _log.warning("sagas are left to others", was_buried=not is_alive)
        self.lost.set()

    async def watch(self) -> None:
        """Look after the beats of others, and after what is nobody's, until cancelled.

        `except Exception` stands around one turn.
        """
        seen: dict[UUID, tuple[int, float]] = {}
        missed: set[UUID] = set()
        for turn in itertools.count():
            try:
                await self._bury_silent(seen)
                if turn % BEATS_A_LEASE == 0:
                    await self._release_orphans()
                    missed = await self._release_missed(missed)
            except DomainError:
                pass  # whoever beats says that the store is away
            except Exception as error:  # noqa: BLE001  # around one turn
                self.report(error)
            await trio.sleep(self._lease_s / BEATS_A_LEASE)

    async def retire(self) -> None:
        """Let others have what is left, now."""
        with trio.move_on_after(RETIRE_S):
            try:
                await self._store.bury(self._runner, None)
                await self._release_orphans()
            except DomainError as error:
                _log.warning("sagas are left to their lease", why=error.code)

    async def _bury_silent(self, seen: dict[UUID, tuple[int, float]]) -> None:
        """seen: the beats of others, and since when they are those."""
        now_s, others = trio.current_time(), await self._store.runners()
        for gone in seen.keys() - {other.id for other in others}:
            del seen[gone]
        for other in others:
            if other.id == self._runner:
                continue
            beats, since_s = seen.get(other.id, (-1, now_s))
            if beats != other.beats:
                seen[other.id] = other.beats, trio.current_time()
            elif now_s - since_s >= self._lease_s and await self._store.bury(
                other.id, beats
            ):
                _log.warning("took over sagas of a node", node=other.node)
                await self._release_orphans()

    async def _release_orphans(self) -> None:
        while await self._store.release_orphans(ORPHANS_MAX):
            self._released()

    async def _release_missed(self, before: set[UUID]) -> set[UUID]:
        """Let go of what was not in memory the last time either; what is not now."""
        held = await self._store.held(self._runner)
        missed = {id for id in held if id not in self._running}
        if again := missed & before:
            await self._store.release(self._runner, sorted(again)[:ORPHANS_MAX])
            self._released()
        return missed
