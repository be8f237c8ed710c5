"""tchatd: one daemon for a super-app."""

__version__ = "0.1.0"
