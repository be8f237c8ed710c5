"""Owns what every provider's connector has to make of every failure of its server.

A fault says what is certain after it: nothing was done (another provider may be
asked), or it is not known (nobody else may).
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio

from tchatd.domains.payment.providers import (
    DoubtReason,
    InDoubt,
    NotProcessed,
    NotProcessedReason,
    PaymentConnector,
    ProviderFailure,
)
from tchatd.domains.payment.routing import may_ask_another
from tchatd.observe import logging
from tchatd.providers.payments.calls import CallSettings
from tests.support.payment_server import Fault
from tests.support.payments import IMPATIENT, PATIENT

WAITS = {Fault.HANG_BEFORE, Fault.HANG_AFTER, Fault.SLOW_BODY_AFTER}
DOUBTS: dict[Fault, DoubtReason] = {
    Fault.HANG_BEFORE: DoubtReason.TIMEOUT,
    Fault.HANG_AFTER: DoubtReason.TIMEOUT,
    Fault.SLOW_BODY_AFTER: DoubtReason.TIMEOUT,
    Fault.CLOSE_BEFORE: DoubtReason.CONNECTION_LOST,
    Fault.CLOSE_AFTER: DoubtReason.CONNECTION_LOST,
    Fault.CUT_HEAD_AFTER: DoubtReason.CONNECTION_LOST,
    Fault.CUT_BODY_AFTER: DoubtReason.CONNECTION_LOST,
    Fault.ERROR_500_BEFORE: DoubtReason.SERVER_ERROR,
    Fault.ERROR_500_AFTER: DoubtReason.SERVER_ERROR,
    Fault.ERROR_503_BEFORE: DoubtReason.SERVER_ERROR,
    Fault.MALFORMED_AFTER: DoubtReason.MALFORMED,
    Fault.OTHER_SHAPE_AFTER: DoubtReason.MALFORMED,
    Fault.HUGE_AFTER: DoubtReason.TOO_LARGE,
    Fault.COMPRESSED_AFTER: DoubtReason.MALFORMED,
    Fault.REDIRECT_BEFORE: DoubtReason.MALFORMED,
    Fault.PROXY_400_BEFORE: DoubtReason.MALFORMED,
}
"""All but those after which it is known that nothing was done, and OTHER_AMOUNT_AFTER,
which is of those whose answers have an amount of that name."""


def settings_of(fault: Fault) -> CallSettings:
    return IMPATIENT if fault in WAITS else PATIENT


def is_in_doubt(failure: ProviderFailure, reason: DoubtReason) -> bool:
    assert isinstance(failure, InDoubt), failure
    assert failure.reason is reason, failure
    return not may_ask_another(failure)


def is_not_processed(failure: ProviderFailure, reason: NotProcessedReason) -> bool:
    assert isinstance(failure, NotProcessed), failure
    assert failure.reason is reason, failure
    return may_ask_another(failure)


@asynccontextmanager
async def closing(connector: PaymentConnector) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await connector.aclose()


@contextmanager
def nothing_said(*private: str) -> Iterator[None]:
    """No log line has any of it."""
    written = io.StringIO()
    logging.configure(format="json", stream=written)
    try:
        yield
    finally:
        logging.configure()
    for text in private:
        assert text not in written.getvalue()


async def a_port_that_refuses() -> str:
    """An origin where nobody listens."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    return f"http://127.0.0.1:{port}"
