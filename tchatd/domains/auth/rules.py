"""Owns the rules of sign-in and users: pure functions over values, and their limits."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Callable, Sequence

import msgspec

from tchatd.domains.auth.errors import IdentifierRefused, ProfileRefused
from tchatd.domains.auth.models import (
    AVATAR_PATTERN,
    ChangeProfile,
    Country,
    Identifier,
    IdentifierKind,
    Locale,
    ProfileChange,
    RotationOutcome,
    SendCode,
    SessionRecord,
)
from tchatd.kernel.crypto import equal
from tchatd.kernel.phones import PhoneRefused, parse_phone

HOUR_MS = 3_600_000
CODE_DIGITS = 6
NAME_SIZE_MIN, NAME_SIZE_MAX = 2, 100

LOCALES: dict[Country, Locale] = {
    "TH": "th-TH",
    "ID": "id-ID",
    "MY": "ms-MY",
    "VN": "vi-VN",
    "PH": "fil-PH",
    "SG": "en-US",
}

# At most 70 characters each: one SMS also where the alphabet is not the GSM one.
_CODE_TEXTS: dict[Locale, str] = {
    "th-TH": "รหัสของคุณคือ {code} ใช้ได้ {minutes} นาที ห้ามบอกใคร",
    "id-ID": "Kode Anda {code}, berlaku {minutes} menit. Jangan berikan.",
    "ms-MY": "Kod anda {code}, sah {minutes} minit. Jangan kongsikan.",
    "vi-VN": "Mã của bạn là {code}, hiệu lực {minutes} phút. Không chia sẻ.",
    "fil-PH": "Ang code mo ay {code}, {minutes} minuto lang. Huwag ibahagi.",
    "en-US": "Your code is {code}, good for {minutes} minutes. Don't share it.",
}

# One `@`, no comments or quotes; what mail servers in fact accept (RFC 5321 sizes).
_EMAIL = re.compile(
    r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])"
)
_EMAIL_SIZE_MAX, _EMAIL_LOCAL_SIZE_MAX = 254, 64
_AVATAR = re.compile(AVATAR_PATTERN)
# Letters of these kinds would show a name as something else than it is.
_HIDDEN_IN_NAMES = frozenset({"Cc", "Cs", "Co", "Cn", "Zl", "Zp"})
_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_NAME_ALPHABET = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"


class AuthSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Every limit of sign-in. *_s: seconds. *_hour: codes sent in any hour.

    address: one IPv4 address or IPv6 /64; network: /24 or /48; range: the ten
    thousand phone numbers that differ only in their last four digits. Mobile networks
    of these countries put thousands of people behind one address, so those ceilings
    stand against pumping and not against people.
    """

    issuer: str = "tchatd"
    audience: str = "tchatd"
    access_token_s: int = 900
    clock_skew_s: int = 60
    refresh_token_s: int = 30 * 86_400
    refresh_grace_s: int = 30
    sessions_max: int = 5
    code_s: int = 300
    code_resend_s: int = 60
    code_guesses_max: int = 5
    code_sends_per_identifier_hour: int = 5
    code_sends_per_address_hour: int = 60
    code_sends_per_network_hour: int = 600
    code_sends_per_range_hour: int = 60
    sends_per_address_minute: int = 20
    verifies_per_address_minute: int = 120
    refreshes_per_address_minute: int = 600
    profile_writes_per_user_minute: int = 30
    session_commands_per_user_minute: int = 60
    country_default: Country = "SG"
    tokens_known_max: int = 100_000
    users_known_max: int = 500_000
    profiles_known_max: int = 50_000
    revocations_max: int = 1_000_000
    ended_sessions_kept_s: int = 30 * 86_400
    prune_batch_max: int = 1_000

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, int) and value < 1:
                raise ValueError(f"{name} is at least 1")
        if self.code_resend_s > self.code_s:
            raise ValueError("code_resend_s is at most code_s")
        if self.refresh_grace_s >= self.access_token_s:
            raise ValueError("refresh_grace_s is below access_token_s")
        if self.access_token_s >= self.refresh_token_s:
            raise ValueError("access_token_s is below refresh_token_s")
        if self.code_s > 3600:
            raise ValueError("code_s is at most 3600")


class Recent(msgspec.Struct, frozen=True):
    """Of one scope the latest sends within the hour, at most as many as are allowed.

    first_ms, last_ms: when the oldest and the newest of them were; 0 for none. Once
    the first is an hour ago there is room for one more.
    """

    count: int
    first_ms: int
    last_ms: int


def identifier_of(command: SendCode) -> Identifier:
    """The identifier in the form by which it is unique.

    An email is lower-cased as a whole: mail servers that tell the cases of the local
    part apart are gone, people who type it in another case are not.

    Raises: IdentifierRefused.
    """
    return parse_identifier(command.type, command.identifier, command.country)


