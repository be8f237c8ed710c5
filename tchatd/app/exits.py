"""Owns the exit codes (sysexits.h where it has one); `tchatd --help` explains them."""

from __future__ import annotations

OK = 0
FAILED = 1
USAGE = 2
DATAERR = 65
UNAVAILABLE = 69
TEMPFAIL = 75
CONFIG = 78
INTERRUPTED = 130
