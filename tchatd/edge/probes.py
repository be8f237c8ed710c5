"""Owns what operators and their tools ask: alive, ready, numbers."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from msgspec import Struct

from tchatd import __version__
from tchatd.edge.addresses import parse_address
from tchatd.edge.ports import Response
from tchatd.kernel.errors import DomainError, ErrorKind
from tchatd.kernel.routing import Access, Context, Operation
from tchatd.observe.metrics import CONTENT_TYPE, Metrics

# Says in a word or two why it is not ready, or None. Asked often: never blocks.
Check = Callable[[], str | None]


class NotReady(DomainError):
    code, kind, title = "not-ready", ErrorKind.UNAVAILABLE, "Not ready to serve"


class MetricsHidden(DomainError):
    code, kind, title = "metrics-hidden", ErrorKind.FORBIDDEN, "Not from your address"


class Probe(Struct, frozen=True):
    """Has no input."""


class Health(Struct, frozen=True):
    version: str
    status: str = "ok"


class Ready(Struct, frozen=True):
    status: str = "ready"


def operations(
    metrics: Metrics, checks: Mapping[str, Check], metrics_allow: Sequence[str]
) -> list[Operation]:
    """metrics_allow: addresses and networks that may read `/metrics`."""
    networks = tuple(ipaddress.ip_network(text, strict=False) for text in metrics_allow)

    @lru_cache(maxsize=1_024)
    def may_read(address: str) -> bool:
        parsed = parse_address(address)
        return parsed is not None and any(parsed in network for network in networks)

    def health(context: Context, command: Probe) -> Health:
        return Health(__version__)

    def ready(context: Context, command: Probe) -> Ready:
        reasons = {name: check() for name, check in checks.items()}
        missing = {name: reason for name, reason in reasons.items() if reason}
        if missing:
            raise NotReady(
                f"Not ready: {', '.join(missing)}.", fields=missing, retry_after_s=1
            )
        return Ready()

    def render(context: Context, command: Probe) -> Response:
        if not may_read(context.address):
            raise MetricsHidden
        headers = f"content-type: {CONTENT_TYPE}\r\ncache-control: no-store\r\n"
        return Response(200, headers.encode(), metrics.render())

    return [
        Operation(
            name="health.get",
            summary="Whether the process lives",
            tag="operations",
            command=Probe,
            result=Health,
            handler=health,
            verb="GET",
            path="/health",
            access=Access.PUBLIC,
        ),
        Operation(
            name="ready.get",
            summary="Whether it can serve; 503 while draining or without a store",
            tag="operations",
            command=Probe,
            result=Ready,
            handler=ready,
            verb="GET",
            path="/ready",
            access=Access.PUBLIC,
            errors=(NotReady,),
        ),
        Operation(
            name="metrics.get",
            summary="Numbers in the Prometheus text format",
            tag="operations",
            command=Probe,
            result=str,
            handler=render,
            verb="GET",
            path="/metrics",
            access=Access.PUBLIC,
            errors=(MetricsHidden,),
        ),
    ]
