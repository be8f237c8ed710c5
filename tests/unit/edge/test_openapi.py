"""The description of the interface, made of the operations."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal
from uuid import UUID

import jsonschema_rs
import msgspec
import pytest
import schemathesis
from msgspec import UNSET, Meta, UnsetType

from tchatd.edge import openapi, probes
from tchatd.edge.dispatcher import Dispatcher
from tchatd.edge.http import HttpEndpoint
from tchatd.edge.ports import Response
from tchatd.kernel.clock import ManualClock
from tchatd.kernel.errors import Conflict, NotFound
from tchatd.kernel.routing import Access, Operation
from tchatd.observe.metrics import Metrics
from tests.support.edge_fakes import Edge, FakeAuthenticator, FakeRequest


class Content(msgspec.Struct, frozen=True):
    text: Annotated[str, Meta(min_length=1, max_length=10)]


class Send(msgspec.Struct, frozen=True):
    dialog_id: UUID
    content: Content
    type: Annotated[
        Literal["text", "image", "made"],
        Meta(extra_json_schema={"not": {"enum": ["made"]}}),
    ] = "text"
    client_id: UUID | UnsetType = UNSET


class Find(msgspec.Struct, frozen=True):
    q: str
    ids: Annotated[list[UUID], Meta(max_length=3)] = []
    limit: Annotated[int, Meta(ge=1, le=100)] = 20


class Logout(msgspec.Struct, frozen=True):
    pass


class Message(msgspec.Struct):
    """One message.

    id: for ever.
        Whatever happens.
    """

    id: str
    content: Content


class Found(Conflict):
    code, title = "found", "Found already"


def handler(context: Any, command: Any) -> Any:
    return None


def declared(name: str, command: type[msgspec.Struct], **more: Any) -> Operation:
    described: Any = {"summary": f"Do {name}", "tag": "test", "result": Message}
    return Operation(name=name, command=command, handler=handler, **(described | more))


OPERATIONS = [
    declared(
        "message.send",
        Send,
        verb="POST",
        path="/dialogs/{dialog_id}/messages",
        status=201,
        other_statuses=(200,),
        errors=(NotFound, Found),
    ),
    declared("message.find", Find, verb="GET", path="/messages", result=list[Message]),
    declared("logout", Logout, verb="POST", path="/logout", result=None, status=204),
    declared("ws.only", Find, websocket="ws.only"),
    *Edge().presence.operations(),
    *probes.operations(Metrics(process=False), {}, []),
]
MEDIA = {"metrics.get": "text/plain"}


@pytest.fixture(scope="module")
def document() -> Any:
    return openapi.document(OPERATIONS, MEDIA)


def test_every_http_operation_is_there_and_no_other(document: Any) -> None:
    named = {
        operation["operationId"]
        for item in document["paths"].values()
        for operation in item.values()
    }

    assert named == {op.name for op in OPERATIONS if op.path is not None}


def test_path_and_body_of_a_command_are_told_apart(document: Any) -> None:
    operation = document["paths"]["/dialogs/{dialog_id}/messages"]["post"]

    path, key = operation["parameters"]
    assert (path["name"], path["in"], path["required"]) == ("dialog_id", "path", True)
    assert path["schema"]["format"] == "uuid"
    assert key["name"] == "Idempotency-Key"
    body = operation["requestBody"]
    assert body["required"]
    name = body["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    assert set(document["components"]["schemas"][name]["properties"]) == {
        "content",
        "type",
        "client_id",
    }


def test_the_query_has_its_limits_and_defaults(document: Any) -> None:
    parameters = {
        parameter["name"]: parameter
        for parameter in document["paths"]["/messages"]["get"]["parameters"]
    }

    assert parameters["q"]["required"]
    assert parameters["limit"]["schema"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 100,
        "default": 20,
    }
    assert parameters["ids"]["schema"]["maxItems"] == 3
    assert parameters["ids"]["explode"] is False


def test_answers_and_problems_are_described(document: Any) -> None:
    responses = document["paths"]["/dialogs/{dialog_id}/messages"]["post"]["responses"]

    assert set(responses) == {
        *("200", "201", "400", "401", "404", "409"),
        *("413", "415", "429", "500", "503"),
    }
    conflict = responses["409"]["content"]["application/problem+json"]
    assert set(conflict["examples"]) == {"found", "idempotency-key-reused"}
    assert "Retry-After" in responses["429"]["headers"]


def test_a_query_may_be_too_long_and_a_path_is_not(document: Any) -> None:
    paths = document["paths"]
    assert "414" in paths["/messages"]["get"]["responses"]
    assert "414" not in paths["/health"]["get"]["responses"]
    assert "414" not in paths["/logout"]["post"]["responses"]


def test_public_operations_need_no_token(document: Any) -> None:
    assert document["paths"]["/health"]["get"]["security"] == []
    assert document["paths"]["/messages"]["get"]["security"] == [{"bearer": []}]
    assert "401" not in document["paths"]["/health"]["get"]["responses"]


def test_every_reference_leads_somewhere(document: Any) -> None:
    text = json.dumps(document)
    names = {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}

    assert names
    assert names <= set(document["components"]["schemas"])


def test_every_schema_is_valid(document: Any) -> None:
    for schema in document["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)


def test_every_example_is_an_instance_of_its_schema(document: Any) -> None:
    problem = document["components"]["schemas"]["Problem"]
    validator = jsonschema_rs.validator_for(problem)
    for item in document["paths"].values():
        for operation in item.values():
            for response in operation["responses"].values():
                for content in response.get("content", {}).values():
                    for example in content.get("examples", {}).values():
                        validator.validate(example["value"])


def test_a_choice_that_is_refused_is_left_out(document: Any) -> None:
    type = document["components"]["schemas"]["SendBody"]["properties"]["type"]

    assert type == {"enum": ["image", "text"], "default": "text"}


def test_descriptions_are_not_indented_as_in_the_source(document: Any) -> None:
    described = document["components"]["schemas"]["Message"]["description"]

    assert described == "One message.\n\nid: for ever.\n    Whatever happens."


def test_schemathesis_can_read_it(document: Any) -> None:
    schema = schemathesis.openapi.from_dict(document)

    results: Any = list(schema.get_all_operations())
    found = [result.ok().label for result in results]

    assert "POST /dialogs/{dialog_id}/messages" in found
    schema.validate()


def test_it_serves_itself() -> None:
    served = [*OPERATIONS, openapi.operation(OPERATIONS, MEDIA)]
    endpoint = HttpEndpoint(
        Dispatcher(served, Metrics(process=False)), FakeAuthenticator(ManualClock())
    )

    answer = endpoint.handle(FakeRequest("GET", "/openapi.json"))

    assert type(answer) is Response
    assert b"content-type: application/json\r\n" in answer.headers
    decoded = msgspec.json.decode(answer.body)
    assert decoded["openapi"] == "3.1.0"
    assert "/openapi.json" in decoded["paths"]
    assert served[-1].access is Access.PUBLIC
