"""Owns the files of the pages; no code."""
