"""Tokens: what ours look like to others, and every way in which others' fail."""

from __future__ import annotations

import hashlib
import hmac
import random
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import jwt
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchatd.domains.auth.errors import RefreshRefused, TokenExpired, TokenRefused
from tchatd.domains.auth.tokens import AccessTokens, RefreshTokens
from tchatd.kernel.crypto import Keys, SigningKeys, derive
from tests.support.auth import SECRET

NOW_MS = 1_800_000_000_000
NOW = NOW_MS // 1000
USER, SESSION = uuid4(), uuid4()
SEED, OTHER_SEED = derive(SECRET, "a"), derive(SECRET, "b")


def access_tokens(keys: SigningKeys | None = None) -> AccessTokens:
    return AccessTokens(
        keys or SigningKeys({"k1": SEED}, "k1"),
        issuer="tchatd",
        audience="app",
        lifetime_s=900,
        skew_s=60,
        random=random.Random(1).randbytes,
    )


def base64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def token_of(
    claims: dict[str, Any] | bytes, header: dict[str, Any], seed: bytes = SEED
) -> str:
    """A token with a good signature over whatever is asked for."""
    payload = claims if isinstance(claims, bytes) else msgspec.json.encode(claims)
    signed = f"{base64(msgspec.json.encode(header))}.{base64(payload)}"
    return f"{signed}.{base64(SigningKeys({'k': seed}, 'k').sign(signed.encode()))}"


HEADER = {"alg": "EdDSA", "kid": "k1", "typ": "JWT"}
CLAIMS = {
    "iss": "tchatd",
    "aud": "app",
    "sub": str(USER),
    "sid": str(SESSION),
    "iat": NOW,
    "exp": NOW + 900,
    "jti": "x",
}


def test_our_token_is_a_jwt_that_another_library_accepts() -> None:
    tokens = access_tokens()
    token, claims = tokens.issue(USER, SESSION, NOW_MS)
    [key] = tokens.public_keys().keys
    assert jwt.get_unverified_header(token) == HEADER | {"kid": key.kid}
    theirs = jwt.decode(
        token,
        jwt.PyJWK(msgspec.to_builtins(key)).key,
        algorithms=["EdDSA"],
        audience="app",
        issuer="tchatd",
        options={"verify_exp": False, "verify_iat": False},
    )
    assert theirs == msgspec.to_builtins(claims)
    assert (theirs["sub"], theirs["sid"]) == (str(USER), str(SESSION))
    assert (theirs["iat"], theirs["exp"]) == (NOW, NOW + 900)
    assert tokens.verify(token, NOW_MS) == claims


def test_two_tokens_of_one_second_differ() -> None:
    tokens = access_tokens()
    assert tokens.issue(USER, SESSION, NOW_MS) != tokens.issue(USER, SESSION, NOW_MS)


def test_a_well_made_token_is_accepted_so_the_refusals_below_mean_something() -> None:
    assert access_tokens().verify(token_of(CLAIMS, HEADER), NOW_MS).sub == USER


def test_a_token_lives_until_the_second_of_its_end() -> None:
    tokens = access_tokens()
    token, _ = tokens.issue(USER, SESSION, NOW_MS)
    tokens.verify(token, NOW_MS + 899_999)
    with pytest.raises(TokenExpired):
        tokens.verify(token, NOW_MS + 900_000)


def test_a_clock_that_is_a_minute_ahead_is_borne_and_no_more() -> None:
    tokens = access_tokens()
    token, _ = tokens.issue(USER, SESSION, NOW_MS + 60_000)
    tokens.verify(token, NOW_MS)
    token, _ = tokens.issue(USER, SESSION, NOW_MS + 61_000)
    with pytest.raises(TokenRefused):
        tokens.verify(token, NOW_MS)


@pytest.mark.parametrize(
    "header",
    [
        HEADER | {"alg": "none"},
        HEADER | {"alg": "None"},
        HEADER | {"alg": "HS256"},
        HEADER | {"alg": "ES256"},
        HEADER | {"alg": "eddsa"},
        HEADER | {"kid": "k2"},
        HEADER | {"kid": ""},
        HEADER | {"kid": ["k1"]},
        HEADER | {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}},
        HEADER | {"jku": "https://evil.example/keys"},
        HEADER | {"crit": ["exp"]},
        HEADER | {"typ": "JWE"},
        {"alg": "EdDSA"},
        {},
    ],
)
def test_another_header_is_refused_even_well_signed(header: dict[str, Any]) -> None:
    with pytest.raises(TokenRefused):
        access_tokens().verify(token_of(CLAIMS, header), NOW_MS)


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "other"},
        {"iss": None},
        {"aud": "other"},
        {"aud": ["app"]},
        {"aud": None},
        {"sub": "somebody"},
        {"sid": ""},
        {"iat": NOW + 61},
        {"exp": NOW + 901},
        {"exp": str(NOW + 900)},
        {"exp": float("1e300")},
        {"exp": 2**70},
        {"iat": None},
    ],
)
def test_other_claims_are_refused_even_well_signed(changes: dict[str, Any]) -> None:
    with pytest.raises(TokenRefused):
        access_tokens().verify(token_of(CLAIMS | changes, HEADER), NOW_MS)


