"""Owns PostgreSQL under Trio and the stores on it."""
