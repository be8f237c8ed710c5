"""What is built from the settings: every route once, every limit where it belongs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tchatd.app import secrets
from tchatd.app.configuration import load
from tchatd.app.secrets import Secrets
from tchatd.app.settings import Settings
from tchatd.app.wiring import Core, Edge, Senders, make_pool
from tchatd.edge.hub import Hub
from tchatd.kernel.clock import SystemClock
from tchatd.observe.metrics import Metrics
from tchatd.providers.email import SmtpEmail
from tchatd.providers.sandbox import SandboxCodes
from tchatd.providers.sms import TwilioSms

NOWHERE = "host=127.0.0.1 port=1 dbname=x"
ROUTES = """
POST /auth/otp/send
POST /auth/otp/verify
POST /auth/token/refresh
POST /auth/logout
GET /auth/sessions
DELETE /auth/sessions
DELETE /auth/sessions/{id}
GET /.well-known/jwks.json
GET /users/profile
PUT /users/profile
GET /users/{id}
GET /users/privacy
PUT /users/privacy
GET /users/preferences
PUT /users/preferences
GET /users/contacts
POST /users/contacts
DELETE /users/contacts
GET /users/blocks
POST /users/blocks
DELETE /users/blocks
GET /dialogs
POST /dialogs
GET /dialogs/{id}
GET /dialogs/{id}/messages
POST /dialogs/{id}/messages
GET /dialogs/{id}/events
POST /messages/{id}/read
GET /link-preview
POST /qr/parse
GET /qr/image
POST /messages/{id}/report
POST /users/{id}/report
POST /dialogs/{id}/report
GET /bots
POST /bots
GET /bots/named/{id}
DELETE /bots/{id}
POST /bots/{id}/token
GET /bots/{id}/webhook
PUT /bots/{id}/webhook
DELETE /bots/{id}/webhook
POST /messages/{id}/press
POST /callbacks/{id}/answer
GET /presence
GET /health
GET /ready
GET /metrics
GET /openapi.json
"""
COMMANDS = {
    *("button.press", "button.answer"),
    *("message.send", "message.read", "typing.start", "typing.stop", "sync"),
    *("presence.set", "presence.watch", "presence.unwatch", "dialog.history"),
}


def make(tmp_path: Path, **environment: str) -> tuple[Settings, Secrets]:
    prefixed = {f"TCHATD_{name}": value for name, value in environment.items()}
    settings = load(None, {"TCHATD_DATA": str(tmp_path / "data")} | prefixed)
    return settings, secrets.load(settings, {})


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[tuple[Settings, Core, Edge]]:
    """Everything, built and not started."""
    settings, loaded = make(tmp_path)
    metrics = Metrics(process=False)
    pool = make_pool(settings, NOWHERE)
    core = Core(settings, loaded, pool, "n", metrics, Hub(metrics), SystemClock())
    edge = Edge(settings, core, {})
    yield settings, core, edge
    edge.gateway.shutdown()


async def test_every_route_of_the_contract_is_there(
    parts: tuple[Settings, Core, Edge],
) -> None:
    operations = [entry.operation for entry in parts[2].dispatcher.entries.values()]
    served = {f"{op.verb} {op.path}" for op in operations if op.verb}
    unnamed = {
        " ".join("{id}" if "{" in word else word for word in line.split("/"))
        for line in served
    }
    for route in ROUTES.strip().splitlines():
        assert " ".join(route.split("/")) in unnamed, route


async def test_every_websocket_command_of_the_contract_is_there(
    parts: tuple[Settings, Core, Edge],
) -> None:
    operations = [entry.operation for entry in parts[2].dispatcher.entries.values()]
    assert {op.websocket for op in operations if op.websocket} >= COMMANDS


async def test_a_revoked_session_reaches_live_connections(
    parts: tuple[Settings, Core, Edge],
) -> None:
    _, core, edge = parts
    assert core.auth.session_end is edge.sessions


async def test_presence_people_and_typing_know_of_each_other(
    parts: tuple[Settings, Core, Edge],
) -> None:
    _, core, edge = parts
    assert core.people.presence is edge.presence
    assert edge.sessions.on_gone == core.messaging.typing.gone
    assert list(edge.last_seen.online()) == []


async def test_without_an_address_there_is_no_tls(
    parts: tuple[Settings, Core, Edge],
) -> None:
    assert parts[2].tls is None


async def test_keys_have_the_same_ids_whatever_their_order(tmp_path: Path) -> None:
    settings, loaded = make(tmp_path)
    pool = make_pool(settings, NOWHERE)
    cores = []
    for _ in range(2):
        metrics = Metrics(process=False)
        cores.append(
            Core(settings, loaded, pool, "n", metrics, Hub(metrics), SystemClock())
        )
    first, second = (core.auth.public_keys() for core in cores)
    assert first == second


async def test_providers_are_chosen_by_kind(tmp_path: Path) -> None:
    sandbox = Senders(*make(tmp_path))
    assert isinstance(sandbox.sandbox, SandboxCodes)
    assert set(sandbox.by_kind) == {"phone", "email"}

    token = tmp_path / "token"
    token.write_text("t")
    token.chmod(0o600)
    real = Senders(
        *make(
            tmp_path,
            PROVIDERS_SMS_KIND="twilio",
            PROVIDERS_SMS_ACCOUNT="AC1",
            PROVIDERS_SMS_SENDER="+6620000000",
            SECRETS_SMS_TOKEN_FILE=str(token),
            PROVIDERS_EMAIL_KIND="smtp",
            PROVIDERS_EMAIL_HOST="h",
            PROVIDERS_EMAIL_SENDER="a@b.example",
        )
    )
    assert real.sandbox is None
    assert isinstance(real.by_kind["phone"], TwilioSms)
    assert isinstance(real.by_kind["email"], SmtpEmail)
    await real.aclose()
