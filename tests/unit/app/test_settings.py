"""The shape of the settings: relations, and addresses."""

from __future__ import annotations

import msgspec
import pytest

from tchatd.app.configuration import keys, load
from tchatd.app.settings import (
    Settings,
    broken_relations,
    split_address,
    unsafe_in_production,
)


@pytest.fixture(scope="module")
def defaults() -> Settings:
    return load(None, {})


def changed(settings: Settings, key: str, value: object) -> Settings:
    """The same settings with one value set, unchecked."""
    values = msgspec.to_builtins(settings)
    *sections, name = key.split(".")
    inner = values
    for section in sections:
        inner = inner[section]
    inner[name] = value
    return msgspec.convert(values, Settings)


def test_settings_cannot_be_changed(defaults: Settings) -> None:
    with pytest.raises(AttributeError):
        defaults.listen.backlog = 1  # type: ignore[misc]


def test_the_defaults_hold_every_relation(defaults: Settings) -> None:
    assert list(broken_relations(defaults)) == []


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("listen.bind", "127.0.0.1:70000", "listen.bind"),
        ("tls.bind", "127.0.0.1:8443", "tls.bind"),
        ("gateway.ping_interval_s", 70, "gateway.idle_s"),
        ("gateway.pong_timeout_s", 26, "gateway.pong_timeout_s"),
        ("gateway.uri_bytes_max", 1 << 20, "gateway.uri_bytes_max"),
        ("gateway.connections_max", 5, "gateway.connections_per_address_max"),
        ("journal.segment_bytes", (1 << 26) + 1, "journal.segment_bytes"),
        ("journal.segment_bytes", 1 << 16, "journal.batch_bytes_max"),
        ("journal.record_bytes_max", 1_015_808, "journal.record_bytes_max"),
        ("journal.backlog_bytes_max", 1 << 16, "journal.backlog_bytes_max"),
        ("gateway.message_bytes_max", 1 << 20, "journal.record_bytes_max"),
        ("limits.messages_waiting_max", 10, "limits.messages_waiting_max"),
        ("typing.repeat_s", 6, "typing.repeat_s"),
        ("events.retry_s", 61, "events.retry_s"),
        ("providers.sms.kind", "twilio", "providers.sms.kind"),
        ("providers.email.kind", "smtp", "providers.email.kind"),
        ("metrics.allow", ["everybody"], "metrics.allow"),
        ("http.trusted_proxies", ["proxy"], "http.trusted_proxies"),
    ],
)
def test_a_broken_relation_names_the_key(
    defaults: Settings, key: str, value: object, named: str
) -> None:
    broken = list(broken_relations(changed(defaults, key, value)))
    assert named in [name for name, _ in broken]
    assert all(name in set(keys()) for name, _ in broken)


def test_the_desk_is_not_production(defaults: Settings) -> None:
    unsafe = [name for name, _ in unsafe_in_production(defaults)]
    assert unsafe == [
        *("providers.sms.kind", "providers.email.kind"),
        *("providers.payments.sandbox.enabled", "postgres.dsn"),
    ]


@pytest.mark.parametrize(
    "key", ["bots.allow_private_webhooks", "link_previews.allow_private"]
)
def test_production_calls_no_private_address(defaults: Settings, key: str) -> None:
    unsafe = [name for name, _ in unsafe_in_production(changed(defaults, key, True))]
    assert key in unsafe


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("[::1]:8080", ("::1", 8080)),
        (":0", ("0.0.0.0", 0)),
        ("localhost:1", ("localhost", 1)),
    ],
)
def test_addresses_are_split(address: str, expected: tuple[str, int]) -> None:
    assert split_address(address) == expected


def test_paths_lie_in_the_data_folder_unless_they_are_set(defaults: Settings) -> None:
    settings = changed(defaults, "data", "/d")
    assert str(settings.console_socket) == "/d/console.sock"
    assert str(settings.journal_folder) == "/d/journal"
    settings = changed(settings, "journal.folder", "/fast")
    assert str(settings.journal_folder) == "/fast"
    settings = changed(settings, "console.socket", "/run/c.sock")
    assert str(settings.console_socket) == "/run/c.sock"
