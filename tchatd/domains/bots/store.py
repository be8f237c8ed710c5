"""Owns the ports of bots: what is kept of them, and what they need of others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol
from uuid import UUID

from tchatd.domains.bots.models import (
    BotRecord,
    DeadLetter,
    NewBot,
    OutgoingEvent,
    PendingEvent,
    SeenMessage,
    WebhookRecord,
)
from tchatd.kernel.bitmaps import BitMap


class BotStore(Protocol):
    """Deleted bots are in none of the answers. Raises kernel `Unavailable`."""

    async def create_bot(self, bot: NewBot, bots_max: int) -> BotRecord:
        """A user and the bot that it is, both or neither.

        Raises:
            TooManyBots: the owner has bots_max; exact also when several are made.
            UsernameTaken
        """
        ...

    async def bot(self, id: UUID) -> BotRecord | None: ...

    async def bot_numbered(self, number: int) -> BotRecord | None: ...

    async def bot_named(self, username: str) -> BotRecord | None: ...

    async def bots_of(self, owner: int) -> list[BotRecord]:
        """The first made first."""
        ...

    async def change_token(
        self, number: int, token_hash: bytes, session_id: UUID
    ) -> BotRecord | None:
        """None if the bot has been deleted."""
        ...

    async def delete_bot(self, number: int, now_ms: int) -> None:
        """The user, too, its data key, webhook and what waits for it."""
        ...

    async def owners(self) -> list[tuple[int, int]]:
        """Of all bots: their numbers and their owners'."""
        ...


class WebhookStore(Protocol):
    """Raises kernel `Unavailable`."""

    async def webhooks(self) -> list[tuple[WebhookRecord, UUID]]:
        """All of them with the ids of their bots, disabled ones, too."""
        ...

    async def webhook(self, bot: int) -> WebhookRecord | None: ...

    async def count(self, bot: int) -> int:
        """Events that wait."""
        ...

    async def put_webhook(self, webhook: WebhookRecord) -> None:
        """Enabled again, whatever it was; what waits is due at once."""
        ...

    async def delete_webhook(self, bot: int) -> None:
        """And what waits for it; dead letters stay."""
        ...

    async def position(self) -> int:
        """Of the last `append` that had one; 0 at first."""
        ...

    async def append(
        self, events: Sequence[OutgoingEvent], position: int | None = None
    ) -> bool:
        """Keep them in this order until they are delivered.

        position: of the journal; False, and nothing is kept, if that was reached
        before. One transaction.
        """
        ...

    async def waiting(self) -> list[tuple[int, int, int]]:
        """(bot, events that wait, when the first of them is due) of enabled ones."""
        ...

    async def pending(self, bot: int, limit: int) -> list[PendingEvent]:
        """The first of them."""
        ...

    async def delivered(self, event: PendingEvent) -> None:
        """It arrived: forget it, and the run of dead ones."""
        ...

    async def put_off(self, event: PendingEvent, due_ms: int) -> None:
        """Another attempt failed."""
        ...

    async def bury(
        self, event: PendingEvent, now_ms: int, why: str, run_max: int
    ) -> bool:
        """Make it a dead letter; True if that disabled the webhook, being the last of
        run_max in a row."""
        ...

    async def disable(self, bot: int, now_ms: int, why: str) -> bool:
        """False if it was disabled already, or is no more."""
        ...

    async def dead_letters(self, limit: int) -> tuple[list[DeadLetter], int]:
        """The latest first, and how many there are."""
        ...

    async def dead_letter(self, number: int) -> DeadLetter | None: ...

    async def retry(self, number: int, now_ms: int) -> DeadLetter | None:
        """Put it behind what waits; None if there is no such letter, or no webhook."""
        ...

    async def drop(self, number: int) -> bool: ...

    async def prune(self, dead_before_ms: int, count: int) -> int:
        """Forget up to `count` dead letters of before, and up to `count` of what waits
        for webhooks that were disabled before; how many it were."""
        ...


class Sessions(Protocol):
    """Sign-in, as bots use it."""

    def session_ended(
        self, session_id: UUID, user_number: int, ended_ms: int
    ) -> None: ...

    def forget(self, user_number: int) -> None:
        """What is known of the user's profile has changed, or the user is no more."""
        ...


class Conversations(Protocol):
    """Messaging, as buttons and webhooks use it."""

    async def message(self, user_number: int, id: UUID) -> SeenMessage:
        """Raises: whatever messaging refuses it with."""
        ...

    async def message_now(self, id: UUID) -> Any:
        """The message, for who was told of it before, as it is by now; None if nobody
        sees it any more. Raises kernel `Unavailable`."""
        ...


class Hub(Protocol):
    def deliver_user(self, user_number: int, event: Any) -> object: ...

    def flush(self) -> object: ...


class Following(Protocol):
    """One journalled change, as webhooks are told of it (`journal.flusher.Feed`).

    event: what members were told; members: who of; told: others who were told
    something else.
    """

    @property
    def position(self) -> int: ...
    @property
    def kind(self) -> int: ...
    @property
    def at_ms(self) -> int: ...
    @property
    def actor(self) -> int: ...
    @property
    def event(self) -> Any: ...
    @property
    def members(self) -> BitMap | None: ...
    @property
    def changes(self) -> Any: ...
