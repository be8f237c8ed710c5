"""Bodies wait without what a message says, and are otherwise what they were."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest

from tchatd.domains.bots import bodies
from tchatd.domains.bots.bodies import Payload

ID = UUID(int=7)
MESSAGE: dict[str, Any] = {
    "id": str(ID),
    "dialog_id": "d",
    "seq": 2,
    "sender_id": "s",
    "type": "text",
    "content": {"text": "secret"},
    "created_at": "2026-11-24T00:00:00Z",
    "mentions": ["m"],
    "buttons": [[{"text": "secret", "data": "x"}]],
    "forward": {"from": "secret"},
}


class MessageNew(msgspec.Struct, tag_field="op", tag="message.new"):
    message: dict[str, Any]


class DialogCreated(msgspec.Struct, tag_field="op", tag="dialog.created"):
    dialog: dict[str, Any]


class PollVoted(msgspec.Struct, tag_field="op", tag="poll.voted"):
    message_id: str


def body_of(event: Any) -> tuple[str, str]:
    kind = event.__struct_config__.tag
    return kind, bodies.encoded(Payload("i", kind, "b", "at", bodies.waiting(event)))


@pytest.mark.parametrize(
    "event",
    [
        MessageNew(MESSAGE),
        DialogCreated({"id": "d", "name": "Lunch", "last_message": MESSAGE}),
    ],
)
def test_a_message_is_left_out_and_put_in_again(event: Any) -> None:
    kind, body = body_of(event)
    assert "secret" not in body
    assert bodies.message_in(kind, body) == ID
    sent = msgspec.json.decode(bodies.with_message(kind, body, MESSAGE))
    assert sent["data"] == msgspec.to_builtins(event)
    assert (sent["id"], sent["type"], sent["bot_id"]) == ("i", kind, "b")


@pytest.mark.parametrize(
    "event", [DialogCreated({"id": "d", "name": "Lunch"}), PollVoted("m")]
)
def test_what_has_no_message_waits_as_it_is(event: Any) -> None:
    kind, body = body_of(event)
    assert bodies.message_in(kind, body) is None
    assert msgspec.json.decode(body)["data"] == msgspec.to_builtins(event)
