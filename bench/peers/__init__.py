"""Owns the baselines: the servers that tchatd is measured against."""
