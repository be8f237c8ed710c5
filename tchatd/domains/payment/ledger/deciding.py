"""Owns deciding a batch: every command once, all or nothing, each with an answer.

A command names the rows it needs; the store locks and loads those of the whole batch,
has `decide_all` decide in the order of arrival, and stores what came of it, the
idempotency keys and their answers with it, in one commit. Decisions are pure: the
store may lose the race for a row and decide the same batch again, on new books.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final, Protocol
from uuid import UUID

import msgspec

from tchatd.domains.payment.ledger.books import Books
from tchatd.domains.payment.ledger.errors import KeyReused
from tchatd.kernel.deferred import Deferred
from tchatd.kernel.errors import DomainError, ErrorKind


class Key(msgspec.Struct, frozen=True):
    """What makes a request the same as an earlier one.

    digest: 32 bytes, of who asks, for which operation, with which key. fingerprint:
    32 bytes, of what was asked. encode: the answer as it is kept, from the result or
    the refusal; pure.
    """

    digest: bytes
    fingerprint: bytes
    encode: Callable[[Any], bytes]


class KeptAnswer(msgspec.Struct, frozen=True):
    """The row of a key: a record that the store writes and reads."""

    digest: bytes
    fingerprint: bytes
    answer: bytes


class Replayed(msgspec.Struct, frozen=True):
    """What a repeated command gets instead of a result: as `Key.encode` made it."""

    answer: bytes


class Command(Protocol):
    """accounts, holds: locked and loaded, as far as they exist. reads: other rows,
    by keys of types that the store knows a reader of; `Books.found` has them.

    An account that a hold of `holds` debits or credits is to be among `accounts`.
    """

    @property
    def accounts(self) -> Sequence[int]: ...

    @property
    def holds(self) -> Sequence[UUID]: ...

    @property
    def reads(self) -> Sequence[Hashable]: ...

    @property
    def key(self) -> Key | None: ...

    def decide(self, books: Books) -> Any:
        """The result; pure, and the same whenever it is called on the same books.

        Raises:
            DomainError: refused; what was done to the books is undone. The refusal is
                kept under the key, unless its kind is UNAVAILABLE.
        """
        ...


class Ledger(Protocol):
    """The port. Implementations commit in groups: one batch at a time, the next
    gathers meanwhile."""

    def submit(self, command: Command) -> Deferred[Any]:
        """Decided and, unless refused, durable when the answer is told.

        What was submitted happens, or is refused, whether somebody waits or not: a
        caller that is cancelled leaves it behind, and asks again with the same key.

        It resolves with what `decide` returned or with `Replayed`, and fails with
        what it raised, or:
            Unavailable: nothing was done (too many wait, or the store is down).
            InDoubt: the store was lost while it committed, and could not be asked
                in time whether it did. The same key tells later.
        """
        ...


_AGAIN: Final = ErrorKind.UNAVAILABLE


class Outcome(msgspec.Struct):
    value: Any = None
    error: Exception | None = None


def decide_all(
    books: Books, commands: Sequence[Command], kept: dict[bytes, KeptAnswer]
) -> list[Outcome]:
    """One outcome a command, in their order.

    kept: the rows of the commands' keys that are there; new ones are put in, and
    written to the books. A failure of ours is the outcome of its command alone.
    """
    return [_decided(books, command, kept) for command in commands]


def _decided(books: Books, command: Command, kept: dict[bytes, KeptAnswer]) -> Outcome:
    key = command.key
    if key is not None and key.digest in kept:
        known = kept[key.digest]
        if known.fingerprint != key.fingerprint:
            return Outcome(error=KeyReused())
        return Outcome(value=Replayed(known.answer))
    books.begin()
    try:
        outcome = _attempted(books, command)
        if key is not None and _is_final(outcome):
            said = outcome.value if outcome.error is None else outcome.error
            row = KeptAnswer(key.digest, key.fingerprint, key.encode(said))
            books.write(row)
            kept[key.digest] = row
    except Exception as failure:  # noqa: BLE001  # ours: the others are innocent
        books.undo()
        return Outcome(error=failure)
    books.keep()
    return outcome


def _attempted(books: Books, command: Command) -> Outcome:
    try:
        return Outcome(value=command.decide(books))
    except DomainError as refusal:
        books.undo()
        return Outcome(error=refusal)


def _is_final(outcome: Outcome) -> bool:
    """A command that asks to be tried again is not answered for good."""
    error = outcome.error
    return not (isinstance(error, DomainError) and error.kind is _AGAIN)
