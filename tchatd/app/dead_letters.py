"""Owns the console's commands of who looks after subscribers and their dead letters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from tchatd.app.moderators import number_of, options_of, reason_of, who
from tchatd.edge.console import Command, ConsoleError, Row, Rows
from tchatd.events.store import Decided, Letter, LetterStore
from tchatd.kernel.clock import Clock, rfc3339
from tchatd.observe.logging import get_logger

_DLQ_OPTIONS: Final = "[--subscriber NAME] [--reason WHY]"
_USAGE: Final = (
    "usage: dlq list [--subscriber NAME], show N, retry N --reason WHY,"
    " retry all --subscriber NAME --reason WHY, or drop N --reason WHY"
)
_EVENTS_OPTIONS: Final = "[--reason WHY]"
_log = get_logger("dlq")


def commands(
    letters: LetterStore,
    retried: Callable[[str], None],
    settled: Callable[[], int],
    registered: Callable[[], Sequence[str]],
    clock: Clock,
    rows_max: int,
) -> list[Command]:
    """retried: told of a subscriber some of whose letters were released. settled: how
    far the log is; 0 where nobody subscribes. registered: subscribers of this version.
    """
    run = _DeadLetters(letters, retried, settled, registered, clock, rows_max)
    return [
        Command(
            "dlq",
            "list|show|retry|drop [N]",
            "Events that a subscriber could not handle, and those of the same aggregate"
            " behind them. Retrying the first releases the rest in order, dropping it"
            " does, too; both need a --reason. `retry all` is of one --subscriber.",
            run.dlq,
            _DLQ_OPTIONS,
        ),
        Command(
            "events",
            "[list|forget] [NAME]",
            "Who reads the event log and how far; forget who is no more, with a"
            " --reason, so that old events can go.",
            run.events,
            _EVENTS_OPTIONS,
        ),
    ]


class _DeadLetters:
    def __init__(
        self,
        letters: LetterStore,
        retried: Callable[[str], None],
        settled: Callable[[], int],
        registered: Callable[[], Sequence[str]],
        clock: Clock,
        rows_max: int,
    ) -> None:
        self._letters = letters
        self._retried = retried
        self._settled = settled
        self._registered = registered
        self._clock = clock
        self._rows_max = rows_max

    async def dlq(self, arguments: Sequence[str]) -> Any:
        plain, options = options_of(arguments, ("reason", "subscriber"))
        subscriber = options.get("subscriber")
        match plain:
            case ["list"]:
                _log.info("dead letters listed", who=who())
                letters, total = await self._letters.letters(subscriber, self._rows_max)
                return Rows([_row(letter) for letter in letters], total)
            case ["show", text]:
                letter = await self._letter(text)
                _log.info("dead letter shown", number=letter.number, who=who())
                return _whole(letter)
            case ["retry", "all"]:
                return await self._retry_all(subscriber, options)
            case ["retry", text]:
                return await self._retry(await self._letter(text), options)
            case ["drop", text]:
                return await self._drop(await self._letter(text), options)
        raise ConsoleError("usage", _USAGE)

    async def _retry(self, letter: Letter, options: Mapping[str, str]) -> Row:
        decided = self._decided(options)
        first = await self._letters.first_of(letter)
        if first != letter.number:
            raise ConsoleError("conflict", f"it is behind {first}; retry that one")
        count = await self._letters.retry(letter, decided)
        if not count:
            raise _missing()
        _log.warning("dead letter retried", number=letter.number, who=decided.who)
        self._retried(letter.subscriber)
        return {"released": count, "subscriber": letter.subscriber}

    async def _retry_all(
        self, subscriber: str | None, options: Mapping[str, str]
    ) -> Row:
        decided = self._decided(options)
        if subscriber is None:
            raise ConsoleError("usage", "retry all needs --subscriber NAME")
        count = await self._letters.retry_all(subscriber, decided)
        _log.warning("dead letters retried", subscriber=subscriber, who=decided.who)
        self._retried(subscriber)
        return {"released": count, "subscriber": subscriber}

    async def _drop(self, letter: Letter, options: Mapping[str, str]) -> Row:
        decided = self._decided(options)
        if not await self._letters.drop(letter, decided):
            raise _missing()
        _log.warning("dead letter dropped", number=letter.number, who=decided.who)
        self._retried(letter.subscriber)
        return {"dropped": letter.number, "subscriber": letter.subscriber}

    async def _letter(self, text: str) -> Letter:
        letter = await self._letters.letter(number_of(text))
        if letter is None:
            raise _missing()
        return letter

    # events

    async def events(self, arguments: Sequence[str]) -> Any:
        plain, options = options_of(arguments, ("reason",))
        match plain:
            case [] | ["list"]:
                return await self._list()
            case ["forget", name]:
                return await self._forget(name, options)
        raise ConsoleError("usage", "usage: events [list], or forget NAME --reason WHY")

    async def _list(self) -> Rows:
        registered, settled = self._registered(), self._settled()
        rows = [
            {
                "subscriber": row.name,
                "position": row.position,
                "behind": max(0, settled - row.position) if settled else None,
                "node": row.holder,
                "dead_letters": row.letters,
                "is_known": row.name in registered,
            }
            for row in await self._letters.subscriptions()
        ]
        return Rows(rows[: self._rows_max], len(rows))

    async def _forget(self, name: str, options: Mapping[str, str]) -> Row:
        decided = self._decided(options)
        if name in self._registered():
            raise ConsoleError("conflict", "it is a subscriber of this version")
        if not await self._letters.forget(name, decided):
            raise ConsoleError("not-found", "no such subscriber, or a node serves it")
        _log.warning("subscriber forgotten", subscriber=name, who=decided.who)
        return {"forgotten": name}

    def _decided(self, options: Mapping[str, str]) -> Decided:
        return Decided(self._clock.now_ms(), who(), reason_of(options))


def _missing() -> ConsoleError:
    return ConsoleError("not-found", "there is no such dead letter")


def _row(letter: Letter) -> dict[str, Any]:
    event = letter.event
    return {
        "number": letter.number,
        "subscriber": letter.subscriber,
        "event": event.type,
        "aggregate": str(event.aggregate_id),
        "version": event.version,
        "attempts": letter.attempts,
        "why": letter.error,
        "is_released": letter.is_released,
        "made_at": rfc3339(event.created_ms),
        "dead_at": rfc3339(letter.dead_ms),
    }


def _whole(letter: Letter) -> dict[str, Any]:
    event = letter.event
    return {
        **_row(letter),
        "id": str(event.id),
        "domain": event.domain,
        "position": event.position,
        "data": msgspec.json.decode(event.data),
        "metadata": msgspec.to_builtins(event.metadata),
    }
