"""Owns who is banned or silenced on the whole server, in memory, for every send."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from tchatd.domains.moderation.errors import Silenced
from tchatd.domains.moderation.models import Sanction, SanctionKind
from tchatd.kernel.clock import Clock, rfc3339
from tchatd.kernel.errors import Banned, DomainError, Unavailable

SANCTIONS_MAX: Final = 1_000_000
"""About 100 bytes each; beyond it another one is refused."""
_WORDS: Final[dict[SanctionKind, tuple[str, str]]] = {
    "ban": ("is banned", "banned_until"),
    "silence": ("may not write", "silenced_until"),
}


class Standing:
    """Loaded at the start, told of every change.

    owner_of: whose bot a user is, None for a person. What a person may not do, their
    bots may not do either.
    """

    def __init__(self, clock: Clock) -> None:
        self.owner_of: Callable[[int], int | None] = lambda number: None
        self._clock = clock
        self._bans: dict[int, int] = {}
        self._silences: dict[int, int] = {}
        self._until_ms: dict[SanctionKind, dict[int, int]] = {
            "ban": self._bans,
            "silence": self._silences,
        }

    def load(self, sanctions: Iterable[Sanction]) -> None:
        for sanction in sanctions:
            self.add(sanction)

    def check_room(self) -> None:
        """Raises Unavailable."""
        if len(self) >= SANCTIONS_MAX:
            raise Unavailable("Too many are banned or silenced.")

    def add(self, sanction: Sanction) -> None:
        self._until_ms[sanction.kind][sanction.number] = sanction.until_ms

    def end(self, number: int, kind: SanctionKind) -> None:
        self._until_ms[kind].pop(number, None)

    def is_banned(self, number: int) -> bool:
        return self._holds("ban", number)

    def check_ban(self, number: int) -> None:
        """Raises Banned."""
        if number in self._bans and self._holds("ban", number):
            raise self._refusal(Banned, "ban", number)

    def banned(self) -> list[int]:
        return [number for number in list(self._bans) if self.is_banned(number)]

    def check_send(self, number: int) -> None:
        """Raises: Banned, Silenced."""
        self._check_send(number)
        owner = self.owner_of(number)
        if owner is not None:
            self._check_send(owner)

    def _check_send(self, number: int) -> None:
        self.check_ban(number)
        if number in self._silences and self._holds("silence", number):
            raise self._refusal(Silenced, "silence", number)

    def _holds(self, kind: SanctionKind, number: int) -> bool:
        """One that is over is forgotten when somebody looks."""
        until_ms = self._until_ms[kind].get(number)
        if until_ms is None:
            return False
        if until_ms and until_ms <= self._clock.now_ms():
            del self._until_ms[kind][number]
            return False
        return True

    def _refusal(
        self, of: type[DomainError], kind: SanctionKind, number: int
    ) -> DomainError:
        until_ms = self._until_ms[kind][number]
        what, until = _WORDS[kind]
        detail, fields = f"This account {what}", {"scope": "account"}
        if until_ms:
            fields[until] = rfc3339(until_ms)
            detail += f" until {fields[until]}"
        return of(f"{detail}.", fields=fields)

    def __len__(self) -> int:
        return sum(len(group) for group in self._until_ms.values())
