"""Sealing, hashing and signing: round trips, refusals, rotation, erasure."""

from __future__ import annotations

import hashlib
import hmac
import random
from binascii import unhexlify
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchatd.kernel import crypto
from tchatd.kernel.crypto import (
    DataKey,
    KeyedHash,
    Keys,
    SigningKeys,
    Unreadable,
    Vault,
    derive,
)

SECRET = bytes(range(32))
OTHER = bytes(range(1, 33))
OWNER = b"owner"


def seeded(seed: int = 1) -> Callable[[int], bytes]:
    return random.Random(seed).randbytes


@given(plain=st.binary(max_size=500), context=st.binary(max_size=50))
def test_what_a_data_key_sealed_it_opens(plain: bytes, context: bytes) -> None:
    key = DataKey(SECRET)
    sealed = key.seal(plain, context)
    assert key.open(sealed, context) == plain
    assert plain == b"" or len(plain) < 4 or plain not in sealed


@given(data=st.data())
def test_a_changed_bit_anywhere_is_noticed(data: st.DataObject) -> None:
    vault, key = Vault({"m1": SECRET}, "m1"), DataKey(SECRET)
    for sealed, open_ in (
        (vault.seal(b"secret", b"a"), vault.open),
        (key.seal(b"secret", b"a"), key.open),
    ):
        place = data.draw(st.integers(0, 8 * len(sealed) - 1))
        damaged = bytearray(sealed)
        damaged[place // 8] ^= 1 << place % 8
        with pytest.raises(Unreadable):
            open_(bytes(damaged), b"a")


def test_sealed_bytes_cut_short_anywhere_do_not_open() -> None:
    vault, key = Vault({"m1": SECRET}, "m1"), DataKey(SECRET)
    for sealed, open_ in (
        (vault.seal(b"secret", b""), vault.open),
        (key.seal(b"secret", b""), key.open),
    ):
        for size in range(len(sealed)):
            with pytest.raises(Unreadable):
                open_(sealed[:size], b"")


def test_sealed_bytes_moved_to_another_field_do_not_open() -> None:
    key = DataKey(SECRET)
    with pytest.raises(Unreadable):
        key.open(key.seal(b"x", b"phone"), b"email")
    vault = Vault({"m1": SECRET}, "m1")
    _, wrapped = vault.new_data_key(OWNER)
    with pytest.raises(Unreadable):
        vault.unwrap(wrapped, b"somebody else")
    with pytest.raises(Unreadable):
        vault.open(wrapped, OWNER)


def test_the_same_thing_sealed_twice_looks_different() -> None:
    key = DataKey(SECRET)
    assert key.seal(b"x", b"") != key.seal(b"x", b"")


def test_rotating_the_master_key_rewraps_and_keeps_what_was_sealed() -> None:
    old = Vault({"m1": SECRET}, "m1")
    key, wrapped = old.new_data_key(OWNER)
    sealed = key.seal(b"+66812345678", b"phone")

    both = Vault({"m2": OTHER, "m1": SECRET}, "m2")
    rewrapped = both.rewrap(wrapped, OWNER)
    assert rewrapped is not None
    assert both.key_id(rewrapped) == "m2"
    assert both.rewrap(rewrapped, OWNER) is None

    new = Vault({"m2": OTHER}, "m2")
    assert new.unwrap(rewrapped, OWNER).open(sealed, b"phone") == b"+66812345678"
    with pytest.raises(Unreadable):
        new.unwrap(wrapped, OWNER)


def test_without_its_data_key_nothing_opens_what_it_sealed() -> None:
    vault = Vault({"m1": SECRET}, "m1")
    key, _destroyed = vault.new_data_key(OWNER)
    sealed = key.seal(b"+66812345678", b"phone")
    another, _ = vault.new_data_key(OWNER)
    with pytest.raises(Unreadable):
        another.open(sealed, b"phone")
    with pytest.raises(Unreadable):
        vault.open(sealed, b"phone")


def test_a_keyed_hash_is_hmac_over_parts_with_their_sizes() -> None:
    key = derive(SECRET, "x")
    expected = hmac.digest(key, b"\0\0\0\2ab\0\0\0\1c", hashlib.sha256)
    assert KeyedHash(SECRET, "x").digest(b"ab", b"c") == expected


def test_hashes_differ_by_purpose_by_secret_and_by_where_parts_end() -> None:
    keys = Keys.of_one_secret(SECRET)
    digests = {
        keys.lookup_hash("phone").digest(b"ab", b"c"),
        keys.lookup_hash("phone").digest(b"a", b"bc"),
        keys.lookup_hash("phone").digest(b"abc"),
        keys.lookup_hash("email").digest(b"abc"),
        keys.otp_hash("phone").digest(b"abc"),
        Keys.of_one_secret(OTHER).lookup_hash("phone").digest(b"abc"),
    }
    assert len(digests) == 6


def test_derivation_is_hkdf() -> None:
    # RFC 5869 with an empty salt, by hand: extract, then one block of expand.
    extracted = hmac.digest(bytes(32), SECRET, "sha256")
    block = hmac.digest(extracted, b"tchatd/use" + b"\x01", "sha256")
    assert derive(SECRET, "use") == block
    assert derive(SECRET, "use", 4) == block[:4]


def test_signatures_verify_under_their_own_key_only() -> None:
    keys = SigningKeys({"a": SECRET, "b": OTHER}, "a")
    signature = keys.sign(b"message")
    assert keys.verify("a", signature, b"message")
    assert not keys.verify("b", signature, b"message")
    assert not keys.verify("c", signature, b"message")
    assert not keys.verify("a", signature, b"massage")
    assert not keys.verify("a", signature[:-1], b"message")
    assert not keys.verify("a", bytes(64), b"message")


def test_a_public_key_alone_verifies() -> None:
    signer = SigningKeys({"a": SECRET}, "a")
    reader = SigningKeys({"b": OTHER}, "b", public=signer.public_keys())
    assert reader.verify("a", signer.sign(b"m"), b"m")
    assert reader.public_keys().keys() == {"a", "b"}


def test_signing_is_ed25519_of_rfc_8032_and_its_id_the_thumbprint_of_rfc_8037() -> None:
    seed = unhexlify("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    keys = SigningKeys({"a": seed}, "a")
    public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert keys.public_keys() == {"a": unhexlify(public)}
    assert keys.sign(b"").hex().startswith("e5564300c360ac729086e2cc806e828a")
    assert crypto.signing_key_id(seed) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_keys_are_called_by_what_they_are_so_files_may_be_reordered() -> None:
    def keys(*masters: bytes) -> Keys:
        return Keys(
            master_keys=masters, lookup=SECRET, otp=OTHER, token_keys=(SECRET, OTHER)
        )

    _, wrapped = keys(SECRET).vault.new_data_key(OWNER)
    assert keys(OTHER, SECRET).vault.unwrap(wrapped, OWNER)
    assert keys(OTHER, SECRET).vault.current != keys(SECRET, OTHER).vault.current


def test_one_seed_makes_the_same_keys_and_nonces() -> None:
    first = Vault({"m1": SECRET}, "m1", seeded())
    second = Vault({"m1": SECRET}, "m1", seeded())
    assert first.new_data_key(OWNER)[1] == second.new_data_key(OWNER)[1]


@pytest.mark.parametrize("size", [0, 16, 31, 33, 64])
def test_a_key_of_another_size_is_refused(size: int) -> None:
    for make in (
        lambda key: Vault({"m1": key}, "m1"),
        lambda key: DataKey(key),
        lambda key: KeyedHash(key, "x"),
        lambda key: SigningKeys({"a": key}, "a"),
        lambda key: crypto.signing_key_id(key),
    ):
        with pytest.raises(ValueError, match="32"):
            make(bytes(size))


def test_a_current_key_that_is_not_there_and_a_name_used_twice_are_refused() -> None:
    with pytest.raises(ValueError, match="current"):
        Vault({"m1": SECRET}, "m2")
    with pytest.raises(ValueError, match="current"):
        SigningKeys({"a": SECRET}, "b")
    with pytest.raises(ValueError, match="two"):
        SigningKeys({"a": SECRET}, "a", public={"a": SECRET})
    with pytest.raises(ValueError, match="1 to 64"):
        Vault({"m" * 65: SECRET}, "m" * 65)
