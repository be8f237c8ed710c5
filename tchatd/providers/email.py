"""Owns sending mail by SMTP, always over TLS; refuses to retry: the person asks again.

The standard library's client blocks, so each mail takes a thread; their number is
bounded, and so is who waits for one.
"""

from __future__ import annotations

import smtplib
import ssl
from contextlib import suppress
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import make_msgid
from typing import Protocol

import trio

from tchatd.domains.auth.models import CodeMessage
from tchatd.kernel.errors import Unavailable
from tchatd.observe.logging import get_logger

_log = get_logger("email")
_TLS_PORT = 465
# A person who is told to come back sooner would only meet the resend limit.
_RETRY_AFTER_S = 60


class Email(Protocol):
    async def send(self, to: str, subject: str, text: str) -> None:
        """Hand a mail to the server. Raises: Unavailable; it may have gone anyway."""
        ...


class SmtpEmail:
    """An `Email` and a `CodeSender`.

    port: 465 speaks TLS from the first byte, any other has to offer STARTTLS.
    user: "" signs in as nobody. timeout_s: of the whole mail.
    threads_max: mails at once; waiting_max: that wait for a thread, more are refused.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        sender: str,
        user: str = "",
        password: str = "",
        timeout_s: float = 10.0,
        threads_max: int = 8,
        waiting_max: int = 200,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._host, self._port = host, port
        self._sender, self._user, self._password = sender, user, password
        self._timeout_s = timeout_s
        self._waiting_max = waiting_max
        self._threads = trio.CapacityLimiter(threads_max)
        self._tls = tls or ssl.create_default_context()

    async def send_code(self, message: CodeMessage) -> None:
        await self.send(message.to, message.subject, message.text)

    async def send(self, to: str, subject: str, text: str) -> None:
        if self._threads.statistics().tasks_waiting >= self._waiting_max:
            raise _unavailable()
        mail = self._mail(to, subject, text)
        try:
            with trio.fail_after(self._timeout_s):
                # Abandoned, the thread ends by its own socket timeouts.
                await trio.to_thread.run_sync(
                    self._deliver, mail, limiter=self._threads, abandon_on_cancel=True
                )
        except (OSError, smtplib.SMTPException, trio.TooSlowError) as error:
            # The text of SMTP errors repeats addresses.
            _log.warning(
                "mail server refuses or is unreachable",
                error=type(error).__name__,
                code=getattr(error, "smtp_code", 0),
            )
            raise _unavailable() from None

    def _mail(self, to: str, subject: str, text: str) -> EmailMessage:
        mail = EmailMessage(policy=SMTP)
        mail["From"] = self._sender
        mail["To"] = to
        mail["Subject"] = subject
        mail["Message-ID"] = make_msgid(domain=self._sender.rpartition("@")[2])
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(text)
        return mail

    def _deliver(self, mail: EmailMessage) -> None:
        """Runs in a thread."""
        server = self._connected()
        try:
            if self._user:
                server.login(self._user, self._password)
            server.send_message(mail)
            # It has the mail; how it says goodbye changes nothing.
            with suppress(OSError, smtplib.SMTPException):
                server.quit()
        finally:
            server.close()

    def _connected(self) -> smtplib.SMTP:
        if self._port == _TLS_PORT:
            return smtplib.SMTP_SSL(
                self._host, self._port, timeout=self._timeout_s, context=self._tls
            )
        server = smtplib.SMTP(self._host, self._port, timeout=self._timeout_s)
        try:
            server.starttls(context=self._tls)
        except BaseException:
            server.close()
            raise
        return server


def _unavailable() -> Unavailable:
    return Unavailable(
        "The code could not be sent by email", retry_after_s=_RETRY_AFTER_S
    )
