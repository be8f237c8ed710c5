"""Owns the shapes of link previews."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

TITLE_CHARS_MAX = 300
DESCRIPTION_CHARS_MAX = 500
URL_CHARS_MAX = 2_048


class GetLinkPreview(Struct, frozen=True):
    url: Annotated[
        str,
        Meta(
            max_length=URL_CHARS_MAX,
            pattern=r"^[hH][tT][tT][pP][sS]?://[!-~]+$",
            description="an ASCII URL that begins with http:// or https://",
        ),
    ]


class LinkPreview(Struct, frozen=True, kw_only=True):
    """url: as it was asked for. image_url: fetched by the client itself, if it wants
    to tell that host its address."""

    url: str
    title: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    image_url: str | UnsetType = UNSET
    site_name: str | UnsetType = UNSET


class LinkSettings(Struct, frozen=True, kw_only=True):
    """What the operator sets; each key is explained in tchatd.toml."""

    enabled: bool = False
    allow_private: bool = False
    timeout_s: Annotated[float, Meta(gt=0, le=60)] = 5.0
    page_bytes_max: Annotated[int, Meta(ge=1_024, le=1 << 24)] = 131_072
    redirects_max: Annotated[int, Meta(ge=0, le=10)] = 3
    concurrency_max: Annotated[int, Meta(ge=1, le=1_000)] = 16
    cached_max: Annotated[int, Meta(ge=1, le=1 << 24)] = 2_000
    cached_s: Annotated[float, Meta(gt=0, le=31_536_000)] = 3_600.0
    per_user_minute: Annotated[int, Meta(ge=1, le=1 << 31)] = 30
