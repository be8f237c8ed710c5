"""Owns random histories of messaging: the truth, devices, and what goes wrong."""
