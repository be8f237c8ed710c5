"""Owns the rules of bots: limits, what a webhook is told of, when it is tried again."""

from __future__ import annotations

import hmac
import ipaddress
from hashlib import sha256
from typing import Annotated, Any, Final
from urllib.parse import urlsplit
from uuid import UUID

from msgspec import Meta, Struct

from tchatd.domains.bots.errors import WebhookRefused

SIGNATURE_HEADER: Final = "X-Tchat-Signature"
ATTEMPTS_EXPONENT_MAX: Final = 30
_FIRST_RETRY_S: Final = 1.0
_Count = Annotated[int, Meta(ge=1, le=1 << 31)]
_Seconds = Annotated[float, Meta(gt=0, le=366 * 86_400)]


class BotSettings(Struct, frozen=True, kw_only=True):
    """What the operator sets; each key is explained in tchatd.toml."""

    bots_per_user_max: _Count = 20
    bots_known_max: _Count = 10_000
    allow_private_webhooks: bool = False
    webhook_timeout_s: _Seconds = 10.0
    webhook_attempts_max: Annotated[int, Meta(ge=1, le=100)] = 10
    webhook_retry_s_max: _Seconds = 3_600.0
    webhook_dead_max: Annotated[int, Meta(ge=1, le=1_000)] = 5
    webhook_pending_max: _Count = 10_000
    webhook_concurrency_max: Annotated[int, Meta(ge=1, le=1_000)] = 32
    dead_letters_kept_s: _Seconds = 2_592_000.0
    callbacks_max: _Count = 100_000


def check_url(url: str, *, allow_private: bool) -> None:
    """What can be seen without asking for the name; the rest is seen when it is used.

    Raises WebhookRefused.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise _refused("is no URL") from None
    if not host:
        raise _refused("names no host")
    if parts.username is not None or parts.password is not None:
        raise _refused("must not hold a name or a password")
    if parts.fragment:
        raise _refused("must not hold a fragment")
    if allow_private:
        return
    if parts.scheme != "https":
        raise _refused("must begin with https://")
    try:
        is_global = ipaddress.ip_address(host.partition("%")[0]).is_global
    except ValueError:
        is_global = "." in host.rstrip(".") and not host.endswith(".localhost")
    if not is_global:
        raise _refused("is not a public address")


def _refused(why: str) -> WebhookRefused:
    return WebhookRefused(f"The URL {why}.", fields={"url": why})


def signature(secret: str, at_s: int, body: bytes) -> str:
    """The header's value: HMAC-SHA-256 over the time, a dot, and the body."""
    signed = str(at_s).encode() + b"." + body
    return f"t={at_s},v1={hmac.new(secret.encode(), signed, sha256).hexdigest()}"


def event_id(position: int, bot: int, kind: str) -> UUID:
    """The same for the same change and bot, however often it is delivered."""
    told = f"tchatd webhook {position} {bot} {kind}"
    digest = bytearray(sha256(told.encode()).digest()[:16])
    digest[6] = 0x80 | digest[6] & 0x0F
    digest[8] = 0x80 | digest[8] & 0x3F
    return UUID(bytes=bytes(digest))


def is_wanted(
    events: frozenset[str], kind: str, event: Any, bot_id: str, members: int
) -> bool:
    """Whether a bot that asked for these is told of a change in one of its dialogs.

    members: how many the dialog has. Where there are more than two, a message is for
    the bot when it mentions it or is a command (`/…`), unless it asked for all.
    """
    if kind != "message.new":
        return kind in events
    if "message.all" in events:
        return True
    if kind not in events:
        return False
    message = event.message
    if members <= 2 or bot_id in message.mentions:
        return True
    return message.type == "text" and _text_of(message.content).startswith("/")


def _text_of(content: Any) -> str:
    text = content["text"] if isinstance(content, dict) else content.text
    return str(text)


def retry_s(attempts: int, most_s: float, chance: float) -> float:
    """Seconds before another attempt after `attempts` that failed, at least 1.

    Doubled each time up to most_s, then half of it by chance (0 to 1), so that what
    failed together does not come back together.
    """
    assert attempts >= 1
    exponent = min(attempts - 1, ATTEMPTS_EXPONENT_MAX)
    wait_s: float = min(most_s, _FIRST_RETRY_S * 2**exponent)
    return wait_s * (0.5 + 0.5 * chance)
