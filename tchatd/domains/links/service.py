"""Owns previews for clients: cached, and made once for all who ask at the same time."""

from __future__ import annotations

from typing import Any
from urllib.parse import urldefrag

from msgspec import structs

from tchatd.domains.links.errors import NoPreview, PreviewsOff
from tchatd.domains.links.models import GetLinkPreview, LinkPreview, LinkSettings
from tchatd.domains.links.store import Previewer
from tchatd.kernel.clock import Clock
from tchatd.kernel.deferred import Deferred
from tchatd.kernel.errors import DomainError, Unavailable
from tchatd.kernel.lru import Lru
from tchatd.kernel.routing import Context

WAITING_MAX = 100
"""Who asks for the same page while it is fetched; more are told to come again."""


class LinkPreviews:
    """previewer: None when previews are off."""

    def __init__(
        self, previewer: Previewer | None, clock: Clock, settings: LinkSettings
    ) -> None:
        self.settings = settings
        self._previewer = previewer
        self._clock = clock
        self._kept_ms = round(settings.cached_s * 1000)
        self._cached: Lru[str, tuple[int, LinkPreview | None]] = Lru(
            settings.cached_max
        )
        self._waiting: dict[str, list[tuple[str, Deferred[LinkPreview]]]] = {}

    def get(self, context: Context, command: GetLinkPreview) -> Any:
        """The preview, at once if it is cached.

        Raises: PreviewsOff, NoPreview, Unavailable.
        """
        if self._previewer is None:
            raise PreviewsOff
        url = urldefrag(command.url).url
        cached = self._cached.get(url)
        if cached is not None and cached[0] > self._clock.now_ms():
            return _shown(cached[1], command.url)
        if url in self._waiting:
            return self._join(url, command.url)
        return self._make(self._previewer, url, command.url)

    def _join(self, url: str, asked: str) -> Deferred[LinkPreview]:
        waiting = self._waiting[url]
        if len(waiting) >= WAITING_MAX:
            raise Unavailable("Many wait for this preview.")
        deferred: Deferred[LinkPreview] = Deferred()
        waiting.append((asked, deferred))
        return deferred

    async def _make(self, previewer: Previewer, url: str, asked: str) -> Any:
        # Only here: whoever is turned away before it runs must not be waited for.
        if url in self._waiting:
            return self._join(url, asked)
        self._waiting[url] = []
        error: DomainError = Unavailable("It was not made in time.")
        preview: LinkPreview | None = None
        try:
            preview = await previewer.preview(url)
            error = NoPreview()
            self._cached.put(url, (self._clock.now_ms() + self._kept_ms, preview))
        except DomainError as failure:
            error = failure
            raise
        finally:
            # Also when whoever came first was given up: the others must not wait on.
            for other, deferred in self._waiting.pop(url):
                if preview is None:
                    deferred.fail(error)
                else:
                    deferred.resolve(_shown(preview, other))
        return _shown(preview, asked)

    def __len__(self) -> int:
        return len(self._cached)


def _shown(preview: LinkPreview | None, asked: str) -> LinkPreview:
    if preview is None:
        raise NoPreview
    return structs.replace(preview, url=asked)
