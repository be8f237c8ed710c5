"""Owns what tests share: a real daemon, and clients that speak to it."""
