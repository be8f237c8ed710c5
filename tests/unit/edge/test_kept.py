"""Keys that an operation keeps itself: both doors, one key, the same answer."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import UNSET, UnsetType

from tchatd.edge.http import HttpEndpoint
from tchatd.edge.idempotency import KeyReused
from tchatd.edge.kept import SealedAnswers
from tchatd.edge.ports import Response
from tchatd.kernel.crypto import Keys
from tchatd.kernel.errors import Conflict, DomainError
from tchatd.kernel.routing import Context, KeptReply, Operation
from tests.support.edge_fakes import Edge, FakeRequest, Json

KEYS = Keys.of_one_secret(bytes(32))


class Full(Conflict):
    code, title = "full", "It is full"


class Pay(msgspec.Struct, frozen=True, kw_only=True):
    amount: int
    note: str | UnsetType = UNSET
    idempotency_key: str | UnsetType = UNSET
    client_id: str | UnsetType = UNSET


class Paid(msgspec.Struct):
    number: int
    amount: int


class Till:
    """Keeps keys with their effects, as a domain's store does."""

    def __init__(self) -> None:
        self.kept: dict[bytes, tuple[bytes, bytes]] = {}
        self.paid: list[int] = []

    def pay(self, context: Context, command: Pay) -> Any:
        key = context.key
        if key is not None and key.digest in self.kept:
            fingerprint, answer = self.kept[key.digest]
            if fingerprint != key.fingerprint:
                raise KeyReused
            return KeptReply(answer)
        said: Any = Full() if command.amount > 100 else None
        if said is None:
            self.paid.append(command.amount)
            said = Paid(len(self.paid), command.amount)
        if key is not None:
            self.kept[key.digest] = (key.fingerprint, key.encode(said))
        if isinstance(said, DomainError):
            raise said
        return said


class Doors:
    """A till behind both doors."""

    def __init__(self) -> None:
        self.till = Till()
        self.edge = Edge(
            [
                Operation(
                    name="till.pay",
                    summary="",
                    tag="test",
                    command=Pay,
                    result=Paid,
                    handler=self.till.pay,
                    verb="POST",
                    path="/pay",
                    status=201,
                    errors=(Full,),
                    websocket="till.pay",
                    keeps_keys=True,
                )
            ]
        )
        kept = SealedAnswers(KEYS.vault, KEYS.lookup_hash("idempotency"))
        self.edge.sessions._kept = kept
        self.http = HttpEndpoint(
            self.edge.dispatcher, self.edge.authenticator, kept=kept
        )

    def post(
        self, body: Json | bytes, key: str | None = None, user: int = 7
    ) -> Response:
        headers = {"Authorization": f"Bearer u{user}"}
        if key is not None:
            headers["Idempotency-Key"] = key
        if isinstance(body, bytes):
            headers["Content-Type"] = "application/json"
        answer = self.http.handle(FakeRequest("POST", "/pay", body, headers))
        assert isinstance(answer, Response)
        return answer

    def ask(self, connection: int, envelope: Json) -> Json:
        lane = self.edge.json if connection % 2 else self.edge.msgpack
        encode = msgspec.json.encode if connection % 2 else msgspec.msgpack.encode
        decode = msgspec.json.decode if connection % 2 else msgspec.msgpack.decode
        if connection not in self.edge.hub.sessions:
            identity = self.edge.authenticator.authenticate("u7")
            self.edge.sessions.open(lane, connection, "192.0.2.1", identity)  # type: ignore[arg-type]
        self.edge.sessions.message(
            connection, encode({"op": "till.pay"} | envelope), bool(connection % 2)
        )
        self.edge.hub.flush()
        answer: Json = decode(self.edge.transport.sent[connection][-1])
        return answer


@pytest.fixture
def doors() -> Doors:
    return Doors()


def test_a_repeat_gets_the_same_status_and_body(doors: Doors) -> None:
    first, again = doors.post({"amount": 5}, "k"), doors.post({"amount": 5}, "k")

    assert (first.status, again.status) == (201, 201)
    assert first.body == again.body == b'{"number":1,"amount":5}'
    assert b"idempotent-replayed" not in first.headers
    assert b"idempotent-replayed: true\r\n" in again.headers
    assert b"content-type: application/json\r\n" in again.headers
    assert doors.till.paid == [5]


