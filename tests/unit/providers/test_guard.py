"""Which addresses are called for others, however they are written or resolved."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpcore
import httpx
import pytest
import trio
import trio.testing

from tchatd.providers.guard import (
    GuardedBackend,
    GuardedTransport,
    NotPublic,
    SystemResolver,
    is_public,
)
from tests.support.certificates import make_certificate
from tests.support.receiver import receiver


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.255.255.254", "0.0.0.0", "10.1.2.3", "172.16.0.1"),
        *("172.31.255.255", "192.168.1.1", "169.254.169.254", "169.254.0.1"),
        *("100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192"),
        *("192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.9", "224.0.0.1"),
        *("239.255.255.250", "240.0.0.1", "255.255.255.255", "192.88.99.1"),
        *("::", "::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "ff02::1"),
        *("fd00:ec2::254", "2001:db8::1", "::127.0.0.1", "::ffff:127.0.0.1"),
        *("::ffff:169.254.169.254", "::ffff:7f00:1", "64:ff9b::7f00:1"),
        *("64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:a00:1::1"),
        *("2001:0:4136:e378:8000:63bf:3fff:fdd2", "100::1"),
        *("", "localhost", "2130706433", "0x7f.1", "127.1", "not an address"),
    ],
)
def test_what_only_we_can_reach_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("1.1.1.1", "8.8.8.8", "172.15.0.1", "172.32.0.1", "100.63.0.1"),
        *("168.63.129.15", "2606:4700:4700::1111", "2a00:1450:4001::5"),
        *("::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"),
    ],
)
def test_what_anybody_can_reach_is_public(address: str) -> None:
    assert is_public(address)


class FakeResolver:
    """Each look-up of a name gives the next answer, the last one for ever."""

    def __init__(self, **answers: list[list[str]]) -> None:
        self.answers = answers

    async def addresses(self, host: str, port: int) -> list[str]:
        await trio.lowlevel.checkpoint()
        answers = self.answers.get(host.partition(".")[0])
        if answers is None:
            raise OSError("no such name")
        return answers.pop(0) if len(answers) > 1 else answers[0]


class FakeNetwork(httpcore.AsyncNetworkBackend):
    """Remembers where it connects to; dead addresses refuse."""

    def __init__(self, dead: Iterable[str] = ()) -> None:
        self.connected: list[str] = []
        self.dead = set(dead)

    async def connect_tcp(
        self, host: str, port: int, *_: Any, **__: Any
    ) -> httpcore.AsyncNetworkStream:
        await trio.lowlevel.checkpoint()
        self.connected.append(host)
        if host in self.dead:
            raise httpcore.ConnectError("refused")
        return httpcore.AsyncMockStream([])


def guarded(resolver: Any, network: FakeNetwork, **options: Any) -> GuardedBackend:
    options = {"allow_private": False} | options
    return GuardedBackend(resolver, inner=network, **options)


async def test_the_checked_address_is_the_one_that_is_called() -> None:
    network = FakeNetwork()
    backend = guarded(FakeResolver(bot=[["8.8.8.8"]]), network)
    await backend.connect_tcp("bot.example", 443)
    assert network.connected == ["8.8.8.8"]


async def test_a_name_that_changes_its_mind_is_looked_up_once_a_connection() -> None:
    network = FakeNetwork()
    rebinding = FakeResolver(bot=[["8.8.8.8"], ["127.0.0.1"]])
    backend = guarded(rebinding, network)
    await backend.connect_tcp("bot.example", 443)
    with pytest.raises(NotPublic):
        await backend.connect_tcp("bot.example", 443)
    assert network.connected == ["8.8.8.8"]


async def test_one_private_address_among_others_spoils_the_name() -> None:
    network = FakeNetwork()
    backend = guarded(FakeResolver(bot=[["8.8.8.8", "10.0.0.1"]]), network)
    with pytest.raises(NotPublic):
        await backend.connect_tcp("bot.example", 443)
    assert network.connected == []


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "::1"),
        *("::ffff:127.0.0.1", "localhost", "0", "0.0.0.0"),
    ],
)
async def test_loopback_is_found_however_it_is_written(host: str) -> None:
    network = FakeNetwork()
    backend = guarded(SystemResolver(), network)
    with pytest.raises((NotPublic, httpcore.ConnectError)):
        await backend.connect_tcp(host, 443, timeout=5.0)
    assert network.connected == []


async def test_the_next_address_is_tried_when_one_is_dead() -> None:
    network = FakeNetwork(dead=["8.8.8.8"])
    resolver = FakeResolver(bot=[["8.8.8.8", "1.1.1.1"]])
    await guarded(resolver, network).connect_tcp("bot.example", 443)
    assert network.connected == ["8.8.8.8", "1.1.1.1"]


async def test_at_most_eight_addresses_are_tried() -> None:
    addresses = [f"8.8.8.{n}" for n in range(20)]
    network = FakeNetwork(dead=addresses)
    backend = guarded(FakeResolver(bot=[addresses]), network)
    with pytest.raises(httpcore.ConnectError):
        await backend.connect_tcp("bot.example", 443)
    assert network.connected == addresses[:8]


async def test_names_that_are_not_known_other_ports_and_unix_sockets_are_refused() -> (
    None
):
    network = FakeNetwork()
    backend = guarded(
        FakeResolver(bot=[["8.8.8.8"]]), network, ports=frozenset((80, 443))
    )
    with pytest.raises(httpcore.ConnectError):
        await backend.connect_tcp("other.example", 443)
    with pytest.raises(NotPublic):
        await backend.connect_tcp("bot.example", 22)
    with pytest.raises(NotPublic):
        await backend.connect_unix_socket("/run/socket")
    assert network.connected == []


async def test_a_resolver_that_hangs_has_the_timeout(autojump_clock: object) -> None:
    class Hanging:
        async def addresses(self, host: str, port: int) -> list[str]:
            await trio.sleep_forever()
            raise AssertionError

    backend = guarded(Hanging(), FakeNetwork())
    began_s = trio.current_time()
    with pytest.raises(httpcore.ConnectTimeout):
        await backend.connect_tcp("bot.example", 443, timeout=3.0)
    assert trio.current_time() - began_s == pytest.approx(3.0)


async def test_private_addresses_can_be_allowed() -> None:
    async with receiver() as received:
        backend = GuardedBackend(SystemResolver(), allow_private=True)
        transport = GuardedTransport(backend, connections_max=2)
        async with httpx.AsyncClient(transport=transport) as client:
            answer = await client.post(received.url, content=b"hello")
        assert answer.status_code == 200
        assert received.requests[0].body == b"hello"


async def test_the_transport_calls_no_private_address() -> None:
    async with receiver() as received:
        backend = GuardedBackend(SystemResolver(), allow_private=False)
        transport = GuardedTransport(backend, connections_max=2)
        async with httpx.AsyncClient(transport=transport) as client:
            with pytest.raises(NotPublic):
                await client.get(received.url)
        assert received.requests == []


async def test_over_tls_it_is_the_name_of_the_url_that_is_asked_and_vouched_for(
    tmp_path: Path,
) -> None:
    certificate, key = make_certificate(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    asked: list[str | None] = []
    server.sni_callback = lambda _socket, name, _context: asked.append(name)
    trusting = ssl.create_default_context(cafile=str(certificate))
    careless = ssl.create_default_context()
    careless.check_hostname, careless.verify_mode = False, ssl.CERT_NONE
    resolver = FakeResolver(bot=[["127.0.0.1"]])
    async with receiver(tls=server) as received:
        url = f"https://bot.example:{received.port}/hook"
        for tls, is_answered in ((careless, True), (trusting, False)):
            backend = GuardedBackend(resolver, allow_private=True)
            transport = GuardedTransport(backend, connections_max=1, tls=tls)
            async with httpx.AsyncClient(transport=transport) as client:
                if is_answered:
                    assert (await client.post(url, content=b"x")).status_code == 200
                else:
                    with pytest.raises(httpx.ConnectError):
                        await client.post(url, content=b"x")
    assert asked == ["bot.example", "bot.example"]
    assert len(received.requests) == 1


async def test_nothing_but_http_1_is_spoken(tmp_path: Path) -> None:
    """A frame that HTTP/2 forbids is raised past httpx, and is anybody's to send."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*make_certificate(tmp_path))
    server.set_alpn_protocols(["h2", "http/1.1"])
    careless = ssl.create_default_context()
    careless.check_hostname, careless.verify_mode = False, ssl.CERT_NONE
    backend = GuardedBackend(SystemResolver(), allow_private=True)
    transport = GuardedTransport(backend, connections_max=1, tls=careless)
    async with (
        receiver(tls=server) as received,
        httpx.AsyncClient(transport=transport) as client,
    ):
        answer = await client.get(f"https://127.0.0.1:{received.port}/")
        assert answer.http_version == "HTTP/1.1"


async def test_names_that_take_long_take_nobodys_threads_but_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    released = threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        released.wait(10)
        return []

    resolver = SystemResolver(lookups_max=2)
    monkeypatch.setattr(socket, "getaddrinfo", hang)
    try:
        async with trio.open_nursery() as nursery:
            for number in range(2):
                nursery.start_soon(resolver.addresses, f"slow{number}.example", 443)
            await trio.testing.wait_all_tasks_blocked()
            others = trio.to_thread.current_default_thread_limiter()
            assert others.borrowed_tokens == 0
            with pytest.raises(OSError, match="too many"):
                await resolver.addresses("next.example", 443)
            nursery.cancel_scope.cancel()
        with pytest.raises(OSError, match="too many"):  # the threads are still there
            await resolver.addresses("next.example", 443)
    finally:
        released.set()
