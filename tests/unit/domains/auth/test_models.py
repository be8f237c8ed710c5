"""What goes over the wire: good and bad commands, and how a user looks."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import msgspec
import pytest
from msgspec import UNSET

from tchatd.domains.auth.models import (
    ChangeProfile,
    RefreshToken,
    SendCode,
    User,
    VerifyCode,
)


def decoded(type: Any, fields: dict[str, Any]) -> Any:
    return msgspec.json.decode(msgspec.json.encode(fields), type=type)


VERIFY = {"session_id": str(uuid4()), "code": "012345"}
DEVICE = {"id": "d", "name": "n", "platform": "ios"}


@pytest.mark.parametrize(
    ("type", "fields"),
    [
        (SendCode, {"identifier": "+66812345678", "type": "phone"}),
        (SendCode, {"identifier": "a@b.co", "type": "email", "country": "TH"}),
        (SendCode, {"identifier": "a@b.co", "type": "email", "country": None}),
        (VerifyCode, VERIFY),
        (VerifyCode, VERIFY | {"device": DEVICE}),
        (RefreshToken, {"refresh_token": "x" * 512}),
        (ChangeProfile, {}),
        (ChangeProfile, {"name": "ab", "avatar": None, "status": "busy"}),
        (ChangeProfile, {"name": "x" * 100, "locale": "fil-PH"}),
        (ChangeProfile, {"avatar": "https://a.example/" + "x" * 2030}),
    ],
)
def test_a_good_command_is_taken(type: Any, fields: dict[str, Any]) -> None:
    assert decoded(type, fields)


@pytest.mark.parametrize(
    ("type", "fields"),
    [
        (SendCode, {"identifier": "+66812345678"}),
        (SendCode, {"identifier": "+66812345678", "type": "pigeon"}),
        (SendCode, {"identifier": "x" * 255, "type": "email"}),
        (SendCode, {"identifier": "a@b.co", "type": "email", "country": "US"}),
        (VerifyCode, VERIFY | {"code": "12345"}),
        (VerifyCode, VERIFY | {"code": "1234567"}),
        (VerifyCode, VERIFY | {"code": "12345\n"}),
        (VerifyCode, VERIFY | {"code": "123456\n"}),
        (VerifyCode, VERIFY | {"code": "١٢٣٤٥٦"}),
        (VerifyCode, VERIFY | {"code": 123456}),
        (VerifyCode, VERIFY | {"session_id": "x"}),
        (VerifyCode, VERIFY | {"device": DEVICE | {"platform": "fridge"}}),
        (VerifyCode, VERIFY | {"device": DEVICE | {"id": ""}}),
        (RefreshToken, {"refresh_token": ""}),
        (RefreshToken, {"refresh_token": "x" * 513}),
        (ChangeProfile, {"name": "x"}),
        (ChangeProfile, {"name": "  "}),
        (ChangeProfile, {"name": "x "}),
        (ChangeProfile, {"name": "x" * 101}),
        (ChangeProfile, {"name": "a\tb"}),
        (ChangeProfile, {"name": None}),
        (ChangeProfile, {"avatar": "javascript:alert(1)"}),
        (ChangeProfile, {"locale": "de-DE"}),
        (ChangeProfile, {"status": "asleep"}),
    ],
)
def test_a_bad_command_is_refused(type: Any, fields: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        decoded(type, fields)


def test_what_a_user_has_not_is_not_in_the_answer() -> None:
    user = User(
        id=str(uuid4()),
        name="ab",
        country="TH",
        locale="th-TH",
        kyc_tier=1,
        status="online",
        is_verified=True,
        created_at="2027-01-15T08:00:00.000Z",
        updated_at="2027-01-15T08:00:00.000Z",
        email="a@b.co",
        phone=UNSET,
    )
    for encode, decode in (
        (msgspec.json.encode, msgspec.json.decode),
        (msgspec.msgpack.encode, msgspec.msgpack.decode),
    ):
        shown = decode(encode(user))
        assert shown["email"] == "a@b.co"
        assert shown.keys().isdisjoint({"phone", "avatar", "last_seen"})
