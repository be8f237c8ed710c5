"""Owns the description of the HTTP interface (OpenAPI 3.1), made of the operations."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import FieldInfo

from tchatd import __version__
from tchatd.edge.commands import CommandDecoder
from tchatd.edge.dispatcher import Overtime
from tchatd.edge.idempotency import KEY_BYTES_MAX, KeyReused
from tchatd.edge.ports import Response
from tchatd.edge.problems import (
    Internal,
    Problem,
    TooLarge,
    UnsupportedMediaType,
    UriTooLong,
    short_code_of,
    status_of,
)
from tchatd.kernel.errors import DomainError, Invalid, RateLimited, Unauthorized
from tchatd.kernel.routing import Access, Operation

_REFERENCE = "#/components/schemas/{name}"
_PROBLEM_TYPE = "application/problem+json"
_DESCRIPTION = """\
Every path answers under `/v1` too. Failures are problems (RFC 9457). Real-time
messaging is the WebSocket at `/websocket`, subprotocols `tchat.json.v1` and
`tchat.msgpack.v1`."""


class Document(Struct, frozen=True):
    """Has no input."""


def operation(operations: Sequence[Operation], media: Mapping[str, str]) -> Operation:
    """`GET /openapi.json` itself, encoded once. See `document` for `media`."""
    declared = Operation(
        name="openapi.get",
        summary="This description",
        tag="operations",
        command=Document,
        result=dict[str, Any],
        handler=lambda context, command: answer,
        verb="GET",
        path="/openapi.json",
        access=Access.PUBLIC,
    )
    answer = Response(
        200,
        b"content-type: application/json\r\ncache-control: public, max-age=300\r\n",
        msgspec.json.encode(document([*operations, declared], media)),
    )
    return declared


def document(operations: Iterable[Operation], media: Mapping[str, str]) -> Any:
    """The whole description, as plain dicts and lists.

    media: the content type of operations that do not answer JSON, by name.
    """
    served = [op for op in operations if op.path is not None]
    bodies = {op.name: CommandDecoder(op).body_type for op in served}
    schemas = _Schemas(served, bodies)
    paths: dict[str, dict[str, Any]] = {}
    for op in served:
        assert op.path is not None
        assert op.verb is not None
        paths.setdefault(op.path, {})[op.verb.lower()] = _described(
            op, bodies[op.name], schemas, media.get(op.name, "application/json")
        )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "tchatd",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}, {"url": "/v1"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(map(_tag, served))],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
            },
        },
    }


class _Schemas:
    """The schemas of every type that is named, made together so that they share."""

    def __init__(
        self, operations: Sequence[Operation], bodies: Mapping[str, type[Struct]]
    ) -> None:
        self._types: list[Any] = [Problem]
        for op in operations:
            if op.result is not None:
                self._types.append(op.result)
            if op.verb in ("POST", "PUT") and _has_body(bodies[op.name]):
                self._types.append(bodies[op.name])
            for field in msgspec.structs.fields(op.command):
                self._types.append(field.type)
        made, components = msgspec.json.schema_components(
            self._types, ref_template=_REFERENCE
        )
        self._made = [_cleaned(schema) for schema in made]
        self.components = {name: _cleaned(of) for name, of in components.items()}

    def of(self, of_type: Any) -> Any:
        for known, schema in zip(self._types, self._made, strict=True):
            if known is of_type or known == of_type:
                return schema
        raise AssertionError(f"{of_type} has no schema")


def _cleaned(schema: Any) -> Any:
    """With descriptions, which are docstrings, as they are read and not as indented.

    What `not` takes out of an `enum` is left out: generators of clients do not read it.
    """
    if isinstance(schema, list):
        return [_cleaned(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    cleaned: dict[str, Any] = {
        name: inspect.cleandoc(part)
        if name == "description" and isinstance(part, str)
        else _cleaned(part)
        for name, part in schema.items()
    }
    if "enum" in cleaned and "not" in cleaned:
        refused = cleaned.pop("not")["enum"]
        cleaned["enum"] = [one for one in cleaned["enum"] if one not in refused]
    return cleaned


def _described(
    op: Operation, body: type[Struct], schemas: _Schemas, media: str
) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": op.name,
        "summary": op.summary,
        "tags": [_tag(op)],
        "parameters": _parameters(op, schemas),
        "responses": _responses(op, body, schemas, media),
        "security": [] if op.access is Access.PUBLIC else [{"bearer": []}],
    }
    if op.verb in ("POST", "PUT") and _has_body(body):
        required = any(field.required for field in msgspec.structs.fields(body))
        described["requestBody"] = {
            "required": required,
            "content": {"application/json": {"schema": schemas.of(body)}},
        }
    return described


def _parameters(op: Operation, schemas: _Schemas) -> list[dict[str, Any]]:
    in_path = op.path_parameters
    reads_query = op.verb in ("GET", "DELETE")
    parameters = [
        _parameter(field, "path" if field.name in in_path else "query", schemas)
        for field in msgspec.structs.fields(op.command)
        if field.name in in_path or reads_query
    ]
    if op.verb == "POST":
        parameters.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "The same key and body get the first answer again.",
                "schema": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": KEY_BYTES_MAX,
                    "pattern": "^[!-~]+$",
                },
            }
        )
    return parameters


def _parameter(field: FieldInfo, place: str, schemas: _Schemas) -> dict[str, Any]:
    schema = dict(schemas.of(field.type))
    if isinstance(field.default, str | int | float | bool):
        schema["default"] = field.default
    parameter = {
        # In a path the template's name is the attribute's, in a query the wire's.
        "name": field.name if place == "path" else field.encode_name,
        "in": place,
        "required": place == "path" or field.required,
        "schema": schema,
    }
    if schema.get("type") == "array":
        parameter["style"], parameter["explode"] = "form", False
    return parameter


def _responses(
    op: Operation, body: type[Struct], schemas: _Schemas, media: str
) -> dict[str, Any]:
    success: dict[str, Any] = {"description": op.summary, "headers": _request_id()}
    if op.result is not None:
        success["content"] = {media: {"schema": schemas.of(op.result)}}
    responses = {str(op.status): success}
    for status in op.other_statuses:
        responses[str(status)] = success
    for status, errors in sorted(_errors(op, body).items()):
        responses[str(status)] = _problem_response(status, errors, schemas)
    return responses


def _errors(op: Operation, body: type[Struct]) -> dict[int, list[type[DomainError]]]:
    """What may go wrong, by status: of the operation and of the edge around it."""
    errors: list[type[DomainError]] = [*op.errors, RateLimited, Internal, Overtime]
    if op.command.__struct_fields__ or op.verb == "POST":
        errors.append(Invalid)
    if op.access is Access.USER:
        errors.append(Unauthorized)
    if op.verb in ("POST", "PUT"):
        errors += [TooLarge, UnsupportedMediaType]
    elif len(op.command.__struct_fields__) > len(op.path_parameters):
        errors.append(UriTooLong)
    if op.verb == "POST":
        errors.append(KeyReused)
    by_status: dict[int, list[type[DomainError]]] = {}
    for error in dict.fromkeys(errors):
        by_status.setdefault(status_of(error), []).append(error)
    return by_status


def _problem_response(
    status: int, errors: Sequence[type[DomainError]], schemas: _Schemas
) -> dict[str, Any]:
    headers = _request_id()
    if status in (429, 503):
        headers["Retry-After"] = {"schema": {"type": "integer", "minimum": 1}}
    return {
        "description": "; ".join(error.title for error in errors),
        "headers": headers,
        "content": {
            _PROBLEM_TYPE: {
                "schema": schemas.of(Problem),
                "examples": {error.code: _example(error) for error in errors},
            }
        },
    }


def _example(error: type[DomainError]) -> dict[str, Any]:
    """As `problem_of` would say it; the class alone is known here."""
    return {
        "value": {
            "type": f"urn:tchatd:problem:{error.code}",
            "title": error.title,
            "status": status_of(error),
            "detail": error.title,
            "instance": "urn:tchatd:request:0a1b2c3d4e5f-1",
            "error": short_code_of(error),
            "message": error.title,
        }
    }


def _request_id() -> dict[str, Any]:
    return {"X-Request-Id": {"schema": {"type": "string"}}}


def _tag(op: Operation) -> str:
    return op.tag.capitalize()


def _has_body(body: type[Struct]) -> bool:
    return bool(body.__struct_fields__)
