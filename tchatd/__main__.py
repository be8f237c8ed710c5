"""Owns the entry point: `tchatd` and `python -m tchatd`."""

from __future__ import annotations

import sys

from tchatd.app.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
