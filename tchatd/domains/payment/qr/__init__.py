"""Owns payment QR codes (EMVCo, merchant-presented): what they say, and making them."""
