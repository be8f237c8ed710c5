"""Owns the drivers: each engine implements the domains' ports."""
