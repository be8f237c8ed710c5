"""Owns what is done again and again in the background; decides nothing itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import trio

from tchatd.kernel.errors import DomainError
from tchatd.observe.logging import get_logger

TICK_S = 1.0
PRUNE_INTERVAL_S = 600.0
PRUNE_ROUNDS_MAX = 1_000  # of one pass; what is left waits for the next one
HEALTH_INTERVAL_S = 2.0
HEALTH_TIMEOUT_S = 5.0
_log = get_logger("jobs")


async def every(interval_s: float, run: Callable[[], object]) -> None:
    """Call `run` at each interval until cancelled; a late call is not made up for."""
    while True:
        await trio.sleep(interval_s)
        run()


async def prune_regularly(
    prunes: Mapping[str, Callable[[], Awaitable[int]]], interval_s: float
) -> None:
    """Delete what is over, batch by batch, until cancelled.

    A store that is away is no reason to stop: the next pass finds the same rows.
    """
    while True:
        await trio.sleep(interval_s)
        for name, prune in prunes.items():
            total = 0
            try:
                for _ in range(PRUNE_ROUNDS_MAX):
                    count = await prune()
                    total += count
                    if not count:
                        break
            except DomainError as error:
                _log.warning("pruning put off", what=name, why=error.code)
            if total:
                _log.info("pruned", what=name, rows=total)


class StoreHealth:
    """Whether a store answers, asked every few seconds, for `/ready` to read."""

    def __init__(self, name: str, check: Callable[[], Awaitable[None]]) -> None:
        self._name = name
        self._check = check
        self._problem: str | None = None

    def problem(self) -> str | None:
        return self._problem

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await trio.sleep(HEALTH_INTERVAL_S)

    async def look(self) -> None:
        before = self._problem
        try:
            with trio.fail_after(HEALTH_TIMEOUT_S):
                await self._check()
        except trio.TooSlowError:
            self._problem = "does not answer"
        except DomainError as error:
            self._problem = error.code
        else:
            self._problem = None
        if self._problem is None and before is not None:
            _log.info("store is back", store=self._name)
        elif self._problem is not None and before is None:
            _log.error("store is away", store=self._name, why=self._problem)
