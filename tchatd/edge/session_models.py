"""Owns what is known of one WebSocket session, and the limits of all."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import msgspec

from tchatd.kernel.routing import Caller

if TYPE_CHECKING:
    from tchatd.edge.hub import Lane

BEHIND_MAX: Final = 8
"""Messages of a newcomer that wait for their turn; then reading stops until then."""
BEHIND_BYTES_MAX: Final = 16_384
"""Of one of them, likewise."""


class SessionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """commands_waiting_max: behind one that waits; then reading stops.

    messages_waiting_max: what may have been read by then; beyond it 1013.
    malformed_max: envelopes that cannot be read; beyond it 1008.
    hello_s: for the token to come; the C gateway has a timer of its own.
    """

    connections_per_user_max: int = 16
    commands_per_second: float = 50.0
    commands_burst: int = 200
    commands_waiting_max: int = 64
    waiting_bytes_max: int = 262_144
    messages_waiting_max: int = 2_048
    malformed_max: int = 16
    hello_s: float = 10.0
    reconnect_spread_s: float = 30.0


class Session:
    """One WebSocket connection. full_at: of its command bucket (see `limits`).

    waiting: messages behind the command that is being decided; None if none is.
    is_away: as the device said (see `presence`). is_new: no command that it sent as
    somebody we know was taken yet; behind: messages that wait for their turn.
    """

    __slots__ = (
        "address",
        "behind",
        "caller",
        "connection",
        "expires_at_ms",
        "full_at",
        "is_away",
        "is_new",
        "lane",
        "malformed",
        "opened",
        "waiting",
    )

    def __init__(self, lane: Lane, connection: int, address: str, opened: int) -> None:
        self.lane = lane
        self.connection = connection
        self.address = address
        self.opened = opened
        self.caller: Caller | None = None
        self.expires_at_ms = 0
        self.full_at = 0.0
        self.malformed = 0
        self.is_away = False
        self.is_new = True
        self.behind = 0
        self.waiting: deque[tuple[bytes, bool]] | None = None

    def put_off(self, size: int) -> bool:
        """A message of a newcomer waits; whether no more may be read meanwhile."""
        self.behind += 1
        return self.behind >= BEHIND_MAX or size >= BEHIND_BYTES_MAX

    def has_turn(self) -> None:
        """The first that waits is taken now. Until all are, later ones wait behind."""
        self.behind -= 1
        assert self.behind >= 0
        self.is_new = self.caller is None or self.behind > 0
