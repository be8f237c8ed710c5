"""Owns the settings that tests give a daemon: limits wide enough for one address."""

from __future__ import annotations

ROOMY: dict[str, str] = {}
