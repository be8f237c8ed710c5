"""Owns that a payment made in a dialog is shown there, exactly once.

The saga is begun in the commit of the payment; its one step sends the message, by a
`client_id` that is in the saga's data and that nobody can know before. Messaging takes
a `client_id` for one message for ever, so the step may run again after any crash. What
the dialog refuses by then (its payer has left, it is no more) is noted with the
transaction: the money stays where it is.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from msgspec import Struct

from tchatd.domains.payment.models import other_side
from tchatd.domains.payment.store import Dialogs, TransactionStore
from tchatd.kernel.errors import DomainError, ErrorKind
from tchatd.kernel.sagas import Retry, RetryLater, SagaType, Step, StepContext

DEADLINE_S: Final = 7 * 86_400.0
_AGAIN: Final = (ErrorKind.UNAVAILABLE, ErrorKind.RATE_LIMITED)


class PaymentShown(Struct, frozen=True):
    """Data of the saga. transaction_id: of the payer's side."""

    transaction_id: UUID
    payer_number: int
    payer_id: UUID
    dialog_id: str
    client_id: UUID
    amount: int
    currency: str
    description: str = ""


class Announcing:
    def __init__(self, dialogs: Dialogs, transactions: TransactionStore) -> None:
        self._dialogs = dialogs
        self._transactions = transactions
        self.saga: SagaType[PaymentShown] = SagaType(
            name="payment-message",
            version=1,
            steps=(
                Step(
                    "post",
                    self.post,
                    compensate=self.give_up,
                    retry=Retry(max_s=60.0, attempts=0),
                ),
            ),
            data=PaymentShown,
            deadline_s=DEADLINE_S,
            shown=("transaction_id", "dialog_id"),
        )

    async def post(self, context: StepContext, data: PaymentShown) -> PaymentShown:
        content: dict[str, Any] = {
            "amount": data.amount,
            "currency": data.currency,
            "transaction_id": str(data.transaction_id),
        }
        if data.description:
            content["description"] = data.description
        try:
            await self._dialogs.post(
                data.payer_number,
                data.payer_id,
                data.dialog_id,
                data.client_id,
                content,
            )
        except DomainError as error:
            if error.kind in _AGAIN:
                raise RetryLater(error.code, error.retry_after_s) from None
            await self._note(data, error.code)
        return data

    async def give_up(self, context: StepContext, data: PaymentShown) -> PaymentShown:
        """The deadline is over, or an operator ended it."""
        await self._note(data, "given-up")
        return data

    async def _note(self, data: PaymentShown, why: str) -> None:
        ids = (data.transaction_id, other_side(data.transaction_id))
        await self._transactions.annotate(ids, {"message_refused": why})
