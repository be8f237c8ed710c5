"""Owns asking a store for many keys at once on behalf of tasks that each want a few.

Theory of operation
    While a query is under way, whoever comes joins the next one. There is no task and
    no timer: the first to come leads, runs the query in its own task, and when it is
    done the next of those who wait leads. A lone caller asks at once; a thousand who
    come together wait for two queries. Nobody is woken but who has an answer, and who
    leads next.

    A leader that is cancelled gives its keys back: those who still wait take over.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from itertools import islice
from typing import Generic, TypeVar

import trio

from tchatd.kernel.deferred import Deferred
from tchatd.kernel.errors import DomainError, Unavailable

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Answer(Generic[V]):
    """waiting: tasks that are to be woken when it is there, or to lead."""

    __slots__ = ("value", "waiting")

    def __init__(self) -> None:
        self.value: Deferred[V | None] = Deferred()
        self.waiting = trio.lowlevel.ParkingLot()


class Coalescer(Generic[K, V]):
    """fetch: the values of some keys; those that there are none of are left out.

    batch_max: keys in one query. waiting_max: keys that wait; beyond it: Unavailable.
    """

    def __init__(
        self,
        fetch: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]],
        *,
        batch_max: int = 2_000,
        waiting_max: int = 100_000,
    ) -> None:
        assert 1 <= batch_max <= waiting_max
        self._fetch = fetch
        self._batch_max, self._waiting_max = batch_max, waiting_max
        self._waiting: dict[K, _Answer[V]] = {}
        self._asked: dict[K, _Answer[V]] = {}

    async def get(self, keys: Sequence[K]) -> dict[K, V]:
        """What there is of `keys`.

        Raises:
            Unavailable: too many wait; and whatever the query failed with.
        """
        answers = [(key, self._answer(key)) for key in dict.fromkeys(keys)]
        for _, answer in answers:
            while not answer.value.done:
                if self._asked:
                    await answer.waiting.park()
                else:
                    await self._lead()
        found = [(key, answer.value.result()) for key, answer in answers]
        return {key: value for key, value in found if value is not None}

    def _answer(self, key: K) -> _Answer[V]:
        """The answer that someone waits for already, or one of the next query."""
        answer = self._asked.get(key) or self._waiting.get(key)
        if answer is None:
            if len(self._waiting) >= self._waiting_max:
                raise Unavailable("Too many wait for the store")
            answer = self._waiting[key] = _Answer()
        return answer

    async def _lead(self) -> None:
        """Run one query for the longest waiting keys; then it is another's turn."""
        keys = list(islice(self._waiting, self._batch_max))
        asked = self._asked = {key: self._waiting.pop(key) for key in keys}
        try:
            found = await self._fetch(keys)
            for key, answer in asked.items():
                answer.value.resolve(found.get(key))
        except DomainError as error:
            for answer in asked.values():
                answer.value.fail(error)
        finally:
            undone = {k: answer for k, answer in asked.items() if not answer.value.done}
            self._asked = {}
            if undone:
                self._waiting = undone | self._waiting
            for answer in asked.values():
                if answer.value.done:
                    answer.waiting.unpark_all()
            self._pass_on()

    def _pass_on(self) -> None:
        """Wake one who leads. Whoever waits is parked at an answer that is not there,
        so one of those has a task, if any task waits."""
        for answer in self._waiting.values():
            if answer.waiting:
                answer.waiting.unpark()
                return
