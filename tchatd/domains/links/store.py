"""Owns the port of link previews."""

from __future__ import annotations

from typing import Protocol

from tchatd.domains.links.models import LinkPreview


class Previewer(Protocol):
    async def preview(self, url: str) -> LinkPreview | None:
        """What the page says of itself; None if it says nothing or is not reached.

        Raises: Unavailable, if too many are being made.
        """
        ...
