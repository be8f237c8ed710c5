"""Owns what is HTTP about a request, up to the command and from the result on.

    request -> route -> address limit -> who -> user limit -> command -> dispatcher
            <- response <- problem or encoded result <-

The hot path makes no task and no closure: a request whose token is known and whose
handler answers inline is answered by plain calls. Header lines that never change are
made once; of a request's headers only those are looked for that its route needs. What
has to wait becomes an `_Exchange`, and its `Deferred` is answered exactly once, by the
handler or, after `request_s`, by 503.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast
from uuid import UUID

import msgspec
import trio

from tchatd.edge.addresses import ClientAddresses
from tchatd.edge.admission import bearer_token
from tchatd.edge.commands import CommandDecoder
from tchatd.edge.dispatcher import (
    Awaited,
    Dispatcher,
    Entry,
    Overtime,
    outcome_of,
)
from tchatd.edge.idempotency import REPLAYED, Idempotency
from tchatd.edge.kept import KeptAnswers
from tchatd.edge.limits import address_key
from tchatd.edge.origins import Origins
from tchatd.edge.ports import Authenticator, HttpRequest, Identity, Response
from tchatd.edge.problems import (
    CONTENT_TYPE,
    NoSuchRoute,
    OriginRefused,
    headers_of,
    problem_of,
    status_of,
)
from tchatd.edge.routes import RouteTable
from tchatd.kernel.buckets import Buckets
from tchatd.kernel.deferred import Deferred
from tchatd.kernel.encoding import encode_json
from tchatd.kernel.errors import DomainError, RateLimited, Unauthorized
from tchatd.kernel.routing import Access, Context, KeptReply, Operation, Reply

REQUEST_ID_BYTES_MAX = 64
_ID_BYTES = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.:/+="
_JSON = b"content-type: application/json\r\n"
_SECURITY = (
    b"x-content-type-options: nosniff\r\n"
    b"x-frame-options: DENY\r\n"
    b"referrer-policy: no-referrer\r\n"
)
_NO_CONTENT_OF_ITS_OWN = (
    b"content-security-policy: default-src 'none'; frame-ancestors 'none'\r\n"
)
_PRIVATE = b"cache-control: no-store\r\n" + _NO_CONTENT_OF_ITS_OWN


class HttpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """allowed_origins: of browsers that may call (CORS); `*` for all of them.

    trusted_proxies: addresses and networks whose `X-Forwarded-For` is believed.
    """

    allowed_origins: frozenset[str] = frozenset()
    trusted_proxies: tuple[str, ...] = ()
    address_per_minute: float = 6_000.0
    address_burst: int = 2_000
    user_per_minute: float = 3_000.0
    user_burst: int = 1_000
    buckets_max: int = 100_000
    request_s: float = 30.0


class Fallback(Protocol):
    """Serves what is not a declared route (`tchatd.edge.pages`)."""

    def serves(self, method: str, path: str) -> bool: ...

    async def respond(self, request: HttpRequest) -> Response: ...


class Route:
    """An operation with what only HTTP needs.

    empty_command: where nothing is read from a request, the one command there is.
    headers: of an answer with a body.
    """

    __slots__ = (
        "decoder",
        "empty_command",
        "entry",
        "headers",
        "is_post",
        "is_public",
        "operation",
        "reads_body",
    )

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.operation: Operation = entry.operation
        self.decoder = CommandDecoder(entry.operation)
        self.is_post = entry.operation.verb == "POST"
        self.reads_body = entry.operation.verb in ("POST", "PUT")
        self.empty_command: msgspec.Struct | None = None
        if not self.reads_body and not entry.operation.command.__struct_fields__:
            self.empty_command = entry.operation.command()
        self.is_public = entry.operation.access is Access.PUBLIC
        self.headers = _JSON + _PRIVATE
        if entry.operation.cache_s:
            public = b"cache-control: public, max-age=%d\r\n" % entry.operation.cache_s
            self.headers = _JSON + public + _NO_CONTENT_OF_ITS_OWN


class HttpEndpoint:
    """Answers HTTP requests of every transport."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        authenticator: Authenticator,
        settings: HttpSettings = HttpSettings(),  # noqa: B008  # frozen
        *,
        idempotency: Idempotency | None = None,
        kept: KeptAnswers | None = None,
        fallback: Fallback | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._dispatcher = dispatcher
        self._authenticator = authenticator
        self._settings = settings
        self._idempotency = idempotency
        self._kept = kept
        self._fallback = fallback
        self._next_id = dispatcher.request_ids.next
        self._origins = Origins(settings.allowed_origins)
        self._addresses = Buckets(
            per_minute=settings.address_per_minute,
            burst=settings.address_burst,
            keys_max=settings.buckets_max,
            now=now,
        )
        self._users = Buckets(
            per_minute=settings.user_per_minute,
            burst=settings.user_burst,
            keys_max=settings.buckets_max,
            now=now,
        )
        self.address_of = ClientAddresses(settings.trusted_proxies).of
        self._outstanding: dict[_Exchange, None] = {}
        self.table: RouteTable[Route] = RouteTable(
            Route(entry)
            for entry in dispatcher.entries.values()
            if entry.operation.path is not None
        )

    @property
    def outstanding(self) -> int:
        """Requests that wait for their answer."""
        return len(self._outstanding)

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Answer 503 to what waits for longer than `request_s`, until cancelled."""
        task_status.started()
        while True:
            await trio.sleep(1)
            oldest_s = time.perf_counter() - self._settings.request_s
            for exchange in list(self._outstanding):
                if exchange.started_s > oldest_s:
                    break
                exchange.fail(Overtime())

    def handle(self, request: HttpRequest) -> Response | Deferred[Response]:
        """Answer now, or by a `Deferred` that never fails."""
        started_s = time.perf_counter()
        context = Context(self._request_id(request), self.address_of(request))
        route: Route | None = None
        try:
            wait_s = self._addresses.take(address_key(context.address))
            if wait_s:
                raise RateLimited(retry_after_s=wait_s)
            if request.method == "OPTIONS":
                return self._options(request, context)
            route, values = self.table.find(request.method, request.path)
            if not route.is_public:
                identity = self._identify(request)
                if hasattr(type(identity), "__await__"):
                    awaited = self._dispatcher.wait(
                        cast("Awaitable[Identity]", identity), "authenticate", context
                    )
                    return self._exchange(
                        route, values, request, context, started_s
                    ).identify(awaited)
                context.caller = cast("Identity", identity).caller
            result = self.perform(route, values, request, context)
        except NoSuchRoute as error:
            return self._elsewhere(error, request, context, started_s)
        except DomainError as error:
            return self.refused(error, route, request, context, started_s)
        if isinstance(result, Deferred):
            return self._exchange(route, values, request, context, started_s).follow(
                result
            )
        return self.succeeded(result, route, request, context, started_s)

    def perform(
        self,
        route: Route,
        values: tuple[str, ...],
        request: HttpRequest,
        context: Context,
    ) -> Any:
        """Check and run the command of a known caller: its result or a `Deferred`.

        Raises:
            DomainError: refused.
        """
        caller = context.caller
        if caller is not None:
            wait_s = self._users.take(caller.user_number)
            if wait_s:
                raise RateLimited(retry_after_s=wait_s)
        command = route.empty_command
        if command is None:
            content_type = request.header(b"content-type") if route.reads_body else None
            command = route.decoder.decode(
                values, request.query, content_type, request.body
            )
        if route.operation.keeps_keys and self._kept is not None:
            key = request.header(b"idempotency-key")
            context.key = self._kept.key_of(route.operation, context, command, key)
        elif route.is_post and self._idempotency is not None:
            key = request.header(b"idempotency-key")
            if key is not None:
                # Before the key costs a row: who is over a limit leaves no trace.
                route.entry.check_limits(context)
                content = (
                    *(value.encode() for value in values),
                    request.query.encode(),
                    request.body,
                )
                once = self._once(
                    self._idempotency, key, route, content, context, command
                )
                return self._dispatcher.wait(once, route.operation.name, context)
        return self._dispatcher.invoke(route.entry, context, command)

    def succeeded(
        self,
        result: Any,
        route: Route | None,
        request: HttpRequest,
        context: Context,
        started_s: float,
    ) -> Response:
        made = result
        if route is not None:
            try:
                made = self._encoded(result, route, context)
            except DomainError as error:
                return self.refused(error, route, request, context, started_s)
            route.entry.count("ok" if made.status < 400 else "refused", started_s)
        return Response(
            made.status, made.headers + self._common(request, context), made.body
        )

    def refused(
        self,
        error: DomainError,
        route: Route | None,
        request: HttpRequest,
        context: Context,
        started_s: float,
    ) -> Response:
        if route is not None:
            route.entry.count(outcome_of(error), started_s)
        made = _problem(error, context)
        return Response(
            made.status, made.headers + self._common(request, context), made.body
        )

    def check_upgrade(self, request: HttpRequest) -> None:
        """Whether it may become a WebSocket, as far as its token does not tell.

        Upgrades that succeed cost nothing of the address's limit (connections have
        limits of their own), those that are refused do: tokens are not for guessing.

        Raises:
            RateLimited, OriginRefused.
        """
        wait_s = self._addresses.wait_s(address_key(self.address_of(request)))
        if wait_s:
            raise RateLimited(retry_after_s=wait_s)
        if not self._origins.may_connect(request):
            raise OriginRefused

    def refuse(self, request: HttpRequest, error: DomainError) -> Response:
        """The problem, for a request that is none of a route's."""
        context = Context(self._request_id(request), self.address_of(request))
        self._addresses.take(address_key(context.address))
        return self.refused(error, None, request, context, 0.0)

    def as_refusal(
        self, error: Exception, route: Route | None, context: Context
    ) -> DomainError:
        name = "unrouted" if route is None else route.operation.name
        return self._dispatcher.as_refusal(error, name, context)

    def forget(self, exchange: _Exchange) -> None:
        self._outstanding.pop(exchange, None)

    def _identify(self, request: HttpRequest) -> Identity | Awaitable[Identity]:
        """Raises Unauthorized."""
        token = bearer_token(request.header(b"authorization"))
        if token is None:
            raise Unauthorized("Send `Authorization: Bearer` with an access token.")
        return self._authenticator.authenticate(token)

    async def _once(
        self,
        idempotency: Idempotency,
        key: bytes,
        route: Route,
        content: tuple[bytes, ...],
        context: Context,
        command: msgspec.Struct,
    ) -> Response:
        who = (
            f"address {address_key(context.address)}"
            if context.caller is None
            else f"user {context.caller.user_id}"
        )

        async def run(idempotency_id: UUID) -> Response:
            context.idempotency_id = idempotency_id
            try:
                result = self._dispatcher.run_handler(route.entry, context, command)
                while isinstance(result, Deferred):
                    result = await outcome(result)
                return self._encoded(result, route, context)
            except DomainError as error:
                return _problem(error, context)

        scope = f"{who} {route.operation.name}"
        return await idempotency.answer(scope, key, content, run)

    def _encoded(self, result: Any, route: Route, context: Context) -> Response:
        """The response to a result, without what depends on the request.

        Raises Internal: the handler gave what cannot be written as JSON.
        """
        kind = type(result)
        if kind is Response:
            return result  # type: ignore[no-any-return]
        operation = route.operation
        status = operation.status
        if kind is KeptReply:
            assert self._kept is not None
            kept = self._kept.opened(context, result)
            headers = route.headers if kept.status < 400 else CONTENT_TYPE + _PRIVATE
            return Response(kept.status, headers + REPLAYED, kept.body)
        if kind is Reply:
            status, result = result.status, result.body
        if result is None:
            return Response(status, _PRIVATE, b"")
        try:
            return Response(status, route.headers, encode_json(result))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise self._dispatcher.unexpected(error, operation.name, context) from error

    def _elsewhere(
        self,
        error: NoSuchRoute,
        request: HttpRequest,
        context: Context,
        started_s: float,
    ) -> Response | Deferred[Response]:
        """What is not declared: a page, or the problem."""
        fallback = self._fallback
        if fallback is None or not fallback.serves(request.method, request.path):
            return self.refused(error, None, request, context, started_s)
        try:
            page = self._dispatcher.wait(fallback.respond(request), "page", context)
        except DomainError as refusal:
            return self.refused(refusal, None, request, context, started_s)
        return self._exchange(None, (), request, context, started_s).follow(page)

    def _exchange(
        self,
        route: Route | None,
        values: tuple[str, ...],
        request: HttpRequest,
        context: Context,
        started_s: float,
    ) -> _Exchange:
        exchange = _Exchange(self, route, values, request, context, started_s)
        self._outstanding[exchange] = None
        return exchange

    def _options(self, request: HttpRequest, context: Context) -> Response:
        """The methods of the path; to a browser also what it may send (CORS)."""
        allow = "GET, HEAD, OPTIONS"
        if request.path != "*" and not (
            self._fallback is not None and self._fallback.serves("GET", request.path)
        ):
            allow = self.table.allowed(request.path)
        lines = b"allow: %s\r\n" % allow.encode()
        lines += self._origins.preflight(request, allow)
        return Response(204, lines + self._common(request, context), b"")

    def _common(self, request: HttpRequest, context: Context) -> bytes:
        """The lines that every response has."""
        lines = _SECURITY + b"x-request-id: %s\r\n" % context.request_id.encode()
        return lines + self._origins.lines(request)

    def _request_id(self, request: HttpRequest) -> str:
        """The client's `X-Request-Id` if it is harmless, else a new one."""
        given = request.header(b"x-request-id")
        if (
            given
            and len(given) <= REQUEST_ID_BYTES_MAX
            and not given.translate(None, _ID_BYTES)
        ):
            return given.decode("ascii")
        return self._next_id()


