"""Owns the console's commands of moderators and of who looks after webhooks."""

from __future__ import annotations

import pwd
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from tchatd.app.bots import Bots
from tchatd.app.configuration import ConfigurationError
from tchatd.app.moderation import Moderation
from tchatd.domains.auth.models import UserRecord
from tchatd.domains.auth.service import AuthService
from tchatd.domains.bots.models import DeadLetter
from tchatd.domains.moderation.models import ACTIONS, ReportRecord, SanctionKind
from tchatd.edge.console import PEER, Command, ConsoleError, Row, Rows
from tchatd.kernel.clock import Clock, rfc3339

REASON_CHARS_MAX: Final = 500
SILENCE_S: Final = 7 * 86_400
"""How long a silence lasts that nobody says otherwise of."""
_RESOLVE_OPTIONS: Final = "--action remove|silence|ban|none --reason WHY [--for 7d]"
_USER_OPTIONS: Final = "--reason WHY [--for 7d]"
_MESSAGE_OPTIONS: Final = "--reason WHY"
_DURATION: Final = re.compile(r"([1-9][0-9]{0,8})(s|m|h|d)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DURATION_S_MAX: Final = 100 * 366 * 86_400


def commands(
    auth: AuthService,
    bots: Bots,
    moderation: Moderation,
    clock: Clock,
    rows_max: int,
) -> list[Command]:
    moderators = _Moderators(auth, moderation, clock, rows_max)
    letters = _DeadLetters(bots, clock, rows_max)
    return [
        Command(
            "reports",
            "[list|show|resolve] [N]",
            "What was reported; act on it.",
            moderators.reports,
            _RESOLVE_OPTIONS,
        ),
        Command(
            "user",
            "ban|unban|silence|unsilence|tier USER [TIER]",
            "Shut somebody out, or let them not write; without --for a ban lasts until"
            " it is ended, a silence 7 days. A KYC tier decides what they may pay.",
            moderators.user,
            _USER_OPTIONS,
        ),
        Command(
            "message",
            "remove ID",
            "Delete a message for everyone; its dialog is told the --reason.",
            moderators.message,
            _MESSAGE_OPTIONS,
        ),
        Command(
            "moderation",
            "log|sanctions|reload [COUNT]",
            "What was decided; who is sanctioned; read the words file again.",
            moderators.moderation,
        ),
        Command(
            "webhooks",
            "dlq list|show|retry|drop [N]",
            "What could not be delivered to bots' webhooks.",
            letters.run,
        ),
    ]


def who() -> str:
    """Who runs the command, as it is written down."""
    user_id = PEER.get()
    try:
        return f"{pwd.getpwuid(user_id).pw_name} (uid {user_id})"
    except KeyError:
        return f"uid {user_id}"


def options_of(
    arguments: Sequence[str], known: Sequence[str]
) -> tuple[list[str], dict[str, str]]:
    """Plain arguments, and `--name value` pairs. Raises ConsoleError."""
    plain: list[str] = []
    options: dict[str, str] = {}
    left = iter(arguments)
    for argument in left:
        if not argument.startswith("--"):
            plain.append(argument)
            continue
        name, equals, value = argument[2:].partition("=")
        if name not in known:
            names = ", ".join(f"--{name}" for name in known)
            raise ConsoleError("usage", f"no option {argument}, but {names}")
        given = value if equals else next(left, None)
        if given is None:
            raise ConsoleError("usage", f"--{name} needs a value")
        options[name] = given
    return plain, options


def seconds_of(text: str) -> int:
    """`7d`, `12h`, `30m`, `90s`. Raises ConsoleError."""
    found = _DURATION.fullmatch(text)
    seconds = int(found[1]) * _SECONDS[found[2]] if found else 0
    if not 0 < seconds <= _DURATION_S_MAX:
        raise ConsoleError("usage", "--for is written as 30m, 12h or 7d")
    return seconds


class _Moderators:
    def __init__(
        self, auth: AuthService, moderation: Moderation, clock: Clock, rows_max: int
    ) -> None:
        self._auth = auth
        self._moderation = moderation
        self._clock = clock
        self._rows_max = rows_max

    # reports

    async def reports(self, arguments: Sequence[str]) -> Any:
        plain, options = options_of(arguments, ("action", "reason", "for"))
        match plain:
            case [] | ["list"]:
                return await self._list()
            case ["show", number]:
                return await self._show(await self._report(number))
            case ["resolve", number]:
                return await self._resolve(await self._report(number), options)
        usage = f"usage: reports [list], show N, or resolve N {_RESOLVE_OPTIONS}"
        raise ConsoleError("usage", usage)

    async def _list(self) -> Rows:
        reports, total = await self._moderation.store.open_reports(self._rows_max)
        rows = [
            {
                "number": report.number,
                "about": f"{report.thing} {report.thing_id}",
                "reason": report.reason,
                "accused": _id(report.accused_id),
                "by": _reporter(report),
                "at": rfc3339(report.updated_ms),
            }
            for report in reports
        ]
        return Rows(rows, total)

    async def _show(self, report: ReportRecord) -> Row:
        comment, evidence = await self._moderation.reports.opened(report)
        resolved_ms = report.resolved_ms
        return {
            "number": report.number,
            "about": f"{report.thing} {report.thing_id}",
            "dialog": _id(report.dialog_id),
            "reason": report.reason,
            "comment": comment,
            "accused": _id(report.accused_id),
            "by": _reporter(report),
            "reported_at": rfc3339(report.created_ms),
            "updated_at": rfc3339(report.updated_ms),
            "resolved_at": None if resolved_ms is None else rfc3339(resolved_ms),
            "action": report.action,
            "evidence": evidence,
        }

    async def _resolve(self, report: ReportRecord, options: Mapping[str, str]) -> Row:
        action = next((a for a in ACTIONS if a == options.get("action")), None)
        if action is None:
            raise ConsoleError("usage", f"--action is one of {', '.join(ACTIONS)}")
        reason = reason_of(options)
        until_ms = self._until_ms(options, action)
        if report.resolved_ms is not None:
            raise ConsoleError("conflict", "it is resolved already")
        count = await self._moderation.decisions.resolve(
            report, action, who=who(), reason=reason, until_ms=until_ms
        )
        answer: dict[str, Any] = {"reports_resolved": count, "action": action}
        if action in ("ban", "silence"):
            answer["until"] = _time(until_ms)
        return answer

    async def _report(self, number: str) -> ReportRecord:
        report = await self._moderation.store.report_numbered(number_of(number))
        if report is None:
            raise ConsoleError("not-found", "there is no such report")
        return report

    # user, message, moderation

    async def user(self, arguments: Sequence[str]) -> Row:
        plain, options = options_of(arguments, ("reason", "for"))
        kinds: dict[str, SanctionKind] = {"ban": "ban", "silence": "silence"}
        match plain:
            case ["ban" | "silence" as verb, text]:
                reason, until_ms = reason_of(options), self._until_ms(options, verb)
                user = await self._user(text)
                ended = await self._moderation.decisions.sanction(
                    user.number,
                    user.id,
                    kinds[verb],
                    who=who(),
                    reason=reason,
                    until_ms=until_ms,
                )
                return {
                    "user": str(user.id),
                    "until": _time(until_ms),
                    "sessions_ended": ended,
                }
            case ["unban" | "unsilence" as verb, text]:
                reason, user = reason_of(options), await self._user(text)
                was = await self._moderation.decisions.end_sanction(
                    user.number,
                    user.id,
                    kinds[verb.removeprefix("un")],
                    who=who(),
                    reason=reason,
                )
                return {"user": str(user.id), "was_sanctioned": was}
            case ["tier", text, "1" | "2" | "3" as tier]:
                reason, user = reason_of(options), await self._user(text)
                if "for" in options:
                    raise ConsoleError("usage", "--for is of a ban or a silence")
                await self._moderation.decisions.set_tier(
                    user.number, user.id, int(tier), who=who(), reason=reason
                )
                self._auth.profiles.forget(user.number)
                return {"user": str(user.id), "kyc_tier": int(tier)}
        usage = (
            f"usage: user ban|unban|silence|unsilence USER {_USER_OPTIONS},"
            " or user tier USER 1|2|3 --reason WHY"
        )
        raise ConsoleError("usage", usage)

    async def message(self, arguments: Sequence[str]) -> Row:
        plain, options = options_of(arguments, ("reason",))
        match plain:
            case ["remove", text]:
                try:
                    id = UUID(text)
                except ValueError:
                    raise ConsoleError("usage", "ID is a message's id") from None
                reason = reason_of(options)
                await self._moderation.decisions.remove(id, who=who(), reason=reason)
                return {"removed": str(id)}
        raise ConsoleError("usage", f"usage: message remove ID {_MESSAGE_OPTIONS}")

    async def moderation(self, arguments: Sequence[str]) -> Any:
        match list(arguments):
            case ["log"]:
                return await self._log(self._rows_max)
            case ["log", count]:
                return await self._log(min(number_of(count), self._rows_max))
            case ["sanctions"]:
                return await self._sanctions()
            case ["reload"]:
                try:
                    return {"patterns": self._moderation.reload()}
                except ConfigurationError as error:
                    raise ConsoleError("refused", str(error)) from None
        raise ConsoleError("usage", "usage: moderation log|sanctions|reload")

    async def _log(self, limit: int) -> Rows:
        decisions, total = await self._moderation.store.decisions(limit)
        rows = [
            {
                "at": rfc3339(decision.at_ms),
                "who": decision.who,
                "action": decision.action,
                "about": decision.thing,
                "reason": decision.reason,
            }
            for decision in decisions
        ]
        return Rows(rows, total)

    async def _sanctions(self) -> Rows:
        sanctions = await self._moderation.store.sanctions()
        shown = sanctions[: self._rows_max]
        numbers = [sanction.number for sanction in shown]
        ids = await self._auth.directory.ids_of(numbers)
        rows = [
            {
                "user": _id(ids.get(sanction.number)),
                "sanction": sanction.kind,
                "since": rfc3339(sanction.since_ms),
                "until": _time(sanction.until_ms),
                "reason": sanction.reason,
            }
            for sanction in shown
        ]
        return Rows(rows, len(sanctions))

    def _until_ms(self, options: Mapping[str, str], action: str) -> int:
        duration_s = _duration(options, action)
        return self._clock.now_ms() + 1_000 * duration_s if duration_s else 0

    async def _user(self, text: str) -> UserRecord:
        record = await self._auth.find_user(text)
        if record is None:
            raise ConsoleError("not-found", "there is no such user")
        return record


class _DeadLetters:
    def __init__(self, bots: Bots, clock: Clock, rows_max: int) -> None:
        self._bots = bots
        self._clock = clock
        self._rows_max = rows_max

    async def run(self, arguments: Sequence[str]) -> Any:
        store = self._bots.store
        match list(arguments):
            case ["dlq", "list"]:
                letters, total = await store.dead_letters(self._rows_max)
                return Rows([_letter(letter) for letter in letters], total)
            case ["dlq", "show", text]:
                letter = await store.dead_letter(number_of(text))
                if letter is None:
                    raise ConsoleError("not-found", "there is no such dead letter")
                body = (await self._bots.webhooks.shown(letter)).decode()
                return {**_letter(letter), "body": body}
            case ["dlq", "retry", text]:
                letter = await store.retry(number_of(text), self._clock.now_ms())
                if letter is None:
                    raise ConsoleError("not-found", "no such letter, or no webhook")
                self._bots.delivery.pending(letter.bot)
                return {"queued": str(letter.id)}
            case ["dlq", "drop", text]:
                if not await store.drop(number_of(text)):
                    raise ConsoleError("not-found", "there is no such dead letter")
                return {"dropped": number_of(text)}
        raise ConsoleError("usage", "usage: webhooks dlq list, or show|retry|drop N")


def _letter(letter: DeadLetter) -> dict[str, Any]:
    return {
        "number": letter.number,
        "bot": str(letter.bot_id),
        "event": letter.type,
        "id": str(letter.id),
        "attempts": letter.attempts,
        "why": letter.why,
        "made_at": rfc3339(letter.created_ms),
        "dead_at": rfc3339(letter.dead_ms),
    }


def _reporter(report: ReportRecord) -> str | None:
    return "filter" if report.reporter == 0 else _id(report.reporter_id)


def _time(until_ms: int) -> str | None:
    """None: until it is ended."""
    return rfc3339(until_ms) if until_ms else None


def _id(id: UUID | None) -> str | None:
    return None if id is None else str(id)


def reason_of(options: Mapping[str, str]) -> str:
    reason = options.get("reason", "").strip()
    if not reason or len(reason) > REASON_CHARS_MAX:
        raise ConsoleError(
            "usage", f"--reason WHY has 1 to {REASON_CHARS_MAX} characters"
        )
    return reason


def _duration(options: Mapping[str, str], action: str) -> int:
    """Seconds; 0 for ever."""
    if action not in ("ban", "silence"):
        if "for" in options:
            raise ConsoleError("usage", "--for is of a ban or a silence")
        return 0
    if "for" in options:
        return seconds_of(options["for"])
    return SILENCE_S if action == "silence" else 0


def number_of(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 1 << 63:
        raise ConsoleError("usage", "N is a number from 1")
    return int(text)
