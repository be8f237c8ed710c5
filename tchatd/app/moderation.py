"""Owns how moderation is put together: standing, gate, filters, reports, decisions."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from tchatd.app.bots import Bots
from tchatd.app.configuration import ConfigurationError
from tchatd.app.conversations import Conversations
from tchatd.app.jobs import Alarm
from tchatd.app.settings import Settings
from tchatd.domains.auth.service import AuthService
from tchatd.domains.moderation import routes
from tchatd.domains.moderation.decisions import Decisions
from tchatd.domains.moderation.filters import (
    BadPattern,
    Filter,
    Links,
    Words,
    WordsAndLinks,
    patterns_of,
)
from tchatd.domains.moderation.flagging import Flagging
from tchatd.domains.moderation.gate import Gate
from tchatd.domains.moderation.rates import Rates
from tchatd.domains.moderation.service import Reports
from tchatd.domains.moderation.standing import Standing
from tchatd.kernel.clock import Clock
from tchatd.kernel.crypto import DataKey, Unreadable
from tchatd.kernel.routing import Operation
from tchatd.stores.postgres.moderation import PostgresModerationStore
from tchatd.stores.postgres.pool import Pool

WORDS_BYTES_MAX = 4 << 20


class AuthPeople:
    """Sign-in, as moderation's `People`."""

    def __init__(self, auth: AuthService, bots: Bots) -> None:
        self._auth = auth
        self._bots = bots

    async def number_of(self, id: UUID) -> int | None:
        return (await self._auth.directory.numbers_of((id,))).get(id)

    def is_bot(self, user_number: int) -> bool:
        return self._bots.service.is_bot(user_number)

    async def seal(
        self, user_number: int, plain: bytes, context: bytes
    ) -> bytes | None:
        key = await self._key(user_number)
        return None if key is None else key.seal(plain, context)

    async def open(
        self, user_number: int, sealed: bytes, context: bytes
    ) -> bytes | None:
        key = await self._key(user_number)
        try:
            return None if key is None else key.open(sealed, context)
        except Unreadable:
            return None

    async def _key(self, user_number: int) -> DataKey | None:
        """None without a key that opens: a report is then kept without what it seals,
        because the journal's flusher must not stop for it."""
        record = await self._auth.record(user_number)
        if record is None or record.data_key is None:
            return None
        try:
            return self._auth.profiles.data_key(record)
        except Unreadable:
            return None

    async def sign_out(self, user_number: int) -> int:
        await self._bots.service.end_sessions(user_number)
        return await self._auth.kick(user_number)


class Moderation:
    """Call `start` before anybody signs in, and run `signing_out`."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        auth: AuthService,
        bots: Bots,
        conversations: Conversations,
        clock: Clock,
    ) -> None:
        self._of = settings.moderation
        self.store = PostgresModerationStore(pool)
        self.standing = Standing(clock)
        self.standing.owner_of = bots.service.owner_of
        bots.service.is_barred = self.standing.is_banned
        rates = Rates(
            user_per_minute=settings.messaging.user_messages_per_minute,
            dialog_per_minute=settings.messaging.dialog_messages_per_minute,
            keys_max=settings.messaging.rate_keys_max,
        )
        self.gate = Gate(self.standing, rates, self._filter())
        self.gate.check_opener = bots.service.check_opener
        auth.sanctions = self.gate
        bots.service.check_said = self.gate.admit_text
        people = AuthPeople(auth, bots)
        self.reports = Reports(self.store, conversations, people, clock)
        self.decisions = Decisions(
            self.store, conversations, people, self.standing, clock
        )
        self.signing_out = Alarm("signing out", self.decisions.finish, clock)
        self.decisions.on_unfinished = self.signing_out.wake
        self.flagging = Flagging(self.gate, self.reports)

    @property
    def operations(self) -> list[Operation]:
        return routes.operations(self.reports)

    async def start(self) -> None:
        """Raises: Unavailable."""
        self.standing.load(await self.store.sanctions())
        self.decisions.resume()

    def reload(self) -> int:
        """Read the list of words again; how many patterns it has.

        Raises: ConfigurationError; then the old list stays.
        """
        words = words_of(self._of.words_file)
        self.gate.filter = self._joined(words)
        return 0 if words is None else words.count

    def _filter(self) -> Filter | None:
        return self._joined(words_of(self._of.words_file))

    def _joined(self, words: Words | None) -> Filter | None:
        links = None
        if self._of.links != "allow":
            links = Links(self._of.links, self._of.link_hosts_allowed)
        return WordsAndLinks(words, links) if words or links else None


def words_of(path: str) -> Words | None:
    """None without a file. Raises: ConfigurationError."""
    if not path:
        return None
    try:
        with Path(path).open("rb") as file:
            content = file.read(WORDS_BYTES_MAX + 1)
        if len(content) > WORDS_BYTES_MAX:
            raise BadPattern(f"it is larger than {WORDS_BYTES_MAX} bytes")
        return Words(patterns_of(content.decode().splitlines()))
    except OSError as error:
        why = error.strerror or str(error)
    except ValueError as error:  # BadPattern and UnicodeDecodeError are
        why = str(error)
    raise ConfigurationError([f"moderation.words_file: {path}: {why}"])
