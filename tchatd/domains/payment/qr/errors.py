"""Owns why a payment QR code is refused; what it says is in no message."""

from __future__ import annotations

from tchatd.kernel.errors import DomainError, ErrorKind


class QrRefused(DomainError):
    code, kind, title = "qr-refused", ErrorKind.UNPROCESSABLE, "QR code refused"


class QrMalformed(QrRefused):
    """Not EMVCo's format, or a value not of the form that its scheme gives it."""

    code, title = "qr-malformed", "This is no payment QR code, or a broken one"


class QrChecksumWrong(QrRefused):
    """Misread, or made wrongly: scanning again may help."""

    code, title = "qr-checksum", "The QR code was not read right"


class QrUnsupported(QrRefused):
    """Well formed, but of no scheme that is known here."""

    code, title = "qr-unsupported", "This payment scheme is not known"


class QrContradictory(QrRefused):
    """Says two things: two payees, a tag twice, a currency that is not the scheme's."""

    code, title = "qr-contradictory", "The QR code contradicts itself"


class QrAmountRefused(QrRefused):
    """Not an amount of the currency, zero, or too large."""

    code, title = "qr-amount", "The amount in the QR code is not valid"


class QrNotExpressible(QrRefused):
    """What to say does not fit into a QR code of its scheme."""

    code, title = "qr-not-expressible", "A QR code of this scheme cannot say that"
