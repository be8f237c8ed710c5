"""HTTP around the commands: who, limits, problems, headers, answers later."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tchatd.edge.dispatcher import Dispatcher
from tchatd.edge.http import HttpEndpoint, HttpSettings
from tchatd.edge.idempotency import Idempotency
from tchatd.edge.ports import HttpRequest, Response
from tchatd.kernel.clock import ManualClock
from tchatd.kernel.crypto import Keys
from tchatd.kernel.deferred import Deferred
from tchatd.kernel.errors import Conflict, DomainError, NotFound, Unavailable
from tchatd.kernel.ids import Ids
from tchatd.kernel.routing import Access, Context, Limit, Operation, Reply
from tchatd.observe.metrics import Metrics
from tchatd.stores.memory.idempotency import MemoryIdempotencyStore
from tests.support.edge_fakes import FakeAuthenticator, FakeRequest, user_id

KEYS = Keys.of_one_secret(bytes(32))


class Nothing(msgspec.Struct):
    pass


class Make(msgspec.Struct):
    name: str


class Thing(msgspec.Struct):
    id: str


class Pages:
    def serves(self, method: str, path: str) -> bool:
        return path == "/page"

    async def respond(self, request: HttpRequest) -> Response:
        await trio.lowlevel.checkpoint()
        return Response(200, b"content-type: text/html\r\n", b"<p>page")


def declared(
    handler: Callable[..., Any],
    verb: str = "GET",
    path: str = "/thing",
    **more: Any,
) -> Operation:
    return Operation(
        **{
            "name": f"{verb} {path}",
            "summary": "",
            "tag": "t",
            "command": Make if verb == "POST" else Nothing,
            "result": Thing,
            "handler": handler,
            "verb": verb,
            "path": path,
        }
        | more
    )


class Served:
    """An endpoint over some operations; `ask` waits for the answer."""

    def __init__(self, operations: Sequence[Operation], **settings: Any) -> None:
        self.clock = ManualClock()
        self.authenticator = FakeAuthenticator(self.clock)
        self.metrics = Metrics(process=False)
        self.dispatcher = Dispatcher(operations, self.metrics)
        self.store = MemoryIdempotencyStore()
        self.endpoint = HttpEndpoint(
            self.dispatcher,
            self.authenticator,
            HttpSettings(**settings),
            idempotency=Idempotency(
                self.store,
                KEYS.vault,
                KEYS.lookup_hash("idempotency"),
                self.clock,
                Ids(self.clock),
            ),
            fallback=Pages(),
        )

    def now(self, request: FakeRequest) -> Response:
        answer = self.endpoint.handle(request)
        assert type(answer) is Response
        return answer

    async def ask(self, request: FakeRequest) -> Response:
        answer = self.endpoint.handle(request)
        if isinstance(answer, Deferred):
            await wait_all_tasks_blocked()
            return answer.result()
        return answer


@asynccontextmanager
async def serving(*operations: Operation, **settings: Any) -> AsyncIterator[Served]:
    served = Served(operations, **settings)
    async with trio.open_nursery() as nursery:
        await nursery.start(served.dispatcher.run)
        await nursery.start(served.endpoint.run)
        yield served
        nursery.cancel_scope.cancel()


def lines(response: Response) -> dict[str, str]:
    """The response's headers; each at most once."""
    pairs = [line.split(": ", 1) for line in response.headers.decode().splitlines()]
    assert len({name for name, _ in pairs}) == len(pairs)
    return {pair[0]: pair[1] for pair in pairs}


def problem(response: Response) -> Any:
    assert lines(response)["content-type"] == "application/problem+json"
    body = msgspec.json.decode(response.body)
    assert body["status"] == response.status
    return body


def of_nobody(context: Context, command: Nothing) -> Thing:
    return Thing("all")


def of_user(context: Context, command: Nothing) -> Thing:
    return Thing(str(context.user.user_id))


SIGNED_IN = {"Authorization": "Bearer u7"}


def test_a_signed_in_user_is_answered_at_once() -> None:
    served = Served([declared(of_user)])

    answer = served.now(FakeRequest("GET", "/thing", headers=SIGNED_IN))

    assert answer.status == 200
    assert msgspec.json.decode(answer.body) == {"id": str(user_id(7))}
    headers = lines(answer)
    assert headers["content-type"] == "application/json"
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-request-id"]


@pytest.mark.parametrize("path", ["/thing", "/v1/thing"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Basic u7"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer expired"},
        {"Authorization": "Bearer \u00e9"},
    ],
)
def test_without_a_good_token_the_answer_is_401(path: str, headers: Any) -> None:
    served = Served([declared(of_user)])

    answer = served.now(FakeRequest("GET", path, headers=headers))

    assert problem(answer)["error"] == "unauthorized"
    assert answer.status == 401
    assert "www-authenticate" in lines(answer)


