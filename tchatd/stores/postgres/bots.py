"""Owns the rows of bots, webhooks, their outbox and dead letters in PostgreSQL."""
# Statements are put together of this module's own column names, never of values.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from tchatd.domains.bots.errors import TooManyBots, UsernameTaken
from tchatd.domains.bots.models import (
    BotRecord,
    DeadLetter,
    NewBot,
    OutgoingEvent,
    PendingEvent,
    WebhookRecord,
)
from tchatd.stores.postgres.errors import UniqueViolation
from tchatd.stores.postgres.pool import Pool

Row = tuple[Any, ...]

FEED: Final = "webhooks"
"""Whose position it is in journal_positions."""
_BOT: Final = (
    "SELECT b.number, b.id, b.owner, o.id, u.name, b.username, b.token_hash,"
    " b.session_id, b.created_ms, u.data_key"
    " FROM bots b JOIN users u ON u.number = b.number"
    " JOIN users o ON o.number = b.owner WHERE b.deleted_ms IS NULL"
)
_WEBHOOK: Final = (
    "bot, url, secret, events, updated_ms, dead_run, disabled_ms, disabled_why"
)
_PENDING: Final = "number, bot, id, type, body, created_ms, due_ms, attempts"
_LETTERS: Final = "FROM webhook_dead_letters d JOIN bots b ON b.number = d.bot"
_DEAD: Final = "number, bot, id, type, body, created_ms, attempts, dead_ms, why"
_LETTER: Final = ", ".join(f"d.{name}" for name in _DEAD.split(", ")) + ", b.id"


