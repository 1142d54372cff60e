"""Experiments as pages and tables."""
