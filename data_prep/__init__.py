"""Data preparation, one module per corpus: most write Kaldi data directories for `zfaudio shard`, others shards."""
