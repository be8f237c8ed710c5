"""Owns that no client of ours keeps a cookie: it would tell one bot what another's
endpoint set, and be kept for ever."""

from __future__ import annotations

from http.cookiejar import CookieJar
from typing import Any


class NoCookies(CookieJar):
    """Stays empty."""

    def extract_cookies(self, response: Any, request: Any) -> None:
        """Take nothing, and look at nothing."""
