"""Only what is a payment is drawn."""

from __future__ import annotations

import pytest

from tchatd.domains.payment.qr.errors import QrChecksumWrong, QrMalformed
from tchatd.domains.payment.qr.models import (
    GetQrImage,
    ImageFormat,
    ParseQr,
    QrImage,
    QrSettings,
)
from tchatd.domains.payment.qr.service import QrService
from tests.support.bots import as_user
from tests.support.qr import VECTORS

PAYLOAD = VECTORS[0]["payload"]


class FakeDrawing:
    def __init__(self) -> None:
        self.drawn: list[tuple[str, ImageFormat, int]] = []

    async def draw(self, payload: str, form: ImageFormat, scale: int) -> QrImage:
        self.drawn.append((payload, form, scale))
        return QrImage(format=form, side_px=1)


async def test_a_payment_is_read_and_drawn() -> None:
    drawing = FakeDrawing()
    service = QrService(drawing, QrSettings())
    read = service.parse(as_user(1), ParseQr(PAYLOAD))
    assert read.payee.value == "+66812345678"
    image = await service.image(as_user(1), GetQrImage(PAYLOAD, format="png", scale=3))
    assert image.format == "png"
    assert drawing.drawn == [(PAYLOAD, "png", 3)]


async def test_nothing_else_is_drawn() -> None:
    drawing = FakeDrawing()
    service = QrService(drawing, QrSettings())
    with pytest.raises(QrMalformed):
        service.image(as_user(1), GetQrImage("https://a.example/"))
    with pytest.raises(QrChecksumWrong):
        service.image(as_user(1), GetQrImage(PAYLOAD[:-1] + "F"))
    assert drawing.drawn == []
