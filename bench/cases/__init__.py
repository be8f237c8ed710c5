"""Owns the measurements, a module each; `run(plan)` gives its report."""
