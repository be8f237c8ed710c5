"""Owns what keeps people safe: reports, bans and silences, filters, rates."""
