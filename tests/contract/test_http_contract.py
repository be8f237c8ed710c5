"""What HTTP itself promises on every route, through both doors."""

from __future__ import annotations

import httpx
import pytest

from tests.contract.conftest import Site
from tests.contract.test_auth_contract import People, refused

pytestmark = [pytest.mark.service, pytest.mark.slow]


async def test_unknown_paths_and_methods(web: httpx.AsyncClient) -> None:
    refused(await web.get("/no/such/path"), 404)
    answer = await web.delete("/auth/otp/send")
    refused(answer, 405)
    assert "POST" in answer.headers["allow"]


async def test_a_head_is_a_get_without_its_body(web: httpx.AsyncClient) -> None:
    got, head = await web.get("/health"), await web.head("/health")
    assert got.status_code == head.status_code == 200
    assert head.content == b""
    assert head.headers["content-length"] == got.headers["content-length"]


async def test_health_ready_and_metrics(web: httpx.AsyncClient) -> None:
    assert (await web.get("/health")).status_code == 200
    assert (await web.get("/ready")).status_code == 200
    metrics = (await web.get("/metrics")).text
    for name in ("connections", "command", "journal", "flush", "pool"):
        assert name in metrics, name


async def test_a_request_id_is_echoed_and_one_is_made(web: httpx.AsyncClient) -> None:
    echoed = await web.get("/health", headers={"x-request-id": "abc-123"})
    assert echoed.headers["x-request-id"] == "abc-123"
    assert (await web.get("/health")).headers["x-request-id"]


async def test_the_docs_work_without_the_internet(web: httpx.AsyncClient) -> None:
    described = (await web.get("/openapi.json")).json()
    assert described["openapi"].startswith("3.1")
    assert "/users/profile" in described["paths"]
    page = await web.get("/docs")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "http://" not in page.text.replace("http://127.0.0.1", "")
    assert "https://" not in page.text
    assert "content-security-policy" in page.headers


async def test_a_body_over_the_limit_is_413(people: People) -> None:
    a = await people()
    answer = await a.http.put(
        "/users/profile", content=b"{" + b" " * ((1 << 20) + 1) + b"}"
    )
    refused(answer, 413)


async def test_both_doors_speak_their_version(
    site: Site, web: httpx.AsyncClient
) -> None:
    answer = await web.get("/health")
    assert answer.http_version == ("HTTP/2" if site.http2 else "HTTP/1.1")
