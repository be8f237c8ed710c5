"""Owns how a decision of the ledger becomes the answer to a request, once or again.

With a key nothing is refused beside the ledger: a repeat gets the first answer even if
it would be refused by now (the recipient has gone, the wallet is closed), and the first
answer may be a refusal. So a refusal that is known before the decision is submitted,
too, to be kept under the key, or to find what is kept there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from tchatd.domains.payment.commands import Refuse
from tchatd.domains.payment.ledger.deciding import Command, Key, Ledger, Replayed
from tchatd.kernel.deferred import Deferred
from tchatd.kernel.errors import DomainError, ErrorKind, Unavailable
from tchatd.kernel.routing import Context, KeptReply

T = TypeVar("T")
_PASSING: Final = (ErrorKind.RATE_LIMITED, ErrorKind.UNAUTHORIZED)
"""Refusals that say nothing of the request itself, and are not kept."""


class Answering:
    """flush: lets answers over WebSocket leave; called after each."""

    def __init__(self, ledger: Ledger, flush: Callable[[], object]) -> None:
        self._ledger = ledger
        self._flush = flush

    def submit(
        self,
        command: Command,
        view: Callable[[Any], Any],
        told: Callable[[Any], object] | None = None,
        refused: Callable[[Exception], object] | None = None,
    ) -> Deferred[Any]:
        """view: the answer from what was decided; pure. told, refused: called after
        the answer, of a decision that was made now, and not of a repeat."""
        answer: Deferred[Any] = Deferred()

        def done(deferred: Deferred[Any]) -> None:
            if deferred.error is not None:
                answer.fail(deferred.error)
                if refused is not None:
                    refused(deferred.error)
            elif type(deferred.value) is Replayed:
                answer.resolve(KeptReply(deferred.value.answer))
            else:
                answer.resolve(view(deferred.value))
                if told is not None:
                    told(deferred.value)
            self._flush()

        self._ledger.submit(command).on_done(done)
        return answer

    def refused(self, context: Context, refusal: DomainError) -> Deferred[Any]:
        """What a request is answered that is refused without a decision.

        Raises: the refusal, where there is no key, or the store could not be asked.
        """
        if context.key is None or refusal.kind is ErrorKind.UNAVAILABLE:
            raise refusal
        said = Unavailable() if refusal.kind in _PASSING else refusal
        answer: Deferred[Any] = Deferred()

        def done(deferred: Deferred[Any]) -> None:
            if deferred.error is not None:
                error = deferred.error
                answer.fail(refusal if error is said else error)
            else:
                assert deferred.value is not None
                answer.resolve(KeptReply(deferred.value.answer))
            self._flush()

        key = key_of(context, lambda value: value)
        self._ledger.submit(Refuse(key=key, refusal=said)).on_done(done)
        return answer


def key_of(context: Context, view: Callable[[Any], Any]) -> Key | None:
    """The request's key; its answer is kept as `view` of what was decided."""
    key = context.key
    if key is None:
        return None
    encode = key.encode

    def encoded(said: Any) -> bytes:
        return encode(said if isinstance(said, DomainError) else view(said))

    return Key(key.digest, key.fingerprint, encoded)
