"""Owns one HTTP call to a payment provider, and whether it can have happened.

Theory of operation
    httpcore says when it begins to connect and when it writes the first byte of the
    request. What fails before that byte has not been processed, whatever it was (a
    name that is not known, a refused connection, TLS, a timeout): `NotProcessed`. What
    fails after it is `InDoubt`. A transport that says nothing leaves it `InDoubt`.

    An answer is whole or it is none: cut short, too large, too slow or compressed
    although we asked it not to be, the call is in doubt. What its status means is the
    adapter's to say.

Nothing that was sent or received is logged but the status and the provider's code.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NoReturn, Protocol, TypeVar

import httpx
import msgspec
import trio
from msgspec import Struct

from tchatd import __version__
from tchatd.domains.payment.providers import (
    BadSignature,
    Capabilities,
    Charge,
    ChargeState,
    Declined,
    DeclineReason,
    DoubtReason,
    Health,
    InDoubt,
    NotProcessed,
    NotProcessedReason,
    ProviderEvent,
    ProviderFailure,
    ProviderState,
    code_of,
)
from tchatd.kernel.money import Currency
from tchatd.observe.logging import get_logger
from tchatd.observe.metrics import Metrics
from tchatd.providers.breaker import (
    BreakerOpen,
    BreakerSettings,
    CircuitBreaker,
    Permit,
    State,
)
from tchatd.providers.cookies import NoCookies

T = TypeVar("T")
_log = get_logger("payments")
RETRY_AFTER_S_MAX: Final = 300
"""A provider that asks for more is asked again all the same."""
KEEPALIVE_S: Final = 15.0
"""Less than servers keep a connection, so that few are closed under a call, which
would be in doubt."""
_STATE_VALUES: Final[Mapping[State, float]] = {"closed": 0, "half_open": 1, "open": 2}
CLOSE_S: Final = 1.0
"""To give a connection back or to close it, also of a call that was cancelled."""
_CONNECTING: Final = ("connection.connect_tcp.", "connection.start_tls.")
_FIRST_BYTE: Final = "send_request_headers.started"


class Amounted(Protocol):
    @property
    def amount_minor(self) -> int: ...

    @property
    def currency(self) -> Currency: ...


class CallSettings(Struct, frozen=True, kw_only=True):
    """Seconds; total_s: of all of a call, also the wait for a free connection."""

    connect_s: float = 5.0
    read_s: float = 20.0
    total_s: float = 30.0
    answer_bytes_max: int = 1 << 20
    connections_max: int = 32
    breaker: BreakerSettings = BreakerSettings()


class CallMetrics:
    """Of all providers; made once."""

    def __init__(self, metrics: Metrics) -> None:
        self.calls = metrics.counter(
            "payment_provider_calls",
            "Calls to payment providers by outcome",
            ("provider", "call", "outcome"),
        )
        self.seconds = metrics.histogram(
            "payment_provider_seconds",
            "Duration of calls to payment providers",
            labels=("provider",),
        )
        self.breaker = metrics.gauge(
            "payment_provider_breaker",
            "0 closed, 1 half-open, 2 open",
            labels=("provider",),
        )
        self.webhooks = metrics.counter(
            "payment_provider_webhooks",
            "Webhooks of payment providers by outcome",
            ("provider", "outcome"),
        )

    def counted(
        self, provider: str, take: Callable[[], tuple[ProviderEvent, ...]]
    ) -> tuple[ProviderEvent, ...]:
        """What a webhook says. Raises: BadSignature, as `take` does."""
        try:
            events = take()
        except BadSignature:
            self.webhooks.labels(provider, "refused").add()
            raise
        self.webhooks.labels(provider, "taken").add(len(events))
        return events


class Answer(Struct, frozen=True):
    """Whole. headers: names in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Reached:
    """How far a call got, by what httpcore traces.

    can_be_done: the provider may have the request. True until it is known that we are
    still connecting, and for good from its first byte on.
    """

    __slots__ = ("_is_sent", "can_be_done")

    def __init__(self) -> None:
        self._is_sent = False
        self.can_be_done = True

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        if event.endswith(_FIRST_BYTE):
            self._is_sent = self.can_be_done = True
        elif event.startswith(_CONNECTING) and not self._is_sent:
            self.can_be_done = False


