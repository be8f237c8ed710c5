"""The rules of sign-in at their edges."""

from __future__ import annotations

import itertools
import random
from typing import Any, get_args
from uuid import uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchatd.domains.auth import rules
from tchatd.domains.auth.errors import IdentifierRefused, ProfileRefused
from tchatd.domains.auth.models import (
    ChangeProfile,
    Country,
    Locale,
    RotationOutcome,
    SendCode,
    SessionRecord,
)
from tchatd.domains.auth.rules import HOUR_MS, AuthSettings, Recent
from tchatd.kernel.phones import COUNTRIES
from tests.support.auth_store import GRACE, MINUTE, NOW, digest


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("a@b.co", "a@b.co"),
        ("Somchai.J+chat@Example.CO.TH", "somchai.j+chat@example.co.th"),
        ("x" * 64 + "@example.com", "x" * 64 + "@example.com"),
        ("a@xn--o3cw4h.xn--o3cw4h", "a@xn--o3cw4h.xn--o3cw4h"),
    ],
)
def test_an_email_has_one_normal_form(text: str, normal: str) -> None:
    identifier = rules.identifier_of(SendCode(identifier=text, type="email"))
    assert (identifier.text, identifier.country) == (normal, None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nobody",
        "@example.com",
        "a@",
        "a@b",
        "a@b@c.example",
        "a@b..co",
        ".a@b.co",
        "a.@b.co",
        "a..b@b.co",
        "a b@c.co",
        "a@b.co\n",
        "a@b.co\r\nBcc: x@y.co",
        '"a"@b.co',
        "a@[192.0.2.1]",
        "a@-b.co",
        "a@b-.co",
        "a@b.c",
        "a@192.0.2.1",
        "สมชาย@example.com",
        "x" * 65 + "@example.com",
        "a@" + "b" * 64 + ".com",
        "a@" + ("b" * 60 + ".") * 5 + "com",
        "a,b@c.co",
        "<a@b.co>",
    ],
)
def test_what_is_no_email_is_refused_by_its_field(text: str) -> None:
    with pytest.raises(IdentifierRefused) as refusal:
        rules.parse_identifier("email", text)
    assert refusal.value.fields.keys() == {"identifier"}


def test_an_email_that_would_take_a_careless_pattern_for_ever_is_quick() -> None:
    with pytest.raises(IdentifierRefused):
        rules.parse_identifier("email", "a@" + "a-" * 120)


def test_a_phone_brings_its_country_unless_another_is_said() -> None:
    phone = rules.parse_identifier("phone", "+6591234567")
    assert phone.country == "SG"
    assert rules.parse_identifier("phone", "+6591234567", "TH").country == "TH"


def test_a_refused_phone_says_why_in_its_field() -> None:
    with pytest.raises(IdentifierRefused) as refusal:
        rules.parse_identifier("phone", "+14155552671")
    assert refusal.value.fields == {
        "identifier": "numbers of this country are not served"
    }


def test_every_country_has_a_locale_and_every_locale_a_text_of_one_sms() -> None:
    assert set(rules.LOCALES) == set(get_args(Country)) == set(COUNTRIES)
    for locale in get_args(Locale):
        text = rules.code_text(locale, "123456", 300)
        assert "123456" in text
        assert "5" in text
        assert len(text) <= 70


def test_a_code_has_six_digits_and_leading_zeros() -> None:
    assert rules.new_code(lambda size: bytes(size)) == "000000"
    assert rules.new_code(lambda size: b"\xff" * size) == f"{(2**64 - 1) % 10**6:06d}"
    codes = {rules.new_code(random.Random(i).randbytes) for i in range(500)}
    assert len(codes) > 490
    assert all(len(code) == 6 and code.isdecimal() for code in codes)


def test_a_first_name_is_a_valid_one() -> None:
    name = rules.new_name(random.Random(1).randbytes)
    assert rules.profile_change(ChangeProfile(name=name)).name == name


