"""Owns connectors to the world: SMS, email."""
