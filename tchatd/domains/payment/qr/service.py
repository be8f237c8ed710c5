"""Owns reading QR codes for clients, and drawing those that are payments."""

from __future__ import annotations

from collections.abc import Awaitable

from tchatd.domains.payment.qr.models import (
    GetQrImage,
    ParseQr,
    QrImage,
    QrPayment,
    QrSettings,
)
from tchatd.domains.payment.qr.parsing import parse
from tchatd.domains.payment.qr.ports import QrDrawing
from tchatd.kernel.routing import Context


class QrService:
    def __init__(self, drawing: QrDrawing, settings: QrSettings) -> None:
        self.settings = settings
        self._drawing = drawing

    def parse(self, context: Context, command: ParseQr) -> QrPayment:
        """What a payload says; nobody is paid by that. Raises: QrRefused."""
        return parse(command.payload)

    def image(self, context: Context, command: GetQrImage) -> Awaitable[QrImage]:
        """The picture of a payload that `parse` takes, and of no other text.

        Raises: QrRefused, Unavailable.
        """
        parse(command.payload)
        return self._drawing.draw(command.payload, command.format, command.scale)
