"""Owns what is done with keys: sealing, keyed hashes, signatures; reads no files.

Theory of operation
    A person's data is sealed with that person's own data key (AES-256-GCM), and
    the data key is stored wrapped by a master key. Rotating the master key re-wraps
    the small data keys and touches no data; destroying a data key makes whatever it
    sealed unreadable in every copy and backup.

    sealed under a master key:  1 | size of key id | key id | nonce (12) | GCM
    sealed under a data key:    1 | nonce (12) | GCM

    The context (whose, and which field) and the header are authenticated, so that
    sealed bytes cannot be moved to another row. Nonces are random: a master key has
    to be rotated before 2**32 sealings (NIST SP 800-38D, section 8.3).

    A secret never serves two uses directly: each use gets its own key by HKDF
    (RFC 5869), and each hash is separated by its purpose.
"""

from __future__ import annotations

import hmac
import os
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
SIGNATURE_BYTES = 64
KEY_ID_BYTES_MAX = 64
_VERSION = b"\x01"

Random = Callable[[int], bytes]


class Unreadable(Exception):
    """Sealed bytes that do not open: damaged, moved, or their key is destroyed."""


def equal(left: bytes, right: bytes) -> bool:
    """Compare in a time that tells nothing about where the two differ."""
    return hmac.compare_digest(left, right)


def derive(secret: bytes, purpose: str, size: int = KEY_BYTES) -> bytes:
    """A key of `size` bytes for one purpose, from a uniformly random secret."""
    _check_key(secret, "a secret")
    info = b"tchatd/" + purpose.encode()
    return HKDF(algorithm=SHA256(), length=size, salt=None, info=info).derive(secret)


class KeyedHash:
    """HMAC-SHA-256 for one purpose: equal inputs are found, none is recovered."""

    __slots__ = ("_key",)

    def __init__(self, secret: bytes, purpose: str) -> None:
        self._key = derive(secret, purpose)

    def digest(self, *parts: bytes) -> bytes:
        """32 bytes. Each part goes in with its size: ("ab","c") is not ("a","bc")."""
        message = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return hmac.digest(self._key, message, "sha256")


