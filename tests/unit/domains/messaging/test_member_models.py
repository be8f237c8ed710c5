"""What may be asked about members: every limit at its edge."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from tchatd.domains.messaging import member_models as m
from tchatd.kernel.clock import rfc3339

ID = "019a0000-0000-7000-8000-000000000001"
DIALOG = {"dialog_id": ID}
MEMBER = DIALOG | {"user_id": ID}
EDGES: list[tuple[type, dict[str, Any], str, Any, Any]] = [
    (m.ListMembers, DIALOG, "limit", 100, 101),
    (m.ListMembers, DIALOG, "limit", 1, 0),
    (m.ListMembers, DIALOG, "role", "guest", "king"),
    (m.ListMembers, DIALOG, "cursor", "x" * 200, "x" * 201),
    (m.AddMembers, DIALOG, "user_ids", [ID] * 1_000, [ID] * 1_001),
    (m.AddMembers, DIALOG, "user_ids", [ID], []),
    (m.AddMembers, DIALOG | {"user_ids": [ID]}, "role", "admin", "king"),
    (m.ChangeMember, MEMBER, "silenced_until", None, "tomorrow"),
    (
        m.ChangeMember,
        MEMBER,
        "silenced_until",
        "2027-01-01T00:00:00+07:00",
        "2027-01-01T00:00:00",
    ),
    (m.ListBans, DIALOG, "limit", 100, 101),
    (m.ChangeDialog, DIALOG, "name", "x" * 100, "x" * 101),
    (m.ChangeDialog, DIALOG, "name", "x", ""),
    (m.ChangeDialog, DIALOG, "avatar", None, "ftp://x"),
    (m.ChangeDialog, DIALOG, "settings", {}, None),
    *(
        (m.ChangeDialog, DIALOG, "settings", {name: good}, {name: bad})
        for name, good, bad in (
            ("description", "x" * 1_000, "x" * 1_001),
            ("who_may_write", None, "king"),
            ("who_may_add", "admin", 1),
            ("who_may_pin", "guest", ""),
            ("slow_mode_s", 86_400, 86_401),
            ("slow_mode_s", 0, -1),
            ("vanish_after_s", 31_536_000, 31_536_001),
            ("needs_approval", True, None),
        )
    ),
    (m.ChangeOwn, DIALOG, "is_pinned", False, None),
    (m.ChangeOwn, DIALOG, "muted_until", "2027-01-01T00:00:00Z", "2027-01-01"),
    (m.SaveDraft, DIALOG, "text", "x" * 4_096, "x" * 4_097),
    (m.SaveDraft, DIALOG, "text", "", None),
]


@pytest.mark.parametrize(("command", "fields", "name", "good", "bad"), EDGES)
def test_commands_take_what_fits_and_nothing_beyond_it(
    command: type, fields: dict[str, Any], name: str, good: Any, bad: Any
) -> None:
    needed = {"text": ""} if command is m.SaveDraft else {}
    msgspec.convert(needed | fields | {name: good}, command)
    with pytest.raises(msgspec.ValidationError, match=name):
        msgspec.convert(needed | fields | {name: bad}, command)


def test_what_is_absent_of_a_member_is_not_on_the_wire() -> None:
    encoded = msgspec.json.encode(m.DialogMember("u", "member", joined_seq=3))
    assert encoded == b'{"user_id":"u","role":"member","joined_seq":3}'


def test_a_moment_is_milliseconds_and_none_when_it_is_over() -> None:
    moment = datetime(2027, 1, 1, 7, tzinfo=timezone(timedelta(hours=7)))
    at_ms = 1_798_761_600_000
    assert m.until_ms(moment, 0) == at_ms
    assert m.until_ms(moment, at_ms - 1) == at_ms
    assert m.until_ms(moment, at_ms) == 0
    assert m.until_ms(None, 0) == 0


def test_the_last_moment_can_be_shown_in_any_zone() -> None:
    west = timezone(timedelta(hours=-12))
    at_ms = m.until_ms(datetime.max.replace(tzinfo=west), 0)
    assert at_ms == m.until_ms(datetime.max.replace(tzinfo=UTC), 0)
    assert rfc3339(at_ms) == "9999-12-31T23:59:59.999Z"
