"""Owns the measured hot loops, compiled; each has a test against a reference."""
