"""Owns the process: settings, wiring, start and stop."""