def test_a_refusal_is_repeated_as_its_problem(doors: Doors) -> None:
    first, again = doors.post({"amount": 101}, "k"), doors.post({"amount": 101}, "k")

    assert (first.status, again.status) == (409, 409)
    assert first.body == again.body
    assert msgspec.json.decode(again.body)["type"].endswith(":full")
    assert b"application/problem+json" in again.headers
    assert b"idempotent-replayed: true\r\n" in again.headers


def test_it_does_not_matter_how_the_same_was_spelled(doors: Doors) -> None:
    first = doors.post({"amount": 5, "note": "x"}, "k")

    again = doors.post(b'{ "note":"x", "unknown":1,\n "amount":5 }', "k")

    assert again.body == first.body
    assert doors.till.paid == [5]


@pytest.mark.parametrize("body", [{"amount": 6}, {"amount": 5, "note": ""}])
def test_another_body_is_in_conflict(doors: Doors, body: Json) -> None:
    doors.post({"amount": 5}, "k")

    assert doors.post(body, "k").status == 409
    assert doors.till.paid == [5]


def test_a_key_is_its_users_own(doors: Doors) -> None:
    doors.post({"amount": 5}, "k", user=7)
    doors.post({"amount": 5}, "k", user=8)

    assert doors.till.paid == [5, 5]


def test_without_a_key_it_simply_runs(doors: Doors) -> None:
    for _ in range(2):
        assert doors.post({"amount": 5}).status == 201

    assert doors.till.paid == [5, 5]
    assert not doors.till.kept


@pytest.mark.parametrize("key", ["", "a b", "é", "k" * 256])
def test_a_key_that_is_none_is_refused(doors: Doors, key: str) -> None:
    assert doors.post({"amount": 5}, key).status == 400
    assert not doors.till.paid


@pytest.mark.parametrize("connection", [1, 2])
@pytest.mark.parametrize("name", ["idempotency_key", "client_id"])
def test_over_websocket_the_command_names_its_key(
    doors: Doors, connection: int, name: str
) -> None:
    first = doors.ask(connection, {"id": 1, "amount": 5, name: "k"})
    again = doors.ask(connection, {"id": 2, "amount": 5, name: "k"})

    assert first == {"op": "reply", "id": 1, "result": {"number": 1, "amount": 5}}
    assert again == {"op": "reply", "id": 2, "result": {"number": 1, "amount": 5}}
    assert doors.till.paid == [5]


@pytest.mark.parametrize("connection", [1, 2])
def test_over_websocket_a_refusal_is_repeated_too(
    doors: Doors, connection: int
) -> None:
    first = doors.ask(connection, {"id": 1, "amount": 101, "client_id": "k"})
    again = doors.ask(connection, {"id": 2, "amount": 101, "client_id": "k"})

    assert (first["op"], again["op"]) == ("error", "error")
    assert again["problem"] == first["problem"]
    assert again["id"] == 2


def test_both_doors_know_one_key(doors: Doors) -> None:
    doors.post({"amount": 5}, "k")

    told = doors.ask(1, {"id": 1, "amount": 5, "client_id": "k"})

    assert told["result"] == {"number": 1, "amount": 5}
    assert doors.till.paid == [5]


def test_what_is_kept_is_sealed_and_opens_for_its_key_alone(doors: Doors) -> None:
    doors.post({"amount": 5, "note": "secret"}, "k")
    doors.post({"amount": 5, "note": "secret"}, "l")
    one, other = doors.till.kept

    for _, answer in doors.till.kept.values():
        assert b"amount" not in answer
    fingerprint, answer = doors.till.kept[one]
    doors.till.kept[other] = (fingerprint, answer)
    assert doors.post({"amount": 5, "note": "secret"}, "l").status == 500
    told = doors.ask(1, {"id": 1, "amount": 5, "note": "secret", "client_id": "l"})
    assert told["problem"]["status"] == 500
