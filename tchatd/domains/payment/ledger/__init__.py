"""Owns the double-entry ledger: accounts, postings, holds, and what may move."""
