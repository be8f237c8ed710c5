"""Owns the rules; each domain imports only kernel and msgspec."""
