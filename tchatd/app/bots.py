"""Owns how bots are put together: service, webhooks, delivery, buttons."""

from __future__ import annotations

import os
from functools import partial
from uuid import UUID

import trio

from tchatd.app.conversations import Conversations
from tchatd.app.jobs import report
from tchatd.domains.auth.service import AuthService
from tchatd.domains.bots import routes
from tchatd.domains.bots.callbacks import Callbacks
from tchatd.domains.bots.rules import BotSettings
from tchatd.domains.bots.service import BotService
from tchatd.domains.bots.webhooks import Webhooks
from tchatd.domains.messaging.state import MessagingState
from tchatd.edge.hub import Hub
from tchatd.journal.applier import Applier
from tchatd.kernel.clock import Clock
from tchatd.kernel.crypto import Keys
from tchatd.kernel.ids import Ids
from tchatd.kernel.routing import Operation
from tchatd.observe.metrics import Metrics
from tchatd.providers.courier import HttpCourier
from tchatd.providers.delivery import Delivery, DeliverySettings
from tchatd.providers.guard import GuardedBackend, GuardedTransport, SystemResolver
from tchatd.stores.postgres.bots import PostgresBotStore, PostgresWebhookStore
from tchatd.stores.postgres.pool import Pool


class AuthSessions:
    """Sign-in's sessions, as bots end them."""

    def __init__(self, auth: AuthService) -> None:
        self._auth = auth

    def session_ended(self, session_id: UUID, user_number: int, ended_ms: int) -> None:
        self._auth.session_ended(session_id, user_number, ended_ms)

    def forget(self, user_number: int) -> None:
        self._auth.profiles.forget(user_number)
        self._auth.directory.forget(user_number)


class Bots:
    """Call `start` before the journal is replayed: the outbox follows the replay."""

    def __init__(
        self,
        settings: BotSettings,
        pool: Pool,
        auth: AuthService,
        state: MessagingState,
        applier: Applier,
        hub: Hub,
        keys: Keys,
        clock: Clock,
        ids: Ids,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self.store = PostgresWebhookStore(pool)
        self.service = BotService(
            PostgresBotStore(pool), AuthSessions(auth), keys, clock, ids, settings
        )
        auth.other_tokens = self.service
        conversations = Conversations(state, applier, clock)
        self.webhooks = Webhooks(
            self.store,
            self.service,
            conversations,
            hub,
            keys,
            clock,
            ids,
            settings,
            os.urandom,
        )
        self.callbacks = Callbacks(
            self.service,
            self.webhooks,
            conversations,
            hub,
            clock,
            ids,
            settings.callbacks_max,
        )
        backend = GuardedBackend(
            SystemResolver(), allow_private=settings.allow_private_webhooks
        )
        self._courier = HttpCourier(
            GuardedTransport(
                backend, connections_max=2 * settings.webhook_concurrency_max
            ),
            timeout_s=settings.webhook_timeout_s,
        )
        self.delivery = Delivery(
            self.store,
            self.webhooks,
            self._courier,
            clock,
            metrics,
            DeliverySettings(
                attempts_max=settings.webhook_attempts_max,
                retry_s_max=settings.webhook_retry_s_max,
                dead_max=settings.webhook_dead_max,
                concurrency_max=settings.webhook_concurrency_max,
            ),
        )
        self.delivery.report = partial(report, "webhooks")
        for name in self.webhooks.statistics():
            metrics.gauge(
                f"bots_{name}", f"Bots: {name}", partial(self._statistic, name)
            )

    def _statistic(self, name: str) -> float:
        return float(self.webhooks.statistics()[name])

    @property
    def operations(self) -> list[Operation]:
        return routes.operations(self.service, self.webhooks, self.callbacks)

    async def start(self) -> None:
        """Raises: Unavailable."""
        await self.service.start()
        await self.webhooks.start()

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Deliver until cancelled."""
        await self.delivery.run(task_status=task_status)

    async def prune(self) -> int:
        """Forget one batch of dead letters that are old, and of what waits for webhooks
        that have been disabled for as long."""
        kept_ms = round(self._settings.dead_letters_kept_s * 1000)
        return await self.store.prune(self._clock.now_ms() - kept_ms, 1_000)

    async def aclose(self) -> None:
        await self._courier.aclose()
