"""Owns what the operator sets of moderation."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class ModerationSettings(Struct, frozen=True, kw_only=True):
    """Each key is explained in tchatd.toml. words_file: "" for none."""

    words_file: str = ""
    links: Literal["allow", "flag", "refuse"] = "allow"
    link_hosts_allowed: list[str] = []
