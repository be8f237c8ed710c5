"""Owns the shape of the configuration: every key, its type, its range, its relations.

Default values are not here but in `tchatd.toml`, the one place where they are written
and explained. How files and the environment come together: `tchatd.app.configuration`.
A key ends in its unit (`_s`, `_bytes_max`); every queue and every limit has its key.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tchatd.app import payment_settings
from tchatd.app.payment_settings import PaymentProviders
from tchatd.domains.auth.rules import AuthSettings
from tchatd.domains.bots.rules import BotSettings
from tchatd.domains.links.models import LinkSettings
from tchatd.domains.moderation.rules import ModerationSettings
from tchatd.domains.payment import rules as payment_rules
from tchatd.domains.payment.qr.models import QrSettings
from tchatd.domains.people.rules import PeopleSettings
from tchatd.journal.record import BLOCK_BYTES

Count = Annotated[int, Meta(ge=1, le=1 << 31)]
Bytes = Annotated[int, Meta(ge=1, le=1 << 40)]
Seconds = Annotated[float, Meta(gt=0, le=10 * 366 * 86_400)]
Rate = Annotated[float, Meta(gt=0, le=1e9)]
Address = Annotated[str, Meta(pattern=r"^(\[[0-9A-Fa-f:.]+\]|[^\[\]:\s]*):[0-9]{1,5}$")]
OptionalAddress = Annotated[
    str, Meta(pattern=r"^$|^(\[[0-9A-Fa-f:.]+\]|[^\[\]:\s]*):[0-9]{1,5}$")
]


class Section(msgspec.Struct, frozen=True):
    """A part of the settings that is not declared by the domain that it is for."""


class Listen(Section, frozen=True):
    bind: Address
    backlog: Annotated[int, Meta(ge=1, le=65_535)]


class Tls(Section, frozen=True):
    bind: OptionalAddress
    certificate_file: str
    key_file: str
    version_min: Literal["1.2", "1.3"]
    connections_max: Count


class Gateway(Section, frozen=True):
    head_bytes_max: Annotated[int, Meta(ge=1_024, le=1 << 20)]
    uri_bytes_max: Annotated[int, Meta(ge=256, le=1 << 20)]
    body_bytes_max: Annotated[int, Meta(ge=1_024, le=1 << 30)]
    message_bytes_max: Annotated[int, Meta(ge=1_024, le=1 << 26)]
    queue_bytes_max: Annotated[int, Meta(ge=1_024, le=1 << 30)]
    slow_consumer: Literal["gap", "close"]
    handshake_s: Seconds
    request_s: Seconds
    idle_s: Seconds
    ping_interval_s: Seconds
    pong_timeout_s: Seconds
    close_s: Seconds
    write_s: Seconds
    connections_max: Count
    connections_per_address_max: Count
    deflate: bool
    deflate_bytes_min: Annotated[int, Meta(ge=0, le=1 << 26)]
    events_max: Annotated[int, Meta(ge=1, le=65_536)]


class Http(Section, frozen=True):
    requests_max: Count
    request_s: Seconds
    idempotency_s: Annotated[float, Meta(ge=86_400, le=10 * 366 * 86_400)]
    allowed_origins: list[str]
    trusted_proxies: list[str]


class Limits(Section, frozen=True):
    address_per_minute: Rate
    address_burst: Count
    user_per_minute: Rate
    user_burst: Count
    buckets_max: Count
    connections_per_user_max: Count
    commands_per_second: Rate
    commands_burst: Count
    commands_waiting_max: Count
    waiting_bytes_max: Bytes
    messages_waiting_max: Count
    malformed_max: Count


class Presence(Section, frozen=True):
    grace_s: Annotated[float, Meta(ge=0, le=3_600)]
    settle_s: Annotated[float, Meta(ge=0, le=60)]
    watched_max: Count
    watches_max: Count
    dialogs_max: Count
    dialog_members_max: Annotated[int, Meta(ge=1, le=10_000)]
    last_seen_max: Count
    last_seen_write_s: Seconds


class Typing(Section, frozen=True):
    valid_s: Seconds
    repeat_s: Annotated[float, Meta(ge=0, le=3_600)]
    small_members_max: Count
    shown_max: Count
    members_max: Count
    typers_max: Count


class Postgres(Section, frozen=True):
    dsn: str
    dsn_file: str
    pool_size: Annotated[int, Meta(ge=1, le=1_000)]
    waiting_max: Count
    wait_s: Seconds
    connect_s: Seconds
    start_s: Seconds


class Journal(Section, frozen=True):
    folder: str
    segment_bytes: Annotated[int, Meta(ge=1 << 16, le=1 << 32)]
    backlog_bytes_max: Annotated[int, Meta(ge=1 << 16, le=1 << 40)]
    batch_bytes_max: Annotated[int, Meta(ge=1 << 12, le=1 << 30)]
    record_bytes_max: Annotated[int, Meta(ge=1 << 12, le=1 << 28)]


class Messaging(Section, frozen=True):
    dialogs_max: Count
    tail_max: Count
    tails_max: Count
    client_ids_max: Count
    wants_max: Count
    unflushed_max: Count
    flush_records_max: Count
    flush_interval_s: Annotated[float, Meta(ge=0, le=60)]
    flush_retry_s_max: Seconds
    user_messages_per_minute: Annotated[int, Meta(ge=0, le=1 << 31)]
    dialog_messages_per_minute: Annotated[int, Meta(ge=0, le=1 << 31)]
    rate_keys_max: Count
    invites_max: Count
    join_requests_max: Count
    public_name_held_s: Seconds
    scheduled_max: Annotated[int, Meta(ge=1, le=1_000)]
    scheduled_ahead_s: Annotated[float, Meta(ge=0, le=86_400)]
    away_reply_s: Seconds


class Search(Section, frozen=True):
    folder: str
    per_user_minute: Count
    burst: Count
    threads_max: Annotated[int, Meta(ge=1, le=64)]
    waiting_max: Count
    writer_bytes: Annotated[int, Meta(ge=15_000_000, le=4_000_000_000)]
    commit_interval_s: Annotated[float, Meta(ge=0, le=60)]
    unfed_max: Count
    people_interval_s: Seconds
    rows_max: Annotated[int, Meta(ge=1, le=5_000)]
    retry_s: Seconds


class Ledger(Section, frozen=True):
    batch_max: Annotated[int, Meta(ge=1, le=10_000)]
    waiting_max: Count
    attempts_max: Annotated[int, Meta(ge=2, le=100)]
    trip_s: Seconds
    retry_s: Seconds
    in_doubt_s: Seconds
    expiry_interval_s: Seconds
    expiry_batch_max: Annotated[int, Meta(ge=1, le=10_000)]
    keys_days: Annotated[float, Meta(ge=30, le=366)]


class Payment(Section, frozen=True):
    limits: payment_rules.LimitSettings
    fees: payment_rules.ChargeSettings


class Events(Section, frozen=True):
    poll_s: Seconds
    batch_max: Annotated[int, Meta(ge=1, le=10_000)]
    attempts_max: Annotated[int, Meta(ge=1, le=100)]
    retry_s: Seconds
    retry_s_max: Seconds
    handle_s: Seconds
    lease_s: Annotated[float, Meta(ge=1, le=3_600)]
    dead_letters_max: Count
    keep_days: Annotated[int, Meta(ge=31, le=3_660)]


class Sagas(Section, frozen=True):
    running_max: Count
    claim_max: Annotated[int, Meta(ge=1, le=100_000)]
    batch_max: Annotated[int, Meta(ge=1, le=100_000)]
    poll_s: Annotated[float, Meta(gt=0, le=60)]
    lease_s: Annotated[float, Meta(ge=1, le=600)]
    retry_s: Annotated[float, Meta(gt=0, le=60)]
    kept_s: Seconds


class Sms(Section, frozen=True):
    kind: Literal["sandbox", "twilio"]
    account: str
    sender: str
    timeout_s: Seconds


class Email(Section, frozen=True):
    kind: Literal["sandbox", "smtp"]
    host: str
    port: Annotated[int, Meta(ge=1, le=65_535)]
    user: str
    sender: str
    timeout_s: Seconds


class Providers(Section, frozen=True):
    sms: Sms
    email: Email
    payments: PaymentProviders


class Secrets(Section, frozen=True):
    """Paths of files; what is in them: `tchatd.app.secrets`."""

    master_key_files: list[str]
    lookup_key_file: str
    otp_key_file: str
    token_key_files: list[str]
    sms_token_file: str
    email_password_file: str
    stripe_key_file: str
    stripe_webhook_file: str
    omise_key_file: str
    omise_webhook_file: str
    bank_key_file: str
    bank_webhook_file: str


class Console(Section, frozen=True):
    socket: str
    connections_max: Annotated[int, Meta(ge=1, le=1_000)]
    line_bytes_max: Annotated[int, Meta(ge=1_024, le=1 << 24)]
    rows_max: Annotated[int, Meta(ge=1, le=100_000)]
    command_s: Seconds


class Log(Section, frozen=True):
    level: Literal["debug", "info", "warning", "error", "critical"]
    format: Literal["auto", "console", "json"]


class Metrics(Section, frozen=True):
    allow: list[str]


class Shutdown(Section, frozen=True):
    drain_s: Seconds
    flush_s: Seconds
    reconnect_spread_s: Annotated[float, Meta(ge=0, le=3_600)]


class Settings(Section, frozen=True):
    mode: Literal["development", "production"]
    data: str
    listen: Listen
    tls: Tls
    gateway: Gateway
    http: Http
    limits: Limits
    presence: Presence
    typing: Typing
    people: PeopleSettings
    postgres: Postgres
    journal: Journal
    messaging: Messaging
    search: Search
    events: Events
    auth: AuthSettings
    bots: BotSettings
    moderation: ModerationSettings
    link_previews: LinkSettings
    ledger: Ledger
    payment: Payment
    qr: QrSettings
    sagas: Sagas
    providers: Providers
    secrets: Secrets
    console: Console
    log: Log
    metrics: Metrics
    shutdown: Shutdown

    @property
    def data_folder(self) -> Path:
        return Path(self.data).absolute()

    @property
    def journal_folder(self) -> Path:
        if self.journal.folder:
            return Path(self.journal.folder).absolute()
        return self.data_folder / "journal"

    @property
    def search_folder(self) -> Path:
        if self.search.folder:
            return Path(self.search.folder).absolute()
        return self.data_folder / "search"

    @property
    def console_socket(self) -> Path:
        if self.console.socket:
            return Path(self.console.socket).absolute()
        return self.data_folder / "console.sock"


def split_address(address: str) -> tuple[str, int]:
    """`127.0.0.1:80`, `[::1]:80` or `:80` (every IPv4 address) → host and port."""
    host, _, port = address.rpartition(":")
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104  # asked for by ":80"


def broken_relations(settings: Settings) -> Iterator[tuple[str, str]]:
    """Every relation that does not hold: the key to change, and a sentence."""
    s = settings
    for key, address in (("listen.bind", s.listen.bind), ("tls.bind", s.tls.bind)):
        if address and split_address(address)[1] > 65_535:
            yield key, "the port is at most 65535"
    if s.tls.bind and not (s.tls.certificate_file and s.tls.key_file):
        yield "tls.bind", "needs tls.certificate_file and tls.key_file"
    if s.tls.bind and s.tls.bind == s.listen.bind and not s.tls.bind.endswith(":0"):
        yield "tls.bind", "must differ from listen.bind"
    if s.gateway.ping_interval_s + s.gateway.pong_timeout_s > s.gateway.idle_s:
        yield "gateway.idle_s", "is less than ping_interval_s + pong_timeout_s"
    if s.gateway.pong_timeout_s > s.gateway.ping_interval_s:
        yield "gateway.pong_timeout_s", "is more than gateway.ping_interval_s"
    if s.gateway.uri_bytes_max > s.gateway.head_bytes_max:
        yield "gateway.uri_bytes_max", "is more than gateway.head_bytes_max"
    if s.gateway.connections_per_address_max > s.gateway.connections_max:
        yield "gateway.connections_per_address_max", "is more than connections_max"
    yield from _broken_in_journal(s.journal)
    if s.gateway.message_bytes_max > s.journal.record_bytes_max:
        yield "journal.record_bytes_max", "is less than gateway.message_bytes_max"
    if s.postgres.dsn and s.postgres.dsn_file:
        yield "postgres.dsn_file", "set either dsn or dsn_file"
    if s.limits.messages_waiting_max < s.limits.commands_waiting_max:
        yield "limits.messages_waiting_max", "is less than commands_waiting_max"
    if s.ledger.expiry_batch_max > s.ledger.waiting_max:
        yield "ledger.expiry_batch_max", "is more than ledger.waiting_max"
    if s.events.retry_s > s.events.retry_s_max:
        yield "events.retry_s", "is more than events.retry_s_max"
    if s.typing.repeat_s >= s.typing.valid_s:
        yield "typing.repeat_s", "is not less than typing.valid_s"
    if s.providers.sms.kind != "sandbox" and not (
        s.providers.sms.account and s.providers.sms.sender
    ):
        yield "providers.sms.kind", "needs providers.sms.account and .sender"
    if s.providers.email.kind != "sandbox" and not (
        s.providers.email.host and s.providers.email.sender
    ):
        yield "providers.email.kind", "needs providers.email.host and .sender"
    yield from payment_settings.broken_relations(s.providers.payments)
    yield from payment_rules.broken_relations(s.payment.limits, s.payment.fees)
    networks = (
        ("metrics.allow", s.metrics.allow),
        ("http.trusted_proxies", s.http.trusted_proxies),
    )
    for key, texts in networks:
        for network in texts:
            if not _is_network(network):
                yield key, f"{network!r} is no address or network"


def _broken_in_journal(journal: Journal) -> Iterator[tuple[str, str]]:
    for name in ("segment_bytes", "batch_bytes_max"):
        if getattr(journal, name) % BLOCK_BYTES:
            yield f"journal.{name}", f"is not a multiple of {BLOCK_BYTES}"
    if journal.batch_bytes_max > journal.segment_bytes - 2 * BLOCK_BYTES:
        yield "journal.batch_bytes_max", "does not fit into journal.segment_bytes"
    if journal.record_bytes_max + BLOCK_BYTES > journal.batch_bytes_max:
        yield "journal.record_bytes_max", "does not fit into journal.batch_bytes_max"
    if journal.backlog_bytes_max < journal.batch_bytes_max:
        yield "journal.backlog_bytes_max", "is less than journal.batch_bytes_max"


def unsafe_in_production(settings: Settings) -> Iterator[tuple[str, str]]:
    """What is convenient on a desk and must not be seen by the world."""
    s = settings
    if s.providers.sms.kind == "sandbox":
        yield "providers.sms.kind", "the sandbox shows codes to whoever reads the log"
    if s.providers.email.kind == "sandbox":
        yield "providers.email.kind", "the sandbox shows codes to whoever reads the log"
    yield from payment_settings.unsafe_in_production(s.providers.payments)
    if not (s.postgres.dsn or s.postgres.dsn_file):
        yield (
            "postgres.dsn",
            "the embedded PostgreSQL is for development; name yours by"
            " postgres.dsn_file or the environment variable TCHATD_POSTGRES_DSN",
        )
    if s.log.level == "debug":
        yield "log.level", "debug lines are for development"
    if s.link_previews.allow_private:
        yield "link_previews.allow_private", "lets users read what only we can reach"
    if s.bots.allow_private_webhooks:
        yield "bots.allow_private_webhooks", "lets bots call what only we can reach"
    if any(_is_everything(network) for network in s.http.trusted_proxies):
        yield "http.trusted_proxies", "lets anybody claim any address"
    if any(_is_everything(network) for network in s.metrics.allow):
        yield "metrics.allow", "opens /metrics to everybody"


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _is_everything(text: str) -> bool:
    return _is_network(text) and ipaddress.ip_network(text, strict=False).prefixlen == 0
