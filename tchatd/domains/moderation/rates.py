"""Owns how many messages a user sends and a dialog takes, whatever the devices."""

from __future__ import annotations

import time
from collections.abc import Callable

from tchatd.domains.moderation.errors import TooManyMessages
from tchatd.kernel.buckets import Buckets


class Rates:
    """A minute's worth may come at once; 0 a minute: no limit.

    keys_max: users, and dialogs, that are remembered; the longest unused are forgotten.
    """

    def __init__(
        self,
        *,
        user_per_minute: int,
        dialog_per_minute: int,
        keys_max: int,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._of_user = _buckets(user_per_minute, keys_max, now)
        self._of_dialog = _buckets(dialog_per_minute, keys_max, now)

    @property
    def are_limited(self) -> bool:
        return self._of_user is not None or self._of_dialog is not None

    def take(self, user_number: int, dialog_number: int) -> None:
        """Raises TooManyMessages."""
        wait_s = self._of_user.take(user_number) if self._of_user is not None else 0
        if wait_s:
            raise TooManyMessages("You write too much.", retry_after_s=wait_s)
        if self._of_dialog is not None:
            wait_s = self._of_dialog.take(dialog_number)
            if wait_s:
                raise TooManyMessages(
                    "Too much is written in this dialog.", retry_after_s=wait_s
                )


def _buckets(
    per_minute: int, keys_max: int, now: Callable[[], float]
) -> Buckets | None:
    if not per_minute:
        return None
    return Buckets(per_minute=per_minute, burst=per_minute, keys_max=keys_max, now=now)
