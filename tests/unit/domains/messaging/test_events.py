"""What members are told: each event by its name, with its place in the log."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest
from msgspec import UNSET, structs

from tchatd.domains.messaging import events as e
from tchatd.domains.messaging.models import PollResults

NAMES = {
    "dialog.created",
    "message.new",
    "message.read",
    "message.edited",
    "message.deleted",
    "reaction.added",
    "reaction.removed",
    "message.pinned",
    "message.unpinned",
    "poll.voted",
    "member.added",
    "member.removed",
    "member.role",
    "dialog.updated",
    "dialog.deleted",
}


def test_every_event_of_the_log_has_a_name_of_its_own_and_a_seq() -> None:
    events = get_args(e.Event)
    tags = [event.__struct_config__.tag for event in events]
    assert set(tags) == NAMES
    assert len(tags) == len(NAMES)
    for event in events:
        assert {"dialog_id", "seq"} <= set(event.__struct_fields__)


@pytest.mark.parametrize("own", get_args(e.OwnEvent))
def test_what_is_no_event_of_the_log_has_no_seq(own: type) -> None:
    assert "seq" not in own.__struct_fields__  # type: ignore[attr-defined]


def test_what_is_not_known_is_not_told() -> None:
    told = [
        e.MessageDeleted("d", 1, "m", 1, "t"),
        e.PollVoted("d", 1, "m", 1, "t", PollResults((0,), 0)),
        e.OwnState(
            dialog_id="d", last_seq=1, read_seq=1, unread_count=2, mention_count=3
        ),
        e.MessageRead("d", "u", "m", 1, "t"),
    ]
    for event in told:
        unset = {
            field.name
            for field in structs.fields(event)
            if getattr(event, field.name) is UNSET
        }
        assert unset
        assert not unset & set(msgspec.json.decode(msgspec.json.encode(event)))
