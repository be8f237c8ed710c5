"""Owns how link previews are put together; off, nothing is built that calls out."""

from __future__ import annotations

from tchatd.domains.links import routes
from tchatd.domains.links.models import LinkSettings
from tchatd.domains.links.service import LinkPreviews
from tchatd.kernel.clock import Clock
from tchatd.kernel.routing import Operation
from tchatd.providers.link_previews import HttpLinkPreviews


class Links:
    def __init__(self, settings: LinkSettings, clock: Clock) -> None:
        self._previewer = HttpLinkPreviews(settings) if settings.enabled else None
        self.service = LinkPreviews(self._previewer, clock, settings)

    @property
    def operations(self) -> list[Operation]:
        return routes.operations(self.service)

    async def aclose(self) -> None:
        if self._previewer is not None:
            await self._previewer.aclose()
