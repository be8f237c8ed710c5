"""Owns the measurements of tchatd, each against its baseline in the same run."""
