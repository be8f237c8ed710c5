"""Owns what is built from the settings: every object once, in the order of need.

Building starts nothing and opens nothing but the gateway's epoll descriptor; who runs
what, and who stops before whom, is `tchatd.app.main`.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tchatd.app.beside import Beside
from tchatd.app.bots import Bots
from tchatd.app.conversations import Conversations
from tchatd.app.events import Events
from tchatd.app.ledger import Ledger
from tchatd.app.links import Links
from tchatd.app.moderation import Moderation
from tchatd.app.payments import SANDBOX_PURPOSE, Payments
from tchatd.app.people import AuthUsers
from tchatd.app.qr import Qr
from tchatd.app.sagas import Sagas
from tchatd.app.search import Search
from tchatd.app.secrets import Secrets
from tchatd.app.settings import Settings
from tchatd.app.wallets import PaidDialogs, PaidPeople, Wallets
from tchatd.domains.auth import routes as auth_routes
from tchatd.domains.auth.models import IdentifierKind
from tchatd.domains.auth.service import AuthService
from tchatd.domains.auth.store import CodeSender
from tchatd.domains.messaging import routes as messaging_routes
from tchatd.domains.messaging.access import DialogAccess
from tchatd.domains.messaging.service import MessagingService
from tchatd.domains.messaging.state import MessagingState, StateLimits
from tchatd.domains.messaging.typing import TypingSettings
from tchatd.domains.people import routes as people_routes
from tchatd.domains.people.service import PeopleService
from tchatd.edge import openapi, pages, probes, sandbox_page
from tchatd.edge.asgi import AsgiServer, TlsSettings
from tchatd.edge.dispatcher import Dispatcher, DispatcherSettings
from tchatd.edge.gateway import GatewayTask, GatewayTaskSettings, gap_frames
from tchatd.edge.http import HttpEndpoint, HttpSettings
from tchatd.edge.hub import Hub
from tchatd.edge.idempotency import Idempotency, IdempotencySettings
from tchatd.edge.kept import SealedAnswers
from tchatd.edge.last_seen import LastSeen
from tchatd.edge.presence import Presence, PresenceSettings
from tchatd.edge.session import Sessions
from tchatd.edge.session_models import SessionSettings
from tchatd.journal.applier import Applier
from tchatd.journal.flusher import Flusher, FlusherSettings
from tchatd.journal.journal import LocalJournal
from tchatd.kernel.clock import Clock
from tchatd.kernel.crypto import Keys
from tchatd.kernel.ids import Ids
from tchatd.kernel.routing import Operation
from tchatd.observe.metrics import Metrics
from tchatd.providers.email import SmtpEmail
from tchatd.providers.sandbox import SandboxCodes
from tchatd.providers.sms import TwilioSms
from tchatd.stores.people import CoalescedLastSeen, CoalescedPeople
from tchatd.stores.postgres.auth import PostgresAuthStore
from tchatd.stores.postgres.idempotency import PostgresIdempotencyStore
from tchatd.stores.postgres.messaging import PostgresDialogStore
from tchatd.stores.postgres.people import PostgresPeopleStore
from tchatd.stores.postgres.pool import Pool
from tchatd.stores.postgres.sagas import PostgresSagaStore
from tchatd.stores.postgres.sandbox import PostgresSandboxStore
from tchatd.stores.users import CoalescedUsers
from tchatd_ext.gateway import Gateway


def make_pool(settings: Settings, dsn: str) -> Pool:
    of = settings.postgres
    return Pool(
        dsn,
        size=of.pool_size,
        waiting_max=of.waiting_max,
        wait_s=of.wait_s,
        connect_timeout_s=max(2, round(of.connect_s)),
    )


class Senders:
    """Who sends one-time codes. sandbox: None when both go out into the world."""

    def __init__(self, settings: Settings, secrets: Secrets) -> None:
        sms, email = settings.providers.sms, settings.providers.email
        self.sandbox: SandboxCodes | None = None
        self._twilio: TwilioSms | None = None
        senders: dict[IdentifierKind, CodeSender] = {}
        if "sandbox" in (sms.kind, email.kind):
            self.sandbox = SandboxCodes()
            senders = {"phone": self.sandbox, "email": self.sandbox}
        if sms.kind == "twilio":
            self._twilio = senders["phone"] = TwilioSms(
                account=sms.account,
                token=secrets.sms_token,
                sender=sms.sender,
                timeout_s=sms.timeout_s,
            )
        if email.kind == "smtp":
            senders["email"] = SmtpEmail(
                host=email.host,
                port=email.port,
                sender=email.sender,
                user=email.user,
                password=secrets.email_password,
                timeout_s=email.timeout_s,
            )
        self.by_kind: Mapping[IdentifierKind, CodeSender] = senders

    async def aclose(self) -> None:
        if self._twilio is not None:
            await self._twilio.aclose()


class Core:
    """What knows no socket: stores, sign-in, journal, messaging."""

    def __init__(
        self,
        settings: Settings,
        secrets: Secrets,
        pool: Pool,
        node: str,
        metrics: Metrics,
        hub: Hub,
        clock: Clock,
    ) -> None:
        self.keys = Keys(
            master_keys=secrets.master_keys,
            lookup=secrets.lookup_key,
            otp=secrets.otp_key,
            token_keys=secrets.token_keys,
        )
        self.ids = Ids(clock)
        self.clock = clock
        self.pool = pool
        self.metrics = metrics
        self.hub = hub
        self.senders = Senders(settings, secrets)
        auth_store = PostgresAuthStore(pool)
        self.auth = AuthService(
            store=auth_store,
            loader=CoalescedUsers(auth_store),
            senders=self.senders.by_kind,
            keys=self.keys,
            clock=clock,
            ids=self.ids,
            settings=settings.auth,
        )
        self.journal = LocalJournal(
            settings.journal_folder,
            segment_bytes=settings.journal.segment_bytes,
            backlog_bytes_max=settings.journal.backlog_bytes_max,
            batch_bytes_max=settings.journal.batch_bytes_max,
            record_bytes_max=settings.journal.record_bytes_max,
            clock=clock,
            metrics=metrics,
        )
        self.events = Events(settings.events, pool, node, clock, metrics)
        self.sagas = Sagas(
            settings.sagas,
            PostgresSagaStore(pool),
            node,
            clock,
            self.ids,
            metrics,
        )
        self.people_store = PostgresPeopleStore(pool)
        self.people = PeopleService(
            store=self.people_store,
            loader=CoalescedPeople(self.people_store),
            users=AuthUsers(self.auth),
            directory=self.auth.directory,
            clock=clock,
            settings=settings.people,
        )
        self._wire_messaging(settings)
        self._wire_wallets(settings)
        self.payments = Payments(
            settings.providers.payments,
            secrets.payments,
            PostgresSandboxStore(pool),
            clock,
            metrics,
            sandbox_secret=self.keys.lookup_hash("sandbox").digest(SANDBOX_PURPOSE),
        )
        self.idempotency = Idempotency(
            PostgresIdempotencyStore(pool),
            self.keys.vault,
            self.keys.lookup_hash("idempotency"),
            clock,
            self.ids,
            IdempotencySettings(
                node=node,
                keep_s=settings.http.idempotency_s,
                lease_s=2 * settings.http.request_s,
            ),
        )

    def _wire_messaging(self, settings: Settings) -> None:
        of = settings.messaging
        store = PostgresDialogStore(self.pool)
        state = MessagingState(
            StateLimits(
                dialogs_max=of.dialogs_max,
                tail_max=of.tail_max,
                tails_max=of.tails_max,
                client_ids_max=of.client_ids_max,
            ),
            self.clock.now_ms,
        )
        self.applier = Applier(
            self.journal,
            state,
            store,
            self.hub,
            wants_max=of.wants_max,
            unflushed_max=of.unflushed_max,
        )
        self.flusher = Flusher(
            self.applier,
            self.journal,
            store,
            self.metrics,
            FlusherSettings(
                batch_max=of.flush_records_max,
                interval_s=of.flush_interval_s,
                retry_s_max=of.flush_retry_s_max,
            ),
        )
        self.bots = Bots(
            settings.bots,
            self.pool,
            self.auth,
            state,
            self.applier,
            self.hub,
            self.keys,
            self.clock,
            self.ids,
            self.metrics,
        )
        self.people.is_bot = self.bots.service.is_bot
        self.flusher.feeds.append(self.bots.webhooks)
        self.moderation = Moderation(
            settings,
            self.pool,
            self.auth,
            self.bots,
            Conversations(state, self.applier, self.clock),
            self.clock,
        )
        self.flusher.feeds.append(self.moderation.flagging)
        self.links = Links(settings.link_previews, self.clock)
        self.qr = Qr(settings.qr)
        self.messaging = MessagingService(
            state,
            self.applier,
            store,
            self.auth.directory,
            self.hub,
            self.clock,
            self.ids,
            self.people.circles,
            TypingSettings(**msgspec.structs.asdict(settings.typing)),
            bots=self.bots.service,
        )
        self.messaging.gate = self.messaging.editing.gate = self.moderation.gate
        self.beside = Beside(
            self.pool,
            state,
            self.applier,
            store,
            self.auth.directory,
            self.hub,
            self.clock,
            self.ids,
            send=self.messaging.send_message,
            invite_key=self.keys.lookup_hash("invites"),
            settings=of,
            blocks=self.people.circles,
            gate=self.moderation.gate,
        )
        self.flusher.feeds += self.beside.feeds
        self.messaging.open_business = self.beside.businesses.open
        self.state = state
        self.search = Search(
            settings,
            pool=self.pool,
            auth=self.auth,
            people=self.people,
            state=state,
            applier=self.applier,
            flusher=self.flusher,
            metrics=self.metrics,
        )

    def _wire_wallets(self, settings: Settings) -> None:
        self.ledger = Ledger(
            settings.ledger, self.pool, self.clock, self.ids, self.metrics
        )
        standing, circles = self.moderation.standing, self.people.circles
        self.wallets = Wallets(
            settings.payment,
            self.pool,
            self.ledger.batches,
            self.ledger.store,
            self.sagas.engine,
            PaidPeople(self.auth, standing, circles),
            PaidDialogs(
                self.messaging, self.state, self.applier, circles, standing, self.clock
            ),
            self.hub,
            self.clock,
            self.ids,
        )
        self.ledger.batches.on_committed.append(lambda _: self.events.relay.nudge())
        self.sagas.types.add(self.wallets.announcing.saga)
        self.kept = SealedAnswers(self.keys.vault, self.keys.lookup_hash("idempotency"))

    @property
    def operations(self) -> list[Operation]:
        return [
            *auth_routes.routes(self.auth),
            *people_routes.routes(self.people),
            *messaging_routes.operations(self.messaging),
            *self.bots.operations,
            *self.moderation.operations,
            *self.links.operations,
            *self.qr.operations,
            *self.beside.operations,
            *self.search.operations,
            *self.wallets.operations,
        ]


class Edge:
    """What has sockets, and what it is made of."""

    def __init__(
        self, settings: Settings, core: Core, checks: Mapping[str, probes.Check]
    ) -> None:
        metrics, clock = core.metrics, core.clock
        self.last_seen = LastSeen(
            CoalescedLastSeen(core.people_store),
            clock,
            times_max=settings.presence.last_seen_max,
            write_s=settings.presence.last_seen_write_s,
        )
        self.presence = presence = Presence(
            core.hub,
            core.auth.directory,
            core.people.circles,
            DialogAccess(core.state, core.applier),
            self.last_seen,
            clock,
            metrics,
            _presence_settings(settings),
        )
        core.people.presence = core.auth.presence = presence
        presence.choice_of = core.auth.profiles.choice_of
        operations = [
            *core.operations,
            *presence.operations(),
            *probes.operations(metrics, checks, settings.metrics.allow),
        ]
        operations.append(openapi.operation(operations, {"metrics.get": "text/plain"}))
        self.dispatcher = Dispatcher(
            operations,
            metrics,
            DispatcherSettings(
                tasks_max=settings.http.requests_max,
                request_s=settings.http.request_s,
                limit_keys_max=settings.limits.buckets_max,
            ),
        )
        self.endpoint = HttpEndpoint(
            self.dispatcher,
            core.auth,
            _http_settings(settings),
            idempotency=core.idempotency,
            kept=core.kept,
            fallback=_pages(core),
        )
        self.sessions = Sessions(
            self.dispatcher,
            core.auth,
            core.hub,
            clock,
            metrics,
            presence,
            _session_settings(settings),
            kept=core.kept,
        )
        core.auth.session_end = self.sessions
        self.sessions.on_gone = core.messaging.typing.gone
        self.gateway = _gateway(settings)
        self.plain = GatewayTask(
            self.gateway,
            self.dispatcher,
            self.endpoint,
            self.sessions,
            core.hub,
            GatewayTaskSettings(
                events_max=settings.gateway.events_max,
                drain_s=settings.shutdown.drain_s,
            ),
            gathering=core.journal,
        )
        self.tls: AsgiServer | None = None
        if settings.tls.bind:
            self.tls = AsgiServer(
                self.endpoint, self.sessions, core.hub, _tls_settings(settings)
            )


def _pages(core: Core) -> pages.Pages:
    app = pages.quart_app()
    if core.payments.sandbox is not None:
        sandbox_page.add_sandbox(app, core.payments.sandbox)
    return pages.Pages(app)


def _http_settings(settings: Settings) -> HttpSettings:
    limits = settings.limits
    return HttpSettings(
        allowed_origins=frozenset(settings.http.allowed_origins),
        trusted_proxies=tuple(settings.http.trusted_proxies),
        address_per_minute=limits.address_per_minute,
        address_burst=limits.address_burst,
        user_per_minute=limits.user_per_minute,
        user_burst=limits.user_burst,
        buckets_max=limits.buckets_max,
        request_s=settings.http.request_s,
    )


def _presence_settings(settings: Settings) -> PresenceSettings:
    of = settings.presence
    return PresenceSettings(
        grace_s=of.grace_s,
        settle_s=of.settle_s,
        watched_max=of.watched_max,
        watches_max=of.watches_max,
        dialogs_max=of.dialogs_max,
        dialog_members_max=of.dialog_members_max,
    )


def _session_settings(settings: Settings) -> SessionSettings:
    limits = settings.limits
    return SessionSettings(
        connections_per_user_max=limits.connections_per_user_max,
        commands_per_second=limits.commands_per_second,
        commands_burst=limits.commands_burst,
        commands_waiting_max=limits.commands_waiting_max,
        waiting_bytes_max=limits.waiting_bytes_max,
        messages_waiting_max=limits.messages_waiting_max,
        malformed_max=limits.malformed_max,
        hello_s=settings.gateway.handshake_s,
        reconnect_spread_s=settings.shutdown.reconnect_spread_s,
    )


def _gateway(settings: Settings) -> Gateway:
    of = settings.gateway
    gap_json, gap_msgpack = gap_frames()
    return Gateway(
        gap_json=gap_json,
        gap_msgpack=gap_msgpack,
        head_bytes_max=of.head_bytes_max,
        uri_bytes_max=of.uri_bytes_max,
        body_bytes_max=of.body_bytes_max,
        message_bytes_max=of.message_bytes_max,
        queue_bytes_max=of.queue_bytes_max,
        slow_consumer=of.slow_consumer,
        handshake_s=of.handshake_s,
        request_s=of.request_s,
        idle_s=of.idle_s,
        ping_interval_s=of.ping_interval_s,
        pong_timeout_s=of.pong_timeout_s,
        close_s=of.close_s,
        write_s=of.write_s,
        connections_max=of.connections_max,
        connections_per_address_max=of.connections_per_address_max,
        deflate=of.deflate,
        deflate_bytes_min=of.deflate_bytes_min,
    )


def _tls_settings(settings: Settings) -> TlsSettings:
    of = settings.gateway
    return TlsSettings(
        certificate_file=settings.tls.certificate_file,
        key_file=settings.tls.key_file,
        version_min=settings.tls.version_min,
        head_bytes_max=of.head_bytes_max,
        body_bytes_max=of.body_bytes_max,
        message_bytes_max=of.message_bytes_max,
        queue_bytes_max=of.queue_bytes_max,
        slow_consumer=of.slow_consumer,
        connections_max=settings.tls.connections_max,
        handshake_s=of.handshake_s,
        idle_s=of.idle_s,
        request_s=of.request_s,
        ping_interval_s=of.ping_interval_s,
        write_s=of.write_s,
        drain_s=settings.shutdown.drain_s,
    )
