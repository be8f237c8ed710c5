"""Owns the stores' twins in memory, for tests and simulations."""
