"""Owns payment providers: Stripe, Omise, banks, and the sandbox."""
