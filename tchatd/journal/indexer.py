"""Owns feeding the search index: what was flushed, a batch after the other.

The index has its own journal position, committed with what it stands for. Entries that
were flushed are put into it as they come (`live`); what it lacks after a crash, a full
disk or too much at once it reads from the store, by position, until it is level with
the flush; then it is live again. So nothing is ever lost, and the daemon waits for none
of it: whatever happens here, messages go on.

A rebuild reads everything from the store into a new index, from the position at which
it began, and then catches up like any other.
"""

from __future__ import annotations

import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import trio
from msgspec import Struct

from tchatd.domains.messaging.content import TextContent
from tchatd.domains.messaging.entry import Entry
from tchatd.domains.messaging.finding import texts_of
from tchatd.domains.messaging.message_state import MessageState
from tchatd.domains.messaging.settings import settings_of
from tchatd.domains.messaging.store import (
    DIALOG_CREATED,
    DIALOG_DELETED,
    DIALOG_UPDATED,
    MESSAGE_DELETED,
    MESSAGE_EDITED,
    MESSAGE_NEW,
)
from tchatd.domains.search.errors import IndexBroken, IndexStuck
from tchatd.domains.search.store import (
    PUTS_MAX,
    Change,
    Doc,
    MessageDoc,
    SearchIndex,
    SearchSource,
    dialog_doc,
)
from tchatd.kernel.errors import DomainError
from tchatd.observe.logging import get_logger
from tchatd.observe.metrics import Metrics

_ENTRIES_A_TURN: Final = 100
"""Handed over before others run: a few microseconds each."""
_HAND_OVER_S: Final = 0.05
"""Between two times that what was flushed is handed over."""
_REST_SHARE: Final = 4.0
"""Of the time that a page from the store took, before the next: the loop is
everybody's, and an index that is behind must not slow those who talk."""
_BUILD_REST_SHARE: Final = 1.0
"""The same while all is built, which somebody waits for."""
_PREPARED_FROM: Final = 10_000
"""Records to catch up with, from which the store is told before."""
_POSITIONS_A_COMMIT: Final = 100_000
"""Of records that change nothing that is found, before the position alone is kept."""
_PEOPLE_PAGE: Final = 1_000
PEOPLE_OVERLAP_MS: Final = 10_000
"""How much later than its `updated_ms` a change of a user may be seen in the store."""
_PEOPLE_SETTLED_S: Final = 2 * PEOPLE_OVERLAP_MS / 1000
_NUMBER_MAX: Final = (1 << 31) - 1

_log = get_logger("search")


class IndexerSettings(Struct, frozen=True, kw_only=True):
    """commit_interval_s: least time between the begins of two commits. waiting_max:
    flushed records that may wait; beyond it they are read from the store again.
    people_interval_s: how often it is asked whose name changed. rows_max: read from the
    store at once. retry_s: before what failed is tried again.
    """

    commit_interval_s: float = 0.5
    waiting_max: int = 100_000
    people_interval_s: float = 1.0
    rows_max: int = 500
    retry_s: float = 5.0


