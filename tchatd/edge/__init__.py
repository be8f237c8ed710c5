"""Owns what faces clients: sockets, sessions, routes, problems."""
