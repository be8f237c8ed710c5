"""Owns the keys of operations that keep their answers themselves (`keeps_keys`).

    request -> RequestKey (who, operation, key; what) -> the handler's own commit
            <- KeptReply, if that key was there before

No row is reserved and nothing is completed here: the handler's store writes the key,
with the answer as it is encoded here, in the commit of the effect; so there is either
all of it or nothing, and no trip more than without a key. What counts as the same
request is what was asked, not how it was spelled: white space, the order of members and
members that are not declared do not matter, nor does the transport.

Keys are kept as keyed hashes, answers sealed with their key's hash as additional data.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import msgspec
from msgspec import UNSET

from tchatd.edge.idempotency import Sealer, check_key
from tchatd.edge.limits import address_key
from tchatd.edge.problems import Internal, Problem, problem_of, status_of
from tchatd.kernel.crypto import KeyedHash, Unreadable
from tchatd.kernel.encoding import encode_json
from tchatd.kernel.errors import DomainError
from tchatd.kernel.routing import Context, KeptReply, Operation, Reply, RequestKey
from tchatd.observe.logging import get_logger

NAMES: Final = ("idempotency_key", "client_id")
"""Members of a command that name its key; the first that is there does."""
_plain: Final = msgspec.msgpack.Encoder().encode


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """status: as HTTP says it; from 400 on the body is a problem. body: JSON."""

    status: int
    body: bytes

    @property
    def problem(self) -> Problem | None:
        if self.status < 400:
            return None
        return msgspec.json.decode(self.body, type=Problem)


_log = get_logger("kept")
_decode: Final = msgspec.msgpack.Decoder(Kept).decode


class KeptAnswers(Protocol):
    """What the two doors ask."""

    def key_of(
        self, operation: Operation, context: Context, command: Any, header: bytes | None
    ) -> RequestKey | None: ...

    def opened(self, context: Context, reply: KeptReply) -> Kept: ...


class SealedAnswers:
    """hash: the same after a restart, else no key is ever found again."""

    def __init__(self, sealer: Sealer, hash: KeyedHash) -> None:
        self._sealer = sealer
        self._hash = hash

    def key_of(
        self, operation: Operation, context: Context, command: Any, header: bytes | None
    ) -> RequestKey | None:
        """header: `Idempotency-Key`; without it the command may name its key itself.

        Raises:
            Invalid: the key is not 1 to 255 visible ASCII characters.
        """
        key = header if header is not None else _named(command)
        if key is None:
            return None
        check_key(key)
        caller = context.caller
        who = (
            f"address {address_key(context.address)}"
            if caller is None
            else f"user {caller.user_id}"
        )
        digest = self._hash.digest(
            b"key", who.encode(), operation.name.encode(), bytes(key)
        )
        asked = [
            None if (value := getattr(command, name)) is UNSET else value
            for name in operation.command.__struct_fields__
            if name not in NAMES
        ]
        fingerprint = self._hash.digest(b"content", _plain(asked))
        sealer, request_id, status = self._sealer, context.request_id, operation.status

        def encode(said: Any) -> bytes:
            if isinstance(said, DomainError):
                kept = Kept(status_of(said), encode_json(problem_of(said, request_id)))
            elif type(said) is Reply:
                kept = Kept(said.status, encode_json(said.body))
            else:
                kept = Kept(status, encode_json(said))
            return sealer.seal(_plain(kept), digest)

        return RequestKey(digest, fingerprint, encode)

    def opened(self, context: Context, reply: KeptReply) -> Kept:
        """What a repeat is answered.

        Raises:
            Internal: it cannot be opened; a master key is lost, or the row is damaged.
        """
        assert context.key is not None
        try:
            return _decode(self._sealer.open(reply.answer, context.key.digest))
        except (Unreadable, msgspec.DecodeError):
            _log.error("a kept answer cannot be read", request_id=context.request_id)
            raise Internal from None


def _named(command: Any) -> bytes | None:
    for name in NAMES:
        value = getattr(command, name, UNSET)
        if value is not UNSET:
            return str(value).encode()
    return None
