"""Owns whether the files of [tls] are what a listener can use; serves nothing."""

from __future__ import annotations

import ssl
from datetime import datetime
from pathlib import Path

from cryptography import x509

from tchatd.app.configuration import ConfigurationError
from tchatd.app.settings import Settings


def certificate_end(settings: Settings) -> datetime:
    """Read both files as the listener will; returns when the certificate ends.

    Raises:
        ConfigurationError: which file cannot be read, or what does not fit.
    """
    of = settings.tls
    problems = []
    for key in ("certificate_file", "key_file"):
        path = getattr(of, key)
        try:
            Path(path).read_bytes()
        except OSError as error:
            problems.append(f"tls.{key}: {path}: {error.strerror or error}")
    if problems:
        raise ConfigurationError(problems)
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(of.certificate_file, of.key_file)
        certificate = x509.load_pem_x509_certificate(
            Path(of.certificate_file).read_bytes()
        )
    except (ssl.SSLError, ValueError) as error:
        why = getattr(error, "reason", None) or error
        raise ConfigurationError(
            [f"tls.certificate_file, tls.key_file: {of.certificate_file}: {why}"]
        ) from None
    return certificate.not_valid_after_utc
