"""Runs sagas: claims them, runs their steps, keeps what they do."""
