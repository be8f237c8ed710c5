"""Owns the tokens of bots: what they look like, and what the store keeps of them.

`bot:<id of the bot>:<secret>`, the secret 32 random bytes in base64url. Kept is a
keyed hash bound to the bot's id: neither the store nor the key alone makes a token.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Callable
from typing import Final
from uuid import UUID

from tchatd.kernel.crypto import KeyedHash, equal

PREFIX: Final = "bot:"
_SECRET_BYTES: Final = 32
_TOKEN_CHARS: Final = 4 + 36 + 1 + 43


class BotTokens:
    def __init__(self, hash: KeyedHash, random: Callable[[int], bytes]) -> None:
        self._hash = hash
        self._random = random

    def new(self, bot_id: UUID) -> tuple[str, bytes]:
        """A token, to be shown once, and its hash."""
        secret = self._random(_SECRET_BYTES)
        text = urlsafe_b64encode(secret).rstrip(b"=").decode()
        return f"{PREFIX}{bot_id}:{text}", self._hash.digest(bot_id.bytes, secret)

    def read(self, token: str) -> tuple[UUID, bytes] | None:
        """The bot it claims to be of, and its hash; None if it is none of ours."""
        if len(token) != _TOKEN_CHARS or not token.isascii():
            return None
        id, _, text = token.removeprefix(PREFIX).partition(":")
        try:
            bot_id = UUID(id)
            secret = urlsafe_b64decode(text + "=")
        except (ValueError, Base64Error):
            return None
        if len(secret) != _SECRET_BYTES:
            return None
        return bot_id, self._hash.digest(bot_id.bytes, secret)

    @staticmethod
    def are_equal(left: bytes, right: bytes) -> bool:
        return equal(left, right)