class PostgresBotStore:
    """A `BotStore`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create_bot(self, bot: NewBot, bots_max: int) -> BotRecord:
        try:
            number = await self._create(bot, bots_max)
        except UniqueViolation as error:
            raise UsernameTaken(fields={"username": "is taken"}) from error
        found = await self.bot_numbered(number)
        assert found is not None
        return found

    async def _create(self, bot: NewBot, bots_max: int) -> int:
        async with self._pool.transaction() as connection:
            # Bots of one owner are made one after the other, so that the count holds.
            owner = await connection.fetch_one(
                "SELECT country, locale FROM users WHERE number = %s"
                " AND deleted_ms IS NULL FOR NO KEY UPDATE",
                (bot.owner,),
            )
            count = await connection.fetch_value(
                "SELECT count(*) FROM bots WHERE owner = %s AND deleted_ms IS NULL",
                (bot.owner,),
            )
            if owner is None or count >= bots_max:
                raise TooManyBots
            number: int = await connection.fetch_value(
                "INSERT INTO users (id, data_key, data_key_id, name, country, locale,"
                " created_ms, updated_ms, is_bot)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, true) RETURNING number",
                (
                    *(bot.id, bot.data_key, bot.data_key_id, bot.name, *owner),
                    *(bot.created_ms, bot.created_ms),
                ),
            )
            await connection.execute(
                "INSERT INTO bots (number, id, owner, username, token_hash,"
                " session_id, created_ms) VALUES (%s, %s, %s, %s, %s, %s, %s)",
                (
                    *(number, bot.id, bot.owner, bot.username, bot.token_hash),
                    *(bot.session_id, bot.created_ms),
                ),
            )
        return number

    async def bot(self, id: UUID) -> BotRecord | None:
        return _bot(await self._pool.fetch_one(f"{_BOT} AND b.id = %s", (id,)))

    async def bot_numbered(self, number: int) -> BotRecord | None:
        return _bot(await self._pool.fetch_one(f"{_BOT} AND b.number = %s", (number,)))

    async def bot_named(self, username: str) -> BotRecord | None:
        row = await self._pool.fetch_one(f"{_BOT} AND b.username = %s", (username,))
        return _bot(row)

    async def bots_of(self, owner: int) -> list[BotRecord]:
        rows = await self._pool.fetch(
            f"{_BOT} AND b.owner = %s ORDER BY b.number", (owner,)
        )
        return [bot for row in rows if (bot := _bot(row)) is not None]

    async def change_token(
        self, number: int, token_hash: bytes, session_id: UUID
    ) -> BotRecord | None:
        changed = await self._pool.execute(
            "UPDATE bots SET token_hash = %s, session_id = %s"
            " WHERE number = %s AND deleted_ms IS NULL",
            (token_hash, session_id, number),
        )
        return await self.bot_numbered(number) if changed else None

    async def delete_bot(self, number: int, now_ms: int) -> None:
        async with self._pool.transaction() as connection:
            await connection.execute(
                "UPDATE users SET deleted_ms = %s, data_key = NULL, data_key_id = NULL"
                " WHERE number = %s AND is_bot AND deleted_ms IS NULL",
                (now_ms, number),
            )
            await connection.execute(
                "UPDATE bots SET deleted_ms = %s"
                " WHERE number = %s AND deleted_ms IS NULL",
                (now_ms, number),
            )
            await connection.execute("DELETE FROM webhooks WHERE bot = %s", (number,))
            await connection.execute(
                "DELETE FROM scheduled_messages WHERE author = %s", (number,)
            )
            await connection.execute(
                "DELETE FROM webhook_events WHERE bot = %s", (number,)
            )

    async def owners(self) -> list[tuple[int, int]]:
        return await self._pool.fetch(
            "SELECT number, owner FROM bots WHERE deleted_ms IS NULL"
        )


class PostgresWebhookStore:
    """A `WebhookStore`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def webhooks(self) -> list[tuple[WebhookRecord, UUID]]:
        columns = ", ".join(f"w.{name}" for name in _WEBHOOK.split(", "))
        rows = await self._pool.fetch(
            f"SELECT {columns}, b.id FROM webhooks w JOIN bots b ON b.number = w.bot"
        )
        return [(_webhook(row[:-1]), row[-1]) for row in rows]

    async def webhook(self, bot: int) -> WebhookRecord | None:
        row = await self._pool.fetch_one(
            f"SELECT {_WEBHOOK} FROM webhooks WHERE bot = %s", (bot,)
        )
        return None if row is None else _webhook(row)

    async def count(self, bot: int) -> int:
        count: int = await self._pool.fetch_value(
            "SELECT count(*) FROM webhook_events WHERE bot = %s", (bot,)
        )
        return count

    async def put_webhook(self, webhook: WebhookRecord) -> None:
        async with self._pool.transaction() as connection:
            await connection.execute(
                "INSERT INTO webhooks (bot, url, secret, events, updated_ms)"
                " VALUES (%s, %s, %s, %s, %s) ON CONFLICT (bot) DO UPDATE SET"
                " url = excluded.url, secret = excluded.secret,"
                " events = excluded.events, updated_ms = excluded.updated_ms,"
                " dead_run = 0, disabled_ms = NULL, disabled_why = NULL",
                (
                    *(webhook.bot, webhook.url, webhook.secret),
                    *(list(webhook.events), webhook.updated_ms),
                ),
            )
            await connection.execute(
                "UPDATE webhook_events SET due_ms = 0, attempts = 0 WHERE bot = %s",
                (webhook.bot,),
            )

    async def delete_webhook(self, bot: int) -> None:
        async with self._pool.transaction() as connection:
            await connection.execute("DELETE FROM webhooks WHERE bot = %s", (bot,))
            await connection.execute(
                "DELETE FROM webhook_events WHERE bot = %s", (bot,)
            )

    async def position(self) -> int:
        position: int | None = await self._pool.fetch_value(
            "SELECT max(position) FROM journal_positions WHERE journal = %s", (FEED,)
        )
        return position or 0

    async def append(
        self, events: Sequence[OutgoingEvent], position: int | None = None
    ) -> bool:
        async with self._pool.transaction() as connection:
            if position is not None:
                moved = await connection.execute(
                    "INSERT INTO journal_positions (journal, position) VALUES (%s, %s)"
                    " ON CONFLICT (journal) DO UPDATE SET position = excluded.position"
                    " WHERE journal_positions.position < excluded.position",
                    (FEED, position),
                )
                if not moved.rowcount:
                    return False
            # Whose webhook or bot has gone meanwhile is told nothing.
            await connection.execute(
                "INSERT INTO webhook_events (bot, id, type, body, created_ms, due_ms)"
                " SELECT e.bot, e.id, e.type, e.body, e.created_ms, e.created_ms"
                " FROM unnest(%b::integer[], %b::uuid[], %s::text[], %s::text[],"
                " %b::bigint[]) WITH ORDINALITY"
                " AS e (bot, id, type, body, created_ms, place)"
                " JOIN webhooks w ON w.bot = e.bot ORDER BY place",
                (
                    [event.bot for event in events],
                    [event.id for event in events],
                    [event.type for event in events],
                    [event.body for event in events],
                    [event.created_ms for event in events],
                ),
            )
        return True

    async def waiting(self) -> list[tuple[int, int, int]]:
        rows = await self._pool.fetch(
            "SELECT e.bot, count(*), (array_agg(e.due_ms ORDER BY e.number))[1]"
            " FROM webhook_events e JOIN webhooks w ON w.bot = e.bot"
            " WHERE w.disabled_ms IS NULL GROUP BY e.bot ORDER BY e.bot"
        )
        return [(row[0], row[1], row[2]) for row in rows]

    async def pending(self, bot: int, limit: int) -> list[PendingEvent]:
        rows = await self._pool.fetch(
            f"SELECT {_PENDING} FROM webhook_events WHERE bot = %s"
            " ORDER BY number LIMIT %s",
            (bot, limit),
        )
        return [_pending(row) for row in rows]

    async def delivered(self, event: PendingEvent) -> None:
        await self._pool.execute(
            "WITH gone AS (DELETE FROM webhook_events WHERE bot = %s AND number = %s)"
            " UPDATE webhooks SET dead_run = 0 WHERE bot = %s AND dead_run > 0",
            (event.bot, event.number, event.bot),
        )

    async def put_off(self, event: PendingEvent, due_ms: int) -> None:
        await self._pool.execute(
            "UPDATE webhook_events SET attempts = attempts + 1, due_ms = %s"
            " WHERE bot = %s AND number = %s",
            (due_ms, event.bot, event.number),
        )

    async def bury(
        self, event: PendingEvent, now_ms: int, why: str, run_max: int
    ) -> bool:
        async with self._pool.transaction() as connection:
            moved = await connection.execute(
                "WITH gone AS (DELETE FROM webhook_events"
                " WHERE bot = %s AND number = %s RETURNING *)"
                f" INSERT INTO webhook_dead_letters ({_DEAD})"
                " SELECT number, bot, id, type, body, created_ms, attempts + 1, %s, %s"
                " FROM gone",
                (event.bot, event.number, now_ms, why),
            )
            if not moved.rowcount:
                return False
            row = await connection.fetch_one(
                "UPDATE webhooks SET dead_run = dead_run + 1,"
                " disabled_ms = CASE WHEN dead_run + 1 >= %s THEN %s END,"
                " disabled_why = CASE WHEN dead_run + 1 >= %s THEN %s END"
                " WHERE bot = %s AND disabled_ms IS NULL RETURNING disabled_ms",
                (run_max, now_ms, run_max, why, event.bot),
            )
        return row is not None and row[0] is not None

    async def disable(self, bot: int, now_ms: int, why: str) -> bool:
        changed = await self._pool.execute(
            "UPDATE webhooks SET disabled_ms = %s, disabled_why = %s"
            " WHERE bot = %s AND disabled_ms IS NULL",
            (now_ms, why, bot),
        )
        return changed == 1

    async def dead_letters(self, limit: int) -> tuple[list[DeadLetter], int]:
        rows = await self._pool.fetch(
            f"SELECT {_LETTER}, (SELECT count(*) FROM webhook_dead_letters)"
            f" {_LETTERS} ORDER BY d.dead_ms DESC, d.number DESC LIMIT %s",
            (limit,),
        )
        return [_letter(row[:-1]) for row in rows], rows[0][-1] if rows else 0

    async def dead_letter(self, number: int) -> DeadLetter | None:
        row = await self._pool.fetch_one(
            f"SELECT {_LETTER} {_LETTERS} WHERE d.number = %s", (number,)
        )
        return None if row is None else _letter(row)

    async def retry(self, number: int, now_ms: int) -> DeadLetter | None:
        async with self._pool.transaction() as connection:
            row = await connection.fetch_one(
                f"SELECT {_LETTER} {_LETTERS} JOIN webhooks w ON w.bot = d.bot"
                " WHERE d.number = %s FOR UPDATE OF d",
                (number,),
            )
            if row is None:
                return None
            letter = _letter(row)
            await connection.execute(
                "DELETE FROM webhook_dead_letters WHERE number = %s", (number,)
            )
            await connection.execute(
                "INSERT INTO webhook_events (bot, id, type, body, created_ms, due_ms)"
                " VALUES (%s, %s, %s, %s, %s, %s)",
                (
                    *(letter.bot, letter.id, letter.type, letter.body),
                    *(letter.created_ms, now_ms),
                ),
            )
        return letter

    async def drop(self, number: int) -> bool:
        dropped = await self._pool.execute(
            "DELETE FROM webhook_dead_letters WHERE number = %s", (number,)
        )
        return dropped == 1

    async def prune(self, dead_before_ms: int, count: int) -> int:
        dead = await self._pool.execute(
            "DELETE FROM webhook_dead_letters WHERE number IN (SELECT number"
            " FROM webhook_dead_letters WHERE dead_ms < %s ORDER BY dead_ms LIMIT %s)",
            (dead_before_ms, count),
        )
        waiting = await self._pool.execute(
            "DELETE FROM webhook_events WHERE (bot, number) IN (SELECT e.bot, e.number"
            " FROM webhooks w JOIN webhook_events e ON e.bot = w.bot"
            " WHERE w.disabled_ms < %s LIMIT %s)",
            (dead_before_ms, count),
        )
        return dead + waiting


def _bot(row: Row | None) -> BotRecord | None:
    if row is None:
        return None
    return BotRecord(**dict(zip(BotRecord.__struct_fields__, row, strict=True)))


def _webhook(row: Row) -> WebhookRecord:
    fields = dict(zip(WebhookRecord.__struct_fields__, row, strict=True))
    return WebhookRecord(**fields | {"events": tuple(fields["events"])})


def _pending(row: Row) -> PendingEvent:
    return PendingEvent(**dict(zip(PendingEvent.__struct_fields__, row, strict=True)))


def _letter(row: Row) -> DeadLetter:
    names = (*_DEAD.split(", "), "bot_id")
    return DeadLetter(**dict(zip(names, row, strict=True)))


assert ", ".join(WebhookRecord.__struct_fields__) == _WEBHOOK
assert ", ".join(PendingEvent.__struct_fields__) == _PENDING
