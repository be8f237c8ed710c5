"""Owns sign-in: one-time codes, sessions, tokens, profiles."""