class ProviderCalls:
    """Calls one provider. headers: of every call, with what it is asked by.

    judge: what an answer means, before it is returned: raises what is to be raised of
    it, so that breaker and metrics see it.
    """

    def __init__(
        self,
        provider: str,
        origin: str,
        headers: Mapping[str, str],
        settings: CallSettings,
        metrics: CallMetrics,
        judge: Callable[[Answer], object],
        *,
        auth: tuple[str, str] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._provider = provider
        self._settings = settings
        self._metrics = metrics
        self._judge = judge
        self._now = now
        self._breaker = CircuitBreaker(settings.breaker, now, self._breaker_changed)
        metrics.breaker.labels(provider).read = self._breaker_value
        self._client = httpx.AsyncClient(
            base_url=origin,
            auth=auth,
            headers={
                "user-agent": f"tchatd/{__version__}",
                "accept": "application/json",
                "accept-encoding": "identity",
                **headers,
            },
            timeout=httpx.Timeout(
                settings.read_s, connect=settings.connect_s, pool=settings.connect_s
            ),
            limits=httpx.Limits(
                max_connections=settings.connections_max,
                max_keepalive_connections=settings.connections_max,
                keepalive_expiry=KEEPALIVE_S,
            ),
            cookies=NoCookies(),
            follow_redirects=False,
            trust_env=False,
        )

    def health(self) -> Health:
        return Health(self._breaker.state, self._breaker.failure_percent)

    async def call(
        self,
        name: str,
        method: Literal["GET", "POST"],
        path: str,
        *,
        form: Mapping[str, str] | None = None,
        json: bytes | None = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One call; name: of it, for metrics.

        Raises: Declined, NotProcessed, InDoubt.
        """
        count = self._metrics.calls
        try:
            permit = self._breaker.admit()
        except BreakerOpen as error:
            count.labels(self._provider, name, "breaker_open").add()
            raise NotProcessed(
                self._provider,
                NotProcessedReason.BREAKER_OPEN,
                retry_after_s=min(error.retry_after_s, RETRY_AFTER_S_MAX),
            ) from None
        request = self._client.build_request(
            method, path, data=form, content=json, params=query, headers=headers
        )
        started_s = self._now()
        try:
            answer = await self._exchange(request)
            self._judge(answer)
            permit.succeeded()
        except ProviderFailure as failure:
            self._failed(name, permit, failure)
            raise
        finally:
            permit.abandoned()
            self._metrics.seconds.labels(self._provider).observe(
                self._now() - started_s
            )
        count.labels(self._provider, name, "ok").add()
        return answer

    async def aclose(self) -> None:
        await self._client.aclose()

    def _failed(self, name: str, permit: Permit, failure: ProviderFailure) -> None:
        if isinstance(failure, NotProcessed | InDoubt):
            outcome = failure.reason.value
            permit.failed()
            _log.warning(
                "a payment provider failed",
                provider=self._provider,
                call=name,
                outcome=outcome,
                code=failure.code,
            )
        else:
            outcome = "declined"
            permit.succeeded()
        self._metrics.calls.labels(self._provider, name, outcome).add()

    async def _exchange(self, request: httpx.Request) -> Answer:
        reached = Reached()
        request.extensions["trace"] = reached.trace
        try:
            with trio.fail_after(self._settings.total_s):
                answer = await self._client.send(request, stream=True)
                try:
                    body = await self._whole(answer)
                finally:
                    with trio.move_on_after(CLOSE_S, shield=True):
                        await answer.aclose()
        except trio.TooSlowError:
            self._fail(reached, DoubtReason.TIMEOUT)
        except httpx.PoolTimeout:
            raise NotProcessed(self._provider, NotProcessedReason.BUSY) from None
        except httpx.TimeoutException:
            self._fail(reached, DoubtReason.TIMEOUT)
        except httpx.RequestError:
            self._fail(reached, DoubtReason.CONNECTION_LOST)
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return Answer(answer.status_code, headers, body)

    async def _whole(self, answer: httpx.Response) -> bytes:
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise InDoubt(self._provider, DoubtReason.MALFORMED)
        body = bytearray()
        async for part in answer.aiter_raw():
            body += part
            if len(body) > self._settings.answer_bytes_max:
                raise InDoubt(self._provider, DoubtReason.TOO_LARGE)
        return bytes(body)

    def _fail(self, reached: Reached, reason: DoubtReason) -> NoReturn:
        """From None: httpx's exceptions hold the request."""
        if reached.can_be_done:
            raise InDoubt(self._provider, reason) from None
        raise NotProcessed(
            self._provider, NotProcessedReason.UNREACHABLE, retry_after_s=1
        ) from None

    def _breaker_value(self) -> float:
        return _STATE_VALUES[self._breaker.state]

    def _breaker_changed(self, state: State) -> None:
        _log.warning("the breaker changed", provider=self._provider, state=state)


def refuse_by_status(provider: str, answer: Answer, code: str = "") -> None:
    """What a status means at any of them; returns for 2xx and what else a provider
    has its own errors for (400, 402, 404, 422 …).

    429 is answered by a limiter in front, before anything is done (both Stripe's and
    Omise's documentation). 5xx, and what no provider documents, says nothing of what
    was done.

    Raises: NotProcessed, InDoubt.
    """
    status, code = answer.status, code_of(code)
    if status == 429:
        wait_s = retry_after_s(answer.headers)
        raise NotProcessed(
            provider, NotProcessedReason.BUSY, code, retry_after_s=wait_s
        )
    if status in (401, 403):
        raise NotProcessed(
            provider, NotProcessedReason.NOT_AUTHORISED, code, retry_after_s=60
        )
    if status >= 500:
        raise InDoubt(provider, DoubtReason.SERVER_ERROR, code or f"status_{status}")
    if status == 408:
        raise InDoubt(provider, DoubtReason.TIMEOUT, code)
    if not 200 <= status < 300 and not 400 <= status < 500:
        raise InDoubt(provider, DoubtReason.MALFORMED, f"status_{status}")


def decoded(body: bytes, wanted: type[T]) -> T:
    """Raises: ValueError, without content."""
    try:
        return msgspec.json.decode(body, type=wanted)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise ValueError("it is not of the documented shape") from None


def read(provider: str, answer: Answer, wanted: type[T]) -> T:
    """A 2xx. Raises: InDoubt, if it is not what was asked for."""
    try:
        return decoded(answer.body, wanted)
    except ValueError:
        raise InDoubt(provider, DoubtReason.MALFORMED) from None


def refuse_unfit(provider: str, capabilities: Capabilities, charge: Charge) -> None:
    """Raises: Declined, for what the provider does not offer; nothing is sent."""
    reason = capabilities.refusal(charge)
    if reason is not None:
        raise Declined(provider, reason)


def refuse_mismatch(provider: str, asked: Amounted, found: Amounted) -> None:
    """Raises: InDoubt, if the answer is of another amount than what was asked."""
    if (asked.amount_minor, asked.currency) != (found.amount_minor, found.currency):
        raise InDoubt(provider, DoubtReason.MISMATCH)


def refuse_ended(provider: str, state: ProviderState) -> None:
    """Raises: Declined, if what was just made has failed or expired already."""
    if state.state in (ChargeState.FAILED, ChargeState.EXPIRED):
        reason = state.failure or DeclineReason.OTHER
        raise Declined(provider, reason, state.code, state.reference)


def retry_after_s(headers: Mapping[str, str]) -> int:
    """`Retry-After` in whole seconds, 1 to RETRY_AFTER_S_MAX; dates are not read."""
    text = headers.get("retry-after", "")
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return min(max(1, int(text)), RETRY_AFTER_S_MAX)
    return 1
