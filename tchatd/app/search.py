"""Owns how search is put together, and what it asks of sign-in and of people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import trio

from tchatd.app.settings import Settings
from tchatd.domains.auth.service import AuthService
from tchatd.domains.messaging.access import DialogAccess
from tchatd.domains.messaging.finding import Finding
from tchatd.domains.messaging.state import MessagingState
from tchatd.domains.people.models import PublicProfile
from tchatd.domains.people.rules import admits
from tchatd.domains.people.service import PeopleService
from tchatd.domains.search import routes
from tchatd.domains.search.service import SearchService, SearchSettings
from tchatd.journal.applier import Applier
from tchatd.journal.flusher import Flusher
from tchatd.journal.indexer import Indexer, IndexerSettings
from tchatd.kernel.routing import Operation
from tchatd.observe.metrics import Metrics
from tchatd.stores.postgres.finding import PostgresFindingStore, PostgresSearchSource
from tchatd.stores.postgres.pool import Pool
from tchatd.stores.search.index import IndexSettings, TantivySearchIndex


class FoundPeople:
    """The `People` of search."""

    def __init__(self, auth: AuthService, people: PeopleService) -> None:
        self._auth = auth
        self._people = people

    async def known(self, viewer: int) -> Sequence[int]:
        return list((await self._people.circles.get(viewer)).contacts)

    async def found(
        self, viewer: int, numbers: Sequence[int]
    ) -> Mapping[int, PublicProfile]:
        circles = self._people.circles
        own = await circles.get(viewer)
        await circles.load(numbers)
        shown = [
            number
            for number in numbers
            if number in own.contacts or await self._lets_be_found(number, viewer)
        ]
        return await self._people.profiles(viewer, shown)

    async def _lets_be_found(self, number: int, viewer: int) -> bool:
        circle = await self._people.circles.get(number)
        return circle.privacy.findable and viewer not in circle.blocked

    async def identified(self, viewer: int, text: str) -> Mapping[int, PublicProfile]:
        """Counted with the phones of new contacts, so that nobody goes through all
        numbers. Raises: NotForBots, people's TooManyNumbers."""
        self._people.count_lookups(viewer, 1)
        record = await self._auth.find_user(text)
        if record is None:
            return {}
        circle = await self._people.circles.get(record.number)
        if not admits(circle.privacy.findable_by_phone, circle, viewer):
            return {}
        return await self._people.profiles(viewer, [record.number])


class Search:
    """Run `indexer` beside the flusher; it may end at any time."""

    def __init__(
        self,
        settings: Settings,
        *,
        pool: Pool,
        auth: AuthService,
        people: PeopleService,
        state: MessagingState,
        applier: Applier,
        flusher: Flusher,
        metrics: Metrics,
    ) -> None:
        of = settings.search
        self.index = TantivySearchIndex(
            settings.search_folder,
            IndexSettings(
                writer_bytes=of.writer_bytes,
                threads_max=of.threads_max,
                waiting_max=of.waiting_max,
            ),
        )
        self.indexer = Indexer(
            self.index,
            PostgresSearchSource(pool),
            lambda: applier.flushed_position,
            metrics,
            IndexerSettings(
                commit_interval_s=of.commit_interval_s,
                waiting_max=of.unfed_max,
                people_interval_s=of.people_interval_s,
                rows_max=of.rows_max,
                retry_s=of.retry_s,
            ),
        )
        self.index.on_broken = self.indexer.rebuild
        flusher.on_flushed.append(self.indexer.take)
        self.finding = Finding(
            state, applier, DialogAccess(state, applier), PostgresFindingStore(pool)
        )
        self.service = SearchService(
            self.index,
            self.finding,
            FoundPeople(auth, people),
            auth.directory,
            SearchSettings(per_user_minute=of.per_user_minute, burst=of.burst),
            trio.lowlevel.checkpoint,
        )
        metrics.gauge(
            "search_documents",
            "Messages, dialogs and people that can be found",
            lambda: float(self.index.documents),
        )
        metrics.gauge(
            "search_segments", "Parts of the index", lambda: float(self.index.segments)
        )

    @property
    def operations(self) -> list[Operation]:
        return routes.operations(self.service)

    def status(self) -> dict[str, object]:
        indexer = self.indexer
        return {
            "is_ready": self.index.is_ready,
            "documents": self.index.documents,
            "segments": self.index.segments,
            "lag_records": indexer.lag,
            "waiting_records": indexer.waiting,
            "is_failing": indexer.is_failing,
            "is_rebuilding": indexer.is_rebuilding,
            "rebuilt_messages": indexer.rebuilt_messages,
        }
