"""Owns what people see of each other: privacy, contacts, blocks, public profiles."""
