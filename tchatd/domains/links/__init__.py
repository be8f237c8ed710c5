"""Owns previews of links: what a page says of itself, for clients that ask."""
