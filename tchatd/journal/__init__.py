"""Owns durability: records on disk before anyone is told."""