@pytest.mark.parametrize("name", sorted(CLAIMS))
def test_a_missing_claim_is_refused(name: str) -> None:
    claims = {key: value for key, value in CLAIMS.items() if key != name}
    with pytest.raises(TokenRefused):
        access_tokens().verify(token_of(claims, HEADER), NOW_MS)


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b"null", b"\xff"])
def test_claims_that_are_none_are_refused(payload: bytes) -> None:
    with pytest.raises(TokenRefused):
        access_tokens().verify(token_of(payload, HEADER), NOW_MS)


def test_an_expired_token_of_ours_is_told_apart() -> None:
    old = CLAIMS | {"iat": NOW - 901, "exp": NOW - 1}
    with pytest.raises(TokenExpired):
        access_tokens().verify(token_of(old, HEADER), NOW_MS)
    with pytest.raises(TokenRefused):
        access_tokens().verify(token_of(old, HEADER, OTHER_SEED), NOW_MS)


def test_a_mac_with_the_public_key_as_its_secret_is_refused() -> None:
    tokens = access_tokens()
    [key] = tokens.public_keys().keys
    public = urlsafe_b64decode(key.x + "=")
    for header in (HEADER, HEADER | {"alg": "HS256"}):
        signed = (
            f"{base64(msgspec.json.encode(header))}"
            f".{base64(msgspec.json.encode(CLAIMS))}"
        )
        mac = hmac.digest(public, signed.encode(), hashlib.sha256)
        for signature in (mac, mac + mac):
            with pytest.raises(TokenRefused):
                tokens.verify(f"{signed}.{base64(signature)}", NOW_MS)


def test_another_key_under_our_name_is_refused() -> None:
    with pytest.raises(TokenRefused):
        access_tokens().verify(token_of(CLAIMS, HEADER, OTHER_SEED), NOW_MS)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: "",
        lambda t: ".",
        lambda t: "..",
        lambda t: "a.b.c",
        lambda t: t.rpartition(".")[0],
        lambda t: t.rpartition(".")[0] + ".",
        lambda t: t + ".",
        lambda t: t + "." + t,
        lambda t: t + "=",
        lambda t: t + "\n",
        lambda t: " " + t,
        lambda t: t.replace(".", ".\n", 1),
        lambda t: t[:-1],
        lambda t: t + "A" * 2_000,
        lambda t: t.upper(),
        lambda t: t + "\N{BULLET}",
        lambda t: "\ud800",
    ],
)
def test_a_spoiled_token_is_refused(spoil: Callable[[str], str]) -> None:
    with pytest.raises(TokenRefused):
        access_tokens().verify(spoil(token_of(CLAIMS, HEADER)), NOW_MS)


@given(data=st.data())
def test_no_letter_of_a_token_can_be_another(data: st.DataObject) -> None:
    token = token_of(CLAIMS, HEADER)
    place = data.draw(st.integers(0, len(token) - 1))
    letter = data.draw(st.characters().filter(lambda c: c != token[place]))
    with pytest.raises(TokenRefused):
        access_tokens().verify(token[:place] + letter + token[place + 1 :], NOW_MS)


@given(text=st.text(max_size=1100))
def test_any_text_is_refused(text: str) -> None:
    with pytest.raises(TokenRefused):
        access_tokens().verify(text, NOW_MS)


def test_a_retired_signing_key_still_verifies_until_it_is_taken_away() -> None:
    token, _ = access_tokens().issue(USER, SESSION, NOW_MS)
    both = access_tokens(SigningKeys({"k2": OTHER_SEED, "k1": SEED}, "k2"))
    assert both.verify(token, NOW_MS).sub == USER
    assert (
        both.issue(USER, SESSION, NOW_MS)[0].partition(".")[0]
        != token.partition(".")[0]
    )
    assert {key.kid for key in both.public_keys().keys} == {"k1", "k2"}
    with pytest.raises(TokenRefused):
        access_tokens(SigningKeys({"k2": OTHER_SEED}, "k2")).verify(token, NOW_MS)


def refresh_tokens(secret: bytes = SECRET) -> RefreshTokens:
    return RefreshTokens(Keys.of_one_secret(secret), random.Random(2).randbytes)


def test_the_successor_of_a_refresh_token_is_always_the_same() -> None:
    first = refresh_tokens().first(SESSION)
    presented, successor = refresh_tokens().read(first.text)
    assert presented == first
    assert refresh_tokens().read(first.text) == (presented, successor)
    again, third = refresh_tokens().read(successor.text)
    assert again == successor
    assert len({first.text, successor.text, third.text}) == 3
    assert len({first.hash, successor.hash, third.hash}) == 3
    assert third.session_id == SESSION


def test_refresh_tokens_of_a_session_start_at_random() -> None:
    tokens = refresh_tokens()
    assert tokens.first(SESSION).text != tokens.first(SESSION).text


def test_without_the_key_neither_successor_nor_stored_hash_can_be_told() -> None:
    first = refresh_tokens().first(SESSION)
    with pytest.raises(RefreshRefused):
        refresh_tokens(bytes(range(1, 33))).read(first.text)
    assert first.hash not in urlsafe_b64decode(first.text + "==")


@given(data=st.data())
def test_no_letter_of_a_refresh_token_can_be_another(data: st.DataObject) -> None:
    text = refresh_tokens().first(UUID(int=1)).text
    place = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.characters().filter(lambda c: c != text[place]))
    with pytest.raises(RefreshRefused):
        refresh_tokens().read(text[:place] + letter + text[place + 1 :])


@given(text=st.text(max_size=512))
def test_any_text_is_no_refresh_token(text: str) -> None:
    with pytest.raises(RefreshRefused):
        refresh_tokens().read(text)
