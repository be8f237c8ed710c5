"""Both routes are there, each with its limit."""

from __future__ import annotations

from typing import Any

from tchatd.app.qr import Qr
from tchatd.domains.payment.qr.models import GetQrImage, QrSettings
from tests.support.bots import as_user
from tests.support.qr import VECTORS


async def test_each_route_has_the_limit_of_its_own() -> None:
    settings = QrSettings(parses_per_user_minute=7, images_per_user_minute=3)
    parse, image = Qr(settings).operations
    assert (parse.path, parse.limits[0].burst) == ("/qr/parse", 7)
    assert (image.path, image.limits[0].burst) == ("/qr/image", 3)


async def test_a_picture_is_drawn() -> None:
    _, image = Qr(QrSettings()).operations
    drawing: Any = image.handler(as_user(1), GetQrImage(VECTORS[0]["payload"]))
    drawn = await drawing
    assert drawn.svg.startswith("<svg")
