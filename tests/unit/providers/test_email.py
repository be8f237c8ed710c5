"""Mail by SMTP against a small server: always over TLS, and bounded."""

from __future__ import annotations

import base64
import io
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import pytest
import trio

from tchatd.domains.auth.models import CodeMessage
from tchatd.kernel.errors import Unavailable
from tchatd.observe import logging
from tchatd.providers.email import SmtpEmail
from tests.support.certificates import make_certificate

TO = "somchai@example.com"


class Server:
    """Speaks as much SMTP as a client needs, but for QUIT.

    verdict: its answer to RCPT.
    """

    def __init__(self, folder: Path, *, starttls: bool = True) -> None:
        certificate, key = make_certificate(folder)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(certificate, key)
        self.trusting = ssl.create_default_context(cafile=str(certificate))
        self._starttls = starttls
        self.verdict = b"250 ok"
        self.silent = False
        self.port = 0
        self.mails: list[bytes] = []
        self.logins: list[bytes] = []
        self.plain_lines: list[bytes] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, self._serve, listeners)
            yield
            nursery.cancel_scope.cancel()

    async def _serve(self, stream: trio.SocketStream) -> None:
        try:
            if self.silent:
                await trio.sleep_forever()
            await stream.send_all(b"220 here\r\n")
            async for line in _lines(stream):
                self.plain_lines.append(line)
                verb = line[:4].upper()
                if verb == b"EHLO":
                    await self._greet(stream, self._starttls)
                elif verb == b"STAR":
                    await stream.send_all(b"220 go on\r\n")
                    return await self._serve_tls(stream)
                else:
                    await stream.send_all(b"502 not that\r\n")
        except (trio.BrokenResourceError, ssl.SSLError, trio.ClosedResourceError):
            return None
        return None

    async def _greet(self, stream: trio.abc.Stream, starttls: bool) -> None:
        offer = b"250-STARTTLS\r\n" if starttls else b""
        await stream.send_all(b"250-me\r\n" + offer + b"250 AUTH PLAIN\r\n")

    async def _serve_tls(self, plain: trio.SocketStream) -> None:
        stream = trio.SSLStream(plain, self._tls, server_side=True)
        data: list[bytes] | None = None
        async for line in _lines(stream):
            if data is not None:
                if line == b".":
                    self.mails.append(b"\r\n".join(data))
                    data = None
                    await stream.send_all(b"250 queued\r\n")
                else:
                    data.append(line)
                continue
            verb = line[:4].upper()
            if verb == b"EHLO":
                await self._greet(stream, False)
            elif verb == b"AUTH":
                self.logins.append(base64.b64decode(line.split()[-1]))
                await stream.send_all(b"235 in\r\n")
            elif verb == b"RCPT":
                await stream.send_all(self.verdict + b"\r\n")
            elif verb == b"DATA":
                data = []
                await stream.send_all(b"354 go on\r\n")
            else:
                await stream.send_all(b"250 ok\r\n")


async def _lines(stream: trio.abc.ReceiveStream) -> AsyncIterator[bytes]:
    buffer = b""
    while True:
        part = await stream.receive_some(65_536)
        if not part:
            return
        buffer += part
        while b"\r\n" in buffer:
            line, _, buffer = buffer.partition(b"\r\n")
            yield line


def smtp(server: Server, **options: object) -> SmtpEmail:
    settings: dict[str, object] = {
        "host": "127.0.0.1",
        "port": server.port,
        "sender": "tchat <no-reply@tchat.example>",
        "tls": server.trusting,
        "timeout_s": 10.0,
    }
    return SmtpEmail(**(settings | options))  # type: ignore[arg-type]  # as above


CODE = CodeMessage(to=TO, code="123456", subject="tchat", text="รหัส 123456")


async def test_a_code_is_mailed_over_tls_by_who_signed_in(tmp_path: Path) -> None:
    server = Server(tmp_path)
    async with server.running():
        await smtp(server, user="me", password="secret").send_code(CODE)
    [raw] = server.mails
    mail = message_from_bytes(raw, policy=default)
    assert (mail["To"], mail["Subject"]) == (TO, "tchat")
    assert mail["From"] == "tchat <no-reply@tchat.example>"
    assert mail["Message-ID"].endswith("@tchat.example>")
    assert mail.get_content().strip() == "รหัส 123456"
    assert server.logins == [b"\0me\0secret"]
    assert not any(b"123456" in line or TO in str(line) for line in server.plain_lines)


async def test_a_server_without_tls_is_told_nothing(tmp_path: Path) -> None:
    server = Server(tmp_path, starttls=False)
    async with server.running():
        with pytest.raises(Unavailable):
            await smtp(server, user="me", password="secret").send_code(CODE)
    assert server.logins == server.mails == []
    assert not any(b"AUTH" in line or b"MAIL" in line for line in server.plain_lines)


async def test_a_certificate_that_nobody_vouches_for_is_refused(
    tmp_path: Path,
) -> None:
    server = Server(tmp_path)
    async with server.running():
        with pytest.raises(Unavailable):
            await smtp(server, tls=ssl.create_default_context()).send_code(CODE)
    assert server.mails == []


async def test_a_refused_recipient_is_unavailable_and_not_logged(
    tmp_path: Path,
) -> None:
    server = Server(tmp_path)
    server.verdict = b"550 no such user " + TO.encode()
    written = io.StringIO()
    logging.configure(format="json", stream=written)
    try:
        async with server.running():
            with pytest.raises(Unavailable) as refusal:
                await smtp(server).send_code(CODE)
    finally:
        logging.configure()
    assert "SMTPRecipientsRefused" in written.getvalue()
    for secret in (TO, "123456"):
        assert secret not in written.getvalue()
        assert secret not in str(refusal.value)
    assert refusal.value.__cause__ is None


async def test_a_server_that_says_nothing_is_given_up_on(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.silent = True
    async with server.running():
        with pytest.raises(Unavailable):
            await smtp(server, timeout_s=0.1).send_code(CODE)


async def test_a_server_that_is_away_is_unavailable(tmp_path: Path) -> None:
    server = Server(tmp_path)
    async with server.running():
        pass
    with pytest.raises(Unavailable):
        await smtp(server).send_code(CODE)


async def test_more_mails_than_may_wait_are_refused(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.silent = True
    refused: list[str] = []

    async with server.running():
        email = smtp(server, timeout_s=0.3, threads_max=1, waiting_max=1)

        async def send() -> None:
            try:
                await email.send_code(CODE)
            except Unavailable as error:
                refused.append(error.detail)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(send)
                await trio.testing.wait_all_tasks_blocked(0.01)
            assert len(refused) == 1
    assert len(refused) == 3
