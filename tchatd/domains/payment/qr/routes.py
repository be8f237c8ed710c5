"""Owns how QR codes are offered."""

from __future__ import annotations

from tchatd.domains.payment.qr.errors import (
    QrAmountRefused,
    QrChecksumWrong,
    QrContradictory,
    QrMalformed,
    QrUnsupported,
)
from tchatd.domains.payment.qr.models import GetQrImage, ParseQr, QrImage, QrPayment
from tchatd.domains.payment.qr.service import QrService
from tchatd.kernel.errors import Unavailable
from tchatd.kernel.routing import Limit, Operation

REFUSALS = (
    QrMalformed,
    QrChecksumWrong,
    QrUnsupported,
    QrContradictory,
    QrAmountRefused,
)


def operations(service: QrService) -> list[Operation]:
    parses = service.settings.parses_per_user_minute
    images = service.settings.images_per_user_minute
    return [
        Operation(
            name="qr.parse",
            summary="Whom and how much a payment QR code says to pay",
            tag="Payment",
            command=ParseQr,
            result=QrPayment,
            handler=service.parse,
            verb="POST",
            path="/qr/parse",
            limits=(Limit(by="user", per_minute=parses, burst=parses),),
            errors=REFUSALS,
        ),
        Operation(
            name="qr.image",
            summary="The picture of a payment QR code",
            tag="Payment",
            command=GetQrImage,
            result=QrImage,
            handler=service.image,
            verb="GET",
            path="/qr/image",
            limits=(Limit(by="user", per_minute=images, burst=images),),
            errors=(*REFUSALS, Unavailable),
        ),
    ]
