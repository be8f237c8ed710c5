"""Owns giving a repeated POST the answer of the first one (`Idempotency-Key`).

    reserve (one row: a stable id) -> run -> complete (the answer, sealed)

The row is reserved before the command runs, with an `idempotency_id` that is handed
to it. A crash in between leaves the row without an answer; whoever comes with the
same key and body runs the command again with the same id, so that it has its effect
once. While the first still runs in this process the others wait for it; while it runs
on another node (its lease lasts) they look again now and then. Both are bounded.
Answers of 5xx and 429 are not kept: the key may be tried again.

Rows hold no personal data: keys and fingerprints are keyed hashes, answers are sealed
with the row's key as additional data, so that no row's answer opens in another.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol
from uuid import UUID

import msgspec
import trio

from tchatd.edge.ports import Response
from tchatd.kernel.clock import Clock
from tchatd.kernel.crypto import KeyedHash, equal
from tchatd.kernel.errors import Conflict, DomainError, Invalid, Unavailable
from tchatd.kernel.ids import Ids
from tchatd.observe.logging import get_logger

KEY_BYTES_MAX = 255
ANSWER_BYTES_MAX = 1 << 20  # a larger answer is not kept; the command runs again
PRUNED_AT_ONCE = 1_000
REPLAYED = b"idempotent-replayed: true\r\n"
_POLL_S = 0.2
_STORE_S = 5.0
_VISIBLE = bytes(range(0x21, 0x7F))
_log = get_logger("idempotency")


class KeyReused(Conflict):
    code, title = "idempotency-key-reused", "This key belongs to another request"


class StillRunning(Unavailable):
    code, title = "still-running", "The first request with this key still runs"


class Reservation(msgspec.Struct, frozen=True):
    """The row of a key. answer: sealed; ours: we are to run the command now."""

    idempotency_id: UUID
    fingerprint: bytes
    answer: bytes | None
    ours: bool


class IdempotencyStore(Protocol):
    async def reserve(
        self,
        key: bytes,
        fingerprint: bytes,
        idempotency_id: UUID,
        *,
        node: str,
        now_ms: int,
        lease_until_ms: int,
        expires_at_ms: int,
    ) -> Reservation:
        """Take the key, or say who has it.

        Ours, with the id given, if there is no row or it has expired. Ours, with the
        row's id, if it has no answer, the same fingerprint, and is of the same node
        or its lease is over. Else not ours, with what the row says.
        """
        ...

    async def complete(self, key: bytes, idempotency_id: UUID, answer: bytes) -> None:
        """Keep the answer, unless the row has become another's meanwhile."""
        ...

    async def release(self, key: bytes, idempotency_id: UUID) -> None:
        """End the lease; the row keeps its id for whoever tries again."""
        ...

    async def prune(self, now_ms: int, count_max: int) -> int:
        """Delete up to `count_max` expired rows; how many it were."""
        ...


class Sealer(Protocol):
    """Authenticated encryption (`kernel.crypto.Vault`); `context` is bound to it."""

    def seal(self, plain: bytes, context: bytes) -> bytes: ...

    def open(self, sealed: bytes, context: bytes) -> bytes: ...


class IdempotencySettings(msgspec.Struct, frozen=True, kw_only=True):
    """node: who we are, the same after a restart, another for each process.

    keep_s: how long an answer is kept. lease_s: how long another node waits for us;
    longer than a request may take. wait_s: how long a duplicate waits for the first.
    """

    node: str = "0"
    keep_s: float = 86_400.0
    lease_s: float = 60.0
    wait_s: float = 10.0
    running_max: int = 4_096
    waiting_max: int = 4_096


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    status: int
    headers: bytes
    body: bytes


