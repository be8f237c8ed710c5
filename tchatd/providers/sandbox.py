"""Owns the codes of the sandbox: sent nowhere, shown in the log and the console."""

from __future__ import annotations

from tchatd.domains.auth.models import CodeMessage
from tchatd.kernel.lru import Lru
from tchatd.observe.logging import get_logger

_log = get_logger("sandbox")


class SandboxCodes:
    """A `CodeSender` for phones and emails alike.

    codes_max: how many identifiers' last codes are kept; the oldest goes.
    """

    def __init__(self, codes_max: int = 10_000) -> None:
        self._codes: Lru[str, str] = Lru(codes_max)

    async def send_code(self, message: CodeMessage) -> None:
        self._codes.put(message.to, message.code)
        _log.info("one-time code, not sent", to=hint(message.to), code=message.code)

    def code_of(self, identifier: str) -> str | None:
        """The last code for a phone or email, as an operator types it."""
        return self._codes.peek(identifier.strip().lower())


def hint(identifier: str) -> str:
    """Enough to tell two apart in a log, too little to reach anybody."""
    local, at, domain = identifier.partition("@")
    if at:
        return f"{local[:1]}…@….{domain.rpartition('.')[2]}"
    return f"{identifier[:3]}…{identifier[-2:]}"