def test_a_public_route_asks_for_no_token() -> None:
    served = Served([declared(lambda c, _: Thing("x"), access=Access.PUBLIC)])

    assert served.now(FakeRequest("GET", "/thing")).status == 200


async def test_a_user_who_has_to_be_looked_up_is_answered_later() -> None:
    async with serving(declared(of_user)) as served:
        served.authenticator.slow[7] = trio.Event()
        answer = served.endpoint.handle(FakeRequest("GET", "/thing", headers=SIGNED_IN))
        assert isinstance(answer, Deferred)
        await wait_all_tasks_blocked()
        assert served.endpoint.outstanding == 1
        served.authenticator.slow[7].set()
        await wait_all_tasks_blocked()

        assert answer.result().status == 200
        assert served.endpoint.outstanding == 0


async def test_handlers_may_wait_and_refuse_later() -> None:
    async def later(context: Context, command: Nothing) -> Thing:
        await trio.lowlevel.checkpoint()
        raise NotFound("no such thing")

    async with serving(declared(later)) as served:
        answer = await served.ask(FakeRequest("GET", "/thing", headers=SIGNED_IN))

    assert problem(answer)["detail"] == "no such thing"
    assert answer.status == 404


def test_a_deferred_result_is_answered_when_it_is_there() -> None:
    deferred: Deferred[Thing] = Deferred()
    served = Served([declared(lambda c, _: deferred)])
    answer = served.endpoint.handle(FakeRequest("GET", "/thing", headers=SIGNED_IN))
    assert isinstance(answer, Deferred)
    assert not answer.done

    deferred.resolve(Thing("x"))

    assert answer.result().body == b'{"id":"x"}'


async def test_an_awaited_deferred_is_followed_to_its_end() -> None:
    deferred: Deferred[Thing] = Deferred()

    async def later(context: Context, command: Nothing) -> Deferred[Thing]:
        await trio.lowlevel.checkpoint()
        return deferred

    async with serving(declared(later)) as served:
        answer = served.endpoint.handle(FakeRequest("GET", "/thing", headers=SIGNED_IN))
        assert isinstance(answer, Deferred)
        await wait_all_tasks_blocked()
        assert not answer.done
        deferred.fail(Unavailable())

    assert answer.result().status == 503


