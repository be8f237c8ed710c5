"""Owns what can be refused to who asks for a preview."""

from __future__ import annotations

from tchatd.kernel.errors import NotFound


class PreviewsOff(NotFound):
    code, title = "previews-off", "This server makes no previews"


class NoPreview(NotFound):
    """Not reached, not a public address, no page, or it says nothing of itself."""

    code, title = "no-preview", "There is no preview of this link"