class Indexer:
    """flushed_position: of what the store has for sure, now. `take` is told of it."""

    def __init__(
        self,
        index: SearchIndex,
        source: SearchSource,
        flushed_position: Callable[[], int],
        metrics: Metrics,
        settings: IndexerSettings = IndexerSettings(),  # noqa: B008  # frozen
    ) -> None:
        assert settings.rows_max <= PUTS_MAX
        self._index = index
        self._source = source
        self._flushed_position = flushed_position
        self._settings = settings
        self._waiting: deque[Entry] = deque()
        self._is_live = False
        self._wake = trio.Event()
        self._rebuild_wanted = False
        self._fed_position = 0
        self._people_ms = 0
        self._people_due_s = 0.0
        self._people_fresh_s = 0.0
        self._people_seen: dict[int, int] = {}
        self._puts = 0
        self._committed_s = float("-inf")
        self.is_failing = False
        self.is_rebuilding = False
        self.rebuilt_messages = 0
        self._seconds = metrics.histogram("search_commit_seconds", "One commit")
        self._failures = metrics.counter("search_failures", "Feeding that failed")
        metrics.gauge(
            "search_lag_records",
            "Records that are in the store but not in the search index",
            lambda: float(self.lag),
        )
        metrics.gauge(
            "search_ready", "1 while search answers", lambda: float(index.is_ready)
        )

    @property
    def lag(self) -> int:
        """Records that are in the store and were not put into the index."""
        return max(0, self._flushed_position() - self._fed_position)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def take(self, entries: Sequence[Entry]) -> None:
        """These are in the store now; `Flusher.on_flushed`."""
        if not self._is_live:
            return
        if len(self._waiting) + len(entries) > self._settings.waiting_max:
            self._fall_behind()
            return
        self._waiting.extend(entries)
        self._wake.set()

    def rebuild(self) -> bool:
        """Build the index anew, soon; False if that is being done already."""
        if self.is_rebuilding or self._rebuild_wanted:
            return False
        self._rebuild_wanted = True
        self._wake.set()
        return True

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Feed until cancelled. What is not committed then is read again."""
        task_status.started()
        try:
            while True:
                try:
                    await self._feed()
                except DomainError as error:
                    self._failed(error.code)
                except (IndexStuck, IndexBroken) as error:
                    self._failed(str(error))
                except Exception as error:  # noqa: BLE001  # of ours; messages go on
                    self._failed(_place_of(error))
                await trio.sleep(self._settings.retry_s)
        finally:
            self._fall_behind()
            self.is_rebuilding = False

    def _failed(self, why: str) -> None:
        self._fall_behind()
        self.is_rebuilding = False
        self._failures.add()
        if not self.is_failing:
            _log.warning("the search index is not fed; trying on", why=why)
        self.is_failing = True

    def _fall_behind(self) -> None:
        self._is_live = False
        self._waiting.clear()
        self._wake.set()

    async def _feed(self) -> None:
        self._puts = 0
        if not await self._index.open():
            _log.warning("building the search index")
            self._rebuild_wanted = True
        else:
            self._fed_position = self._index.position
            self._people_ms = self._index.people_ms
            self._people_fresh_s = trio.current_time()
            if self._fed_position > self._flushed_position():
                _log.warning("the search index is not of this store; building it")
                self._rebuild_wanted = True
        while True:
            if self._rebuild_wanted:
                await self._build()
            if not self._is_live:
                await self._catch_up()
            if self.is_failing:
                _log.info("the search index is fed again", position=self._fed_position)
                self.is_failing = False
            await self._put_waiting()
            await self._put_people()
            if self._is_due():
                await self._commit()
            await self._pause()

    async def _pause(self) -> None:
        """Until there is something to do, and it is time to."""
        if not self._is_live or self._rebuild_wanted:
            return
        if self._waiting or self._puts:
            await trio.sleep(_HAND_OVER_S)
            return
        with trio.move_on_at(self._people_due_s):
            await self._wake.wait()
        self._wake = trio.Event()

    # What was flushed, and what was missed.

    async def _put_waiting(self) -> None:
        waiting = self._waiting
        while waiting and self._is_live:
            for _ in range(min(len(waiting), _ENTRIES_A_TURN)):
                entry = waiting.popleft()
                for doc, is_new in docs_of(entry):
                    self._put(doc, is_new=is_new)
                self._fed_position = entry.position
            await self._index.hand_over()

    def _put(self, doc: Doc | int, *, is_new: bool = False) -> None:
        self._puts += 1
        if isinstance(doc, int):
            self._index.drop_dialog(doc)
        else:
            self._index.put(doc, is_new=is_new)

    async def _put_all(self, changes: Iterable[Change]) -> None:
        """PUTS_MAX at most."""
        for doc, is_new in changes:
            self._put(doc, is_new=is_new)
        await self._index.hand_over()

    async def _catch_up(self) -> None:
        """No commit within a range: what is new in the index is put once."""
        rows_max = self._settings.rows_max
        prepared = 0
        while True:
            flushed = self._flushed_position()
            if self._fed_position >= flushed:
                self._is_live = True  # what is flushed from here on is told
                return
            if flushed - max(self._fed_position, prepared) > _PREPARED_FROM:
                await self._source.prepare()
                prepared = flushed
            until = min(self._fed_position + rows_max, flushed)
            began_s = time.perf_counter()
            await self._put_all(await self._source.changes(self._fed_position, until))
            self._fed_position = until
            if self._is_due():
                await self._commit()
            await trio.sleep(_REST_SHARE * (time.perf_counter() - began_s))

    async def _put_people(self) -> None:
        """Whose name changed. A change may be seen later than others of that time, so
        the moments before the last are looked at again, until nothing has come for
        long enough."""
        now_s = trio.current_time()
        if now_s < self._people_due_s:
            return
        self._people_due_s = now_s + self._settings.people_interval_s
        after_ms, after_number = max(0, self._people_ms - PEOPLE_OVERLAP_MS), 0
        if now_s - self._people_fresh_s > _PEOPLE_SETTLED_S:
            after_ms, after_number = self._people_ms, _NUMBER_MAX
        seen = self._people_seen
        while True:
            rows = await self._source.people(after_ms, after_number, _PEOPLE_PAGE)
            fresh = [row for row in rows if seen.get(row.number) != row.updated_ms]
            await self._put_all((row, False) for row in fresh)
            for row in fresh:
                seen[row.number] = row.updated_ms
                self._people_fresh_s = now_s
            if rows:
                after_ms, after_number = rows[-1].updated_ms, rows[-1].number
                self._people_ms = max(self._people_ms, after_ms)
            if len(rows) < _PEOPLE_PAGE:
                break
            self._forget_people()
        self._forget_people()

    def _forget_people(self) -> None:
        """Those who are not looked at again."""
        start_ms = self._people_ms - PEOPLE_OVERLAP_MS
        if any(at_ms < start_ms for at_ms in self._people_seen.values()):
            self._people_seen = {
                number: at_ms
                for number, at_ms in self._people_seen.items()
                if at_ms >= start_ms
            }

    def _is_due(self) -> bool:
        due_s = self._committed_s + self._settings.commit_interval_s
        if trio.current_time() < due_s:
            return False
        moved = self._fed_position - self._index.position
        return self._puts > 0 or moved >= _POSITIONS_A_COMMIT

    async def _commit(self) -> None:
        self._committed_s = trio.current_time()
        began_s = time.perf_counter()
        await self._index.commit(self._fed_position, self._people_ms)
        self._seconds.observe(time.perf_counter() - began_s)
        self._puts = 0

    # Everything.

    async def _build(self) -> None:
        """From now on; what happens meanwhile is caught up with."""
        began_s = trio.current_time()
        self._fall_behind()
        self._rebuild_wanted, self.is_rebuilding = False, True
        self.rebuilt_messages = self._puts = 0
        await self._index.renew()
        position = self._flushed_position()
        self._fed_position = self._people_ms = 0
        self._people_seen = {}
        self._people_due_s, self._people_fresh_s = 0.0, trio.current_time()
        await self._put_people()
        await self._build_dialogs()
        await self._build_messages(position)
        self._fed_position = position
        if self._puts or position:
            await self._commit()
        await self._index.publish()
        self.is_rebuilding = False
        _log.info(
            "the search index is built",
            messages=self.rebuilt_messages,
            took_s=round(trio.current_time() - began_s, 1),
        )

    async def _build_dialogs(self) -> None:
        after = 0
        while True:
            rows = await self._source.dialogs(after, self._settings.rows_max)
            await self._put_all((row, True) for row in rows)
            if len(rows) < self._settings.rows_max:
                return
            after = rows[-1].number

    async def _build_messages(self, until: int) -> None:
        """Those of records up to that position; later ones are caught up with."""
        rows_max = self._settings.rows_max
        after = (0, 0)
        while True:
            began_s = time.perf_counter()
            rows = await self._source.messages(after, until, rows_max)
            await self._put_all((row, True) for row in rows)
            self.rebuilt_messages += len(rows)
            if len(rows) < rows_max:
                return
            after = rows[-1].dialog_number, rows[-1].seq
            await trio.sleep(_BUILD_REST_SHARE * (time.perf_counter() - began_s))


def _place_of(error: Exception) -> str:
    """What it is and where it happened, without any value."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__qualname__} at {last.filename}:{last.lineno}"