def parse_identifier(
    kind: IdentifierKind, text: str, country: Country | None = None
) -> Identifier:
    """Raises: IdentifierRefused."""
    if kind == "phone":
        try:
            phone = parse_phone(text)
        except PhoneRefused as error:
            raise _identifier_refused(str(error)) from error
        return Identifier(kind, phone.e164, country or phone.country)  # type: ignore[arg-type]  # one of COUNTRIES
    email = text.lower()
    if (
        len(email) > _EMAIL_SIZE_MAX
        or email.find("@") > _EMAIL_LOCAL_SIZE_MAX
        or _EMAIL.fullmatch(email) is None
    ):
        raise _identifier_refused("not an email address as in name@example.org")
    return Identifier(kind, email, country)


def _identifier_refused(reason: str) -> IdentifierRefused:
    return IdentifierRefused(fields={"identifier": reason})


def locale_of(country: Country | None) -> Locale:
    return "en-US" if country is None else LOCALES[country]


def code_text(locale: Locale, code: str, code_s: int) -> str:
    """What the person reads."""
    minutes = max(1, code_s // 60)
    return _CODE_TEXTS[locale].format(code=code, minutes=minutes)


def new_code(random: Callable[[int], bytes]) -> str:
    """Six digits. Of 64 random bits, so that no code is likelier by over 2**-44."""
    return f"{int.from_bytes(random(8), 'big') % 10**CODE_DIGITS:0{CODE_DIGITS}d}"


def new_name(random: Callable[[int], bytes]) -> str:
    """A name until the person gives one; tells nothing about phone or email."""
    return "User " + "".join(
        _NAME_ALPHABET[byte % len(_NAME_ALPHABET)] for byte in random(6)
    )


def address_and_network(address: str) -> tuple[str, str]:
    """What codes are counted by: IPv4 and its /24, or the /64 and /48 of an IPv6.

    What is no address (a unix socket's peer) counts as one address of its own.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address, address
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip), _network(ip, 24)
    return _network(ip, 64), _network(ip, 48)


def _network(ip: ipaddress.IPv4Address | ipaddress.IPv6Address, bits: int) -> str:
    return str(ipaddress.ip_network((ip, bits), strict=False))


def phone_range(identifier: Identifier) -> str | None:
    """The number without its last four digits: pumping walks along such ranges."""
    return identifier.text[:-4] if identifier.kind == "phone" else None


def wait_for_send(recent: Recent, now_ms: int, sends_max: int, resend_ms: int) -> int:
    """Milliseconds until one more may be sent, 0 for now.

    resend_ms: between two; 0 where only their number is limited.
    """
    wait_ms = 0
    if recent.count and resend_ms:
        wait_ms = recent.last_ms + resend_ms - now_ms
    if recent.count >= sends_max:
        wait_ms = max(wait_ms, recent.first_ms + HOUR_MS - now_ms)
    return max(0, wait_ms)


def rotate(
    session: SessionRecord, presented_hash: bytes, now_ms: int, grace_ms: int
) -> RotationOutcome:
    """What becomes of a refresh token that we once issued for this session.

    The current one rotates. The one before it, within the grace, is a client whose
    answer got lost, and gets the same successor. Anything else was used already: it
    is in two hands, and nobody can tell which is the thief's.
    """
    if session.revoked_ms is not None or session.expires_ms <= now_ms:
        return RotationOutcome.GONE
    if equal(presented_hash, session.refresh_hash):
        return RotationOutcome.ROTATED
    if (
        session.previous_hash is not None
        and equal(presented_hash, session.previous_hash)
        and now_ms - session.rotated_ms <= grace_ms
    ):
        return RotationOutcome.REPEATED
    return RotationOutcome.REUSED


def surplus(sessions: Sequence[SessionRecord], count_max: int) -> list[SessionRecord]:
    """Those that have to go so that `count_max` stay: the least recently used."""
    by_use = sorted(sessions, key=lambda s: (s.used_ms, s.created_ms, s.id))
    return by_use[: max(0, len(sessions) - count_max)]


def profile_change(command: ChangeProfile) -> ProfileChange:
    """Trimmed and checked. Raises: ProfileRefused."""
    fields: dict[str, str] = {}
    name, avatar = command.name, command.avatar
    if isinstance(name, str):
        name = unicodedata.normalize("NFC", name.strip())
        if not NAME_SIZE_MIN <= len(name) <= NAME_SIZE_MAX:
            fields["name"] = "2 to 100 characters, besides spaces around"
        elif any(_is_hidden(letter) for letter in name):
            fields["name"] = "no control characters"
    if isinstance(avatar, str) and (
        len(avatar) > 2048 or _AVATAR.fullmatch(avatar) is None
    ):
        fields["avatar"] = "an http or https address of at most 2048 characters"
    if fields:
        raise ProfileRefused(fields=fields)
    return ProfileChange(
        name=name, avatar=avatar, locale=command.locale, status=command.status
    )


def _is_hidden(letter: str) -> bool:
    return letter in _BIDI_CONTROLS or unicodedata.category(letter) in _HIDDEN_IN_NAMES
