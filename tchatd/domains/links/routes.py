"""Owns how link previews are offered."""

from __future__ import annotations

from tchatd.domains.links.errors import NoPreview, PreviewsOff
from tchatd.domains.links.models import GetLinkPreview, LinkPreview
from tchatd.domains.links.service import LinkPreviews
from tchatd.kernel.errors import Unavailable
from tchatd.kernel.routing import Limit, Operation


def operations(previews: LinkPreviews) -> list[Operation]:
    per_minute = previews.settings.per_user_minute
    return [
        Operation(
            name="link.preview",
            summary="What a page says of itself, for a link in a message",
            tag="Messaging",
            command=GetLinkPreview,
            result=LinkPreview,
            handler=previews.get,
            verb="GET",
            path="/link-preview",
            limits=(Limit(by="user", per_minute=per_minute, burst=per_minute),),
            errors=(PreviewsOff, NoPreview, Unavailable),
        )
    ]
