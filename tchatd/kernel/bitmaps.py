"""Owns sets of dense user numbers (Roaring bitmaps); a number is below 2**32."""

from __future__ import annotations

from pyroaring import BitMap, FrozenBitMap

__all__ = ["BitMap", "FrozenBitMap"]
