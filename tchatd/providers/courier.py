"""Owns one delivery to a webhook: a signed POST to where its owner said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

import httpx
import trio

from tchatd import __version__
from tchatd.providers.cookies import NoCookies
from tchatd.providers.guard import NotPublic

_ANSWER_BYTES_MAX: Final = 4_096
"""Read of an answer, so that the connection can be used again; more ends it."""


class NotDelivered(Exception):
    """why: a few words for the bot's owner and the operator."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Courier(Protocol):
    async def deliver(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Return once it was taken. Raises: NotDelivered; then it may have arrived."""
        ...


class HttpCourier:
    """A `Courier`. timeout_s: of all of it. Any 2xx has taken it; redirects have not.

    transport: a `GuardedTransport`.
    """

    def __init__(
        self, transport: httpx.AsyncBaseTransport, *, timeout_s: float
    ) -> None:
        self._timeout_s = timeout_s
        self._client = httpx.AsyncClient(
            transport=transport,
            timeout=timeout_s,
            cookies=NoCookies(),
            follow_redirects=False,
            trust_env=False,
            headers={"user-agent": f"tchatd/{__version__}"},
        )

    async def deliver(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        try:
            with trio.fail_after(self._timeout_s):
                await self._post(url, body, headers)
        except trio.TooSlowError:
            raise NotDelivered(f"no answer in {self._timeout_s:g} s") from None
        except NotPublic:
            raise NotDelivered("the address is not public") from None
        except httpx.TimeoutException:
            raise NotDelivered(f"no answer in {self._timeout_s:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise NotDelivered(f"not reached: {type(error).__name__}") from None

    async def _post(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        request = self._client.stream(
            "POST",
            url,
            content=body,
            headers={"content-type": "application/json", **headers},
        )
        async with request as answer:
            read = 0
            async for part in answer.aiter_raw():
                read += len(part)
                if read > _ANSWER_BYTES_MAX:
                    break
        if not answer.is_success:
            raise NotDelivered(f"answered {answer.status_code}")

    async def aclose(self) -> None:
        await self._client.aclose()
