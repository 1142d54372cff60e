"""Latent-variable sequence models of raw speech: prepare, train, score, generate."""