def docs_of(entry: Entry) -> Iterator[Change]:
    """What of the index a flushed record changes."""
    kind, changes = entry.kind, entry.changes
    if kind == MESSAGE_NEW:
        message = entry.event.message
        yield (
            MessageDoc(
                entry.dialog_number,
                entry.seq,
                entry.at_ms,
                entry.actor,
                message.type,
                _said(message.content),
            ),
            True,
        )
    elif kind in (MESSAGE_EDITED, MESSAGE_DELETED):
        assert changes is not None
        # The first is the message itself; a root of its thread says what it said.
        yield _doc_of(changes.messages[0]), False
    elif kind == DIALOG_CREATED:
        assert entry.created is not None
        created = entry.created
        public_name = settings_of(created.settings).public_name
        yield dialog_doc(created.number, created.name, public_name), True
    elif kind == DIALOG_UPDATED:
        assert changes is not None
        if changes.profile is not None:
            profile = changes.profile
            public_name = profile.settings.public_name
            yield dialog_doc(profile.number, profile.name, public_name), False
    elif kind == DIALOG_DELETED:
        yield entry.dialog_number, False


def _doc_of(state: MessageState) -> MessageDoc:
    return MessageDoc(
        state.dialog_number,
        state.seq,
        state.at_ms,
        state.sender,
        state.body.type,
        "" if state.is_deleted else _said(state.body.content),
    )


def _said(content: Any) -> str:
    if type(content) is TextContent:
        return content.text
    return "\n".join(text for _, text in texts_of(content))
