"""Owns what every layer shares: ids, clock, errors, routing; imports no layer."""
