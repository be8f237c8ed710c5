"""Which operation a path means."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tchatd.edge.problems import MethodNotAllowed, NoSuchRoute
from tchatd.edge.routes import RouteTable
from tchatd.kernel.errors import Invalid
from tchatd.kernel.routing import Operation


class Input(msgspec.Struct):
    id: str = ""
    user_id: str = ""


class Entry:
    def __init__(self, verb: str, path: str) -> None:
        self.operation = Operation(
            name=f"{verb} {path}",
            summary="",
            tag="t",
            command=Input,
            result=None,
            handler=lambda context, command: None,
            verb=verb,
            path=path,
        )


@pytest.fixture
def table() -> RouteTable[Entry]:
    return RouteTable(
        [
            Entry("GET", "/things"),
            Entry("POST", "/things"),
            Entry("GET", "/things/search"),
            Entry("GET", "/things/{id}"),
            Entry("DELETE", "/things/{id}/members/{user_id}"),
        ]
    )


@pytest.mark.parametrize(
    ("method", "path", "name", "values"),
    [
        ("GET", "/things", "GET /things", ()),
        ("HEAD", "/things", "GET /things", ()),
        ("POST", "/v1/things", "POST /things", ()),
        ("GET", "/things/search", "GET /things/search", ()),
        ("GET", "/things/7", "GET /things/{id}", ("7",)),
        ("GET", "/v1/things/a%20b%2Fc", "GET /things/{id}", ("a b/c",)),
        (
            "DELETE",
            "/things/7/members/8",
            "DELETE /things/{id}/members/{user_id}",
            ("7", "8"),
        ),
    ],
)
def test_a_path_finds_its_operation_with_and_without_v1(
    table: RouteTable[Entry], method: str, path: str, name: str, values: Any
) -> None:
    route, found = table.find(method, path)

    assert (route.operation.name, found) == (name, values)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "",
        "*",
        "things",
        "/thing",
        "/things/",
        "/things//members/8",
        "/things/7/members",
        "/v1",
        "/v1/v1/things",
        "/v2/things",
        "/things/7/members/8/9",
        "/" * 100,
    ],
)
def test_an_unknown_path_is_no_route(table: RouteTable[Entry], path: str) -> None:
    with pytest.raises(NoSuchRoute):
        table.find("GET", path)
    assert not table.has(path)


def test_a_wrong_method_says_which_are_allowed(table: RouteTable[Entry]) -> None:
    with pytest.raises(MethodNotAllowed) as refused:
        table.find("PUT", "/things")

    assert refused.value.allow == "GET, HEAD, OPTIONS, POST"
    assert table.allowed("/things/7/members/8") == "DELETE, OPTIONS"


def test_a_parameter_that_is_not_utf8_is_invalid(table: RouteTable[Entry]) -> None:
    with pytest.raises(Invalid):
        table.find("GET", "/things/%ff")


def test_declaring_a_route_twice_is_a_mistake() -> None:
    with pytest.raises(AssertionError):
        RouteTable([Entry("GET", "/a"), Entry("GET", "/a")])