async def test_what_never_comes_is_answered_503(
    autojump_clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    deferred: Deferred[Thing] = Deferred()
    monkeypatch.setattr("time.perf_counter", trio.current_time)
    async with serving(declared(lambda c, _: deferred), request_s=3) as served:
        answer = served.endpoint.handle(FakeRequest("GET", "/thing", headers=SIGNED_IN))
        assert isinstance(answer, Deferred)
        await trio.sleep(2)
        assert not answer.done
        await trio.sleep(3)

        assert problem(answer.result())["type"].endswith("overtime")
        deferred.resolve(Thing("too late"))
        assert answer.result().status == 503


def test_a_reply_has_its_own_status_and_none_has_no_body() -> None:
    served = Served(
        [
            declared(lambda c, _: Reply(Thing("x"), 200), "POST", "/a", status=201),
            declared(lambda c, _: None, "POST", "/b", status=204, result=None),
        ]
    )

    first = served.now(FakeRequest("POST", "/a", {"name": "n"}, SIGNED_IN))
    second = served.now(FakeRequest("POST", "/b", {"name": "n"}, SIGNED_IN))

    assert (first.status, first.body) == (200, b'{"id":"x"}')
    assert (second.status, second.body) == (204, b"")
    assert "content-type" not in lines(second)


@pytest.mark.parametrize("result", [object(), {1: 2, None: 3, (): 4}, "\ud800"])
def test_a_result_that_cannot_be_written_is_our_mistake(result: object) -> None:
    served = Served([declared(lambda c, _: result)])

    answer = served.now(FakeRequest("GET", "/thing", headers=SIGNED_IN))

    assert problem(answer)["error"] == "internal"


def test_a_crash_in_a_handler_is_500_with_the_request_id() -> None:
    def crash(context: Context, command: Nothing) -> None:
        raise RuntimeError("secret")

    served = Served([declared(crash)])
    request = FakeRequest("GET", "/thing", headers=SIGNED_IN | {"X-Request-Id": "abc"})

    answer = served.now(request)

    assert problem(answer)["instance"] == "urn:tchatd:request:abc"
    assert b"secret" not in answer.body


@pytest.mark.parametrize(
    ("given", "kept"),
    [("abc-1", True), ("x" * 64, True), ("x" * 65, False), ("a b", False), ("", False)],
)
def test_a_harmless_request_id_comes_back(given: str, kept: bool) -> None:
    served = Served([declared(of_user)])

    answer = served.now(FakeRequest("GET", "/no", headers={"X-Request-Id": given}))

    assert (lines(answer)["x-request-id"] == given) is kept


def test_unknown_routes_and_methods_are_problems() -> None:
    served = Served([declared(of_user)])

    unknown = served.now(FakeRequest("GET", "/nothing"))
    wrong = served.now(FakeRequest("DELETE", "/thing"))

    assert problem(unknown)["error"] == "not_found"
    assert problem(wrong)["error"] == "method_not_allowed"
    assert lines(wrong)["allow"] == "GET, HEAD, OPTIONS"


async def test_a_page_is_served_where_no_route_is() -> None:
    async with serving(declared(of_user)) as served:
        answer = await served.ask(FakeRequest("GET", "/page"))

    assert answer.body == b"<p>page"
    assert lines(answer)["content-type"] == "text/html"


def test_head_is_the_get_of_a_route() -> None:
    served = Served([declared(of_user)])

    answer = served.now(FakeRequest("HEAD", "/thing", headers=SIGNED_IN))

    assert answer.status == 200
    assert answer.body


def test_options_tells_the_methods() -> None:
    served = Served([declared(of_user)])

    assert lines(served.now(FakeRequest("OPTIONS", "/thing")))["allow"] == (
        "GET, HEAD, OPTIONS"
    )
    assert served.now(FakeRequest("OPTIONS", "/nothing")).status == 404
    assert served.now(FakeRequest("OPTIONS", "*")).status == 204


def test_browsers_of_allowed_origins_may_call() -> None:
    served = Served(
        [declared(of_user)], allowed_origins=frozenset({"https://a.example"})
    )
    preflight = {
        "Origin": "https://a.example",
        "Access-Control-Request-Method": "GET",
    }

    good = lines(served.now(FakeRequest("OPTIONS", "/thing", headers=preflight)))
    called = lines(
        served.now(
            FakeRequest(
                "GET", "/thing", headers=SIGNED_IN | {"Origin": "https://a.example"}
            )
        )
    )
    other = lines(
        served.now(
            FakeRequest(
                "GET", "/thing", headers=SIGNED_IN | {"Origin": "https://b.example"}
            )
        )
    )

    assert good["access-control-allow-origin"] == "https://a.example"
    assert "GET" in good["access-control-allow-methods"]
    assert "authorization" in good["access-control-allow-headers"]
    assert called["access-control-allow-origin"] == "https://a.example"
    assert "access-control-allow-origin" not in other
    assert other["vary"] == "origin"


def test_requests_of_one_address_are_limited_by_its_64() -> None:
    served = Served([declared(of_user)], address_per_minute=1, address_burst=2)
    addresses = ("2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:1::1")

    answers = [
        served.now(FakeRequest("GET", "/thing", headers=SIGNED_IN, address=address))
        for address in addresses
    ]

    assert [answer.status for answer in answers] == [200, 200, 429, 200]
    assert lines(answers[2])["retry-after"] == "60"
    assert problem(answers[2])["retry_after"] == 60


def test_requests_of_one_user_are_limited_wherever_they_come_from() -> None:
    served = Served([declared(of_user)], user_per_minute=1, user_burst=2)

    answers = [
        served.now(
            FakeRequest("GET", "/thing", headers=SIGNED_IN, address=f"192.0.2.{n}")
        )
        for n in range(3)
    ]

    assert [answer.status for answer in answers] == [200, 200, 429]


def test_outcomes_are_counted() -> None:
    served = Served([declared(of_user, limits=(Limit("user", 1, 1),))])
    for _ in range(2):
        served.now(FakeRequest("GET", "/thing", headers=SIGNED_IN))

    text = served.metrics.render().decode()

    assert 'command="GET /thing",outcome="ok"} 1.0' in text
    assert 'command="GET /thing",outcome="rate_limited"} 1.0' in text


class Maker:
    """Counts how often it ran; waits where it is told to."""

    def __init__(self) -> None:
        self.runs: list[Context] = []
        self.gate: trio.Event | None = None
        self.errors: list[DomainError] = []

    def __call__(self, context: Context, command: Make) -> Thing | Awaitable[Thing]:
        self.runs.append(context)
        if self.errors:
            raise self.errors.pop()
        return (
            Thing(f"{command.name}{len(self.runs)}")
            if self.gate is None
            else self._wait()
        )

    async def _wait(self) -> Thing:
        assert self.gate is not None
        await self.gate.wait()
        return Thing(f"waited{len(self.runs)}")


def post(key: str, name: str = "n", user: int = 7, path: str = "/make") -> FakeRequest:
    headers = {"Authorization": f"Bearer u{user}", "Idempotency-Key": key}
    return FakeRequest("POST", path, {"name": name}, headers)


async def test_the_same_key_and_body_replays_the_first_answer() -> None:
    maker = Maker()
    async with serving(declared(maker, "POST", "/make", status=201)) as served:
        first = await served.ask(post("k1"))
        second = await served.ask(post("k1"))

    assert first.status == second.status == 201
    assert first.body == second.body == b'{"id":"n1"}'
    assert "idempotent-replayed" not in lines(first)
    assert lines(second)["idempotent-replayed"] == "true"
    assert len(maker.runs) == 1
    assert maker.runs[0].idempotency_id is not None
    assert maker.runs[0].idempotency_id.version == 7


async def test_another_body_with_the_same_key_is_a_conflict() -> None:
    maker = Maker()
    async with serving(declared(maker, "POST", "/make")) as served:
        await served.ask(post("k1"))
        answer = await served.ask(post("k1", "other"))

    assert answer.status == 409
    assert problem(answer)["type"].endswith("idempotency-key-reused")
    assert len(maker.runs) == 1


async def test_keys_belong_to_a_user_and_an_operation() -> None:
    maker = Maker()
    async with serving(
        declared(maker, "POST", "/make"), declared(maker, "POST", "/also")
    ) as served:
        for request in (post("k1"), post("k1", user=8), post("k1", path="/also")):
            assert (await served.ask(request)).status == 200

    assert len(maker.runs) == 3


async def test_a_key_is_the_same_under_the_alias() -> None:
    maker = Maker()
    async with serving(declared(maker, "POST", "/make")) as served:
        first = await served.ask(post("k1"))
        again = await served.ask(post("k1", path="/v1/make"))

    assert (again.status, again.body) == (200, first.body)
    assert len(maker.runs) == 1


async def test_who_is_over_a_limit_costs_no_row() -> None:
    limits = (Limit(by="user", per_minute=1, burst=1),)
    async with serving(declared(Maker(), "POST", "/make", limits=limits)) as served:
        statuses = [(await served.ask(post(key))).status for key in ("k1", "k2", "k3")]

    assert statuses == [200, 429, 429]
    assert await served.store.prune(2**60, 10) == 1


def test_an_answer_that_anyone_may_keep_says_for_how_long() -> None:
    served = Served([declared(of_nobody, access=Access.PUBLIC, cache_s=300)])

    answer = served.now(FakeRequest("GET", "/thing"))

    assert lines(answer)["cache-control"] == "public, max-age=300"


async def test_a_duplicate_waits_for_the_first() -> None:
    maker = Maker()
    maker.gate = trio.Event()
    async with serving(declared(maker, "POST", "/make")) as served:
        answers = [served.endpoint.handle(post("k1")) for _ in range(3)]
        await wait_all_tasks_blocked()
        assert len(maker.runs) == 1
        maker.gate.set()
        await wait_all_tasks_blocked()
        bodies = [
            answer.result().body for answer in answers if isinstance(answer, Deferred)
        ]

    assert bodies == [b'{"id":"waited1"}'] * 3
    assert len(maker.runs) == 1


@pytest.mark.parametrize(
    ("error", "runs"), [(Conflict("taken"), 1), (Unavailable(), 2)]
)
async def test_refusals_are_replayed_but_not_what_may_be_tried_again(
    error: DomainError, runs: int
) -> None:
    maker = Maker()
    maker.errors = [error]
    async with serving(declared(maker, "POST", "/make")) as served:
        first = await served.ask(post("k1"))
        second = await served.ask(post("k1"))

    assert problem(first)["detail"] == error.detail
    assert (second.status == first.status) is (runs == 1)
    assert len(maker.runs) == runs
    assert len({context.idempotency_id for context in maker.runs}) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "\u0e01"])
async def test_a_key_must_be_visible_ascii(key: str) -> None:
    maker = Maker()
    async with serving(declared(maker, "POST", "/make")) as served:
        answer = await served.ask(post(key))

    assert answer.status == 400
    assert "Idempotency-Key" in problem(answer)["details"]
    assert maker.runs == []


async def test_an_invalid_body_does_not_use_up_the_key() -> None:
    maker = Maker()
    headers = {"Authorization": "Bearer u7", "Idempotency-Key": "k1"}
    async with serving(declared(maker, "POST", "/make")) as served:
        bad = await served.ask(FakeRequest("POST", "/make", {"name": 1}, headers))
        good = await served.ask(post("k1"))

    assert (bad.status, good.status) == (400, 200)
