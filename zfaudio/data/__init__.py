"""Frames of waveforms: cut, kept in shards, read back as batches."""
