"""What webhooks may be, are told of, are signed with, and when they are tried again."""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import Any

import msgspec
import pytest

from tchatd.domains.bots import rules
from tchatd.domains.bots.errors import WebhookRefused
from tchatd.domains.bots.models import DEFAULT_EVENTS

BOT = "019a0000-0000-7000-8000-000000000001"


class Message(msgspec.Struct):
    content: Any
    type: str = "text"
    mentions: tuple[str, ...] = ()


class Event(msgspec.Struct):
    message: Message


def said(text: str = "hello", *mentions: str) -> Event:
    return Event(Message({"text": text}, mentions=mentions))


@pytest.mark.parametrize(
    "url",
    [
        "https://bot.example/hook?a=1",
        "https://bot.example:8443/",
        "https://[2606:4700::1111]/",
        "https://1.1.1.1/",
    ],
)
def test_public_urls_are_taken(url: str) -> None:
    rules.check_url(url, allow_private=False)


@pytest.mark.parametrize(
    "url",
    [
        "http://bot.example/",
        "https:///hook",
        "https://user@bot.example/",
        "https://user:word@bot.example/",
        "https://bot.example/#part",
        "https://bot.example:99999/",
        "https://[::1/",
        "https://localhost/",
        "https://printer/",
        "https://db.localhost/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://127.0.0.1/",
        "https://10.0.0.1/",
        "https://169.254.169.254/latest",
        "https://[::1]/",
        "https://[fd00:ec2::254]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[fe80::1%25eth0]/",
    ],
)
def test_what_can_be_seen_to_be_private_is_refused(url: str) -> None:
    with pytest.raises(WebhookRefused) as refused:
        rules.check_url(url, allow_private=False)
    assert "url" in refused.value.fields


def test_a_developer_may_use_loopback_without_tls() -> None:
    rules.check_url("http://127.0.0.1:8000/hook", allow_private=True)
    with pytest.raises(WebhookRefused):
        rules.check_url("http://user@127.0.0.1:8000/", allow_private=True)


def test_a_signature_is_over_time_and_body() -> None:
    body = '{"text":"สวัสดี"}'.encode()
    header = rules.signature("s" * 16, 1_800_000_000, body)
    at, mark = (part.split("=", 1)[1] for part in header.split(","))
    signed = at.encode() + b"." + body
    assert mark == hmac.new(b"s" * 16, signed, sha256).hexdigest()
    assert header != rules.signature("s" * 16, 1_800_000_001, body)
    assert header != rules.signature("t" * 16, 1_800_000_000, body)


def test_an_events_id_is_the_same_again_and_of_no_other() -> None:
    id = rules.event_id(7, 3, "message.new")
    assert id == rules.event_id(7, 3, "message.new")
    assert id.version == 8
    others = {
        rules.event_id(8, 3, "message.new"),
        rules.event_id(7, 4, "message.new"),
        rules.event_id(7, 3, "dialog.created"),
        rules.event_id(73, 3, "message.new"),
    }
    assert len(others | {id}) == 5


@pytest.mark.parametrize(
    ("events", "event", "members", "is_told"),
    [
        (DEFAULT_EVENTS, said(), 2, True),
        (DEFAULT_EVENTS, said(), 3, False),
        (DEFAULT_EVENTS, said("hi", BOT), 3, True),
        (DEFAULT_EVENTS, said("hi", "other"), 3, False),
        (DEFAULT_EVENTS, said("/start"), 3, True),
        (("message.all",), said(), 3, True),
        (("message.all", "message.new"), said(), 3, True),
        (("button.pressed",), said(), 2, False),
        (DEFAULT_EVENTS, Event(Message({"latitude": 1}, "location")), 3, False),
    ],
)
def test_a_message_is_for_who_is_alone_mentioned_or_commanded(
    events: tuple[str, ...], event: Event, members: int, is_told: bool
) -> None:
    wanted = rules.is_wanted(frozenset(events), "message.new", event, BOT, members)
    assert wanted is is_told


def test_other_events_are_told_when_they_are_asked_for() -> None:
    asked = frozenset(("member.removed",))
    assert rules.is_wanted(asked, "member.removed", None, BOT, 9)
    assert not rules.is_wanted(asked, "message.read", None, BOT, 2)


def test_attempts_are_ever_further_apart_up_to_a_limit() -> None:
    longest = [rules.retry_s(n, 60, 1.0) for n in range(1, 9)]
    assert longest == [1, 2, 4, 8, 16, 32, 60, 60]
    assert [rules.retry_s(n, 60, 0.0) for n in (1, 2, 100)] == [0.5, 1, 30]