class Idempotency:
    """hash: the same after a restart, else no key is ever found again."""

    def __init__(
        self,
        store: IdempotencyStore,
        sealer: Sealer,
        hash: KeyedHash,
        clock: Clock,
        ids: Ids,
        settings: IdempotencySettings = IdempotencySettings(),  # noqa: B008  # frozen
    ) -> None:
        self._store = store
        self._sealer = sealer
        self._hash = hash
        self._clock = clock
        self._ids = ids
        self._settings = settings
        self._running: dict[bytes, trio.Event] = {}
        self._waiting = 0

    async def answer(
        self,
        scope: str,
        idempotency_key: bytes,
        content: tuple[bytes, ...],
        run: Callable[[UUID], Awaitable[Response]],
    ) -> Response:
        """Run it, or replay what it answered before.

        scope: who asks, and for which operation. content: what must be the same.
        run: never raises a DomainError; cancelling leaves the row reserved.

        Raises:
            Invalid: the key is not 1 to 255 visible ASCII characters.
            KeyReused: it was used with other content.
            StillRunning: the first did not finish while we waited.
            Unavailable: the store is down, or too many run.
        """
        check_key(idempotency_key)
        key = self._hash.digest(b"key", scope.encode(), idempotency_key)
        fingerprint = self._hash.digest(b"content", *content)
        deadline = trio.current_time() + self._settings.wait_s
        while True:
            await self._turn(key, deadline)
            self._running[key] = trio.Event()
            try:
                response = await self._reserved(key, fingerprint, run)
            finally:
                self._running.pop(key).set()
            if response is not None:
                return response
            if trio.current_time() >= deadline:
                raise StillRunning
            await trio.sleep(_POLL_S)

    async def prune(self) -> int:
        """Delete expired rows, a batch at a time; for a job to call now and then."""
        total = 0
        while True:
            count = await self._store.prune(self._clock.now_ms(), PRUNED_AT_ONCE)
            total += count
            if count < PRUNED_AT_ONCE:
                return total

    async def _turn(self, key: bytes, deadline: float) -> None:
        """Wait until no other request of this process has the key."""
        if key in self._running:
            if self._waiting >= self._settings.waiting_max:
                raise StillRunning
            self._waiting += 1
            try:
                with trio.CancelScope(deadline=deadline):
                    while key in self._running:
                        await self._running[key].wait()
            finally:
                self._waiting -= 1
            if key in self._running:
                raise StillRunning
        if len(self._running) >= self._settings.running_max:
            raise Unavailable("Too many requests run already.")

    async def _reserved(
        self,
        key: bytes,
        fingerprint: bytes,
        run: Callable[[UUID], Awaitable[Response]],
    ) -> Response | None:
        """The answer; None while another node has it."""
        now_ms = self._clock.now_ms()
        row = await self._store.reserve(
            key,
            fingerprint,
            self._ids.v7(),
            node=self._settings.node,
            now_ms=now_ms,
            lease_until_ms=now_ms + int(self._settings.lease_s * 1000),
            expires_at_ms=now_ms + int(self._settings.keep_s * 1000),
        )
        if not equal(row.fingerprint, fingerprint):
            raise KeyReused
        if row.answer is not None:
            return self._opened(key, row.answer)
        if not row.ours:
            return None
        response = await run(row.idempotency_id)
        await self._keep(key, row.idempotency_id, response)
        return response

    async def _keep(self, key: bytes, id: UUID, response: Response) -> None:
        """Store the answer. If that fails the client is told what happened anyway:
        a repeat runs with the same id."""
        final = response.status < 500 and response.status != 429
        with trio.move_on_after(_STORE_S, shield=True):
            try:
                if final and len(response.body) <= ANSWER_BYTES_MAX:
                    await self._store.complete(key, id, self._sealed(key, response))
                else:
                    await self._store.release(key, id)
            except DomainError as error:
                _log.warning("answer not kept", error=error.code)

    def _sealed(self, key: bytes, response: Response) -> bytes:
        kept = _Kept(response.status, response.headers, response.body)
        return self._sealer.seal(msgspec.msgpack.encode(kept), key)

    def _opened(self, key: bytes, answer: bytes) -> Response:
        kept = msgspec.msgpack.decode(self._sealer.open(answer, key), type=_Kept)
        return Response(kept.status, kept.headers + REPLAYED, kept.body)


def check_key(key: bytes) -> None:
    if not 1 <= len(key) <= KEY_BYTES_MAX or key.translate(None, _VISIBLE):
        raise Invalid(
            fields={"Idempotency-Key": "must be 1 to 255 visible ASCII characters"}
        )