class _Exchange:
    """A request that waits. answer: resolved once, by whoever comes first."""

    __slots__ = (
        "_context",
        "_endpoint",
        "_request",
        "_route",
        "_values",
        "answer",
        "started_s",
    )

    def __init__(
        self,
        endpoint: HttpEndpoint,
        route: Route | None,
        values: tuple[str, ...],
        request: HttpRequest,
        context: Context,
        started_s: float,
    ) -> None:
        self._endpoint = endpoint
        self._route = route
        self._values = values
        self._request = request
        self._context = context
        self.started_s = started_s
        self.answer: Deferred[Response] = Deferred()

    def identify(self, awaited: Awaited) -> Deferred[Response]:
        """Go on as the caller that `awaited` tells."""
        awaited.on_done(self._identified)
        return self.answer

    def follow(self, deferred: Deferred[Any]) -> Deferred[Response]:
        """Answer what `deferred` tells."""
        deferred.on_done(self._done)
        return self.answer

    def fail(self, error: Exception) -> None:
        endpoint, context = self._endpoint, self._context
        refusal = endpoint.as_refusal(error, self._route, context)
        self._resolve(
            endpoint.refused(
                refusal, self._route, self._request, context, self.started_s
            )
        )

    def _identified(self, awaited: Deferred[Any]) -> None:
        if self.answer.done:
            return
        if awaited.error is not None:
            self.fail(awaited.error)
            return
        assert self._route is not None
        assert awaited.value is not None
        self._context.caller = awaited.value.caller
        try:
            result = self._endpoint.perform(
                self._route, self._values, self._request, self._context
            )
        except DomainError as error:
            self.fail(error)
            return
        self._take(result)

    def _done(self, deferred: Deferred[Any]) -> None:
        if self.answer.done:
            return
        if deferred.error is not None:
            self.fail(deferred.error)
        else:
            self._take(deferred.value)

    def _take(self, result: Any) -> None:
        if isinstance(result, Deferred):
            result.on_done(self._done)
            return
        self._resolve(
            self._endpoint.succeeded(
                result, self._route, self._request, self._context, self.started_s
            )
        )

    def _resolve(self, response: Response) -> None:
        self._endpoint.forget(self)
        self.answer.resolve(response)


async def outcome(deferred: Deferred[Any]) -> Any:
    """Wait for it. Raises what it failed with."""
    if not deferred.done:
        event = trio.Event()
        deferred.on_done(lambda _: event.set())
        await event.wait()
    return deferred.result()


def _problem(error: DomainError, context: Context) -> Response:
    return Response(
        status_of(error),
        headers_of(error) + _PRIVATE,
        encode_json(problem_of(error, context.request_id)),
    )
