"""Owns delivering what webhooks are told: in order for each bot, tried again, given up.

Theory of operation
    The outbox (a table) has the events; here is only which bots have some and when the
    next attempt of each is due. A bot is in one place at a time: waiting in a lane's
    heap, or being delivered to, so its events go out one after the other and a second
    one never overtakes. After a few events it goes behind the others.

    There are two lanes with their own limits: bots that take what they get, and bots
    whose last attempt failed. So endpoints that hang can use up the slots of the
    second one only.

    What an event is about may be edited, deleted or over by now, so its body is made
    for each attempt (`Webhooks.shown`). A turn ends when the webhook was changed or is
    no more, so that one attempt at most, under way then, goes to the old URL.

    An event is deleted after its answer: a crash in between delivers it again, with
    the same id. After `attempts_max` it is a dead letter and the next one has its turn;
    `dead_max` in a row disable the webhook.

    Endpoints are strangers: `except Exception` stands around one attempt, which then
    has failed like any other, and around one turn, after which that bot rests.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Mapping
from typing import Final

import trio
from msgspec import Struct

from tchatd.domains.bots import rules
from tchatd.domains.bots.models import PendingEvent
from tchatd.domains.bots.store import WebhookStore
from tchatd.domains.bots.webhooks import Webhooks
from tchatd.kernel.clock import Clock
from tchatd.kernel.errors import DomainError
from tchatd.observe.logging import get_logger
from tchatd.observe.metrics import Metrics
from tchatd.providers.courier import Courier, NotDelivered

EVENTS_A_TURN: Final = 10
STORE_RETRY_S: Final = 5.0
"""Before a bot is looked at again when the store did not answer."""
MISTAKE_S: Final = 300.0
"""Before a bot is looked at again when its turn failed for no foreseen reason."""
NOT_SENT: Final = "it could not be sent"
_log = get_logger("delivery")


class DeliverySettings(Struct, frozen=True, kw_only=True):
    """concurrency_max: attempts at once, of each lane."""

    attempts_max: int = 10
    retry_s_max: float = 3_600.0
    dead_max: int = 5
    concurrency_max: int = 32


class _Lane:
    """Bots in the order in which they are due."""

    def __init__(self, concurrency_max: int) -> None:
        self.heap: list[tuple[float, int]] = []
        self.running = 0
        self.concurrency_max = concurrency_max
        self.wake = trio.Event()

    def put(self, due_s: float, bot: int) -> None:
        heapq.heappush(self.heap, (due_s, bot))
        self.wake.set()


class Delivery:
    """`run` delivers until cancelled; what was begun is then tried again at the next
    start. report: told of each failure that nobody foresaw; it keeps what an event says
    out of the log."""

    def __init__(
        self,
        store: WebhookStore,
        webhooks: Webhooks,
        courier: Courier,
        clock: Clock,
        metrics: Metrics,
        settings: DeliverySettings,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._webhooks = webhooks
        self._courier = courier
        self._clock = clock
        self._settings = settings
        self._chance = chance
        self._good = _Lane(settings.concurrency_max)
        self._failing = _Lane(settings.concurrency_max)
        self._lane_of: dict[int, _Lane] = {}
        self._running: set[int] = set()
        self._more: set[int] = set()
        self._renewed: set[int] = set()
        self._nursery: trio.Nursery | None = None
        self.report: Callable[[Exception], object] = lambda _: None
        webhooks.on_pending = self.pending
        webhooks.on_changed = self.renew
        self._attempts = metrics.counter(
            "webhook_attempts", "Deliveries by outcome", ("outcome",)
        )
        metrics.gauge(
            "webhook_bots_waiting",
            "Bots with something to be delivered",
            lambda: float(len(self._lane_of)),
        )

    def pending(self, bot: int) -> None:
        """The bot has something to be delivered, after what it has already."""
        if bot not in self._lane_of:
            self._schedule(self._good, bot, trio.current_time())
        elif bot in self._running:
            self._more.add(bot)

    def renew(self, bot: int) -> None:
        """Its webhook was changed: try at once, whatever failed before."""
        if bot in self._running:
            self._renewed.add(bot)
            return
        lane = self._lane_of.get(bot)
        if lane is not None:
            lane.heap = [place for place in lane.heap if place[1] != bot]
            heapq.heapify(lane.heap)
        self._schedule(self._good, bot, trio.current_time())

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Deliver until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._serve, self._good)
            nursery.start_soon(self._serve, self._failing)
            task_status.started()
            await self._begin()

    async def _begin(self) -> None:
        """Learn who was waiting when the last process ended."""
        while True:
            try:
                waiting = await self._store.waiting()
            except DomainError:
                await trio.sleep(STORE_RETRY_S)
                continue
            except Exception as error:  # noqa: BLE001  # around one turn
                self.report(error)
                await trio.sleep(MISTAKE_S)
                continue
            now_ms = self._clock.now_ms()
            for bot, _, due_ms in waiting:
                if bot not in self._lane_of:
                    wait_s = max(0.0, (due_ms - now_ms) / 1000)
                    lane = self._failing if wait_s else self._good
                    self._schedule(lane, bot, trio.current_time() + wait_s)
            return

    def _schedule(self, lane: _Lane, bot: int, due_s: float) -> None:
        self._lane_of[bot] = lane
        lane.put(due_s, bot)

    async def _serve(self, lane: _Lane) -> None:
        assert self._nursery is not None
        while True:
            lane.wake = trio.Event()
            now_s = trio.current_time()
            while (
                lane.heap
                and lane.heap[0][0] <= now_s
                and lane.running < lane.concurrency_max
            ):
                _, bot = heapq.heappop(lane.heap)
                lane.running += 1
                self._running.add(bot)
                self._nursery.start_soon(self._turn, lane, bot)
            is_full = lane.running >= lane.concurrency_max
            due_s = math.inf if is_full or not lane.heap else lane.heap[0][0]
            with trio.move_on_at(due_s):
                await lane.wake.wait()

    async def _turn(self, lane: _Lane, bot: int) -> None:
        try:
            wait_s = await self._deliver_some(bot)
        except DomainError as error:
            _log.warning("webhooks put off", why=error.code)
            wait_s = STORE_RETRY_S
        except Exception as error:  # noqa: BLE001  # around one turn
            self.report(error)
            wait_s = MISTAKE_S
        finally:
            lane.running -= 1
            lane.wake.set()
            self._running.discard(bot)
        if bot in self._renewed or (wait_s is None and bot in self._more):
            wait_s = 0.0
        self._renewed.discard(bot)
        self._more.discard(bot)
        if wait_s is None:
            del self._lane_of[bot]
        else:
            next_lane = self._failing if wait_s else self._good
            self._schedule(next_lane, bot, trio.current_time() + wait_s)

    async def _deliver_some(self, bot: int) -> float | None:
        """Seconds until there is more to do for the bot: 0 at once; None: never.

        Raises: Unavailable; Unreadable, if its secret's master key is not here.
        """
        target = await self._webhooks.target(bot)
        if target is None:
            return None
        url, secret = target
        events = await self._store.pending(bot, EVENTS_A_TURN)
        for event in events:
            if bot in self._renewed or not self._webhooks.is_hooked(bot):
                return None
            late_ms = event.due_ms - self._clock.now_ms()
            if late_ms > 0 and event.attempts:
                return late_ms / 1000
            wait_s = await self._attempt(event, url, secret)
            if wait_s is not None:
                return wait_s
        return 0.0 if len(events) == EVENTS_A_TURN else None

    async def _attempt(
        self, event: PendingEvent, url: str, secret: str
    ) -> float | None:
        """None if it is settled, else seconds until the next attempt."""
        try:
            body = await self._webhooks.shown(event)
            headers = _headers(event, secret, self._clock.now_ms() // 1000, body)
            await self._courier.deliver(url, body, headers)
        except NotDelivered as failure:
            return await self._failed(event, failure.why)
        except DomainError:
            raise
        except Exception as error:  # noqa: BLE001  # around one attempt
            self.report(error)
            return await self._failed(event, NOT_SENT)
        self._attempts.labels("delivered").add()
        await self._store.delivered(event)
        self._webhooks.settled(event)
        return None

    async def _failed(self, event: PendingEvent, why: str) -> float | None:
        attempts, now_ms = event.attempts + 1, self._clock.now_ms()
        if attempts < self._settings.attempts_max:
            self._attempts.labels("failed").add()
            most_s = self._settings.retry_s_max
            wait_s = rules.retry_s(attempts, most_s, self._chance())
            await self._store.put_off(event, now_ms + round(wait_s * 1000))
            return wait_s
        self._attempts.labels("dead").add()
        is_last = await self._store.bury(event, now_ms, why, self._settings.dead_max)
        self._webhooks.settled(event)
        if is_last:
            await self._webhooks.disabled(event.bot, why)
            _log.warning("a webhook was disabled", bot=event.bot, why=why)
            return STORE_RETRY_S  # finds it disabled, unless it was enabled again
        return None


def _headers(
    event: PendingEvent, secret: str, at_s: int, body: bytes
) -> Mapping[str, str]:
    return {
        rules.SIGNATURE_HEADER: rules.signature(secret, at_s, body),
        "X-Tchat-Event": event.type,
        "X-Tchat-Event-Id": str(event.id),
        "X-Tchat-Attempt": str(event.attempts + 1),
    }
