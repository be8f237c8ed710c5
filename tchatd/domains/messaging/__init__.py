"""Owns dialogs: members, the event log, reading and unread counts."""
