"""Fitting a model to shards."""
