"""Owns sending text messages by Twilio; refuses to retry: the person asks again.

Source: https://www.twilio.com/docs/messaging/api/message-resource (2010-04-01).
"""

from __future__ import annotations

from typing import Protocol

import httpx
import msgspec

from tchatd.domains.auth.models import CodeMessage
from tchatd.kernel.errors import Unavailable
from tchatd.observe.logging import get_logger
from tchatd.providers.cookies import NoCookies

_log = get_logger("sms")
_ANSWER_BYTES_MAX = 65_536
# A person who is told to come back sooner would only meet the resend limit.
_RETRY_AFTER_S = 60


class Sms(Protocol):
    async def send(self, to: str, text: str) -> None:
        """Hand a text to the provider; it may arrive later, or never.

        to: E.164. Raises: Unavailable; then it may have been sent all the same.
        """
        ...


class _Refusal(msgspec.Struct):
    """Twilio's error; its message is left out, because it repeats the number."""

    code: int = 0


class TwilioSms:
    """An `Sms` and a `CodeSender`. Close it with `aclose`.

    account: Account SID (`AC…`). sender: a number in E.164, or the SID of a messaging
    service (`MG…`). connections_max: calls at once; more wait for at most timeout_s.
    """

    def __init__(
        self,
        *,
        account: str,
        token: str,
        sender: str,
        timeout_s: float = 10.0,
        connections_max: int = 20,
        origin: str = "https://api.twilio.com",
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._path = f"/2010-04-01/Accounts/{account}/Messages.json"
        by_service = sender.startswith("MG")
        self._sender = {"MessagingServiceSid" if by_service else "From": sender}
        self._client = httpx.AsyncClient(
            base_url=origin,
            auth=(account, token),
            timeout=timeout_s,
            limits=httpx.Limits(max_connections=connections_max),
            transport=transport,
            cookies=NoCookies(),
            follow_redirects=False,
            trust_env=False,
        )

    async def send_code(self, message: CodeMessage) -> None:
        await self.send(message.to, message.text)

    async def send(self, to: str, text: str) -> None:
        form = {"To": to, "Body": text, **self._sender}
        try:
            async with self._client.stream("POST", self._path, data=form) as answer:
                body = await _bounded(answer)
        except httpx.HTTPError as error:
            _log.warning("sms provider unreachable", error=type(error).__name__)
            raise _unavailable() from error
        if answer.is_success:
            return
        _log.warning(
            "sms provider refuses",
            status=answer.status_code,
            code=_refusal_code(body),
        )
        raise _unavailable()

    async def aclose(self) -> None:
        await self._client.aclose()


async def _bounded(answer: httpx.Response) -> bytes:
    body = b""
    async for part in answer.aiter_bytes():
        body += part
        if len(body) > _ANSWER_BYTES_MAX:
            break
    return body


def _refusal_code(body: bytes) -> int:
    try:
        return msgspec.json.decode(body, type=_Refusal).code
    except msgspec.MsgspecError:
        return 0


def _unavailable() -> Unavailable:
    return Unavailable(
        "The code could not be sent by SMS", retry_after_s=_RETRY_AFTER_S
    )
