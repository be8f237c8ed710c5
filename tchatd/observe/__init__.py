"""Owns what is seen from outside: metrics, logs."""
