"""Owns what the operator sets of moderation."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct


class ModerationSettings(Struct, frozen=True, kw_only=True):
    """Each key is explained in tchatd.toml. words_file: "" for none."""

    words_file: str = ""
    links: Literal["allow", "flag", "refuse"] = "allow"
    link_hosts_allowed: Annotated[list[str], Meta(max_length=10_000)] = []
