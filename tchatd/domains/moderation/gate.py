"""Owns whether a message may go in, for reasons that are not its dialog's.

Asked on the hottest path: what is off costs one test, what is on a look-up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tchatd.domains.moderation.errors import ContentRefused
from tchatd.domains.moderation.filters import Filter, texts_of
from tchatd.domains.moderation.rates import Rates
from tchatd.domains.moderation.standing import Standing


class Gate:
    """filter: may be changed at any time; None lets everything through.

    check_opener: raises if the user is of a kind that opens no dialogs.
    """

    def __init__(self, standing: Standing, rates: Rates, filter: Filter | None) -> None:
        self._standing = standing
        self._rates = rates if rates.are_limited else None
        self.filter = filter
        self.check_opener: Callable[[int], None] = lambda user_number: None

    def check_open(self, user_number: int) -> None:
        """Raises: Banned, Silenced, and what `check_opener` does."""
        self._standing.check_send(user_number)
        self.check_opener(user_number)

    def admit(
        self,
        user_number: int,
        dialog_number: int,
        content: Any,
        buttons: Any = None,
    ) -> None:
        """For a message that is known to be new, with the buttons below it.

        Raises: Banned, Silenced, TooManyMessages, ContentRefused.
        """
        self._standing.check_send(user_number)
        if self._rates is not None:
            self._rates.take(user_number, dialog_number)
        if self.filter is not None:
            self._check(texts_of(content, buttons))

    def admit_edit(self, user_number: int, content: Any, buttons: Any = None) -> None:
        """Raises: Banned, Silenced, ContentRefused."""
        self._standing.check_send(user_number)
        if self.filter is not None:
            self._check(texts_of(content, buttons))

    def admit_text(self, user_number: int, text: str) -> None:
        """For what is said elsewhere than in a message.

        Raises: Banned, Silenced, ContentRefused.
        """
        self._standing.check_send(user_number)
        self.check_name(text)

    def check_ban(self, user_number: int) -> None:
        """Raises Banned."""
        self._standing.check_ban(user_number)

    def check_name(self, name: str) -> None:
        """Raises ContentRefused."""
        if self.filter is not None:
            self._check(name)

    def _check(self, text: str) -> None:
        assert self.filter is not None
        if text and self.filter.judge(text) == "refuse":
            raise ContentRefused
