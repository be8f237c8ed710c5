"""That what is plugged in has the shape the edge asks for."""

from __future__ import annotations

from tchatd.domains.auth.models import Identity
from tchatd.edge import ports
from tchatd.edge.asgi import AsgiRequest
from tchatd.edge.asgi_transport import AsgiTransport
from tchatd_ext.gateway import Gateway, Request
from tests.support.edge_fakes import FakeAuthenticator, FakeDirectory, FakeTransport


def _checked_by_mypy(
    gateway: Gateway,
    request: Request,
    identity: Identity,
    asgi: AsgiTransport,
    asgi_request: AsgiRequest,
) -> None:
    transports: list[ports.Transport] = [gateway, asgi, FakeTransport()]
    requests: list[ports.HttpRequest] = [request, asgi_request]
    known: ports.Identity = identity
    del transports, requests, known


def test_transports_have_every_method_of_the_port() -> None:
    methods = [name for name in vars(ports.Transport) if not name.startswith("_")]

    assert methods
    for transport in (Gateway, AsgiTransport, FakeTransport):
        assert all(callable(getattr(transport, name)) for name in methods)


def test_fakes_have_the_shape_of_what_they_stand_for() -> None:
    assert callable(FakeAuthenticator.authenticate)
    assert callable(FakeDirectory.numbers_of)


def test_a_response_is_a_value() -> None:
    assert ports.Response(200, b"", b"x") == ports.Response(200, b"", b"x")
