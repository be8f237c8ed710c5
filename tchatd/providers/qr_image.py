"""Owns drawing QR codes: SVG and PNG, black on white, with a quiet zone around.

Drawing is pure Python (segno) and takes 10 to 30 ms, a quarter of a second for the
longest, so it has a thread; one for all, since more would only take turns. Whoever
comes when many wait is told to come again.
"""

from __future__ import annotations

import io
from typing import Final

import segno
import trio

from tchatd.domains.payment.qr.models import SCALE_MAX, ImageFormat, QrImage
from tchatd.kernel.errors import Unavailable

QUIET_ZONE_MODULES: Final = 4
"""ISO/IEC 18004, 6.3.8."""
_ERROR_CORRECTION: Final = "m"
_DARK: Final = "#000"
_LIGHT: Final = "#fff"


class SegnoDrawing:
    """A `QrDrawing`. waiting_max: how many are drawn or wait for it at a time."""

    def __init__(self, *, waiting_max: int) -> None:
        self._waiting_max = waiting_max
        self._waiting = 0
        self._thread = trio.CapacityLimiter(1)

    async def draw(self, payload: str, form: ImageFormat, scale: int) -> QrImage:
        if self._waiting >= self._waiting_max:
            raise Unavailable("Many QR codes are being drawn.")
        self._waiting += 1
        try:
            return await trio.to_thread.run_sync(
                drawn, payload, form, scale, limiter=self._thread
            )
        finally:
            self._waiting -= 1


def drawn(payload: str, form: ImageFormat, scale: int) -> QrImage:
    """payload: at most 512 characters, so that it fits. scale: 1 to SCALE_MAX."""
    assert 1 <= scale <= SCALE_MAX
    code = segno.make_qr(
        payload,
        error=_ERROR_CORRECTION,
        boost_error=False,
        # The checksum is over UTF-8; for ASCII no encoding has to be told.
        encoding=None if payload.isascii() else "utf-8",
    )
    side_px = round(code.symbol_size(scale, QUIET_ZONE_MODULES)[0])
    out = io.BytesIO()
    options = {"scale": scale, "border": QUIET_ZONE_MODULES, "dark": _DARK}
    if form == "svg":
        code.save(out, kind="svg", light=_LIGHT, xmldecl=False, nl=False, **options)
        return QrImage(format=form, side_px=side_px, svg=out.getvalue().decode())
    code.save(out, kind="png", light=_LIGHT, **options)
    return QrImage(format=form, side_px=side_px, png=out.getvalue())
