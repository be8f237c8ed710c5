"""Previews are off unless the operator turns them on."""

from __future__ import annotations

import pytest

from tchatd.app.links import Links
from tchatd.domains.links.errors import PreviewsOff
from tchatd.domains.links.models import GetLinkPreview, LinkSettings
from tchatd.kernel.clock import ManualClock
from tests.support.bots import as_user

COMMAND = GetLinkPreview("https://a.example/")


async def test_off_nothing_is_asked() -> None:
    links = Links(LinkSettings(), ManualClock())
    with pytest.raises(PreviewsOff):
        links.service.get(as_user(1), COMMAND)
    await links.aclose()


async def test_on_there_is_one_route_with_its_limit() -> None:
    links = Links(LinkSettings(enabled=True, per_user_minute=7), ManualClock())
    [operation] = links.operations
    assert operation.limits[0].burst == 7
    await links.aclose()
