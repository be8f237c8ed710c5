"""Owns how many messages a user sends and a dialog takes, whatever the devices.

It stands on the hottest path, so that it is one dict for each of the two, and one look
at the clock. A bucket is the time at which it will be full again, as in
`kernel.buckets`; here those that are full are forgotten when there are too many.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from tchatd.domains.moderation.errors import TooManyMessages

_MINUTE_S = 60.0


class Rates:
    """A minute's worth may come at once; 0 a minute: no limit.

    keys_max: users, and dialogs, that are remembered; beyond it those are forgotten
    that are full again, or else the half that was seen first.
    """

    def __init__(
        self,
        *,
        user_per_minute: int,
        dialog_per_minute: int,
        keys_max: int,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        self._keys_max = keys_max
        self._user_s = _MINUTE_S / user_per_minute if user_per_minute else 0.0
        self._dialog_s = _MINUTE_S / dialog_per_minute if dialog_per_minute else 0.0
        self._users: dict[int, float] = {}
        self._dialogs: dict[int, float] = {}

    @property
    def are_limited(self) -> bool:
        return bool(self._user_s or self._dialog_s)

    def take(self, user_number: int, dialog_number: int) -> None:
        """Raises TooManyMessages; then nothing was taken."""
        now_s = self._now()
        latest_s = now_s + _MINUTE_S
        of_user = of_dialog = now_s
        if self._user_s:
            full_s = self._users.get(user_number, now_s)
            of_user = (full_s if full_s > now_s else now_s) + self._user_s
            if of_user > latest_s + self._user_s / 1_000:
                raise TooManyMessages(
                    "You write too much.", retry_after_s=_whole(of_user - latest_s)
                )
        if self._dialog_s:
            full_s = self._dialogs.get(dialog_number, now_s)
            of_dialog = (full_s if full_s > now_s else now_s) + self._dialog_s
            if of_dialog > latest_s + self._dialog_s / 1_000:
                raise TooManyMessages(
                    "Too much is written in this dialog.",
                    retry_after_s=_whole(of_dialog - latest_s),
                )
            self._dialogs[dialog_number] = of_dialog
            if len(self._dialogs) > self._keys_max:
                self._dialogs = _kept(self._dialogs, now_s, self._keys_max)
        if self._user_s:
            self._users[user_number] = of_user
            if len(self._users) > self._keys_max:
                self._users = _kept(self._users, now_s, self._keys_max)

    def __len__(self) -> int:
        return len(self._users) + len(self._dialogs)


def _whole(wait_s: float) -> int:
    return max(1, math.ceil(wait_s))


def _kept(buckets: dict[int, float], now_s: float, keys_max: int) -> dict[int, float]:
    """At most half of what there may be, so that this is rare."""
    kept = [(key, full_s) for key, full_s in buckets.items() if full_s > now_s]
    return dict(kept[-max(1, keys_max // 2) :])
