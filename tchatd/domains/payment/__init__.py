"""Owns payment: ledger, wallets, transactions, QR."""