class DataKey:
    """One owner's key, unwrapped. Lives in memory only as long as it is needed."""

    __slots__ = ("_gcm", "_random")

    def __init__(self, key: bytes, random: Random = os.urandom) -> None:
        _check_key(key, "a data key")
        self._gcm = AESGCM(key)
        self._random = random

    def seal(self, plain: bytes, context: bytes) -> bytes:
        nonce = self._random(NONCE_BYTES)
        return _VERSION + nonce + self._gcm.encrypt(nonce, plain, _VERSION + context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """Raises: Unreadable."""
        if sealed[:1] != _VERSION or len(sealed) < 1 + NONCE_BYTES + TAG_BYTES:
            raise Unreadable("not sealed by this version")
        nonce, rest = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
        return _open(self._gcm, nonce, rest, _VERSION + context)


class Vault:
    """The master keys by id. New things go under `current`; all of them still open."""

    def __init__(
        self, keys: Mapping[str, bytes], current: str, random: Random = os.urandom
    ) -> None:
        if current not in keys:
            raise ValueError(
                f"the current master key {current!r} is not among the keys"
            )
        for key_id, key in keys.items():
            if not 1 <= len(key_id.encode()) <= KEY_ID_BYTES_MAX:
                raise ValueError("a master key's id has 1 to 64 bytes")
            _check_key(key, f"master key {key_id!r}")
        self.current = current
        self._gcm = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self._random = random

    def seal(self, plain: bytes, context: bytes) -> bytes:
        """For what has no owner yet and lives for minutes; else use a data key."""
        key_id = self.current.encode()
        header = _VERSION + len(key_id).to_bytes(1, "big") + key_id
        nonce = self._random(NONCE_BYTES)
        sealed = self._gcm[self.current].encrypt(nonce, plain, header + context)
        return header + nonce + sealed

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """Raises: Unreadable."""
        key_id = self.key_id(sealed)
        gcm = self._gcm.get(key_id)
        if gcm is None:
            raise Unreadable(f"master key {key_id!r} is not here")
        end = 2 + sealed[1]
        nonce, rest = sealed[end : end + NONCE_BYTES], sealed[end + NONCE_BYTES :]
        if len(rest) < TAG_BYTES:
            raise Unreadable("cut short")
        return _open(gcm, nonce, rest, sealed[:end] + context)

    def key_id(self, sealed: bytes) -> str:
        """Under which master key this is. Raises: Unreadable."""
        if sealed[:1] != _VERSION or len(sealed) < 2 or len(sealed) < 2 + sealed[1]:
            raise Unreadable("not sealed by this version")
        try:
            return sealed[2 : 2 + sealed[1]].decode()
        except UnicodeDecodeError as error:
            raise Unreadable("not sealed by this version") from error

    def new_data_key(self, owner: bytes) -> tuple[DataKey, bytes]:
        """A fresh key of `owner`, and the same wrapped, for the store."""
        key = self._random(KEY_BYTES)
        return DataKey(key, self._random), self.seal(key, _wrapping(owner))

    def unwrap(self, wrapped: bytes, owner: bytes) -> DataKey:
        """Raises: Unreadable."""
        return DataKey(self.open(wrapped, _wrapping(owner)), self._random)

    def rewrap(self, wrapped: bytes, owner: bytes) -> bytes | None:
        """The same data key under the current master key; None if it is already.

        Raises: Unreadable.
        """
        if self.key_id(wrapped) == self.current:
            return None
        context = _wrapping(owner)
        return self.seal(self.open(wrapped, context), context)


class SigningKeys:
    """Ed25519 keys by id: `current` signs, all of them verify.

    Verification is libsodium's: half of a connect's cost is that, and OpenSSL's takes
    twice as long (docs/adr/0006).

    private: 32-byte seeds. public: 32-byte keys of retired or other nodes' signers.
    """

    def __init__(
        self,
        private: Mapping[str, bytes],
        current: str,
        public: Mapping[str, bytes] | None = None,
    ) -> None:
        if current not in private:
            raise ValueError(
                f"the current signing key {current!r} is not among the keys"
            )
        self.current = current
        self._signer = Ed25519PrivateKey.from_private_bytes(private[current])
        self._public = {
            key_id: Ed25519PrivateKey.from_private_bytes(seed)
            .public_key()
            .public_bytes_raw()
            for key_id, seed in private.items()
        }
        for key_id, key in (public or {}).items():
            if key_id in self._public:
                raise ValueError(f"two signing keys are called {key_id!r}")
            _check_key(key, f"the public key {key_id!r}")
            self._public[key_id] = key

    def sign(self, message: bytes) -> bytes:
        """64 bytes, by the current key."""
        return self._signer.sign(message)

    def verify(self, key_id: str, signature: bytes, message: bytes) -> bool:
        public = self._public.get(key_id)
        if public is None or len(signature) != SIGNATURE_BYTES:
            return False
        try:
            crypto_sign_open(signature + message, public)
        except BadSignatureError:
            return False
        return True

    def public_keys(self) -> dict[str, bytes]:
        """All that verify, by id, 32 bytes each."""
        return dict(self._public)


class Keys:
    """Every key of the daemon, made once from its secrets, 32 bytes each.

    master_keys: the first one wraps, all of them open.
    lookup: changing it loses every look-up by phone, email or address.
    otp: changing it ends codes under way and every refresh token.
    token_keys: Ed25519 seeds; the first one signs, all of them verify.

    Keys are called by what they are (a digest), so that the files may be reordered.
    """

    def __init__(
        self,
        *,
        master_keys: Sequence[bytes],
        lookup: bytes,
        otp: bytes,
        token_keys: Sequence[bytes],
        random: Random = os.urandom,
    ) -> None:
        _check_key(lookup, "the lookup key")
        _check_key(otp, "the otp key")
        masters = {master_key_id(key): key for key in master_keys}
        self.vault = Vault(masters, master_key_id(master_keys[0]), random)
        signing = {signing_key_id(seed): seed for seed in token_keys}
        self.signing = SigningKeys(signing, signing_key_id(token_keys[0]))
        self._lookup = lookup
        self._otp = otp

    @classmethod
    def of_one_secret(cls, secret: bytes, random: Random = os.urandom) -> Keys:
        """All keys from one 32-byte secret: for benches and tests."""
        return cls(
            master_keys=[derive(secret, "master")],
            lookup=derive(secret, "lookup"),
            otp=derive(secret, "otp"),
            token_keys=[derive(secret, "token")],
            random=random,
        )

    def lookup_hash(self, purpose: str) -> KeyedHash:
        """To find a row by something that is stored only sealed."""
        return KeyedHash(self._lookup, "lookup/" + purpose)

    def otp_hash(self, purpose: str) -> KeyedHash:
        """For codes and refresh tokens, which are compared and never looked up."""
        return KeyedHash(self._otp, "otp/" + purpose)


def master_key_id(key: bytes) -> str:
    """8 hex digits that say which key it is and nothing about it."""
    return derive(key, "key-id", 4).hex()


def signing_key_id(seed: bytes) -> str:
    """The JWK thumbprint (RFC 7638, RFC 8037 A.3) of the public key."""
    _check_key(seed, "a signing key")
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    x = urlsafe_b64encode(public).rstrip(b"=")
    jwk = b'{"crv":"Ed25519","kty":"OKP","x":"' + x + b'"}'
    return urlsafe_b64encode(sha256(jwk).digest()).rstrip(b"=").decode()


def _open(gcm: AESGCM, nonce: bytes, sealed: bytes, context: bytes) -> bytes:
    try:
        return gcm.decrypt(nonce, sealed, context)
    except InvalidTag as error:
        raise Unreadable("damaged, moved, or under another key") from error


def _wrapping(owner: bytes) -> bytes:
    return b"data-key/" + owner


def _check_key(key: bytes, what: str) -> None:
    if len(key) != KEY_BYTES:
        raise ValueError(f"{what} has {KEY_BYTES} bytes, not {len(key)}")
