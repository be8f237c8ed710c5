"""Owns how payment QR codes are put together."""

from __future__ import annotations

from tchatd.domains.payment.qr import routes
from tchatd.domains.payment.qr.models import QrSettings
from tchatd.domains.payment.qr.service import QrService
from tchatd.kernel.routing import Operation
from tchatd.providers.qr_image import SegnoDrawing


class Qr:
    def __init__(self, settings: QrSettings) -> None:
        drawing = SegnoDrawing(waiting_max=settings.drawing_max)
        self.service = QrService(drawing, settings)

    @property
    def operations(self) -> list[Operation]:
        return routes.operations(self.service)
