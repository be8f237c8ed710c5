"""Owns bots: their tokens, the webhooks that tell them things, buttons they offer."""
