"""Recordings and the tables that list them."""