@pytest.mark.parametrize(
    ("address", "near", "wide"),
    [
        ("192.0.2.7", "192.0.2.7", "192.0.2.0/24"),
        ("::ffff:192.0.2.7", "192.0.2.7", "192.0.2.0/24"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/64", "fe80::/48"),
        ("", "", ""),
        ("unix", "unix", "unix"),
    ],
)
def test_sends_are_counted_by_address_and_network(
    address: str, near: str, wide: str
) -> None:
    assert rules.address_and_network(address) == (near, wide)


def test_a_phone_is_of_a_range_an_email_of_none() -> None:
    phone = rules.parse_identifier("phone", "+66812345678")
    assert rules.phone_range(phone) == "+6681234"
    assert rules.phone_range(rules.parse_identifier("email", "a@b.co")) is None


def recent(sent: list[int], now_ms: int, most: int) -> Recent:
    """What a store gathers, as `Recent` says it."""
    counted = sorted(at for at in sent if at > now_ms - HOUR_MS)[-most:]
    if not counted:
        return Recent(0, 0, 0)
    return Recent(len(counted), counted[0], counted[-1])


@given(
    steps=st.lists(st.integers(0, 20 * MINUTE), max_size=40),
    most=st.integers(1, 6),
    resend_ms=st.sampled_from([0, MINUTE]),
)
def test_no_hour_has_more_sends_than_allowed_and_waiting_is_enough(
    steps: list[int], most: int, resend_ms: int
) -> None:
    sent: list[int] = []
    now_ms = NOW
    for step in steps:
        now_ms += step
        wait_ms = rules.wait_for_send(
            recent(sent, now_ms, most), now_ms, most, resend_ms
        )
        if wait_ms:
            now_ms += wait_ms
            wait_ms = rules.wait_for_send(
                recent(sent, now_ms, most), now_ms, most, resend_ms
            )
        assert wait_ms == 0
        sent.append(now_ms)
        within = [at for at in sent if now_ms - HOUR_MS < at]
        assert len(within) <= most
        assert all(b - a >= resend_ms for a, b in itertools.pairwise(sent))


def session(**changes: Any) -> SessionRecord:
    fresh = SessionRecord(
        id=uuid4(),
        user_number=1,
        sealed=b"",
        refresh_hash=digest("r1"),
        previous_hash=digest("r0"),
        created_ms=NOW,
        used_ms=NOW,
        rotated_ms=NOW,
        expires_ms=NOW + HOUR_MS,
    )
    return msgspec.structs.replace(fresh, **changes)


@pytest.mark.parametrize(
    ("changes", "presented", "at_ms", "outcome"),
    [
        ({}, "r1", NOW, RotationOutcome.ROTATED),
        ({}, "r0", NOW, RotationOutcome.REPEATED),
        ({}, "r0", NOW + GRACE, RotationOutcome.REPEATED),
        ({}, "r0", NOW + GRACE + 1, RotationOutcome.REUSED),
        ({}, "older", NOW, RotationOutcome.REUSED),
        ({"previous_hash": None}, "r0", NOW, RotationOutcome.REUSED),
        ({"revoked_ms": NOW}, "r1", NOW, RotationOutcome.GONE),
        ({"revoked_ms": NOW}, "older", NOW, RotationOutcome.GONE),
        ({}, "r1", NOW + HOUR_MS - 1, RotationOutcome.ROTATED),
        ({}, "r1", NOW + HOUR_MS, RotationOutcome.GONE),
    ],
)
def test_a_refresh_token_rotates_repeats_or_ends_its_session(
    changes: dict[str, Any], presented: str, at_ms: int, outcome: RotationOutcome
) -> None:
    decided = rules.rotate(session(**changes), digest(presented), at_ms, GRACE)
    assert decided is outcome


def test_the_least_recently_used_are_the_surplus() -> None:
    sessions = [session(used_ms=NOW + i) for i in (3, 1, 2)]
    assert rules.surplus(sessions, 1) == [sessions[1], sessions[2]]
    assert rules.surplus(sessions, 3) == []
    assert rules.surplus([], 0) == []


@pytest.mark.parametrize("name", ["ab", "  Ánh  ", "x" * 100, "Nguyễn Thị", "👩‍👩‍👧 x"])
def test_a_name_is_kept_trimmed(name: str) -> None:
    assert rules.profile_change(ChangeProfile(name=name)).name == name.strip()


@pytest.mark.parametrize(
    "name",
    ["", "a", "  a  ", "x" * 101, "a\nb", "a\0b", "a\u202eb", "a\u0085b", "\ud800bc"],
)
def test_a_bad_name_is_refused_by_its_field(name: str) -> None:
    with pytest.raises(ProfileRefused) as refusal:
        rules.profile_change(ChangeProfile(name=name))
    assert refusal.value.fields.keys() == {"name"}


@pytest.mark.parametrize(
    ("avatar", "good"),
    [
        ("https://cdn.example/a.png", True),
        ("http://[2001:db8::1]:8080/a?b=c#d", True),
        ("https://a", True),
        ("https://a/" + "x" * 2038, True),
        ("https://a/" + "x" * 2039, False),
        ("javascript:alert(1)", False),
        ("ftp://a/b", False),
        ("//a/b", False),
        ("https://", False),
        ("https:///a", False),
        ("https://user:pass@a/b", False),
        ("https://a/b c", False),
        ("https://a/b\n", False),
        ("HTTPS://a/b", True),
        ("https://a/é", False),
        ("", False),
    ],
)
def test_an_avatar_is_a_web_address(avatar: str, good: bool) -> None:
    if good:
        assert rules.profile_change(ChangeProfile(avatar=avatar)).avatar == avatar
    else:
        with pytest.raises(ProfileRefused) as refusal:
            rules.profile_change(ChangeProfile(avatar=avatar))
        assert refusal.value.fields.keys() == {"avatar"}


def test_all_bad_fields_are_told_at_once_and_an_empty_change_is_one() -> None:
    with pytest.raises(ProfileRefused) as refusal:
        rules.profile_change(ChangeProfile(name="", avatar=""))
    assert refusal.value.fields.keys() == {"name", "avatar"}
    assert msgspec.to_builtins(rules.profile_change(ChangeProfile())) == {}


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"sessions_max": 0}, "sessions_max"),
        ({"code_resend_s": 301}, "code_resend_s"),
        ({"refresh_grace_s": 900}, "refresh_grace_s"),
        ({"access_token_s": 30 * 86_400}, "access_token_s"),
        ({"code_s": 3601}, "code_s"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    changes: dict[str, Any], names: str
) -> None:
    with pytest.raises(ValueError, match=names):
        AuthSettings(**changes)
