"""Owns the port of what draws QR codes."""

from __future__ import annotations

from typing import Protocol

from tchatd.domains.payment.qr.models import ImageFormat, QrImage


class QrDrawing(Protocol):
    async def draw(self, payload: str, form: ImageFormat, scale: int) -> QrImage:
        """The picture of a payload, error correction level M.

        scale: pixels of a module, at least 1.

        Raises: Unavailable, if too many are being drawn.
        """
        ...
